package placement

import (
	"slices"
	"time"
)

// This file is the steward's side of the negotiation: asks, their answers, and
// who is recorded as a holder.

// ask sends an ask, and records its peer among the holders before or with it.
func (s *Steward) ask(to PeerID, name string, slots Slots, replaces *fact) bool {
	p := s.p
	n, ok := p.number()
	if !ok {
		return false
	}
	if s.addHolders([]PeerID{to}) {
		s.holdNumber++
		s.tellHolders()
	}
	m := &askMsg{
		ID:  AskID{Asker: p.cfg.Self.Peer, Incarnation: p.cfg.Self.Incarnation, Counter: n},
		UID: s.a.uid, Term: s.term, Deputy: s.deputy, Intent: s.a.win.signed, Component: name, Slots: slots,
		Keepers: s.a.keeperIDs(),
	}
	if replaces != nil {
		id := replaces.ID
		m.Replaces = &id
	}
	o := &openAsk{m: m, to: to, component: name, first: p.out.now.Mono}
	s.asks[n] = o
	p.members.get(to).charged = p.members.get(to).charged.Add(s.a.win.intent.App.Components[name].Resources.Times(slots.Len()))
	s.sendAsk(o)
	return true
}

func (s *Steward) sendAsk(o *openAsk) {
	o.last = s.p.out.now.Mono
	m := *o.m
	m.Floor = s.p.askFloor()
	s.p.out.send(o.to, message{Ask: &m})
}

// askFloor is the lowest ask of this peer that still waits for an answer.
func (p *Peer) askFloor() uint64 {
	floor := p.counters.next + 1
	for _, a := range p.apps {
		if a.steward != nil {
			for n := range a.steward.asks {
				floor = min(floor, n)
			}
		}
	}
	return floor
}

// repeatAsks sends again what has no answer, to the same peer with the same
// id. An ask that is given up has an unknown outcome: if it was granted, the
// claim shows up in a report and is adopted or given back as a duplicate.
func (s *Steward) repeatAsks(now time.Duration) {
	for _, n := range sortedKeys(s.asks) {
		o := s.asks[n]
		switch {
		case !s.p.members.live(o.to), now-o.first >= s.p.tune.AskGiveUp:
			delete(s.asks, n)
			s.refuse(o.component, o.to, "no answer")
		case now-o.last >= s.p.tune.Resend:
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
		p.members.digestChanged(p.out.now.Mono, m.Digest)
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
	delete(s.asks, m.Ask.Counter)
	if m.Fence != (Term{}) {
		p.hearTerm(m.UID, m.Fence)
	}
	if !m.Granted.IsEmpty() {
		p.granted(a, from, o, m)
	}
	if !m.Refused.IsEmpty() {
		s.refuse(o.component, from, clip(m.Reason))
	}
	delete(s.sent, "plan/"+o.component+"/"+m.Refused.String())
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
	if m.Order.compare(r.report.Order) >= 0 {
		var spec uint64
		if v, err := p.catalog.readIntent(o.m.Intent); err == nil {
			spec = SpecHash(v.intent.App.Components[o.component])
		}
		known := slices.ContainsFunc(r.report.Claims, func(c claimStatus) bool { return c.ID == m.Claim })
		if !known {
			r.granted[m.Claim] = grantedClaim{after: m.Order, status: claimStatus{
				ID: m.Claim, Component: o.component, Version: a.win.intent.Version, Spec: spec, Slots: m.Granted, Replaces: o.m.Replaces,
			}}
		}
	}
	p.out.happened(Happened{Type: "placed", UID: a.uid, Key: a.key, Component: o.component, Slots: m.Granted.String(), Peer: from})
}

// tellHolders records the holders here and at the other keepers.
func (s *Steward) tellHolders() {
	if kr := s.p.keeper.records[s.a.uid]; kr != nil {
		kr.addHolders(s.holders)
		s.p.persistKeep(s.a.uid, s.p.keeper.write(kr))
		s.heldBy[s.p.cfg.Self.Peer] = s.holdNumber
	}
	s.sendHolds(true)
}

func (s *Steward) sendHolds(first bool) {
	now := s.p.out.now.Mono
	for _, ref := range s.a.keepers.list.Peers {
		id := ref.Peer
		key := "hold/" + string(id)
		if s.heldBy[id] >= s.holdNumber || id == s.p.cfg.Self.Peer || !s.p.keeperLives(ref) {
			continue
		}
		if at, ok := s.sent[key]; ok && !first && now-at < s.p.tune.Resend {
			continue
		}
		s.sent[key] = now
		s.p.out.send(id, message{Hold: &holdMsg{UID: s.a.uid, Term: s.term, Holders: s.holders, Number: s.holdNumber, Deputy: s.deputy}})
	}
}

func (s *Steward) repeatHolds() { s.sendHolds(false) }

func (p *Peer) onHold(from PeerID, m *holdMsg) {
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
