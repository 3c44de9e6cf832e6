package placement

import (
	"slices"
	"time"
)

// storing brings an app's standing intents, and their bytes, to its keepers,
// until each that lives has said that it holds them.
type storing struct {
	tag   string // of what is being stored
	acked map[PeerRef]bool
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
	if tag := p.storeTag(a); st == nil || st.tag != tag {
		st = &storing{tag: tag, acked: map[PeerRef]bool{}, wait: p.tune.Resend, since: p.out.now.Mono}
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
	if st == nil || st.tag != p.storeTag(a) {
		return false
	}
	for _, ref := range a.lists().refs() {
		if !st.acked[ref] && !p.members.reborn(ref) && !p.members.forgotten(ref.Peer) {
			return false
		}
	}
	return true
}

// holdersOf is the keepers that are known to hold what stands of an app, and its
// bytes.
func (p *Peer) holdersOf(a *app) []PeerRef {
	var out []PeerRef
	st, r := p.stores[a.uid], p.keeper.records[a.uid]
	for _, ref := range a.lists().refs() {
		if ref == p.cfg.Self && r != nil && slices.Contains(r.onDisk, a.win.intent.Version) && !p.awaits(&a.win.intent) ||
			st != nil && st.tag == p.storeTag(a) && st.acked[ref] {
			out = append(out, ref)
		}
	}
	return out
}

// stored is the standing versions that keepers are asked to hold: of very many the
// newest. The others are listed until somebody decides between them all.
func (a *app) stored() []version { return a.versions[:min(len(a.versions), siblingsMax)] }

// storeNow is the timer of storing.
func (p *Peer) storeNow(uid UID) {
	a, st := p.apps[uid], p.stores[uid]
	if a == nil || st == nil {
		return
	}
	m := &storeMsg{UID: uid, Keepers: a.keepers.signed, Next: a.next.signed}
	if s := a.steward; s != nil && !s.deputy && s.phase == phaseActing {
		m.Term, m.Holders = s.term, s.holders
	}
	for _, v := range a.stored() {
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
	var to []PeerID
	for _, ref := range a.lists().refs() {
		if !st.acked[ref] && p.keeperLives(ref) {
			to = append(to, ref.Peer)
		}
	}
	if p.out.sendAll(to, message{Store: m}); len(to) > 0 {
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
	next, ok := p.proposal(list, m.Next)
	if known := p.listsOf(m.UID).now; ok && known.list.Peers != nil {
		switch {
		case list.list.Epoch < known.list.Epoch:
			p.tellLists(from, m.UID)
			list, next, ok = known, keeperList{}, m.Term == (Term{})
		case list.after(known):
			ok = p.follows(known, list, from)
		default:
			ok = slices.Equal(known.list.Peers, list.list.Peers)
		}
	}
	l := lists{list, next}
	if !ok || m.Term != (Term{}) && (m.Term.Peer != from || !l.mayHave(m.Term, p.highest(m.UID))) ||
		next.list.Peers != nil && !l.mayHave(next.list.Term, p.highest(m.UID)) {
		return
	}
	if m.Term == (Term{}) {
		m.Holders = nil
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
	case p.keeper.listed(Keepers{Peers: l.refs()}) || from == p.cfg.Self.Peer:
		p.keep(from, m, versions, list, next)
	}
}

// over says whether versions of an app are from before its end, as far as this
// peer knows: those that a keeper saw removed, in whatever run of the daemon.
func (p *Peer) over(uid UID, versions []version) bool {
	if !slices.ContainsFunc(versions, func(v version) bool { return !p.catalog.ends(&v.intent) }) {
		return true
	}
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
// disk kept what it was to forget. Where the writer was forgotten they hear so from
// this peer. What the mesh lists by now stands after all.
func (p *Peer) takenBack(from PeerID, uid UID, v Version) bool {
	if !p.dropped.set[dropKey(uid, v)] || p.lists(uid, v) || from == p.cfg.Self.Peer {
		return false
	}
	if v.Peer == p.cfg.Self.Peer || v.Peer == from || p.members.forgotten(v.Peer) {
		p.tune.mark(MarkTakenBackAgain)
		p.out.send(from, message{Drop: &dropMsg{UID: uid, Version: v}})
	}
	return true
}

// lists says whether the catalog has a version.
func (p *Peer) lists(uid UID, v Version) bool {
	return p.catalog.lists(uid, v)
}

// keep writes what a store brought; the edit of this peer itself comes this
// way too.
func (p *Peer) keep(from PeerID, m *storeMsg, versions []version, list, next keeperList) {
	held := 0
	if r := p.keeper.records[m.UID]; r != nil {
		held = len(r.versions)
	}
	writes, refused := p.keeper.store(m, versions, list, next)
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
	held := &storedMsg{UID: uid, Life: p.cfg.Self.Incarnation, Epoch: r.diskList.epoch, Next: r.diskList.next}
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
		if !p.has(art) {
			missing = missing || !p.durable(i, art) && p.tune.Break != FaultSkipBytes
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
		for _, ref := range a.lists().refs() {
			if ref.Peer == from {
				st.acked[ref] = true
			}
		}
		p.dirty[a.uid] = true
	}
}

// onStored counts a copy.
func (p *Peer) onStored(from PeerID, m *storedMsg) {
	a := p.apps[m.UID]
	if a == nil || from != p.cfg.Self.Peer && !p.isKeeper(m.UID, from) {
		return
	}
	p.hearLists(from, m.UID, m.Lists)
	if a = p.apps[m.UID]; a == nil {
		return
	}
	if m.Gone {
		p.hearGone(a, from)
		return
	}
	if m.Refused != (Term{}) {
		p.tune.mark(MarkStoreRefused)
		if m.Refused.within(p.highest(m.UID)) {
			p.overtaken(m.UID, m.Refused)
			p.editRefused(m.UID, m.Refused)
		}
		return
	}
	if m.Epoch > a.keepers.list.Epoch {
		return // a copy among other keepers: they say who, and are asked
	}
	if st := p.stores[m.UID]; st != nil && st.tag == p.storeTag(a) {
		all := max(m.Epoch, 1) == a.keepers.list.Epoch && m.Next == a.next.list.Term
		for _, v := range a.stored() {
			all = all && slices.Contains(m.Versions, v.intent.Version)
		}
		if all {
			st.acked[a.refOf(from, m.Life)] = true
			p.rerouteEdits(a) // one that was made before waits for this
		}
	}
	p.editStored(from, m)
	p.dirty[m.UID] = true
}
