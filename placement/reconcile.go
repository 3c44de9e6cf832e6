package placement

import (
	"cmp"
	"slices"
)

// situation is one component as its steward sees it.
type situation struct {
	wanted   Slots
	spec     uint64 // SpecHash of what is wanted
	claims   []fact
	inflight Slots // asked for, to fill what is missing
	moving   Slots // asked for, to replace other claims
	waits    bool  // something is lost and not replaced yet: too much was lost at once
	mayStop  bool  // a steward with its term, not a deputy
	mayMove  bool  // and not in a conflict: a roll-out may begin
}

// fact is one claim as it was last heard of.
type fact struct {
	claimStatus
	peer PeerID
	lost bool // its peer is dead, and for longer than lost_after
	live bool // its peer can be spoken to
}

// course is what should be done about a situation. It is a pure function of
// it: the same facts give the same course at every peer.
type course struct {
	missing    Slots
	lost       Slots // of missing: held by peers that are lost
	moves      []share
	done       []share // parts of claims that another claim has replaced
	duplicates []duplicate
	outdated   Slots // still at an older version
	waiting    Slots // placed, not running yet
}

// share is a part of a claim.
type share struct {
	claim fact
	slots Slots
	why   string
}

// duplicate is slots that run twice, and which of the two claims stays.
type duplicate struct {
	survivor, loser fact
	slots           Slots
}

const (
	// moveShare is the part of a component that a roll-out replaces at a time.
	moveShare = 4
	// movesMax is how many claims one round moves, each with a plan of its own.
	movesMax = 64
	// survivorsMax is how many claims one round holds all others against; the
	// rest has its turn when these are done.
	survivorsMax = 256
)

// reconcile compares what is wanted with what is.
func reconcile(s situation) course {
	var c course
	var standing []fact
	placed, double, lost, running := Slots{}, Slots{}, Slots{}, Slots{}
	for _, f := range s.claims {
		if f.lost {
			lost = lost.Union(f.Slots)
			continue
		}
		standing = append(standing, f)
		double = double.Union(placed.Intersect(f.Slots))
		placed = placed.Union(f.Slots)
		running = running.Union(f.Running)
	}
	c.missing = s.wanted.Minus(placed).Minus(s.inflight)
	c.lost = c.missing.Intersect(lost)
	c.waiting = s.wanted.Intersect(placed).Minus(running)
	if !s.mayStop {
		return c
	}
	c.resolve(s, standing, double)
	if s.mayMove {
		c.rollOut(s, standing, double)
	}
	return c
}

// resolve looks at slots that more than one claim holds. Each has one survivor
// among those that run: at the wanted version before another, and of equals
// the first. All others lose to it, and to nobody else: a loser that had won
// against a third would be pinned, and kept for that.
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
	slices.SortFunc(both, before)
	open, survivors := double, 0
	for _, wanted := range []bool{true, false} {
		for i, x := range both {
			if (x.Spec == s.spec) != wanted {
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
				switch {
				case wanted && y.Spec != s.spec:
					c.done = append(c.done, share{y, part, "replaced by a newer version"})
				case !wanted && y.Spec == s.spec: // it is on its way to replace x
				default:
					c.duplicates = append(c.duplicates, duplicate{x, y, part})
				}
			}
		}
	}
}

// before orders the claims of a duplicate: keep the original. It reads only
// what is frozen in the claims, so that every reconciler agrees.
func before(a, b fact) int {
	return cmp.Or(
		cmp.Compare(btoi(a.Replaces != nil), btoi(b.Replaces != nil)),
		cmp.Compare(firstRun(a), firstRun(b)),
		a.ID.Compare(b.ID))
}

func firstRun(f fact) uint64 { return uint64(f.FirstRunning) - 1 } // never comes last

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// rollOut chooses what to move to the wanted version next.
func (c *course) rollOut(s situation, claims []fact, double Slots) {
	old := Slots{}
	for _, f := range claims {
		if f.Spec != s.spec {
			old = old.Union(f.Slots.Intersect(s.wanted))
		}
	}
	c.outdated = old
	budget := max(1, s.wanted.Len()/moveShare) - s.moving.Len() - double.Len() - c.missing.Len() - s.inflight.Len()
	for _, f := range claims {
		if f.Spec == s.spec || !f.live || budget <= 0 || len(c.moves) == movesMax {
			continue
		}
		part := f.Slots.Intersect(s.wanted).Minus(double).Minus(s.moving)
		// What does not run anyway goes first.
		broken := part.Minus(f.Running).Min(budget)
		part = broken.Union(part.Minus(broken).Min(budget - broken.Len()))
		if part.IsEmpty() {
			continue
		}
		budget -= part.Len()
		c.moves = append(c.moves, share{f, part, "moves to a newer version"})
	}
}
