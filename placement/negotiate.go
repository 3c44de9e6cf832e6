package placement

import (
	"slices"
	"time"
)

// This file is the steward's side of the negotiation: asks, their answers, and
// who is recorded as a holder.

// ask sends an ask, and records its peer among the holders before or with it.
func (s *Steward) ask(to PeerID, name string, slots Slots, score *float64, replaces *fact) bool {
	p := s.p
	n, ok := p.number()
	if !ok {
		return false
	}
	s.recordHolders([]PeerID{to})
	m := &askMsg{
		ID:  AskID{Asker: p.cfg.Self.Peer, Incarnation: p.cfg.Self.Incarnation, Counter: n},
		UID: s.a.uid, Term: s.term, Deputy: s.deputy, Intent: s.a.win.signed, Component: name, Slots: slots,
		Keepers: s.a.keeperIDs(), Score: score, Later: p.tune.Reserve && !s.deputy,
	}
	if replaces != nil {
		id := replaces.ID
		m.Replaces = &id
	}
	comp, spec, from := p.wants(s.a, name)
	if from != nil {
		m.As = from.signed
	}
	o := &openAsk{m: m, to: to, component: name, spec: spec, first: p.out.now.Mono}
	s.asks[n] = o
	p.asking.open(n)
	p.members.charge(p.out.now.Mono, to, comp, slots.Len())
	s.sendAsk(o)
	return true
}

func (s *Steward) sendAsk(o *openAsk) {
	o.last = s.p.out.now.Mono
	m := *o.m
	m.Floor = s.p.asking.floor(s.p.counters.next)
	s.p.out.send(o.to, message{Ask: &m})
}

// asking is the asks of all of a peer's stewards that wait for an answer: the
// numbers in the order in which they were given out, those that are done among
// them until they are the oldest.
type asking struct {
	order []uint64
	wait  map[uint64]bool
}

func (q *asking) open(n uint64) {
	if q.wait == nil {
		q.wait = map[uint64]bool{}
	}
	q.wait[n] = true
	q.order = append(q.order, n)
}

// floor is the lowest ask that waits, or what comes after the last number.
func (q *asking) floor(last uint64) uint64 {
	for len(q.order) > 0 && !q.wait[q.order[0]] {
		q.order = q.order[1:]
	}
	if len(q.order) == 0 {
		return last + 1
	}
	return q.order[0]
}

func (s *Steward) closeAsk(n uint64) {
	delete(s.asks, n)
	delete(s.p.asking.wait, n)
}

// repeatAsks sends again what has no answer, to the same peer with the same
// id. An ask that is given up has an unknown outcome: if it was granted, the
// claim shows up in a report and is adopted or given back as a duplicate.
func (s *Steward) repeatAsks(now time.Duration) {
	for _, n := range sortedKeys(s.asks) {
		o := s.asks[n]
		switch {
		case !s.p.members.live(o.to), now-o.first >= s.p.members.patience.giveUp(&s.p.tune):
			s.p.tune.mark(MarkAskGivenUp)
			s.closeAsk(n)
			s.refuse(o.component, o.to, "no answer")
		case now-o.last >= s.p.members.patience.resend(&s.p.tune, o.again):
			o.again++
			s.sendAsk(o)
		}
	}
}

func (s *Steward) refuse(component string, id PeerID, why string) {
	if s.noRoom[component] == nil {
		s.noRoom[component] = map[PeerID]refusal{}
	}
	s.noRoom[component][id] = refusal{why, s.p.out.now.Mono}
}

// onOffer takes the answer to an ask.
func (p *Peer) onOffer(from PeerID, m *offerMsg) {
	if m.Digest.Peer.Peer == from {
		p.onDigest(m.Digest)
	}
	a := p.apps[m.UID]
	if a == nil || a.steward == nil {
		return
	}
	s := a.steward
	o := s.asks[m.Ask.Counter]
	if o == nil || o.m.ID != m.Ask || o.to != from {
		return // given up: the claim, if there is one, shows up in a report
	}
	if !m.Granted.IsEmpty() && (m.Claim.Ask != m.Ask || m.Claim.Owner.Peer != from || !m.Granted.Minus(o.m.Slots).IsEmpty()) {
		return // it speaks of what was not asked
	}
	s.closeAsk(m.Ask.Counter)
	p.members.patience.answered(p.out.now.Mono - o.first)
	if m.Fence.Compare(s.term) > 0 {
		s.followTerm(m.Fence)
		s.confirm()
	}
	if !m.Granted.IsEmpty() {
		p.granted(a, from, o, m)
	}
	if !m.Refused.IsEmpty() {
		s.refuse(o.component, from, clip(m.Reason))
	}
	delete(s.sent, planKey(o.component, m.Refused))
	s.next = p.out.now.Mono
	p.dirty[m.UID] = true
}

// granted enters an offer, until a report that is later speaks of it.
func (p *Peer) granted(a *app, from PeerID, o *openAsk, m *offerMsg) {
	r := a.rows[from]
	if r == nil {
		r = &row{granted: map[ClaimID]grantedClaim{}, at: p.out.now.Mono}
		r.report.Peer = m.Digest.Peer
		a.rows[from] = r
	}
	v, _ := p.catalog.readIntent(o.m.Intent) // this peer's own, or one that it has read
	r.offer(claimStatus{
		ID: m.Claim, Component: o.component, Version: v.intent.Version, Spec: o.spec, Slots: m.Granted,
		Reserved: o.m.Later, Replaces: o.m.Replaces, Score: o.m.Score,
	}, m.Order)
	if o.m.Later {
		a.steward.commit(m.Claim)
	}
	p.out.happened(Happened{Type: "placed", UID: a.uid, Key: a.key, Component: o.component, Slots: m.Granted.String(), Peer: from})
}

// commit makes a reservation work. It is repeated until a report says that the
// claim is committed, or no longer lists it.
func (s *Steward) commit(id ClaimID) {
	if s.mayRepeat("commit/" + id.String()) {
		s.p.out.send(id.Owner.Peer, message{Commit: &commitMsg{UID: s.a.uid, Term: s.term, Claim: id}})
	}
}

// commitOpen commits what is reserved, by this steward or one before it. A
// deputy has no term to commit under, and reserves nothing.
func (s *Steward) commitOpen() {
	if s.deputy {
		return
	}
	for _, id := range sortedKeys(s.a.rows) {
		for _, c := range s.a.rows[id].claims() {
			if c.Reserved && s.p.members.live(id) {
				s.commit(c.ID)
			}
		}
	}
}

// onCommitted takes the answer to a commit. What can't be committed any more is
// no claim, and is placed again.
func (p *Peer) onCommitted(from PeerID, m *committedMsg) {
	a := p.apps[m.UID]
	if a == nil || m.Claim.Owner.Peer != from || a.rows[from] == nil {
		return
	}
	r := a.rows[from]
	if g, ok := r.granted[m.Claim]; ok && m.Not == "" {
		g.status.Reserved = false
		r.granted[m.Claim] = g
	} else if ok {
		delete(r.granted, m.Claim)
	}
	p.dirty[m.UID] = true
}

// recordHolders enters peers among the holders, here and at the other keepers. Those
// of a plan are entered together: each change is a message and a write at each keeper.
func (s *Steward) recordHolders(ids []PeerID) {
	if !s.addHolders(ids) {
		return
	}
	s.holdNumber++
	if kr := s.p.keeper.records[s.a.uid]; kr != nil {
		kr.addHolders(s.holders)
		s.p.persistKeep(s.a.uid, s.p.keeper.write(kr))
		s.heldBy[s.p.cfg.Self.Peer] = s.holdNumber
	}
	s.sendHolds(true)
}

func (s *Steward) sendHolds(first bool) {
	now := s.p.out.now.Mono
	for _, ref := range s.a.lists().refs() {
		id := ref.Peer
		key := "hold/" + string(id)
		if s.heldBy[id] >= s.holdNumber || id == s.p.cfg.Self.Peer || !s.p.keeperLives(ref) {
			continue
		}
		if at, ok := s.sent[key]; ok && !first && now-at < s.p.members.patience.resend(&s.p.tune, 0) {
			continue
		}
		s.sent[key] = now
		s.p.out.send(id, message{Hold: &holdMsg{UID: s.a.uid, Term: s.term, Holders: s.holders, Number: s.holdNumber, Deputy: s.deputy}})
	}
}

func (s *Steward) repeatHolds() { s.sendHolds(false) }

func (p *Peer) onHold(from PeerID, m *holdMsg) {
	if m.Deputy {
		// Anyone may be one: it has no term to tell of, and names peers that exist.
		m.Term = Term{}
		m.Holders = slices.DeleteFunc(m.Holders, func(id PeerID) bool { return p.members.peers[id] == nil })
	} else if !p.mayOrder(from, m.UID, m.Term) {
		return
	}
	writes, ok := p.keeper.hold(m)
	if !ok {
		return
	}
	p.persistKeepThen(m.UID, writes, func() {
		p.out.send(from, message{Held: &heldMsg{UID: m.UID, Number: m.Number}})
	})
}

func (p *Peer) onHeld(from PeerID, m *heldMsg) {
	if a := p.apps[m.UID]; a != nil && a.steward != nil && m.Number > a.steward.heldBy[from] && m.Number <= a.steward.holdNumber {
		a.steward.heldBy[from] = m.Number
	}
}
