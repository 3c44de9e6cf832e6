package sim

import (
	"crypto/sha256"
	"fmt"
	"testing"

	"github.com/hansa-mesh/hansa/placement"
)

// mutationSeeds bounds how many seeds a mutation may hide from.
const mutationSeeds = 2000

// TestMutation breaks the core on purpose, one rule at a time: a simulation that
// does not notice would notice nothing.
func TestMutation(t *testing.T) {
	for _, fault := range placement.Faults() {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			caught(t, func(plan *Plan) { plan.Tune.Break = fault })
		})
	}
}

// TestMutationOfWorld breaks what the core stands on, as a faulty store or
// driver would.
func TestMutationOfWorld(t *testing.T) {
	for _, name := range mutants() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			caught(t, func(plan *Plan) { plan.Mutant = name })
		})
	}
}

// caught runs seeds of a broken mesh until one fails.
func caught(t *testing.T, breaks func(*Plan)) {
	t.Helper()
	if testing.Short() {
		t.Skip("takes hundreds of seeds; not with -short")
	}
	for seed := uint64(1); seed <= mutationSeeds; seed++ {
		plan := PlanOf(seed)
		breaks(&plan)
		if r := Run(seed, plan, nil); len(r.Failed) > 0 {
			t.Logf("seed %d: %s", seed, r.Failed[0])
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
