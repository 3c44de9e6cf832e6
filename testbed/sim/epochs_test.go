package sim

import (
	"testing"
	"time"
)

// hasty is a plan in which keepers are replaced at every chance.
func hasty(seed uint64) Plan {
	plan := PlanOf(seed)
	plan.Sites, plan.PeersPerSite = max(plan.Sites, 4), 1
	plan.Tune.KeeperLost, plan.Tune.Calm, plan.Tune.Grace = time.Second, time.Second, 2*time.Second
	return plan
}

// TestKeepersChange: however often the keepers change, of each epoch there is
// one list, no two stewards act under one term, and what was acknowledged stays.
func TestKeepersChange(t *testing.T) {
	t.Parallel()
	seeds := uint64(*seedsFlag / 10)
	if testing.Short() {
		seeds = 10
	}
	lists := 0
	for seed := *fromFlag; seed < *fromFlag+seeds; seed++ {
		r := Run(seed, hasty(seed), nil)
		lists += r.Lists
		for _, f := range r.Failed {
			t.Fatalf("seed %d: %s", seed, f)
		}
	}
	if lists == 0 {
		t.Error("no keepers changed: the test shows nothing")
	}
	t.Logf("%d seeds, %d changes of keepers", seeds, lists)
}
