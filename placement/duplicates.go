package placement

import (
	"cmp"
	"slices"
)

// This file is which copy stays of slots that more than one claim holds. It
// reads only what is frozen in the claims, so that every reconciler agrees; ties
// are broken by the claims' ids. See docs/MANIFEST.md for what each rule means.

// resolve looks at slots that more than one claim holds. Where several versions
// stand, what either side runs stays: copies are compared with others of the
// same spec only, and just the moves that had begun are finished.
func (c *course) resolve(s situation, claims []fact, double Slots) {
	if double.IsEmpty() {
		return
	}
	var both []fact
	for _, f := range claims {
		if f.live && !f.Slots.Intersect(double).IsEmpty() {
			both = append(both, f)
		}
	}
	if s.keep == LongestRunning {
		both = byRun(both, double)
	}
	slices.SortFunc(both, before(s.keep))
	if !s.conflict {
		c.settle(s, both, double)
		return
	}
	c.finishMoves(both)
	var specs []uint64
	for _, f := range both {
		if !slices.Contains(specs, f.Spec) {
			specs = append(specs, f.Spec)
		}
	}
	for _, spec := range specs {
		s.spec = spec
		c.settle(s, slices.DeleteFunc(slices.Clone(both), func(f fact) bool { return f.Spec != spec }), double)
	}
}

// settle finds for each slot one survivor among those that run: at the wanted
// version before another, and of equals the first in order. All others lose to
// it, and to nobody else: a loser that had won against a third would be pinned,
// and kept for that. A claim that is to replace another is no duplicate of it:
// once it runs the other is done.
func (c *course) settle(s situation, both []fact, double Slots) {
	at := func(f fact) bool { return f.Spec == s.spec || s.fault == FaultTakeMove }
	open, survivors := double, 0
	for _, wanted := range []bool{true, false} {
		for i, x := range both {
			if at(x) != wanted {
				continue
			}
			mine := x.Running.Intersect(open)
			if mine.IsEmpty() || survivors == survivorsMax {
				continue
			}
			survivors++
			open = open.Minus(mine)
			for j, y := range both {
				if i == j || !mine.Intersects(y.Slots) {
					continue
				}
				part := mine.Intersect(y.Slots)
				alike := at(x) == at(y) && s.fault != FaultTakeMove
				switch {
				case alike && !wanted && !s.exclusive && x.replaces(y):
					c.overtaken(x, y, part)
				case alike && !wanted && !s.exclusive && y.replaces(x):
					c.overtaken(y, x, part)
				case alike && x.replaces(y):
					c.ends(y, part, movedAway)
				case alike && y.replaces(x): // x stays until y runs
					c.ends(x, part.Intersect(y.Running), movedAway)
				case wanted && !at(y): // what is healthy stays until its replacement is
					c.ends(y, part.Minus(y.Running.Minus(x.settled())), "replaced by a newer version")
				case !wanted && at(y): // it is on its way to replace x
				default:
					c.duplicates = append(c.duplicates, duplicate{x, y, part, s.keep})
				}
			}
		}
	}
	c.oneWaits(slices.DeleteFunc(slices.Clone(both), at), open)
}

// oneWaits leaves one of several older copies of which none runs: a roll-out
// replaces no slot that is held twice, and would wait for one of them for ever.
func (c *course) oneWaits(older []fact, open Slots) {
	for _, f := range older {
		open = open.Minus(f.Running).Minus(f.Ready) // which a lease tells how to go on
	}
	waits := Slots{}
	for _, f := range older {
		c.ends(f, f.Slots.Intersect(open).Intersect(waits), "a newer version came, and neither it nor another copy runs")
		waits = waits.Union(f.Slots)
	}
}

// ends says that slots of a claim are done.
func (c *course) ends(f fact, slots Slots, why string) {
	if !slots.IsEmpty() {
		c.done = append(c.done, share{claim: f, slots: slots, why: why})
	}
}

// overtaken decides between two copies of which neither is at the version that
// is wanted by now: the newer one was on its way when that came. Where it is
// healthy it stays for its turn; else the older one does.
func (c *course) overtaken(newer, older fact, slots Slots) {
	ready := slots.Intersect(newer.settled())
	c.ends(older, ready, movedAway)
	c.ends(newer, slots.Minus(ready).Intersect(older.settled()), "a newer version came before it had replaced another")
}

// finishMoves ends what another claim was granted to replace, and does by now.
func (c *course) finishMoves(claims []fact) {
	for _, x := range claims {
		for _, y := range claims {
			if x.replaces(y) {
				c.ends(y, x.settled().Intersect(y.Slots), movedAway)
			}
		}
	}
}

const movedAway = "replaced, as was ordered when its replacement was placed"

// replaces says whether a claim was granted to take another's place.
func (f fact) replaces(o fact) bool { return f.Replaces != nil && *f.Replaces == o.ID }

// before orders the claims of a duplicate: the first of them that runs stays.
func before(keep string) func(a, b fact) int {
	original := func(a, b fact) int {
		return cmp.Or(
			cmp.Compare(btoi(a.Replaces != nil), btoi(b.Replaces != nil)),
			cmp.Compare(began(a.FirstRunning), began(b.FirstRunning)),
			a.ID.Compare(b.ID))
	}
	switch keep {
	case KeepReplacement:
		return func(a, b fact) int {
			return cmp.Or(cmp.Compare(b.FirstRunning, a.FirstRunning), a.ID.Compare(b.ID))
		}
	case LongestRunning:
		return func(a, b fact) int {
			return cmp.Or(cmp.Compare(began(a.run), began(b.run)), original(a, b))
		}
	case BestScore:
		return func(a, b fact) int { return cmp.Or(compareScores(b.Score, a.Score), original(a, b)) }
	}
	return original
}

// began makes a time that is not known, 0, the latest.
func began(millis int64) uint64 { return uint64(millis) - 1 }

// compareScores takes a score that is not known, of a claim that an older peer
// granted or that was booked again, for less than any other.
func compareScores(a, b *float64) int {
	if a == nil || b == nil {
		return cmp.Compare(btoi(a != nil), btoi(b != nil))
	}
	return cmp.Compare(*a, *b)
}

// byRun splits claims by when the run of their slots began, of those in double:
// a slot that was restarted is younger than the rest of its claim.
func byRun(claims []fact, double Slots) []fact {
	var out []fact
	for _, f := range claims {
		f.run = f.FirstRunning
		for _, n := range sortedKeys(f.Again) {
			if !double.Contains(n) || !f.Slots.Contains(n) {
				continue
			}
			one := f
			one.Slots, one.Running, one.run = SlotsOf(n), f.Running.Intersect(SlotsOf(n)), f.Again[n]
			f.Slots, f.Running = f.Slots.Remove(n), f.Running.Remove(n)
			out = append(out, one)
		}
		if !f.Slots.IsEmpty() {
			out = append(out, f)
		}
	}
	return out
}

// countSlots is how many slots claims hold, each as often as it is held.
func countSlots(claims []fact) (n int) {
	for _, f := range claims {
		n += f.Slots.Len()
	}
	return n
}

// stays is why the survivor of a duplicate does.
func stays(keep string) string {
	switch keep {
	case KeepReplacement:
		return "that is the replacement"
	case LongestRunning:
		return "that has run longer"
	case BestScore:
		return "that is the better place"
	}
	return "that is the original"
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
