package sim

import (
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"sync"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

var (
	seedFlag  = flag.Uint64("sim.seed", 0, "replay this seed with its trace")
	planFlag  = flag.String("sim.plan", "", "with -sim.seed: the plan, in place of the one that the seed draws")
	seedsFlag = flag.Int("sim.seeds", seedsInCI, "how many seeds to run")
	fromFlag  = flag.Uint64("sim.from", 1, "the first seed")
	rewrite   = flag.Bool("rewrite", false, "write testdata/mutations anew")
)

// seedsInCI is how many seeds each run of all tests simulates, and seedsShort
// how many under the race detector, say. Where those do not reach a mark more are
// run, seedsMore at a time, until all are reached or it is seedsForAll.
const (
	seedsInCI   = 2000
	seedsShort  = 50
	seedsMore   = 500
	seedsForAll = 5000
)

func TestMain(m *testing.M) {
	debug.SetGCPercent(1600) // much is thrown away, little is kept
	code := m.Run()
	if *rewrite {
		if err := telling.write(); err != nil {
			panic(err)
		}
	}
	os.Exit(code)
}

// TestSim runs many seeds, or with -sim.seed one with its trace.
func TestSim(t *testing.T) {
	if *seedFlag != 0 {
		replay(t)
		return
	}
	if testing.Short() {
		*seedsFlag = min(*seedsFlag, seedsShort)
	}
	began := time.Now()
	var total Report
	seeds := *seedsFlag
	first := simulateAll(t, *fromFlag, seeds, &total)
	for first == nil && seeds >= seedsInCI && seeds < seedsForAll && len(unreached(total)) > 0 {
		first = simulateAll(t, *fromFlag+uint64(seeds), seedsMore, &total)
		seeds += seedsMore
	}
	if first != nil {
		shrunk(t, *first)
		return
	}
	t.Logf("%d seeds (%d known to fail left out) in %s: %s", seeds, len(open), time.Since(began).Round(time.Second), total)
	if total.Acknowledged == 0 || total.Grants == 0 {
		t.Error("nothing happened")
	}
	if seeds >= seedsInCI {
		for _, m := range unreached(total) {
			t.Errorf("no seed reaches the mark %q: draw plans that do, or test it and take the mark away", m)
		}
	}
}

// simulateAll runs so many seeds, adds up what they did, and is the first that failed.
func simulateAll(t *testing.T, from uint64, seeds int, total *Report) (first *Report) {
	const shards = 8
	var mu sync.Mutex
	t.Run("seeds", func(t *testing.T) {
		for shard := range shards {
			t.Run(fmt.Sprint(shard), func(t *testing.T) {
				t.Parallel()
				for i := shard; i < seeds; i += shards {
					seed := from + uint64(i)
					if open[seed] != "" {
						continue
					}
					r := Run(seed, PlanOf(seed), nil)
					mu.Lock()
					total.Add(r)
					if len(r.Failed) > 0 && first == nil {
						first = &r
					}
					stop := first != nil
					mu.Unlock()
					report(t, r)
					if stop {
						return
					}
				}
			})
		}
	})
	return first
}

// unreached are the marks that no seed went through: a branch that none does is
// tested by none.
func unreached(total Report) (marks []placement.Mark) {
	for _, m := range placement.Marks() {
		if total.Reached[m] == 0 {
			marks = append(marks, m)
		}
	}
	return marks
}

// replay runs what -sim.seed and -sim.plan say.
func replay(t *testing.T) {
	plan := PlanOf(*seedFlag)
	if *planFlag != "" {
		var err error
		if plan, err = ParsePlan(*planFlag); err != nil {
			t.Fatal(err)
		}
	}
	var trace io.Writer
	if testing.Verbose() {
		trace = os.Stdout
	}
	report(t, Run(*seedFlag, plan, trace))
}

// failuresShown is how much of what one run found is told.
const failuresShown = 10

func report(t *testing.T, r Report) {
	t.Helper()
	for _, f := range r.Failed[:min(len(r.Failed), failuresShown)] {
		t.Errorf("seed %d: %s", r.Seed, f)
	}
}

// shrunk tells how to replay a failure, and the smallest that was found of its
// sort.
func shrunk(t *testing.T, r Report) {
	t.Helper()
	plan := PlanOf(r.Seed)
	t.Errorf("replay with:\n%s", Replay(r.Seed, plan))
	seed, small := Shrink(r.Seed, plan)
	t.Errorf("or, shrunk from %d actions to %d, with:\n%s", len(plan.Actions), len(small.Actions), Replay(seed, small))
}
