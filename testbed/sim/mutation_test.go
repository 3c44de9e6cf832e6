package sim

import (
	"crypto/sha256"
	"fmt"
	"testing"

	"github.com/hansa-mesh/hansa/placement"
)

// TestFindsFaults breaks the core on purpose, one rule at a time: a simulation
// that does not notice would notice nothing.
func TestFindsFaults(t *testing.T) {
	const seeds = 400
	for _, fault := range placement.Faults() {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			for seed := uint64(1); seed <= seeds; seed++ {
				plan := PlanOf(seed)
				plan.Tune.Break = fault
				if r := Run(seed, plan, nil); len(r.Failed) > 0 {
					t.Logf("seed %d: %s", seed, r.Failed[0])
					return
				}
			}
			t.Errorf("%d seeds did not show it", seeds)
		})
	}
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
