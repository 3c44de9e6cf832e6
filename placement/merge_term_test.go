package placement

import "testing"

// slowTerms is what two stewards wrote of whom the later had the slower clock: one
// version that came to nothing, which one keeper alone has, and what was decided
// under the later term. Base is what both are over.
func slowTerms(left, later App) (base, leftOver, decided version) {
	under := func(term uint64, v version) version {
		v.intent.Term = term
		return v
	}
	base = under(1, editOf("a", 1, nil, sizes("web=2 db=1"), false))
	over := []version{base}
	return base, under(1, editOf("a", 100, over, left, false)), under(2, editOf("b", 50, over, later, false))
}

// What one side changed is merged away only by who knew of it: of what was decided
// under a later term than it had heard of, whatever the clocks say, it did not.
func TestMergeGoesByTerms(t *testing.T) {
	_, left, decided := slowTerms(sizes("web=5 db=1"), sizes("web=3 db=1"))
	alone := editOf("a", 110, []version{left}, sizes("web=5 db=4"), true)
	if got := standing([]version{left, decided, alone}); len(got) != 2 {
		t.Fatalf("%d versions stand: the test shows nothing", len(got))
	}
	m, ok := merge([]version{decided, alone}, Schema)
	if !ok || text(m.app) != "db=4 web=3" {
		t.Errorf("merged to %q, %t: what came to nothing stands, or what was decided does not", text(m.app), ok)
	}
}

// A choice ends what its maker has seen, and nothing that was decided under a later
// term than that.
func TestChoiceGoesByTerms(t *testing.T) {
	_, left, decided := slowTerms(sizes("web=5 db=1"), sizes("web=3 db=1"))
	seen := []version{left}
	base, term := baseOf(seen)
	end := End{UID: "u", Over: ancestors(seen), Base: base, Term: term}
	if !end.covers(&left.intent) || end.covers(&decided.intent) {
		t.Errorf("what was seen is covered: %t; what was decided since: %t", end.covers(&left.intent), end.covers(&decided.intent))
	}
	later := []version{decided}
	base, term = baseOf(later)
	if both := end.with(End{UID: "u", Over: ancestors(later), Base: base, Term: term}); both.Base != decided.intent.Version || both.Term != 2 || !both.covers(&decided.intent) {
		t.Errorf("two choices together know version %v of term %d", both.Base, both.Term)
	}
}

// The last version under a term that an edit knew, and that term, belong together:
// else it would seem to know all that was decided under the one term up to the clock
// of the other.
func TestBaseAndTermAreOfOneVersion(t *testing.T) {
	_, left, decided := slowTerms(sizes("web=5"), sizes("web=3"))
	beside := editOf("c", 120, []version{left}, sizes("web=7"), true) // its base is the one that came to nothing
	for _, versions := range [][]version{{beside, decided}, {decided, beside}} {
		if base, term := baseOf(versions); base != decided.intent.Version || term != 2 {
			t.Errorf("version %v of term %d, not %v of term 2", base, term, decided.intent.Version)
		}
	}
}

// Of two removals the one of the later term is what a keeper remembers: what the other
// does not supersede must not come back.
func TestRemovalOfTheLaterTermIsRemembered(t *testing.T) {
	p, _ := newTestPeer("a")
	base, left, decided := slowTerms(sizes("web=5"), sizes("web=3"))
	removal := func(over version, at int64, term uint64) version {
		v := removalOf("b", at, []version{over}, false)
		v.intent.Term = term
		return v
	}
	r := p.keeper.open("u", base.intent.Key)
	p.keeper.end(r, []version{removal(left, 101, 1), removal(decided, 60, 2)})
	if e := p.keeper.ended["u"]; e.Removal == nil || e.Removal.Term != 2 || !e.late(&decided.intent) {
		t.Errorf("what was removed last is held against %+v", e.Removal)
	}
}
