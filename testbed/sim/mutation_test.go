package sim

import (
	"crypto/sha256"
	"fmt"
	"testing"

	"github.com/hansa-mesh/hansa/placement"
)

// mutationSeeds bounds how many seeds a mutation may hide from.
const mutationSeeds = 2000

// telling are the first seeds that showed the mutations when this was last run with
// -rewrite. A change of the core may make them others: the tests still find those.
var telling = seedBook{file: "testdata/mutations"}

// TestMutation breaks the core on purpose, one rule at a time: a simulation that
// does not notice would notice nothing.
func TestMutation(t *testing.T) {
	for _, fault := range placement.Faults() {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			caught(t, func(seed uint64) []string {
				plan := PlanOf(seed)
				plan.Tune.Break = fault
				return Run(seed, plan, nil).Failed
			})
		})
	}
}

// TestMutationOfWorld breaks what the core stands on, as a faulty store or
// driver would.
func TestMutationOfWorld(t *testing.T) {
	for _, name := range mutants() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			caught(t, func(seed uint64) []string {
				plan := PlanOf(seed)
				plan.Mutant = name
				return Run(seed, plan, nil).Failed
			})
		})
	}
}

// caught runs seeds of a broken mesh until one fails: first the one that is known
// to, which spares looking at hundreds.
func caught(t *testing.T, failures func(seed uint64) []string) {
	t.Helper()
	if testing.Short() {
		t.Skip("takes hundreds of seeds; not with -short")
	}
	shows := func(seed uint64) bool {
		failed := failures(seed)
		if len(failed) > 0 {
			t.Logf("seed %d: %s", seed, failed[0])
			telling.note(t.Name(), seed)
		}
		return len(failed) > 0
	}
	if known := telling.of(t.Name()); known != 0 && !*rewrite && shows(known) {
		return
	}
	for seed := uint64(1); seed <= mutationSeeds; seed++ {
		if shows(seed) {
			return
		}
	}
	t.Errorf("%d seeds did not show it", mutationSeeds)
}

// TestReplays: a seed is all that a run depends on.
func TestReplays(t *testing.T) {
	run := func(seed uint64) string {
		trace := sha256.New()
		r := Run(seed, PlanOf(seed), trace)
		return fmt.Sprintf("%x %+v", trace.Sum(nil), r)
	}
	for seed := uint64(1); seed <= 10; seed++ {
		if a, b := run(seed), run(seed); a != b {
			t.Errorf("seed %d runs differently each time:\n%s\n%s", seed, a, b)
		}
	}
	if run(1) == run(2) {
		t.Error("two seeds run alike")
	}
}
