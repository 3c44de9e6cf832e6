package placement

import (
	"slices"
	"time"
)

// This file is how a change of a component replaces its slots. The budget is
// derived anew in every round, from the claims and nothing else: so a steward
// that takes over midway spends nothing twice, and what crashes meanwhile is not
// spent a second time by the roll-out.

// budget is what a roll-out may do now.
type budget struct {
	moves int // slots that may be taken on, one way or the other
	surge int // of them, held at two places meanwhile
	stops int // of them, stopped before the newer copy is healthy
}

// budgetOf counts what is on its way and what people miss.
//
//	on its way   wanted slots that are at the wanted version and not healthy for
//	             min_healthy, or asked for, or nowhere, or were ordered to stop
//	missed       wanted slots of which no copy has been healthy for min_healthy
func budgetOf(s situation, claims []fact, double, missing Slots) budget {
	going, healthy, u := Slots{}, Slots{}, s.update
	for _, f := range claims {
		if f.Exclusive != s.exclusive && f.Spec != s.spec { // it has to end before a newer copy begins
			u.Unavailable = max(1, u.Unavailable)
		}
		if f.back && f.Spec == s.spec {
			going = going.Union(f.Slots)
		}
		if f.back || f.live {
			going = going.Union(f.ending)
		}
		if !f.live { // what a peer had when it was last in reach nobody can count on
			continue
		}
		if healthy = healthy.Union(f.settled()); f.Spec == s.spec {
			going = going.Union(f.Slots.Minus(f.settled()))
		}
	}
	if s.fault == FaultSpendTwice { // counts what it has asked for, not what it has
		return budget{max(1, u.Unavailable), u.Surge, max(1, u.Unavailable)}
	}
	going = going.Intersect(s.wanted).Union(missing).Union(s.moving).Union(s.inflight)
	return budget{
		moves: max(u.Surge, u.Unavailable) - going.Len(),
		surge: u.Surge - double.Union(s.moving).Len(),
		stops: u.Unavailable - s.wanted.Minus(healthy).Len(),
	}
}

// take is the part of a claim's slots that is replaced now, those that do not
// work first; stopping them early costs nobody anything.
func (b *budget) take(part, settled Slots, most, healthy int) Slots {
	most = max(0, min(b.moves, most))
	broken := part.Minus(settled).Min(most)
	taken := broken.Union(part.Intersect(settled).Min(max(0, min(most-broken.Len(), healthy))))
	b.moves -= taken.Len()
	return taken
}

// rollOut chooses what to move to the wanted version next. While there is surge
// left a slot's newer copy is placed beside the older one, which ends once the
// newer is healthy. Without any the older one ends first.
func (c *course) rollOut(s situation, claims []fact, double Slots) {
	for _, f := range claims {
		if f.Spec != s.spec {
			c.outdated = c.outdated.Union(f.Slots.Intersect(s.wanted))
		}
	}
	if s.sticky {
		c.endOlder(s, claims)
	}
	b := budgetOf(s, claims, double, c.missing)
	for _, f := range claims {
		if f.Spec == s.spec || !f.live {
			continue
		}
		why := "stops before a newer version starts"
		if f.Exclusive != s.exclusive {
			why = "stops before a version that is exclusive where it is not, or the other way, starts"
		}
		part, settled := f.Slots.Intersect(s.wanted).Minus(double).Minus(s.moving), f.settled()
		if again := part.Intersect(f.ending); !again.IsEmpty() { // it counts already; the order may have been lost
			c.done = append(c.done, share{f, again, why, true})
			part = part.Minus(again)
		}
		if b.moves <= 0 || len(c.moves) == movesMax {
			continue
		}
		switch {
		case f.Exclusive != s.exclusive: // a lease tells the one kind nothing of the other
			c.stop(&b, f, part.Minus(f.Ready), why)
		case s.exclusive: // which begins once the older one has ended: see handOver
			c.move(f, b.take(part, settled, part.Len(), part.Len()))
		case s.update.StopFirst:
			c.stop(&b, f, part, why)
		default:
			moved := b.take(part, settled, b.surge, b.surge)
			b.surge -= moved.Len()
			c.move(f, moved)
			c.stop(&b, f, part.Minus(moved), why)
		}
	}
	c.stops = max(0, b.stops)
}

func (c *course) move(f fact, slots Slots) {
	if !slots.IsEmpty() {
		c.moves = append(c.moves, share{claim: f, slots: slots, why: "moves to a newer version"})
	}
}

func (c *course) stop(b *budget, f fact, part Slots, why string) {
	slots := b.take(part, f.settled(), part.Len(), b.stops)
	if b.stops -= slots.Intersect(f.settled()).Len(); !slots.IsEmpty() {
		c.done = append(c.done, share{f, slots, why, true})
	}
}

// leave is slots of a claim that were ordered to stop, and when that was last.
type leave struct {
	slots Slots
	at    time.Duration
}

// stopFirst notes slots that were ordered to stop. Until their peer says that
// they do they count as stopped.
func (s *Steward) stopFirst(f fact, slots Slots) {
	s.leaves[f.ID] = leave{s.leaves[f.ID].slots.Union(slots), s.p.out.now.Mono}
}

// forgetStops forgets those of claims that are gone.
func (s *Steward) forgetStops() {
	for id := range s.leaves {
		r := s.a.rows[id.Owner.Peer]
		if r == nil || !slices.ContainsFunc(r.report.Claims, func(c claimStatus) bool { return c.ID == id }) {
			delete(s.leaves, id)
		}
	}
}

// countStops takes what was ordered to stop for on its way and no longer healthy.
// When what is wanted is that version again the order is repeated no more, and may
// have been lost: a report from well after it then says what it came to.
func (s *Steward) countStops(sit *situation) {
	for i := range sit.claims {
		f := &sit.claims[i]
		l, ok := s.leaves[f.ID]
		if !ok {
			continue
		}
		r := s.a.rows[f.peer]
		heard := r != nil && r.at-l.at >= s.p.tune.AskGiveUp
		if l.slots = l.slots.Intersect(f.Slots); l.slots.IsEmpty() || f.Spec == sit.spec && heard {
			delete(s.leaves, f.ID)
			continue
		}
		s.leaves[f.ID] = l
		f.ending = l.slots
		f.Fresh = f.Fresh.Union(l.slots.Intersect(f.Running))
	}
}

// makeRoom gives an old claim's slots back before the new ones are placed, where
// there is no room for both: those that do not work, and of the others as many
// as people may miss.
func (s *Steward) makeRoom(c *course, old fact, slots Slots) {
	comp, _, _ := s.p.wants(s.a, old.Component)
	broken := slots.Minus(old.settled())
	slots = broken.Union(slots.Minus(broken).Min(c.stops))
	if slots.IsEmpty() || s.failedAt(old.Component, old.peer) { // more room would not help
		return
	}
	for _, k := range s.p.members.candidates(s.p.out.now.Mono) {
		if k.Digest.Peer.Peer == old.peer && k.Digest.Full == "" && k.Digest.Free.Add(comp.Takes()).Fits(comp.Takes()) > 0 {
			s.p.tune.mark(MarkMadeRoom)
			c.stops -= slots.Minus(broken).Len()
			s.stopFirst(old, slots)
			s.release(old, slots, "makes room for a newer version")
		}
	}
}
