package cli

import (
	"strings"
	"testing"

	"github.com/hansa-mesh/hansa/node/api"
)

func TestRolledOut(t *testing.T) {
	of := func(revision, state, previous, why string) *api.RolloutStatus {
		return &api.RolloutStatus{State: state, Revision: revision, Previous: previous, Updated: 3, Wanted: 8, Settled: 2, Why: why}
	}
	first := func(updated int) *api.RolloutStatus {
		return &api.RolloutStatus{State: "going", Revision: "r2", Updated: updated, Wanted: 8}
	}
	for name, c := range map[string]struct {
		state   string
		deputy  bool
		rollout *api.RolloutStatus
		done    bool
		fails   string
		shown   string
		states  map[string]int
	}{
		"an older release's":                        {state: "running", done: true, shown: "api 8/8"},
		"a first deploy":                            {state: "running", rollout: first(8), states: map[string]int{"running": 8, "lost": 1}, done: true, shown: "api 8/8 (1 lost)"},
		"a first deploy, not yet":                   {state: "deploying", rollout: first(3), shown: "api 8/8"},
		"over one that was no more than going":      {state: "running", rollout: first(0), states: map[string]int{"running": 8}, shown: "api 8/8"},
		"over one that was no more than going, yet": {state: "running", rollout: first(8), states: map[string]int{"running": 8, "starting": 1}, shown: "api 8/8 (1 starting)"},
		"over another":                              {state: "running", rollout: of("r2", "going", "r1", ""), shown: "api: 3 of 8 updated, 2 settled"},
		"without a majority":                        {state: "running", deputy: true, rollout: of("r2", "going", "r1", ""), done: true, shown: "api: 3 of 8 updated, 2 settled"},
		"it waits":                                  {state: "running", rollout: of("r2", "going", "r1", "waits for b"), shown: "api: 3 of 8 updated, 2 settled, waits for b"},
		"done":                                      {state: "running", rollout: of("r2", "done", "r2", ""), done: true, shown: "api 8/8"},
		"reverted":                                  {state: "running", rollout: of("r2", "reverted", "r1", "exit code 7"), fails: "api was reverted: exit code 7", shown: "api: reverted: exit code 7"},
		"stalled":                                   {state: "degraded", rollout: of("r2", "stalled", "", "no room"), fails: "api has stalled: no room", shown: "api: stalled: no room"},
		"reverted before the edit":                  {state: "running", rollout: of("r1", "reverted", "r0", "exit code 7"), done: true, shown: "api: reverted: exit code 7"},
	} {
		st := api.Status{Namespace: "default", App: "shop", State: c.state, Revision: "r2", Deputy: c.deputy,
			Components: []api.ComponentStatus{{Name: "api", Wanted: 8, Running: 8, Rollout: c.rollout, States: c.states}}}
		done, err := rolledOut(st)
		if done != c.done || (err != nil) != (c.fails != "") || err != nil && !strings.Contains(err.Error(), c.fails) {
			t.Errorf("%s: %t, %v; want %t, %q", name, done, err, c.done, c.fails)
		}
		if got := progress(st); got != c.shown {
			t.Errorf("%s: %q, want %q", name, got, c.shown)
		}
	}
}
