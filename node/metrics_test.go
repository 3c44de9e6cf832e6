package node

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hansa-mesh/hansa/placement"
)

// A registry that takes the metrics asks nothing of a peer that does not run
// yet: every start of a daemon would wait for a core that does not answer.
func TestMetricsAreTakenBeforeThePeerRuns(t *testing.T) {
	if err := prometheus.NewPedanticRegistry().Register(collector{new(Node)}); err != nil {
		t.Fatal(err)
	}
}

// Roll-outs are counted by component.
func TestRolloutsAreCounted(t *testing.T) {
	states := map[placement.RolloutState]int{}
	countRollouts(states, placement.AppView{Components: []placement.ComponentView{
		{Rollout: &placement.RolloutView{State: placement.RolloutGoing}}, {},
		{Rollout: &placement.RolloutView{State: placement.RolloutReverted}}, {Rollout: &placement.RolloutView{State: placement.RolloutGoing}},
	}})
	if states[placement.RolloutGoing] != 2 || states[placement.RolloutReverted] != 1 || len(states) != 2 {
		t.Errorf("%v", states)
	}
}
