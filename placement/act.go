package placement

import (
	"fmt"
	"maps"
	"time"
)

// act is one round of a steward: repeat what had no answer, compare what is
// with what should be, ask for what is missing, and give back what is double
// or replaced.
func (s *Steward) act() {
	p, a := s.p, s.a
	now := p.out.now.Mono
	s.open = s.open[:0:0]
	maps.DeleteFunc(s.sent, func(_ string, at time.Duration) bool {
		return now-at >= max(p.members.patience.resend(&p.tune, 0), p.tune.RoundMin)
	})
	s.forgetStops()
	s.repeatAsks(now)
	s.repeatHolds()
	s.commitOpen()
	outdone := s.claimsOutlast(now)
	// Not while another app has its name: what a person is about to choose from
	// must not change under their hands.
	alone := a.win.intent.Alone && !p.conflict(a)
	if !s.deputy && len(a.versions) == 1 && (alone || outdone) && s.mayRepeat("restate") {
		s.p.tune.mark(MarkRestated)
		p.restate(a)
	}
	if !s.deputy && len(a.versions) > 1 && s.mayRepeat("merge") {
		p.mergeSides(a)
	}
	if !s.deputy && p.catalog.outlast[a.key] && p.catalog.lists(a.uid, a.win.intent.Version) && s.mayRepeat("ends") {
		p.publishApp(a) // over what a person decided against, which its steward wrote once more
	}
	s.askUnsure()
	s.tendKeepers()
	win := &a.win.intent
	if win.Removed {
		s.finishRemoval()
		return
	}
	if len(a.versions) > 1 {
		s.note("conflict: %d versions stand", len(a.versions))
	}
	if p.conflict(a) && !p.merging(a) {
		s.tellConflict()
	}
	if !s.deputy && len(a.versions) == 1 && !a.key.Recorded() { // a tag that moved lets go of what it named
		s.notePast()
	}
	busy := false
	s.unsure, s.due = false, 0
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
		if a.key.Recorded() { // nothing of it runs: what changes wakes its steward
			s.next = now + recordedRounds*p.tune.RoundMax
		}
	}
	if s.unsure {
		s.next = min(s.next, now+p.tune.Resend)
	}
	if s.spreadPast(); s.due > 0 {
		s.next = min(s.next, s.due)
	}
}

// askUnsure asks what they hold now of peers whose last report cannot be built
// on: their store was lost since, they were out of reach, or they have not repeated
// it, and so may hold nothing any more. (A report that was lost is not repeated when it said that.)
func (s *Steward) askUnsure() {
	for _, id := range sortedKeys(s.a.rows) {
		r, m := s.a.rows[id], s.p.members.peers[id]
		if m == nil || !m.live {
			continue
		}
		reborn := m.digest != nil && m.digest.Peer.Incarnation != r.report.Peer.Incarnation
		silent := len(r.claims()) > 0 && s.p.out.now.Mono-r.at > 2*s.p.tune.ReportEvery
		if (reborn || silent || s.p.members.backSince(id, r.at)) && s.mayRepeat("census/"+string(id)) {
			s.p.tune.mark(MarkAskedUnsure)
			s.p.out.send(id, message{Census: &censusMsg{UID: s.a.uid, Term: s.term, Deputy: s.deputy, Nonce: s.nonce}})
		}
	}
}

// claimsOutlast says whether claims of a version that stands nowhere have been
// reported for some time: it was taken back, or its steward died before any
// keeper held it. Their peers follow nothing older than that version.
// What stands should be written anew then, above them; but not above one of a
// clock far ahead, which is released by its own version and no more.
func (s *Steward) claimsOutlast(now time.Duration) (outdone bool) {
	newest, followed := Version{}, Version{}
	stands, unlisted := s.a.versions[0].intent.Version, true
	for _, r := range s.a.rows {
		for _, c := range r.claims() {
			if c.Version.Compare(newest) > 0 {
				newest = c.Version
			}
			unlisted = unlisted && (c.Unlisted || c.Version.Compare(stands) <= 0)
			if c.Version.Compare(followed) > 0 && !c.Version.ahead(s.p.out.now.Wall) {
				followed = c.Version
			}
		}
	}
	if newest.Compare(stands) <= 0 {
		s.outlasted, s.outlast = 0, false
		return false
	}
	s.p.clock.observe(followed, s.p.out.now.Wall)
	if s.outlasted == 0 {
		s.outlasted = now
	}
	// What neither its own peer nor this one has heard of by now came to nothing;
	// of peers that do not say, a claim is waited for as long as they wait.
	wait := s.p.tune.ConfirmExpiry
	if unlisted {
		wait = min(wait, s.p.tune.RoundMax)
	}
	s.outlast = now-s.outlasted >= wait
	if s.outlast {
		s.p.tune.mark(MarkClaimsOutlast)
	}
	return s.outlast && followed.Compare(stands) > 0
}

// notesMax bounds what a steward says is open.
const notesMax = 64

func (s *Steward) note(format string, args ...any) {
	if len(s.open) >= notesMax {
		return
	}
	s.open = append(s.open, s.a.key.String()+": "+fmt.Sprintf(format, args...))
}

// components is those of the intent and those that still have claims, sorted.
func (s *Steward) components() []string { // in the order in which they are placed
	names := map[string]bool{}
	for name := range s.a.win.intent.App.Components {
		names[name] = true
	}
	for _, r := range s.a.rows {
		for _, c := range r.claims() {
			names[c.Component] = true
		}
	}
	return s.a.win.intent.App.placingOrder(names)
}

// situation gathers the facts about one component.
func (s *Steward) situation(name string) situation {
	_, exists := s.a.win.intent.App.Components[name]
	comp, spec, _ := s.p.wants(s.a, name)
	pol := comp.Policy()
	sit := situation{
		keep: pol.Reconcile, conflict: len(s.a.versions) > 1, fault: s.p.tune.Break,
		mayStop: !s.deputy,
	}
	if exists {
		sit.sticky = len(comp.Volumes) > 0
		sit.wanted, sit.spec = s.wantedHere(name, pol, FirstSlots(comp.Wanted())), spec
		sit.update = comp.updateOf(sit.wanted.Len())
	}
	if sit.exclusive = comp.Exclusive.On; sit.exclusive && s.deputy {
		s.note("%s: slots %s need a lease, which nobody gets: no majority of the keepers is in reach", name, sit.wanted)
		sit.wanted = Slots{}
	}
	sit.claims, sit.fates = s.facts(name, pol)
	s.holdUnsure(&sit)
	s.countStops(&sit)
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
	sit := s.situation(name)
	s.watchRollOut(name, &sit)
	if comp, spec, _ := s.p.wants(s.a, name); spec != sit.spec && !sit.wanted.IsEmpty() { // reverted just now, or tried again
		sit.spec, sit.update, sit.exclusive = spec, comp.updateOf(sit.wanted.Len()), comp.Exclusive.On
	}
	sit.mayMove = s.mayRoll(name)
	c := reconcile(sit)
	s.noteWaits(name, sit)
	s.noteUnplaced(name, c.missing.Union(sit.inflight.Intersect(sit.wanted)))
	if sit.exclusive {
		s.noteLeases(name, sit)
	}
	if !c.missing.IsEmpty() {
		s.place(name, c.missing, c.lost, nil)
	}
	for _, m := range c.moves {
		if left := s.place(name, m.slots, Slots{}, &m.claim); !left.IsEmpty() {
			s.makeRoom(&c, m.claim, left)
		}
	}
	for _, d := range c.done {
		if d.stops {
			s.stopFirst(d.claim, d.slots)
		}
		s.release(d.claim, d.slots, d.why)
	}
	s.resolve(c.duplicates)
	return s.noteOpen(name, sit, c)
}

func (s *Steward) noteOpen(name string, sit situation, c course) bool {
	busy := false
	if r := s.past.Rolls[name]; !s.deputy && r.Verdict == RolloutStalled && r.Spec == s.a.win.spec(name) {
		s.note("%s: the roll-out stalled: %s", name, r.Why)
		c.outdated = Slots{} // they stay, until a person does something
	}
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

// place plans slots and asks for them. What is left over found no room.
func (s *Steward) place(name string, slots, lost Slots, replaces *fact) (left Slots) {
	if s.waitsForBudget(name, slots) {
		return Slots{}
	}
	delete(s.short, name)
	delete(s.hopeless, name)
	comp, _, _ := s.p.wants(s.a, name)
	parts := s.parts(name, comp, slots)
	if s.waitsForDistances(name, comp, anywhere(parts)) {
		delete(s.sent, planKey(name, slots)) // nothing was planned yet
		return Slots{}
	}
	for _, g := range parts {
		left = left.Union(s.plan(name, comp, g, lost.Intersect(g.slots), replaces))
	}
	return left
}

// plan plans a part of the slots that are to be placed, and asks for them.
func (s *Steward) plan(name string, comp Component, g part, lost Slots, replaces *fact) (left Slots) {
	p, slots := s.p, g.slots
	in := s.planInput(name, comp, slots)
	in.Travel = p.travels(s.runsAs(name), comp, in.Candidates, nil)
	p.atHome(&in, g)
	res := Plan(in)
	d := Decision{
		UID: s.a.uid, Key: s.a.key, Component: name, Version: s.a.win.intent.Version, Term: s.term,
		At: p.out.now.Wall.UnixMilli(), Slots: slots.String(), Reason: "missing", Considered: res.Considered,
		Outcome: res.Outcome, Taken: map[PeerID]string{}, Travel: travelled(in, res.Assign),
	}
	switch {
	case replaces != nil:
		d.Reason = "moves from " + string(replaces.peer) + " to a newer version"
	case !lost.IsEmpty():
		d.Reason = "lost: slots " + lost.String() + " were at peers that are dead"
	}
	if beside := comp.beside(); beside != "" {
		d.Reason += "; " + beside
	}
	d.Reason += nearText(in)
	if g.home != "" {
		d.Reason += "; its volumes are at " + p.nameOf(g.home)
	} else if g.left != "" {
		p.tune.mark(MarkVolumeLeft)
		d.Reason += "; " + g.left
	}
	asked := sortedKeys(res.Assign)
	if len(asked) > 0 {
		s.recordHolders(asked)
	}
	for _, id := range asked {
		if s.ask(id, name, res.Assign[id], scoreOf(res, id), replaces) {
			d.Taken[id] = res.Assign[id].String()
		}
	}
	if !res.Unplaced.IsEmpty() {
		s.short[name] = p.atHomeText(g, res.Outcome)
		s.hopeless[name] = s.failsEverywhere(in)
	}
	p.decisions.add(d)
	p.out.emit(Record{Decision: &d})
	return res.Unplaced
}

// planInput is what is known for a plan, but for what would travel.
func (s *Steward) planInput(name string, comp Component, slots Slots) PlanInput {
	p := s.p
	in := PlanInput{
		App: s.a.win.intent.App.with(name, comp), Component: name, Slots: slots, Placed: s.placed(name),
		Candidates: p.members.candidates(p.out.now.Mono), Refused: s.refusedNow(name), Rand: p.rng,
	}
	p.barSecrets(s.a.key.Namespace, comp, in.Candidates, in.Refused)
	if near := comp.Place.Near; near != nil {
		in.Near = p.nearTimes(near, s.hosts(near.Component))
	}
	return in
}

// placed is how many slots of a component each live peer has and is asked for.
// What a roll-out is about to replace does not count, or the new version would
// be spread evenly over what goes.
func (s *Steward) placed(name string) map[PeerID]int {
	_, spec, _ := s.p.wants(s.a, name)
	mayMove := !s.deputy && len(s.a.versions) == 1
	out := map[PeerID]int{}
	for id, r := range s.a.rows {
		for _, c := range r.claims() {
			if c.Component == name && s.p.members.live(id) && (c.Spec == spec || !mayMove) {
				out[id] += c.Slots.Len()
			}
		}
	}
	for _, o := range s.asks {
		if o.component == name {
			out[o.to] += o.m.Slots.Len()
		}
	}
	return out
}

// waitsForBudget keeps a component that found no room from being planned in
// every step: it is tried again when its round comes.
func (s *Steward) waitsForBudget(name string, slots Slots) bool {
	now := s.p.out.now.Mono
	key := planKey(name, slots)
	if at, ok := s.sent[key]; ok && now < at+s.p.tune.RoundMin {
		return true
	}
	s.sent[key] = now
	return false
}

func planKey(name string, slots Slots) string { return fmt.Sprintf("plan/%s/%x", name, fnvOf(slots)) }

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
		if s.failedAt(name, id) {
			out[id] = "it failed there: " + r.report.failedWhy(name)
		}
	}
	return out
}

// failedAt says whether a component, as it is wanted now, failed at a peer lately.
// A peer of an older release does not say what of it did.
func (s *Steward) failedAt(name string, id PeerID) bool {
	r := s.a.rows[id]
	if r == nil || r.report.Failed[name].IsEmpty() || s.p.out.now.Mono-r.at >= s.p.tune.RestartWindow {
		return false
	}
	_, spec, _ := s.p.wants(s.a, name)
	failed, known := r.report.FailedSpecs[name]
	return !known || failed == spec
}
