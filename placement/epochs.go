package placement

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// This file is how the keepers of an app change.
//
// Lists are numbered by epoch. Which list follows one is decided once, by its
// keepers: a decree of Paxos (Lamport, 2001) with the app's terms as ballots.
// A steward proposes it under its term, in the message that stores; a keeper
// accepts unless it has granted a higher term; whoever raises a term learns from
// the votes what was accepted, and goes on with that and nothing else.
//
//	          proposed under a term           a majority of the list and one of the
//	list ─────────────────────────▶ changing ─────────────────────────────────────▶ next list
//	                                   │ ▲     next have it on disk, with all that stands
//	                                   └─┘ proposed again under a later term
//
// While a list changes all that needs a majority needs one of both (lists), so
// that at no time two majorities can decide apart, whoever has heard of what. A
// list differs from the one before it by one peer that came and one that went.
//
// Only who proposed a list under its term makes it count, on its own disk first.
// So the one peer that has proposed it knows that it does not count yet: the next
// list need not agree to anything, and should its new member be gone, another
// list is proposed under a later term. Else a mesh of one peer that grows would
// hang on the second from the first message on.
//
// A person may force a list when no majority is left: force.go.

// lists is the keepers of an app that decide now.
func (a *app) lists() lists { return lists{now: a.keepers, next: a.next} }

// decided says whether those that have says yes of are enough to decide about an
// app, as this peer knows its keepers.
func (p *Peer) decided(a *app, have func(PeerRef) bool) bool {
	l := a.lists()
	if p.mayWithdraw(a) || p.tune.Break == FaultOldMajority {
		l.next = keeperList{}
	}
	return l.decided(have)
}

// mayWithdraw says whether this peer, and no other, has proposed the list that is
// to follow, and has not begun to make it count.
func (p *Peer) mayWithdraw(a *app) bool {
	r := p.keeper.records[a.uid]
	return a.next.list.Free && a.next.signed.By == p.cfg.Self.Peer && r != nil && !r.adopting
}

// after says whether a list counts rather than o. Of one epoch there is one list
// only, perhaps proposed again under a later term, but for those that were
// forced: the order is the same everywhere.
func (k keeperList) after(o keeperList) bool {
	return cmp.Or(
		cmp.Compare(k.list.Epoch, o.list.Epoch), cmp.Compare(btoi(k.list.Forced), btoi(o.list.Forced)),
		k.list.Term.Compare(o.list.Term), cmp.Compare(k.signed.By, o.signed.By)) > 0
}

// listsOf is the keepers of an app, as this peer knows them.
func (p *Peer) listsOf(uid UID) lists {
	if r := p.keeper.records[uid]; r != nil && r.list.Peers != nil {
		return lists{now: r.current(), next: r.pending()}
	}
	l := lists{now: p.catalog.keepers[uid]}
	if next := p.catalog.next[uid]; next.list.Epoch == l.now.list.Epoch+1 {
		l.next = next
	}
	return l
}

// follows says whether a list may count from now on, after the one that is
// known: a table has it, or voucher says so, who acts by it or keeps by it.
func (p *Peer) follows(known, k keeperList, voucher PeerID) bool {
	old, list := known.list, k.list
	by := k.signed.By
	switch {
	case old.Peers == nil:
		return true
	case list.UID != old.UID || list.Epoch > old.Epoch+epochJumpMax:
		return false
	case list.Forced && list.Epoch <= old.Epoch+1:
		return p.allGone(old, list)
	case old.has(voucher):
		return true
	case list.Epoch == old.Epoch:
		return slices.Equal(list.Peers, old.Peers)
	case list.Epoch == old.Epoch+1:
		return old.has(by) && oneApart(old, list)
	}
	// Some lists were missed, and who made this one is not known. Whoever keeps
	// by the known one waits for another of it to say so, while one lives.
	return !p.keeper.listed(old) || !slices.ContainsFunc(old.Peers, func(ref PeerRef) bool {
		return ref.Peer != p.cfg.Self.Peer && p.members.live(ref.Peer)
	})
}

// oneApart says whether a list follows another in one step.
func oneApart(old, list Keepers) bool {
	came, went := 0, len(old.Peers)
	for _, ref := range list.Peers {
		if slices.Contains(old.Peers, ref) {
			went--
		} else {
			came++
		}
	}
	return came <= 1 && went <= 1
}

// proposal reads a list that is to follow another, and says whether it can be
// one; there may be none.
func (p *Peer) proposal(now keeperList, s Signed) (next keeperList, ok bool) {
	if len(s.Body) == 0 {
		return keeperList{}, true
	}
	next, err := p.catalog.readKeepers(s)
	return next, err == nil && next.list.UID == now.list.UID && next.list.Epoch == now.list.Epoch+1 && !next.list.Forced &&
		now.list.has(s.By) && oneApart(now.list, next.list)
}

// current and pending are the lists of a keeper's record.
func (r *keepRecord) current() keeperList { return keeperList{r.Keepers, r.list} }
func (r *keepRecord) pending() keeperList { return keeperList{r.Next, r.next} }

// adopt makes a list count, from a keeper's record.
func (r *keepRecord) adopt(k keeperList) {
	r.Keepers, r.list = k.signed, k.list
	if r.next.Epoch <= k.list.Epoch {
		r.Next, r.next, r.adopting = Signed{}, Keepers{}, false
	}
	if k.list.Forced && k.list.Term.Compare(r.Term) > 0 {
		r.Term = k.list.Term // what the keepers before granted is not known
	}
}

// accept takes a list that is to follow, unless a later one was accepted or a
// higher term granted.
func (r *keepRecord) accept(next keeperList) bool {
	t := next.list.Term
	if next.list.Epoch != r.list.Epoch+1 || t.Compare(r.Term) < 0 || t.Compare(r.next.Term) < 0 {
		return false
	}
	r.Next, r.next, r.Term = next.signed, next.list, t
	return true
}

// adoptKeepers makes a list count from now on.
func (p *Peer) adoptKeepers(uid UID, k keeperList) {
	if r := p.keeper.records[uid]; r != nil {
		r.adopt(k)
		p.persistKeep(uid, p.keeper.write(r))
		p.refresh(uid)
	}
}

// tellLists tells a peer that follows an older list, or none, what counts.
func (p *Peer) tellLists(to PeerID, uid UID) {
	if r := p.keeper.records[uid]; r != nil && to != p.cfg.Self.Peer {
		p.out.send(to, message{Stored: &storedMsg{UID: uid, Life: p.cfg.Self.Incarnation, Epoch: r.list.Epoch, Lists: r.told()}})
	}
}

func (r *keepRecord) told() *listsMsg { return &listsMsg{Now: r.Keepers, Next: r.Next} }

// hearLists takes what a keeper of the list known here knows of it.
func (p *Peer) hearLists(from PeerID, uid UID, m *listsMsg) {
	if m == nil {
		return
	}
	now, err := p.catalog.readKeepers(m.Now)
	if err != nil || now.list.UID != uid {
		return
	}
	r := p.keeper.records[uid]
	if r == nil { // it keeps nothing of the app, and runs a part of it
		if known := p.catalog.keepers[uid]; known.list.Peers != nil && now.after(known) && p.follows(known, now, from) {
			p.catalog.keepers[uid] = now
		}
		next, ok := p.proposal(p.catalog.keepers[uid], m.Next)
		if old := p.listsOf(uid).next; ok && next.list.Peers != nil && (old.list.Peers == nil || next.after(old)) {
			p.catalog.next[uid] = next
		}
		p.refresh(uid)
		return
	}
	if now.after(r.current()) && p.follows(r.current(), now, from) {
		p.adoptKeepers(uid, now)
	}
	// What another accepted is remembered, should it turn out to be decided.
	if next, ok := p.proposal(r.current(), m.Next); ok && p.tune.Break != FaultNewProposal && len(next.list.Peers) > 0 && next.list.Term.Compare(r.next.Term) > 0 {
		r.Next, r.next = next.signed, next.list
		p.persistKeep(uid, p.keeper.write(r))
		p.refresh(uid)
	}
}

// refOf is the keeper that an answer comes from, in that life of its store.
func (a *app) refOf(from PeerID, life Incarnation) PeerRef {
	if life == 0 { // of a release that did not say so
		for _, ref := range a.lists().refs() {
			if ref.Peer == from {
				return ref
			}
		}
	}
	return PeerRef{from, life}
}

// tendKeepers brings the app's keepers back to their number, in sites of their
// own, one change at a time.
func (s *Steward) tendKeepers() {
	p, a := s.p, s.a
	r := p.keeper.records[a.uid]
	if s.deputy || r == nil || r.Term.Compare(s.term) > 0 {
		return
	}
	next := a.next.list
	if next.Peers == nil {
		if better, why := p.betterKeepers(a); better != nil {
			s.propose(better, why)
		} else if a.keepers.after(p.catalog.keepers[a.uid]) && s.mayRepeat("publish-keepers") {
			p.publish(Publish{Table: TableKeepers, Key: string(a.uid), Value: Encode(a.keepers.signed)})
		}
		return
	}
	lost := s.newcomerLost() || p.tune.Break == FaultNewProposal && next.Term != s.term
	switch {
	case lost && next.Term == s.term: // of one term there is one proposal
		p.endSteward(a)
		p.beginSteward(a, false)
		return
	case lost:
		better, why := p.betterKeepers(a)
		if better == nil {
			better, why = a.keepers.list.Peers, "who was to come is gone"
		}
		s.propose(better, why)
		return
	case next.Term != s.term:
		s.propose(next.Peers, "a change that was begun")
		return
	}
	st := p.stores[a.uid]
	if st == nil || st.tag != p.storeTag(a) || !a.lists().decided(func(ref PeerRef) bool { return st.acked[ref] }) {
		s.note("its keepers change to %v: not all of them have it yet", next.ids())
		p.ensureStored(a.uid)
		return
	}
	if s.mayRepeat("adopt") {
		s.adopt()
	}
}

// newcomerLost says whether a change can be withdrawn and should be: the peer
// that it would bring is gone.
func (s *Steward) newcomerLost() bool {
	return s.p.mayWithdraw(s.a) && slices.ContainsFunc(s.a.next.list.Peers, func(ref PeerRef) bool {
		return !s.p.keeperLives(ref) && !slices.Contains(s.a.keepers.list.Peers, ref)
	})
}

// adopt makes the list that is to follow count, once this peer's disk says so.
func (s *Steward) adopt() {
	p, uid, k := s.p, s.a.uid, s.a.next
	p.keeper.records[uid].adopting = true
	p.persistKeepThen(uid, p.keeper.write(p.keeper.records[uid]), func() {
		r := p.keeper.records[uid]
		if r == nil || !k.after(r.current()) {
			return
		}
		p.out.happened(Happened{Type: "keepers", UID: uid, Key: r.Key, Peer: p.cfg.Self.Peer,
			Message: fmt.Sprintf("epoch %d: %v", k.list.Epoch, k.list.ids())})
		p.adoptKeepers(uid, k)
		p.publish(Publish{Table: TableKeepers, Key: string(uid), Value: Encode(k.signed)})
		p.ensureStored(uid)
	})
}

// propose begins a change of the keepers, or goes on with it under this term.
func (s *Steward) propose(peers []PeerRef, why string) {
	p, a := s.p, s.a
	k := Keepers{UID: a.uid, Epoch: a.keepers.list.Epoch + 1, Peers: peers, Term: s.term,
		Free: a.next.list.Peers == nil || p.mayWithdraw(a)}
	r := p.keeper.records[a.uid]
	if !r.accept(keeperList{p.sign(k), k}) {
		return
	}
	p.out.happened(Happened{Type: "keepers-change", UID: a.uid, Key: a.key, Peer: p.cfg.Self.Peer,
		Message: fmt.Sprintf("from %v to %v: %s", a.keepers.list.ids(), k.ids(), why)})
	p.persistKeep(a.uid, p.keeper.write(r))
	p.refresh(a.uid)
	p.ensureStored(a.uid)
	s.next = min(s.next, p.out.now.Mono+p.tune.Resend)
}

// ids is the peers of a list, in order.
func (k Keepers) ids() []PeerID {
	out := make([]PeerID, len(k.Peers))
	for i, ref := range k.Peers {
		out[i] = ref.Peer
	}
	return out
}

// storeTag names what is stored: what stands, and who is to keep it.
func (p *Peer) storeTag(a *app) string {
	return fmt.Sprintf("%s/%d/%d.%s", etag(a.versions), a.keepers.list.Epoch, a.next.list.Term.Number, a.next.list.Term.Peer)
}

// betterKeepers is a list that is one step better than an app's, and why; nil
// when there is none.
func (p *Peer) betterKeepers(a *app) (better []PeerRef, why string) {
	if a.win.intent.App.exclusive() {
		return p.betterVoters(a)
	}
	return p.members.betterKeepers(a.keepers.list.Peers, keepersWant, p.out.now.Mono)
}

// betterKeepers is a list that is one step better than this one, and why; nil
// when there is none. Who is gone is replaced; or left out, if nobody can take
// its place and it never comes back. A list that is short grows. Of two in one
// site one makes room for another site.
func (m *members) betterKeepers(list []PeerRef, want int, now time.Duration) (better []PeerRef, why string) {
	for i, ref := range list {
		why, forever := m.keeperGone(ref, now)
		if why == "" {
			continue
		}
		rest := slices.Delete(slices.Clone(list), i, i+1)
		if c := m.newKeeper(rest, now); c != nil {
			return append(rest, c.digest.Peer), why
		}
		if forever && len(rest) > 0 {
			return rest, why
		}
	}
	if len(list) >= want && len(m.sitesOf(list)) == len(list) {
		return nil, "" // nobody would make it better: spare the look at all peers
	}
	c := m.newKeeper(list, now)
	switch {
	case c == nil:
		return nil, ""
	case len(list) < want:
		return append(slices.Clone(list), c.digest.Peer), fmt.Sprintf("there are %d, and %d are wanted", len(list), want)
	}
	for i := len(list) - 1; i >= 0; i-- {
		rest := slices.Delete(slices.Clone(list), i, i+1)
		sites := m.sitesOf(rest)
		if list[i].Peer != m.self && sites[m.siteOf(list[i])] && !sites[c.site] {
			return append(rest, c.digest.Peer), fmt.Sprintf("two are in site %s, and none in %s", m.siteOf(list[i]), c.site)
		}
	}
	return nil, ""
}

// keeperGone says why a keeper needs to be replaced, and whether it never comes
// back.
func (m *members) keeperGone(ref PeerRef, now time.Duration) (why string, forever bool) {
	dead, isDead := m.deadFor(ref.Peer, now)
	switch {
	case m.forgotten(ref.Peer):
		return string(ref.Peer) + " was shut out of the mesh", true
	case m.reborn(ref):
		return string(ref.Peer) + " lost its store", true
	case isDead && dead >= m.tune.KeeperLost && !m.massLoss(now):
		return fmt.Sprintf("%s has been dead for %s", ref.Peer, dead.Round(time.Second)), false
	}
	return "", false
}

// newKeeper is who would best be added to a list: of a site that has none, with
// room on its disk, near; it has been there for a time of calm. Nil when there
// is nobody.
func (m *members) newKeeper(list []PeerRef, now time.Duration) *member {
	sites := m.sitesOf(list)
	rank := func(p *member) (int, int, time.Duration) {
		rtt := p.rtt
		if rtt < 0 {
			rtt = time.Hour
		}
		return btoi(sites[p.site]), btoi(p.digest.Full != ""), rtt
	}
	var best *member
	for _, id := range m.order {
		p := m.peers[id]
		if p.digest == nil || !(m.calm(id, now) || id == m.self) || slices.ContainsFunc(list, func(ref PeerRef) bool { return ref.Peer == id }) {
			continue
		}
		if best != nil {
			a1, a2, a3 := rank(p)
			b1, b2, b3 := rank(best)
			if cmp.Or(cmp.Compare(a1, b1), cmp.Compare(a2, b2), cmp.Compare(a3, b3)) >= 0 {
				continue
			}
		}
		best = p
	}
	return best
}

func (m *members) siteOf(ref PeerRef) SiteID {
	if p := m.peers[ref.Peer]; p != nil {
		return p.site
	}
	return ""
}

func (m *members) sitesOf(list []PeerRef) map[SiteID]bool {
	sites := map[SiteID]bool{}
	for _, ref := range list {
		sites[m.siteOf(ref)] = true
	}
	return sites
}

// idsText names peers for people.
func idsText(ids []PeerID) string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = string(id)
	}
	return strings.Join(out, ", ")
}
