package placement

import (
	"slices"
	"time"
)

// storing brings an app's standing intents, and their bytes, to its keepers,
// until each that lives has said that it holds them.
type storing struct {
	tag   string // of what is being stored
	acked map[PeerID]bool
	wait  time.Duration
	since time.Duration
}

// ensureStored starts or goes on storing.
func (p *Peer) ensureStored(uid UID) {
	a := p.apps[uid]
	if a == nil {
		return
	}
	st := p.stores[uid]
	if tag := etag(a.versions); st == nil || st.tag != tag {
		st = &storing{tag: tag, acked: map[PeerID]bool{}, wait: p.tune.Resend, since: p.out.now.Mono}
		p.stores[uid] = st
		p.timers.set(timerStore, string(uid), p.out.now.Mono)
	} else {
		p.timers.before(timerStore, string(uid), p.out.now.Mono+st.wait)
	}
}

// allStored says whether every keeper, dead ones included, holds what stands;
// but for those whose store was lost or that were shut out, which are no keepers
// any more.
func (p *Peer) allStored(a *app) bool {
	st := p.stores[a.uid]
	if st == nil || st.tag != etag(a.versions) {
		return false
	}
	for _, ref := range a.keepers.list.Peers {
		if !st.acked[ref.Peer] && !p.members.reborn(ref) && !p.members.forgotten(ref.Peer) {
			return false
		}
	}
	return true
}

// holdersOf is the keepers that are known to hold what stands of an app.
func (p *Peer) holdersOf(a *app) []PeerID {
	var out []PeerID
	st, r := p.stores[a.uid], p.keeper.records[a.uid]
	for _, id := range a.keeperIDs() {
		if id == p.cfg.Self.Peer && r != nil && slices.Contains(r.onDisk, a.win.intent.Version) ||
			st != nil && st.tag == etag(a.versions) && st.acked[id] {
			out = append(out, id)
		}
	}
	return out
}

// storeNow is the timer of storing.
func (p *Peer) storeNow(uid UID) {
	a, st := p.apps[uid], p.stores[uid]
	if a == nil || st == nil {
		return
	}
	m := &storeMsg{UID: uid, Keepers: a.keepers.signed}
	if s := a.steward; s != nil && !s.deputy && s.phase == phaseActing {
		m.Term, m.Holders = s.term, s.holders
	}
	for _, v := range a.versions {
		m.Intents = append(m.Intents, v.signed)
	}
	m.From = []PeerID{p.cfg.Self.Peer}
	if r := p.keeper.records[uid]; r != nil {
		for _, id := range r.from[:min(len(r.from), keepersMax-1)] {
			if id != p.cfg.Self.Peer {
				m.From = append(m.From, id)
			}
		}
	}
	open := false
	for _, ref := range a.keepers.list.Peers {
		if !st.acked[ref.Peer] && p.keeperLives(ref) {
			open = true
			p.out.send(ref.Peer, message{Store: m})
		}
	}
	if open {
		p.timers.set(timerStore, string(uid), p.out.now.Mono+st.wait)
		st.wait = min(st.wait*2, p.tune.RoundMax)
	}
}

// onStore holds intents for an app, and says so once they are on disk and
// their bytes are here.
func (p *Peer) onStore(from PeerID, m *storeMsg) {
	list, err := p.catalog.readKeepers(m.Keepers)
	if err != nil || list.list.UID != m.UID || len(m.Intents) == 0 {
		return
	}
	if m.Term == (Term{}) {
		m.Holders = nil
	} else if !p.mayOrder(from, m.UID, m.Term) || p.listOf(m.UID).Peers == nil && !list.list.has(from) {
		return
	}
	if known := p.listOf(m.UID); known.Peers != nil && !slices.Equal(known.Peers, list.list.Peers) {
		return // a list does not change
	}
	var versions []version
	for _, s := range m.Intents {
		v, err := p.catalog.readIntent(s)
		if err != nil || v.intent.UID != m.UID || !p.named(v) {
			return
		}
		if !p.takenBack(from, m.UID, v.intent.Version) {
			versions = append(versions, v)
		}
	}
	switch {
	case len(versions) == 0:
	case p.over(m.UID, versions):
		p.tune.mark(MarkStoredTooLate)
		if from != p.cfg.Self.Peer {
			p.out.send(from, message{Stored: &storedMsg{UID: m.UID, Gone: true}})
		}
	case p.keeper.listed(list.list) || from == p.cfg.Self.Peer:
		p.keep(from, m, versions, list)
	}
}

// over says whether versions of an app are from before its end, as far as this
// peer knows: those that a keeper saw removed, in whatever run of the daemon.
func (p *Peer) over(uid UID, versions []version) bool {
	if e := p.keeper.ended[uid]; e.Removal != nil && p.keeper.records[uid] == nil {
		return !slices.ContainsFunc(versions, func(v version) bool { return !e.late(&v.intent) })
	}
	return p.gone(uid)
}

// named says whether a version is of the app that its UID belongs to here.
func (p *Peer) named(v version) bool {
	a := p.apps[v.intent.UID]
	return a == nil || a.key == v.intent.Key
}

// takenBack says whether a store brings a version that its writer took back, as
// this peer heard from the writer, or is it. Whoever else still holds it hears so
// from the writer: another keeper that missed it, or the writer itself, whose
// disk kept what it was to forget. What the mesh lists by now stands after all.
func (p *Peer) takenBack(from PeerID, uid UID, v Version) bool {
	if !p.dropped.set[dropKey(uid, v)] || p.lists(uid, v) || from == p.cfg.Self.Peer {
		return false
	}
	if v.Peer == p.cfg.Self.Peer || v.Peer == from {
		p.tune.mark(MarkTakenBackAgain)
		p.out.send(from, message{Drop: &dropMsg{UID: uid, Version: v}})
	}
	return true
}

// lists says whether the catalog has a version.
func (p *Peer) lists(uid UID, v Version) bool {
	return slices.ContainsFunc(p.catalog.versions(uid), func(l version) bool { return l.intent.Version == v })
}

// keep writes what a store brought; the edit of this peer itself comes this
// way too.
func (p *Peer) keep(from PeerID, m *storeMsg, versions []version, list keeperList) {
	held := 0
	if r := p.keeper.records[m.UID]; r != nil {
		held = len(r.versions)
	}
	writes, refused := p.keeper.store(m, versions, list)
	if refused != (Term{}) {
		p.out.send(from, message{Stored: &storedMsg{UID: m.UID, Refused: refused}})
		return
	}
	r := p.keeper.records[m.UID]
	if len(r.versions) != held {
		r.changed = p.out.now.Mono
	}
	onDisk := r.wrote()
	p.out.persist(writes, func(failed *PersistFailed) {
		if failed == nil {
			onDisk()
		} else {
			if from == p.cfg.Self.Peer {
				p.editNotWritten(m.UID, failed)
			}
			return
		}
		if p.waiting[m.UID] == nil {
			p.waiting[m.UID] = map[PeerID]bool{}
		}
		p.waiting[m.UID][from] = true
		p.answerStores(m.UID)
	})
	p.refresh(m.UID)
	p.hearTerm(m.UID, m.Term)
}

// answerStores tells those that asked what is held: each version once its
// artifacts are here, which are fetched until then.
func (p *Peer) answerStores(uid UID) {
	r := p.keeper.records[uid]
	if r == nil || len(p.waiting[uid]) == 0 {
		return
	}
	held := &storedMsg{UID: uid}
	complete := true
	for _, v := range r.versions {
		switch {
		case !slices.Contains(r.onDisk, v.intent.Version):
		case p.fetchMissing(uid, r, &v.intent):
			complete = false
		default:
			held.Versions = append(held.Versions, v.intent.Version)
		}
	}
	if len(held.Versions) > 0 {
		for _, id := range sortedKeys(p.waiting[uid]) {
			p.out.send(id, message{Stored: held})
		}
	}
	if complete {
		delete(p.waiting, uid)
	}
}

// fetchMissing fetches the artifacts of a version that are not here, and says
// whether there are any. A removal needs none.
func (p *Peer) fetchMissing(uid UID, r *keepRecord, i *Intent) bool {
	if i.Removed {
		return false
	}
	list := r.list
	for _, id := range append(sortedKeys(p.waiting[uid]), r.from...) {
		list.Peers = append(list.Peers[:len(list.Peers):len(list.Peers)], PeerRef{Peer: id})
	}
	missing := false
	for _, art := range i.Artifacts {
		if !p.has(art.Digest) {
			missing = true
			p.out.emit(Fetch{Artifact: art, From: p.sources(i.Version.Peer, list), Warm: true})
		}
	}
	return missing
}

// hearGone takes a keeper's word that an app has ended: a keeper forgets
// nothing else. What this peer keeps of it, and the mesh does not list, is a
// left-over.
func (p *Peer) hearGone(a *app, from PeerID) {
	if !slices.Contains(a.keeperIDs(), from) {
		return
	}
	if !p.catalog.has(a.uid) {
		p.tune.mark(MarkLeftOver)
		p.persistKeep(a.uid, p.keeper.forget(a.uid))
		p.refresh(a.uid)
	} else if st := p.stores[a.uid]; st != nil && a.win.intent.Removed {
		st.acked[from] = true
		p.dirty[a.uid] = true
	}
}

// onStored counts a copy.
func (p *Peer) onStored(from PeerID, m *storedMsg) {
	a := p.apps[m.UID]
	if a == nil || from != p.cfg.Self.Peer && !p.isKeeper(m.UID, from) {
		return
	}
	if m.Gone {
		p.hearGone(a, from)
		return
	}
	if m.Refused != (Term{}) {
		p.tune.mark(MarkStoreRefused)
		if p.mayHave(m.UID, m.Refused, p.highest(m.UID)) {
			p.overtaken(m.UID, m.Refused)
			p.editRefused(m.UID, m.Refused)
		}
		return
	}
	if st := p.stores[m.UID]; st != nil && st.tag == etag(a.versions) {
		all := true
		for _, v := range a.versions {
			all = all && slices.Contains(m.Versions, v.intent.Version)
		}
		if all {
			st.acked[from] = true
		}
	}
	p.editStored(from, m)
	p.dirty[m.UID] = true
}
