package placement

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// act is one round of a steward: repeat what had no answer, compare what is
// with what should be, ask for what is missing, and give back what is double
// or replaced.
func (s *Steward) act() {
	p, a := s.p, s.a
	now := p.out.now.Mono
	s.open = s.open[:0:0]
	s.repeatAsks(now)
	s.repeatHolds()
	s.outlast = s.claimsOutlast(now)
	if !s.deputy && len(a.versions) == 1 && (a.win.intent.Alone || s.outlast) && s.mayRepeat("restate") {
		p.restate(a)
	}
	s.askUnsure()
	win := &a.win.intent
	if win.Removed {
		s.finishRemoval()
		return
	}
	if len(a.versions) > 1 {
		s.note("conflict: %d versions stand", len(a.versions))
	}
	busy := false
	for _, name := range s.components() {
		busy = s.actOn(name) || busy
	}
	if _, deputy := p.role(a); !deputy && !p.allStored(a) {
		s.note("not all keepers hold what stands")
		p.ensureStored(a.uid)
	}
	s.tidy()
	if busy || len(s.asks) > 0 {
		s.next = now + s.wait
		s.wait = min(s.wait*2, p.tune.RoundMax)
	} else {
		s.wait = p.tune.RoundMin
		s.noRoom = map[string]map[PeerID]refusal{}
		s.next = now + p.tune.RoundMax
	}
}

// askUnsure asks what they hold now of peers whose last report cannot be built
// on: their store was lost since, or they have not repeated it, and so may hold
// nothing any more. (A report that was lost is not repeated when it said that.)
func (s *Steward) askUnsure() {
	for _, id := range sortedKeys(s.a.rows) {
		r, m := s.a.rows[id], s.p.members.peers[id]
		if m == nil || !m.live {
			continue
		}
		reborn := m.digest != nil && m.digest.Peer.Incarnation != r.report.Peer.Incarnation
		silent := len(r.claims()) > 0 && s.p.out.now.Mono-r.at > 2*s.p.tune.ReportEvery
		if (reborn || silent) && s.mayRepeat("census/"+string(id)) {
			s.p.out.send(id, message{Census: &censusMsg{UID: s.a.uid, Term: s.term, Deputy: s.deputy, Nonce: s.nonce}})
		}
	}
}

// claimsOutlast says whether claims of a version that stands nowhere have been
// reported for some time: it was taken back, or its steward died before any
// keeper held it. Their peers follow nothing older than that version.
func (s *Steward) claimsOutlast(now time.Duration) bool {
	newest := Version{}
	for _, r := range s.a.rows {
		for _, c := range r.claims() {
			if c.Version.Compare(newest) > 0 {
				newest = c.Version
			}
		}
	}
	if newest.Compare(s.a.win.intent.Version) <= 0 {
		s.outlasted = 0
		return false
	}
	s.p.clock.observe(newest, s.p.out.now.Wall)
	if s.outlasted == 0 {
		s.outlasted = now
	}
	return now-s.outlasted >= s.p.tune.ConfirmExpiry
}

func (s *Steward) note(format string, args ...any) {
	s.open = append(s.open, s.a.key.String()+": "+fmt.Sprintf(format, args...))
}

// components is those of the intent and those that still have claims, sorted.
func (s *Steward) components() []string {
	names := map[string]bool{}
	for name := range s.a.win.intent.App.Components {
		names[name] = true
	}
	for _, r := range s.a.rows {
		for _, c := range r.claims() {
			names[c.Component] = true
		}
	}
	return sortedKeys(names)
}

// situation gathers the facts about one component.
func (s *Steward) situation(name string) situation {
	p := s.p
	comp, exists := s.a.win.intent.App.Components[name]
	sit := situation{mayStop: !s.deputy, mayMove: !s.deputy && len(s.a.versions) == 1}
	if exists {
		sit.wanted, sit.spec = FirstSlots(comp.Wanted()), SpecHash(comp)
	}
	if s.deputy {
		sit.wanted = sit.wanted.Intersect(s.side[name].Union(s.added(name)))
	}
	now := p.out.now.Mono
	for _, id := range sortedKeys(s.a.rows) {
		dead, isDead := p.members.deadFor(id, now)
		live := p.members.live(id)
		lost := isDead && dead >= time.Duration(comp.Disconnect.LostAfter) && !p.members.massLoss(now)
		for _, c := range s.a.rows[id].claims() {
			if c.Component == name && !c.Slots.IsEmpty() {
				sit.claims = append(sit.claims, fact{claimStatus: c, peer: id, lost: lost, live: live})
			}
		}
	}
	for _, o := range s.asks {
		switch {
		case o.component != name:
		case o.m.Replaces != nil:
			sit.moving = sit.moving.Union(o.m.Slots)
		default:
			sit.inflight = sit.inflight.Union(o.m.Slots)
		}
	}
	return sit
}

// added is the slots that edits accepted on this side ask for beyond what was
// wanted before.
func (s *Steward) added(name string) Slots {
	out := Slots{}
	for _, v := range s.a.versions {
		i := &v.intent
		if comp, ok := i.App.Components[name]; ok && i.Alone && s.p.members.live(i.Version.Peer) {
			out = out.Union(FirstSlots(comp.Wanted()).Minus(FirstSlots(i.Before[name])))
		}
	}
	return out
}

// actOn brings one component nearer to what is wanted, and says whether
// anything is still open.
func (s *Steward) actOn(name string) bool {
	p := s.p
	sit := s.situation(name)
	c := reconcile(sit)
	if p.members.massLoss(p.out.now.Mono) {
		s.note("%s: waits, because more than a third of the sites were lost at once", name)
	}
	if !c.missing.IsEmpty() {
		s.place(name, c.missing, c.lost, nil)
	}
	for _, m := range c.moves {
		s.place(name, m.slots, Slots{}, &m.claim)
	}
	for _, d := range c.done {
		s.release(d.claim, d.slots, d.why)
	}
	for _, d := range c.duplicates {
		s.resolve(name, d)
	}
	return s.noteOpen(name, sit, c)
}

func (s *Steward) noteOpen(name string, sit situation, c course) bool {
	busy := false
	for _, o := range []struct {
		what  string
		slots Slots
	}{
		{"missing", c.missing}, {"asked for", sit.inflight.Union(sit.moving)},
		{"not running yet", c.waiting}, {"at an older version", c.outdated},
	} {
		if o.slots.IsEmpty() {
			continue
		}
		busy = true
		if why := s.short[name]; why != "" && o.what == "missing" {
			s.note("%s: slots %s missing: %s", name, o.slots, why)
			continue
		}
		s.note("%s: slots %s %s", name, o.slots, o.what)
	}
	for _, d := range c.duplicates {
		s.note("%s: slots %s run twice, at %s and %s", name, d.slots, d.survivor.peer, d.loser.peer)
		busy = true
	}
	for _, d := range c.done {
		s.note("%s: slots %s of %s are replaced", name, d.slots, d.claim.peer)
		busy = true
	}
	return busy
}

// place plans slots and asks for them.
func (s *Steward) place(name string, slots, lost Slots, replaces *fact) {
	p := s.p
	if s.waitsForBudget(name, slots) {
		return
	}
	in := PlanInput{
		App: s.a.win.intent.App, Component: name, Slots: slots, Placed: map[PeerID]int{},
		Candidates: p.members.candidates(p.out.now.Mono), Refused: s.refusedNow(name), Rand: p.rng,
	}
	in.Near = p.nearTimes(s.a, name)
	for id, r := range s.a.rows {
		for _, c := range r.claims() {
			if c.Component == name && p.members.live(id) {
				in.Placed[id] += c.Slots.Len()
			}
		}
	}
	res := Plan(in)
	d := Decision{
		UID: s.a.uid, Key: s.a.key, Component: name, Version: s.a.win.intent.Version, Term: s.term,
		At: p.out.now.Wall.UnixMilli(), Slots: slots.String(), Reason: "missing", Considered: res.Considered,
		Outcome: res.Outcome, Taken: map[PeerID]string{},
	}
	switch {
	case replaces != nil:
		d.Reason = "moves from " + string(replaces.peer) + " to a newer version"
	case !lost.IsEmpty():
		d.Reason = "lost: slots " + lost.String() + " were at peers that are dead"
	}
	for _, id := range sortedKeys(res.Assign) {
		if s.ask(id, name, res.Assign[id], replaces) {
			d.Taken[id] = res.Assign[id].String()
		}
	}
	if res.Unplaced.IsEmpty() {
		delete(s.short, name)
	} else {
		s.short[name] = res.Outcome
	}
	p.decisions.add(d)
	p.out.emit(Record{Decision: &d})
	if replaces != nil && !res.Unplaced.IsEmpty() {
		s.makeRoom(*replaces, res.Unplaced)
	}
}

// waitsForBudget keeps a component that found no room from being planned in
// every step: it is tried again when its round comes.
func (s *Steward) waitsForBudget(name string, slots Slots) bool {
	now := s.p.out.now.Mono
	key := "plan/" + name + "/" + slots.String()
	if len(key) > 256 {
		key = key[:256]
	}
	if at, ok := s.sent[key]; ok && now < at+s.p.tune.RoundMin {
		return true
	}
	s.sent[key] = now
	return false
}

// refusedNow is the peers not to ask: who refused in these rounds, and where
// the component failed lately.
func (s *Steward) refusedNow(name string) map[PeerID]string {
	out := map[PeerID]string{}
	for id, r := range s.noRoom[name] {
		// What a peer said of itself since outweighs its refusal.
		if m := s.p.members.get(id); s.p.out.now.Mono-r.at < s.p.tune.RoundMax && m.digestAt <= r.at {
			out[id] = r.why
		}
	}
	for id, r := range s.a.rows {
		if !r.report.Failed[name].IsEmpty() && s.p.out.now.Mono-r.at < s.p.tune.RestartWindow {
			out[id] = "it failed there: " + r.report.Why
		}
	}
	return out
}

// makeRoom gives an old claim's slots back before the new ones are placed,
// when there is no room for both: within the share that a roll-out may move.
func (s *Steward) makeRoom(old fact, slots Slots) {
	comp := s.a.win.intent.App.Components[old.Component]
	for _, c := range s.p.members.candidates(s.p.out.now.Mono) {
		if c.Digest.Peer.Peer == old.peer && c.Digest.Full == "" && c.Digest.Free.Add(comp.Resources).Fits(comp.Resources) > 0 {
			s.release(old, slots, "makes room for a newer version")
		}
	}
}

// nearTimes is the round-trip times from what a component should be near.
func (p *Peer) nearTimes(a *app, name string) map[PeerID]int64 {
	near := a.win.intent.App.Components[name].Place.Near
	if near == nil {
		return nil
	}
	there := map[PeerID]bool{}
	for id, m := range p.members.peers {
		if near.Site != "" && m.site == SiteID(near.Site) {
			there[id] = true
		}
	}
	for id, r := range a.rows {
		for _, c := range r.report.Claims {
			if near.Component != "" && c.Component == near.Component {
				there[id] = true
			}
		}
	}
	out := map[PeerID]int64{}
	for id := range there {
		for other := range p.members.peers {
			rtt, ok := p.rttBetween(id, other)
			if have, known := out[other]; ok && (!known || rtt < have) {
				out[other] = rtt
			}
		}
	}
	return out
}

// rttBetween is what is known of the round trip between two peers: from this
// peer it was measured; of two others only "the same site" is certain.
func (p *Peer) rttBetween(x, y PeerID) (int64, bool) {
	a, b := p.members.peers[x], p.members.peers[y]
	switch {
	case x == y, a.site == b.site:
		return 0, true
	case x == p.cfg.Self.Peer && b.rtt >= 0:
		return b.rtt.Microseconds(), true
	case y == p.cfg.Self.Peer && a.rtt >= 0:
		return a.rtt.Microseconds(), true
	case p.cfg.RTT != nil:
		if d, ok := p.cfg.RTT(x, y); ok {
			return d.Microseconds(), true
		}
	}
	return 0, false
}

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

// release orders a part of a claim to be given back, not more often than it
// takes to answer.
func (s *Steward) release(f fact, slots Slots, why string) {
	if !s.mayRepeat("release/" + f.ID.String() + "/" + slots.String()) {
		return
	}
	as := s.a.win.intent.Version
	if s.outlast && f.Version.Compare(as) > 0 {
		as = f.Version // of a version that came to nothing
	}
	delete(s.pins, f.ID) // should it survive after all, it must be pinned anew
	s.order++
	s.p.out.send(f.peer, message{Release: &releaseMsg{
		UID: s.a.uid, Term: s.term, Version: as, Claim: f.ID, Slots: slots, Reason: why, Order: s.order,
	}})
}

func (s *Steward) mayRepeat(key string) bool {
	now := s.p.out.now.Mono
	if at, ok := s.sent[key]; ok && now-at < s.p.tune.Resend {
		return false
	}
	s.sent[key] = now
	return true
}

// resolve ends a duplicate: the survivor's peer confirms that it runs and pins
// it; only then is the other released, so that two reconcilers can never end
// both.
func (s *Steward) resolve(name string, d duplicate) {
	now := s.p.out.now.Mono
	pin := s.pins[d.survivor.ID]
	if now-pin.at < s.p.tune.PinExpiry/2 {
		if safe := pin.slots.Intersect(d.slots); !safe.IsEmpty() {
			s.release(d.loser, safe, "runs at "+string(d.survivor.peer)+" too, and that is the original")
			if safe.Len() == d.slots.Len() {
				return
			}
		}
	}
	if s.mayRepeat("pin/" + d.survivor.ID.String()) {
		s.order++
		s.p.out.send(d.survivor.peer, message{Pin: &pinMsg{
			UID: s.a.uid, Term: s.term, Claim: d.survivor.ID, Slots: d.slots.Union(pin.slots), Order: s.order,
		}})
	}
}

func (p *Peer) onPinned(m *pinnedMsg) {
	a := p.apps[m.UID]
	if a == nil || a.steward == nil || a.steward.term != m.Term {
		return
	}
	a.steward.pins[m.Claim] = pinnedSlots{slots: m.Slots, at: p.out.now.Mono}
	p.dirty[m.UID] = true
}

// tidy brings the table in line: what stands is published, and versions that
// are superseded leave.
func (s *Steward) tidy() {
	p, a := s.p, s.a
	if s.deputy {
		return
	}
	raw := p.catalog.versions(a.uid)
	if len(a.versions) == 1 && len(raw) == 1 && raw[0].intent.Version == a.win.intent.Version {
		return
	}
	for _, e := range p.edits.open {
		if e.uid == a.uid && e.phase == editStoring {
			return // its answer publishes it; until then it may be taken back
		}
	}
	if len(a.versions) == 1 {
		p.publishApp(a)
	} else {
		p.publishSides(a)
	}
}

// releaseAll orders what a peer still holds of a removed app to be given back.
// Most do it by themselves, from the catalog; a peer whose catalog has another
// app under this name, or none yet, waits for this.
func (s *Steward) releaseAll(id PeerID) {
	r := s.a.rows[id]
	if r == nil || !s.p.members.live(id) {
		return
	}
	for _, c := range r.claims() {
		s.release(fact{claimStatus: c, peer: id}, c.Slots, "the app was removed")
	}
}

// finishRemoval removes the records of an app once nobody holds anything of
// it, and every keeper knows.
func (s *Steward) finishRemoval() {
	p, a := s.p, s.a
	now := p.out.now.Mono
	s.next = now + s.wait
	s.wait = min(s.wait*2, p.tune.RoundMax)
	if s.deputy {
		return
	}
	s.tidy() // the mesh lists the removal first
	var holding []string
	for _, id := range s.holders {
		if r := a.rows[id]; r == nil || len(r.claims()) > 0 {
			holding = append(holding, string(id))
			s.releaseAll(id)
			if p.members.live(id) && s.mayRepeat("census/"+string(id)) {
				p.out.send(id, message{Census: &censusMsg{UID: a.uid, Term: s.term, Nonce: s.nonce}})
			}
		}
	}
	if len(holding) > 0 {
		s.note("removed; waits for %s to say that nothing is left", strings.Join(holding, ", "))
		return
	}
	if !p.allStored(a) {
		s.note("removed; waits for its keepers")
		p.ensureStored(a.uid)
		return
	}
	if p.catalog.has(a.uid) {
		p.unpublishApp(a)
	}
}
