package placement

import "time"

// This file is how long volumes live: see volumes.go.

// volumesTick is how often the time of parked volumes is counted on, on disk.
const volumesTick = time.Hour

// checkVolumes parks the volumes of an app that was removed, and takes them back
// when an edit outlived the removal. An app that this peer merely does not know
// says nothing: it must have been listed before.
func (p *Peer) checkVolumes(uid UID) {
	l := p.ledger
	listed, a := p.catalog.has(uid), p.apps[uid]
	removed := a != nil && a.win.intent.Removed
	var writes []Write
	for _, id := range l.volumes.of(uid) {
		v := l.volumes.all[id]
		if !v.Used && !l.holdsSlot(id, nil) {
			writes = append(writes, l.removeVolume(id))
			continue
		}
		gone := removed || a == nil && !listed && v.Listed
		switch {
		case gone && v.Parked == 0:
			v.Parked, v.Left = p.out.now.Wall.UnixMilli(), int64(p.tune.VolumeKeep)
			if p.volumesAt > 0 {
				v.Left += int64(p.out.now.Mono - p.volumesAt) // that count is not about it
			}
			p.tellVolume(id, "volume-parked", "its app was removed: it is kept for "+p.tune.VolumeKeep.String())
		case !gone && a != nil && v.Parked > 0 && !v.Dropped:
			v.Parked, v.Left = 0, 0
			p.tune.mark(MarkVolumeBack)
		case listed && !v.Listed:
			v.Listed = true
		default:
			continue
		}
		writes = append(writes, l.writeVolume(id))
	}
	if len(writes) > 0 {
		p.out.persist(writes, func(*PersistFailed) {}) // what was not written is found again
		p.touchReport(uid)
		p.armVolumes()
	}
}

func (p *Peer) tellVolume(id VolumeID, what, why string) {
	p.out.happened(Happened{
		Type: what, UID: id.UID, Key: p.ledger.volumes.all[id].Key, Component: id.Component,
		Slots: SlotsOf(id.Slot).String(), Peer: p.cfg.Self.Peer, Message: why,
	})
}

// parked is the volumes that wait for their end, in order.
func (p *Peer) parked() []VolumeID {
	var out []VolumeID
	for _, uid := range sortedKeys(p.ledger.volumes.byApp) {
		for _, id := range p.ledger.volumes.of(uid) {
			if v := p.ledger.volumes.all[id]; v.Parked > 0 || v.Dropped {
				out = append(out, id)
			}
		}
	}
	return out
}

// armVolumes sets the timer of the volume that is over first, or of the count.
func (p *Peer) armVolumes() {
	wait := volumesTick
	ids := p.parked()
	for _, id := range ids {
		wait = min(wait, max(time.Duration(p.ledger.volumes.all[id].Left), p.tune.RoundMax))
	}
	if len(ids) > 0 {
		if p.volumesAt == 0 {
			p.volumesAt = p.out.now.Mono
		}
		p.timers.before(timerRefresh, volumesTimer, p.out.now.Mono+wait)
	}
}

const volumesTimer = "volumes"

// countVolumes counts the time of parked volumes on, and deletes what is over
// once nothing holds its slot. That is asked for again until the node says that
// it is done.
func (p *Peer) countVolumes() {
	l := p.ledger
	passed := p.out.now.Mono - p.volumesAt
	p.volumesAt = p.out.now.Mono
	var writes []Write
	var drop []VolumeID
	ids := p.parked()
	for _, id := range ids {
		v := l.volumes.all[id]
		v.Left = max(0, v.Left-int64(passed))
		if v.Left == 0 && !l.holdsSlot(id, nil) {
			v.Dropped = true
			drop = append(drop, id)
		}
		writes = append(writes, l.writeVolume(id))
	}
	if len(ids) == 0 {
		p.volumesAt = 0
		return
	}
	p.out.persist(writes, func(failed *PersistFailed) {
		for _, id := range drop {
			if v := l.volumes.all[id]; failed == nil && v != nil && v.Dropped {
				p.tune.mark(MarkVolumeDropped)
				p.out.emit(DropVolume{ID: id, Host: v.Host})
			}
		}
	})
	p.armVolumes()
}

// volumeGone takes the node's word that the data of a volume is deleted.
func (p *Peer) volumeGone(id VolumeID) {
	v := p.ledger.volumes.all[id]
	if v == nil || !v.Dropped {
		return
	}
	p.tellVolume(id, "volume-deleted", "its data is gone")
	p.out.persist([]Write{p.ledger.removeVolume(id)}, func(*PersistFailed) {}) // else it is deleted once more
	p.touchReport(id.UID)
}

// deleteVolume ends a volume on a person's word, or says why it can't.
func (p *Peer) deleteVolume(id VolumeID) {
	v := p.ledger.volumes.all[id]
	if v == nil || p.VolumeInUse(id) {
		return
	}
	if v.Parked == 0 {
		v.Parked = p.out.now.Wall.UnixMilli()
	}
	v.Left, v.Dropped = 0, true
	p.touchReport(id.UID)
	p.armVolumes()
	p.timers.before(timerRefresh, volumesTimer, p.out.now.Mono)
}

// VolumeInUse says whether a claim of this peer has the slot of a volume.
func (p *Peer) VolumeInUse(id VolumeID) bool { return p.ledger.holdsSlot(id, nil) }

// foundVolumes enters volumes that lie on this machine's disk and that the store
// does not know: it was lost, or is of a time before them. Nothing is known of
// them but what they say themselves.
func (p *Peer) foundVolumes(found []FoundVolume) {
	l := p.ledger
	var writes []Write
	for _, f := range found {
		if l.volumes.all[f.ID] != nil || len(l.volumes.all) >= l.slotsMax() {
			continue
		}
		p.tune.mark(MarkVolumeFound)
		v := &volume{Key: f.Key, Sizes: map[string]Bytes{}, Created: f.Created, Used: true, Host: l.nameOfHost(f.Host)}
		for name, size := range f.Sizes {
			v.Sizes[name] = max(0, min(size, bytesMax))
		}
		l.addVolume(f.ID, v)
		writes = append(writes, l.writeVolume(f.ID))
	}
	if len(writes) > 0 {
		p.out.persist(writes, func(*PersistFailed) {})
	}
	for _, uid := range sortedKeys(l.volumes.byApp) {
		p.checkClaims(uid)
		p.touchReport(uid)
	}
}

// shares says whether another copy of a slot may still have its volumes open at
// this peer: two never do at once.
func (p *Peer) shares(c *claim, n Slot) bool {
	if len(c.Spec.Volumes) == 0 || p.tune.Break == FaultShareVolume {
		return false
	}
	for _, o := range p.ledger.byApp[c.UID] {
		if o == c || o.Component != c.Component {
			continue
		}
		if o.Stopping.Contains(n) {
			return true
		}
		if a := p.work.allocs[AllocationID{o.ID, n}]; a != nil && o.Slots.Contains(n) &&
			a.state.State != AllocPending && a.state.State != AllocFetching {
			return true
		}
	}
	return false
}

// follow starts what waited for a copy of a slot to end.
func (p *Peer) follow(c *claim, n Slot) {
	for _, o := range p.ledger.of(c.UID) {
		if o != c && len(o.Spec.Volumes) > 0 && o.Component == c.Component && o.Slots.Contains(n) && !o.held && o.State != claimReserved {
			p.work.begin(o, n)
		}
	}
}

// VolumeView is the volumes of one slot at this peer.
type VolumeView struct {
	ID      VolumeID
	Key     AppKey
	Sizes   map[string]Bytes
	Created int64 // Unix milliseconds
	InUse   bool  // a claim has the slot
	Behind  bool  // the slot runs elsewhere
	Parked  int64 // Unix milliseconds when its app was found removed, 0 if it was not
	Left    time.Duration
	Dropped bool // being deleted
	Host    string
}

// Volumes is what this peer keeps for slots, in order.
func (p *Peer) Volumes() []VolumeView {
	var out []VolumeView
	for _, uid := range sortedKeys(p.ledger.volumes.byApp) {
		for _, id := range p.ledger.volumes.of(uid) {
			v := p.ledger.volumes.all[id]
			view := VolumeView{ID: id, Key: v.Key, Sizes: map[string]Bytes{}, Created: v.Created, InUse: p.VolumeInUse(id),
				Behind: v.Behind, Parked: v.Parked, Left: time.Duration(v.Left), Dropped: v.Dropped, Host: p.ledger.book(v.Host).ID}
			for name, size := range v.Sizes {
				view.Sizes[name] = size
			}
			out = append(out, view)
		}
	}
	return out
}
