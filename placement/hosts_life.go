package placement

import (
	"slices"
	"strings"
)

// This file is what a peer does when its hosts change.

// onHost takes what one of this peer's hosts has to give.
func (p *Peer) onHost(h Host) {
	changed, fresh := p.ledger.hostChanged(h)
	if !changed {
		return
	}
	p.roles = true // stewards see what there is now
	if b := p.ledger.hosts[h.ID]; !fresh || b.slots == 0 || len(p.ledger.listed) == 0 {
		return // what is bound to it begins once its driver has said what runs
	}
	for _, c := range p.ledger.claimsOn(p.ledger.nameOfHost(h.ID)) {
		p.runClaim(c)
	}
}

// claimsOn is the claims that have slots on a host, in order of their ids.
func (l *Ledger) claimsOn(host string) []*claim {
	var out []*claim
	for _, c := range l.claims {
		if !c.on(host).IsEmpty() {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b *claim) int { return a.ID.Compare(b.ID) })
	return out
}

// onHostGone moves what is on a host that is no more to other hosts of this peer,
// or gives it back, so that its steward places it anew.
func (p *Peer) onHostGone(id string) {
	l := p.ledger
	b := l.hosts[id]
	if b == nil || b.gone || id == "" {
		return
	}
	l.hostGone(b)
	p.roles = true
	p.loseVolumes(l.nameOfHost(id))
	for _, c := range l.claimsOn(l.nameOfHost(id)) {
		c.stranded = c.stranded.Union(c.on(l.nameOfHost(id)).Intersect(c.Slots))
		p.leaveGone(c)
	}
}

// loseVolumes ends the volumes that were on a host that is gone: their data is.
func (p *Peer) loseVolumes(host string) {
	var lost []VolumeID
	for id, v := range p.ledger.volumes.all {
		if v.Host == host {
			lost = append(lost, id)
		}
	}
	slices.SortFunc(lost, func(a, b VolumeID) int { return strings.Compare(a.String(), b.String()) })
	for _, id := range lost {
		p.tellVolume(id, "volume-lost", "its host is gone, and its data with it")
		p.ledger.removeVolume(id)
		p.lostVolumes[id] = true
		p.touchReport(id.UID)
	}
	p.writeLost()
}

// writeLost writes that volumes are lost, until the disk has taken it.
func (p *Peer) writeLost() {
	var writes []Write
	for id := range p.lostVolumes {
		if p.ledger.volumes.all[id] != nil { // it is there again
			delete(p.lostVolumes, id)
			continue
		}
		writes = append(writes, Write{Table: tableVolumes, Key: id.String()})
	}
	if len(writes) == 0 {
		return
	}
	slices.SortFunc(writes, func(a, b Write) int { return strings.Compare(a.Key, b.Key) })
	p.out.persist(writes, func(failed *PersistFailed) {
		if failed != nil {
			p.timers.before(timerRefresh, "claims", p.out.now.Mono+p.tune.RoundMin)
			return
		}
		for _, w := range writes {
			if id, err := ParseVolumeID(w.Key); err == nil {
				delete(p.lostVolumes, id)
			}
		}
	})
}

// leaveGone moves the slots of a claim that are on hosts that are gone. A claim
// that is not on disk yet does so once it is.
func (p *Peer) leaveGone(c *claim) {
	gone := c.stranded.Intersect(c.Slots)
	if c.held || gone.IsEmpty() {
		return
	}
	moved := p.ledger.rebind(c, gone)
	c.stranded, c.moving = c.stranded.Minus(moved), c.moving.Union(moved)
	p.moveOn(c)
	if rest := gone.Minus(moved); !rest.IsEmpty() {
		p.tune.mark(MarkGivenBackHost)
		p.releaseSlots(c, rest, "its host is gone, and no other of this peer takes it")
	}
	p.touchReport(c.UID)
}

// moveOn starts the slots of a claim that were bound to other hosts there, once
// that is on disk.
func (p *Peer) moveOn(c *claim) {
	slots := c.moving
	if slots.IsEmpty() || p.ledger.claims[c.ID] != c {
		return
	}
	p.out.persist(p.ledger.writePlaced(c), func(failed *PersistFailed) {
		if failed != nil {
			p.timers.before(timerRefresh, "claims", p.out.now.Mono+p.tune.RoundMin)
			return
		}
		slots = slots.Intersect(c.moving)
		c.moving = c.moving.Minus(slots)
		for n := range slots.Intersect(c.Slots).All() {
			if c.State != claimReserved && c.State != claimReleasing {
				p.work.elsewhere(c, n)
			}
		}
		p.touchReport(c.UID)
	})
}

// moveAgain tries again what a disk did not take when a host was gone.
func (p *Peer) moveAgain() {
	for _, c := range p.ledger.sorted() {
		p.leaveGone(c)
		p.moveOn(c)
	}
	p.writeLost()
}

// HostView is one host of this peer.
type HostView struct {
	Host  Host
	Known bool // it was told of since the start; else claims alone speak of it
	Used  Resources
	Free  Resources
	GPUs  []FreeGPU
	Slots int
}

// Hosts are those of this peer, sorted by id.
func (p *Peer) Hosts() []HostView {
	out := make([]HostView, 0, len(p.ledger.hosts))
	for _, id := range sortedKeys(p.ledger.hosts) {
		b := p.ledger.hosts[id]
		if id == "" || b.gone {
			continue
		}
		out = append(out, HostView{Host: b.Host, Known: b.known, Used: b.used, Free: positive(b.free()), GPUs: b.freeGPUs(), Slots: b.slots})
	}
	return out
}
