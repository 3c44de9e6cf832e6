package placement

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

func score(f fact, points float64) fact { f.Score = &points; return f }

// again is a claim whose slot 0 was restarted at that time.
func again(f fact, at int64) fact { f.Again = map[Slot]int64{0: at}; return f }

func moved(f, from fact) fact { f.Replaces = &from.ID; return f }

// Which of the copies of slot 0 stays, whatever the order in which a reconciler
// heard of them.
func TestWhichCopyStays(t *testing.T) {
	first, second, third := running("b", 10, 1, 0), running("a", 20, 1, 0), running("c", 30, 1, 0)
	same := running("a", 10, 1, 0) // as first, with a lower id
	same.ID.Ask.Asker = "r"
	for _, c := range []struct {
		name, keep string
		claims     []fact
		stays      PeerID
	}{
		{"first", KeepOriginal, []fact{first, second, third}, "b"},
		{"first, though its score is lower", KeepOriginal, []fact{score(first, 1), score(second, 9)}, "b"},
		{"a move is no original", KeepOriginal, []fact{moved(first, third), second}, "a"},
		{"of equals the lower id", KeepOriginal, []fact{first, same}, "a"},
		{"last", KeepReplacement, []fact{first, second, third}, "c"},
		{"of equals the lower id", KeepReplacement, []fact{first, same}, "a"},
		{"never restarted", LongestRunning, []fact{first, second}, "b"},
		{"the first was restarted", LongestRunning, []fact{again(first, 25), second}, "a"},
		{"both were", LongestRunning, []fact{again(first, 25), again(second, 40)}, "b"},
		{"best", BestScore, []fact{score(first, 50), score(second, 70), score(third, 60)}, "a"},
		{"of equals the first", BestScore, []fact{score(second, 50), score(first, 50)}, "b"},
		{"an older peer's has none", BestScore, []fact{first, score(second, -20)}, "a"},
		{"none has one", BestScore, []fact{second, first}, "b"},
		{"of a newer release's rule", "by_vote", []fact{second, first}, "b"},
	} {
		for seed := range uint64(4) {
			rng := rand.New(rand.NewPCG(seed, 1))
			rng.Shuffle(len(c.claims), func(i, j int) { c.claims[i], c.claims[j] = c.claims[j], c.claims[i] })
			got := reconcile(situation{wanted: FirstSlots(1), spec: 1, keep: c.keep, claims: c.claims, mayStop: true, mayMove: true})
			if len(got.duplicates) != len(c.claims)-1 || len(got.done)+len(got.moves) != 0 {
				t.Fatalf("%s, %s: %+v", c.keep, c.name, got)
			}
			for _, d := range got.duplicates {
				if d.survivor.peer != c.stays || d.loser.peer == c.stays {
					t.Errorf("%s, %s: %s stays, %s goes", c.keep, c.name, d.survivor.peer, d.loser.peer)
				}
			}
		}
	}
}

// Each slot of a claim has a run of its own.
func TestLongestRunningBySlot(t *testing.T) {
	a, b := again(running("a", 10, 1, 0, 1), 50), running("b", 20, 1, 0, 1)
	c := reconcile(situation{wanted: FirstSlots(2), spec: 1, keep: LongestRunning, claims: []fact{a, b}, mayStop: true})
	got := map[string]string{}
	for _, d := range c.duplicates {
		got[d.slots.String()] = string(d.survivor.peer)
	}
	if want := "map[0:b 1:a]"; fmt.Sprint(got) != want {
		t.Errorf("%v, want %s", got, want)
	}
}

// A claim that is to replace another is no duplicate of it, even of one spec.
func TestMoveIsNoDuplicate(t *testing.T) {
	for _, keep := range Reconciles {
		from := running("a", 10, 1, 0)
		to := moved(running("b", 20, 1, 0), from)
		s := situation{wanted: FirstSlots(1), spec: 1, keep: keep, claims: []fact{from, to}, mayStop: true, mayMove: true}
		if c := reconcile(s); len(c.duplicates) != 0 || len(c.done) != 1 || c.done[0].claim.peer != "a" {
			t.Errorf("%s: it runs, and %+v", keep, c)
		}
		to.Running = Slots{}
		s.claims = []fact{from, to}
		if c := reconcile(s); len(c.duplicates)+len(c.done) != 0 {
			t.Errorf("%s: it does not run yet, and %+v", keep, c)
		}
	}
}

// Where two versions stand, what either side runs stays; of one spec one copy
// does, and a move that had begun is finished.
func TestConflictStopsNeitherSide(t *testing.T) {
	left, right, old := running("a", 30, 1, 0), running("b", 20, 2, 0), running("c", 10, 3, 0)
	s := situation{wanted: FirstSlots(1), spec: 1, conflict: true, mayStop: true, claims: []fact{left, right, old}}
	if c := reconcile(s); len(c.done)+len(c.duplicates)+len(c.moves) != 0 {
		t.Errorf("something is stopped: %+v", c)
	}
	twice := running("d", 40, 2, 0)
	s.claims = append(s.claims, twice)
	if c := reconcile(s); len(c.done) != 0 || len(c.duplicates) != 1 || c.duplicates[0].loser.peer != "d" {
		t.Errorf("of two copies of one side: %+v", c)
	}
	s.claims = []fact{moved(left, old), right, old}
	if c := reconcile(s); len(c.duplicates) != 0 || len(c.done) != 1 || c.done[0].claim.peer != "c" {
		t.Errorf("of a move that had begun: %+v", c)
	}
	s.conflict = false
	s.claims = []fact{left, right, old}
	if c := reconcile(s); len(c.done) != 2 {
		t.Errorf("once it is resolved: %+v", c)
	}
}

// A restart in place begins another run of that slot, and of no other.
func TestRunsAreNoted(t *testing.T) {
	p, now, _ := newShop(t)
	c := onlyClaim(t, p)
	run := func(n Slot, state AllocState) {
		step(p, now, WorkChanged{ID: AllocationID{c.ID, n}, State: WorkState{State: state, Driver: DriverProcess}})
	}
	run(0, AllocRunning)
	first := c.FirstRunning
	run(1, AllocRunning)
	run(1, AllocRunning) // said twice
	if first == 0 || len(c.Again) != 0 {
		t.Fatalf("first ran at %d, and again %v", first, c.Again)
	}
	now.Wall = now.Wall.Add(30 * time.Second)
	run(1, AllocRunning)
	if len(c.Again) != 0 {
		t.Errorf("what runs on began again: %v", c.Again)
	}
	run(1, AllocFailed)
	pass(p, now, time.Minute)
	run(1, AllocRunning)
	if at := c.Again[1]; c.FirstRunning != first || len(c.Again) != 1 || at != now.Wall.UnixMilli() {
		t.Errorf("first ran at %d, not %d, and again %v", c.FirstRunning, first, c.Again)
	}
}

// A slot whose copies are both older than what is wanted, and of which neither has
// ever run, comes to what is wanted all the same: a roll-out replaces no slot that is
// held twice.
func TestOlderCopiesThatNeverRun(t *testing.T) {
	first, second := running("a", 0, 1, 0), running("b", 0, 2, 0)
	second = moved(second, first)
	first.Running, second.Running = Slots{}, Slots{}
	s := situation{
		wanted: FirstSlots(1), spec: 3, keep: KeepOriginal, claims: []fact{second, first}, mayStop: true, mayMove: true,
		update: UpdatePolicy{Surge: 1},
	}
	got := reconcile(s)
	if len(got.done) != 1 || got.done[0].claim.peer != "b" || got.done[0].slots != SlotsOf(0) {
		t.Fatalf("of two copies that do not run %+v ends, want that of b", got.done)
	}
	s.claims = []fact{first}
	if got = reconcile(s); len(got.moves) != 1 || got.moves[0].claim.peer != "a" {
		t.Errorf("and then %+v moves, want that of a", got.moves)
	}
	s.claims, s.spec = []fact{second, first}, second.Spec
	if got = reconcile(s); len(got.done) != 0 {
		t.Errorf("%+v ends while what is to replace it does not run", got.done)
	}
	first.Running, s.spec = first.Slots, 3
	s.claims = []fact{second, first}
	if got = reconcile(s); len(got.done) != 1 || got.done[0].claim.peer != "b" {
		t.Errorf("of one that runs and one that does not %+v ends, want that of b", got.done)
	}
}
