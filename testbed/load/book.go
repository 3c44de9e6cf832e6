package load

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// opsMax bounds the operations that a Book holds.
const opsMax = 200_000

// Outcome is how an operation ended, as far as who asked for it knows.
type Outcome string

// The outcomes.
const (
	Acked   Outcome = "acked"   // on disk where the answer says
	Refused Outcome = "refused" // nothing was written, the answer says
	Unknown Outcome = "unknown" // no answer, or one that leaves it open
)

// Op is one thing that a person asked for.
type Op struct {
	Name     string // of the app
	Removal  bool
	Replicas int
	Begin    time.Time // of the first attempt
	End      time.Time // of the last answer
	Outcome  Outcome
	Attempts int
	Revision string   // acked: that it made
	Copies   int      // acked: keepers that had it on disk
	Quorum   bool     // acked: and they were a majority
	At       []string // acked: those keepers, by id
}

// safe says whether the answer promised that the loss of one disk loses nothing.
func (o Op) safe() bool { return o.Quorum && o.Copies > 1 }

func (o Op) String() string {
	what := fmt.Sprintf("%s ×%d", o.Name, o.Replicas)
	if o.Removal {
		what = o.Name + " removed"
	}
	return fmt.Sprintf("%s (%s, revision %q, %s to %s, %d copies, quorum %t, %d attempts)", what, o.Outcome, o.Revision,
		o.Begin.Format("15:04:05.000"), o.End.Format("15:04:05.000"), o.Copies, o.Quorum, o.Attempts)
}

// Book is what people asked for and what they were told.
type Book struct {
	mu    sync.Mutex // guards what follows
	ops   map[string][]Op
	wiped map[string]time.Time // peers whose disk was emptied, and when last
	count Counts
}

// Counts are the operations of a Book by outcome.
type Counts struct {
	Acked, Safe, Refused, Unknown int
}

// NewBook returns an empty book.
func NewBook() *Book { return &Book{ops: map[string][]Op{}, wiped: map[string]time.Time{}} }

// Add notes an operation that ended.
func (b *Book) Add(o Op) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch o.Outcome {
	case Acked:
		b.count.Acked++
		if o.safe() {
			b.count.Safe++
		}
	case Refused:
		b.count.Refused++
		return // it changes nothing that could be judged
	case Unknown:
		b.count.Unknown++
	}
	if b.count.Acked+b.count.Unknown > opsMax {
		panic(fmt.Sprintf("load: more than %d operations in one book", opsMax))
	}
	b.ops[o.Name] = append(b.ops[o.Name], o)
}

// Wiped notes that the disk of a peer was emptied: what was acknowledged on the
// word of that disk alone is not promised any more.
func (b *Book) Wiped(peer string, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wiped[peer] = at
}

// Counts are the operations so far.
func (b *Book) Counts() Counts {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.count
}

// Names are the names that something was asked of, sorted.
func (b *Book) Names() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	names := make([]string, 0, len(b.ops))
	for name := range b.ops {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Side is one version that stands under a name.
type Side struct {
	Revision string
	Removed  bool
	Replicas int
}

// Check says what is wrong with the versions that stand under a name; none is
// an app that is not there.
func (b *Book) Check(name string, sides []Side) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	ops := b.ops[name]
	standing, err := b.standing(name, ops, sides)
	if err != nil {
		return err
	}
	var errs []error
	for _, a := range ops {
		if a.Outcome == Acked && !b.forgiven(a) && !slices.ContainsFunc(standing, func(f Op) bool { return outlives(f, a) }) {
			errs = append(errs, fmt.Errorf("lost: %s; what stands is %v", a, standing))
		}
	}
	return errors.Join(errs...)
}

// standing are the operations that the sides may have come from.
func (b *Book) standing(name string, ops []Op, sides []Side) ([]Op, error) {
	var standing []Op
	if len(sides) == 0 {
		for _, o := range ops {
			if o.Removal {
				standing = append(standing, o)
			}
		}
		return standing, nil
	}
	for _, s := range sides {
		// A version that nobody was told of was made by an attempt without an
		// answer, or is what was acknowledged, stated anew by its steward.
		found := slices.IndexFunc(ops, func(o Op) bool { return o.Revision == s.Revision })
		if found >= 0 {
			standing = append(standing, ops[found])
			continue
		}
		ghosts := 0
		for _, o := range ops {
			if o.Removal == s.Removed && (s.Removed || o.Replicas == s.Replicas) {
				if o.Outcome == Unknown || o.Attempts > 1 {
					o.End = time.Time{} // it may have been made at any time since
				}
				standing = append(standing, o)
				ghosts++
			}
		}
		if ghosts == 0 {
			return nil, fmt.Errorf("%s stands as %+v, which nobody asked for", name, s)
		}
	}
	return standing, nil
}

// outlives says whether f may stand in the place of a, which was acknowledged.
// An edit that was accepted below a majority beats a removal that it had not
// seen.
func outlives(f, a Op) bool {
	if a.Removal && !f.Removal && (f.Outcome == Unknown || !f.safe()) {
		return true
	}
	return f.Revision != "" && f.Revision == a.Revision || f.End.IsZero() || !f.End.Before(a.Begin)
}

// forgiven says whether a was promised to a lesser degree: a removal below a
// majority yields to any edit that it had not seen, and what lay on one disk
// goes with it.
func (b *Book) forgiven(a Op) bool {
	if a.safe() {
		return false
	}
	if a.Removal {
		return true
	}
	for _, p := range a.At {
		if at, was := b.wiped[p]; !was || at.Before(a.End) {
			return false
		}
	}
	return len(a.At) > 0
}

// History is what was asked of a name, in the order of asking.
func (b *Book) History(name string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	ops := slices.Clone(b.ops[name])
	slices.SortStableFunc(ops, func(x, y Op) int { return x.Begin.Compare(y.Begin) })
	var out strings.Builder
	for _, o := range ops {
		fmt.Fprintf(&out, "  %s\n", o)
	}
	return out.String()
}
