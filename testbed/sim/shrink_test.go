package sim

import (
	"testing"

	"github.com/hansa-mesh/hansa/placement"
)

// TestPlanText: a plan survives its text, and what is not a plan is refused.
func TestPlanText(t *testing.T) {
	for seed := uint64(1); seed <= 50; seed++ {
		p := PlanOf(seed)
		q, err := ParsePlan(p.String())
		if err != nil || q.String() != p.String() {
			t.Errorf("seed %d: %v\n%s\n%s", seed, err, p, q)
		}
		if seed > 4 {
			continue
		}
		if a, b := Run(seed, p, nil), Run(seed, q, nil); a.Steps != b.Steps {
			t.Errorf("seed %d takes %d steps, and from its text %d", seed, a.Steps, b.Steps)
		}
	}
	for _, text := range []string{
		"", "sites=2", "sites=2 peers=1 sync=1s moon=1", "sites=x peers=1 sync=1s", "sites=2 peers=1 sync=1s late=2",
		"sites=2 peers=1 sync=1s; 1s crash", "sites=2 peers=1 sync=1s; 1s crash -1 0 1s 0",
	} {
		if _, err := ParsePlan(text); err == nil {
			t.Errorf("%q is no plan", text)
		}
	}
	if r := Run(1, Plan{Sites: 2, PeersPerSite: 1, Sync: 1, Length: 1 << 32, Settle: 1, Actions: []Action{{Do: "nonsense"}}}, nil); len(r.Failed) == 0 {
		t.Error("a fault that there is none of was done")
	}
}

// TestShrink: a case that fails becomes a small one that fails in the same way,
// the same each time.
func TestShrink(t *testing.T) {
	var seed uint64
	var plan Plan
	for seed = 1; ; seed++ {
		plan = PlanOf(seed)
		plan.Tune.Break = placement.FaultSkipGate
		if len(Run(seed, plan, nil).Failed) > 0 {
			break
		}
	}
	small, p := Shrink(seed, plan)
	again, q := Shrink(seed, plan)
	if small != again || p.String() != q.String() {
		t.Errorf("shrinks differently each time:\n%s\n%s", p, q)
	}
	if len(p.Actions) > 8 || len(p.Actions) >= len(plan.Actions) {
		t.Errorf("%d actions are left of %d:\n%s", len(p.Actions), len(plan.Actions), p)
	}
	if a, b := class(Run(seed, plan, nil)), class(Run(small, p, nil)); a != b {
		t.Errorf("%q became %q", a, b)
	}
	t.Log(Replay(small, p))
}
