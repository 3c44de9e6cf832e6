package sim

import "testing"

// TestSimNear runs meshes whose apps have components that are to be near others:
// whatever becomes of the questions how far peers are, everything else holds and all
// is placed in the end.
func TestSimNear(t *testing.T) {
	t.Parallel()
	seeds := uint64(100)
	if testing.Short() {
		seeds = 15
	}
	var total Report
	for seed := *fromFlag; seed < *fromFlag+seeds; seed++ {
		if open[seed] != "" {
			continue
		}
		plan := PlanOf(seed)
		plan.Near = true
		r := Run(seed, plan, nil)
		total.Add(r)
		report(t, r)
		if t.Failed() {
			return
		}
	}
	if total.Measured == 0 || total.Grants == 0 {
		t.Errorf("%d questions, %d grants: it shows nothing", total.Measured, total.Grants)
	}
	t.Logf("%d seeds: %d questions how far peers are", seeds, total.Measured)
}
