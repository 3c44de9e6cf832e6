package node

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// A registry that takes the metrics asks nothing of a peer that does not run
// yet: every start of a daemon would wait for a core that does not answer.
func TestMetricsAreTakenBeforeThePeerRuns(t *testing.T) {
	if err := prometheus.NewPedanticRegistry().Register(collector{new(Node)}); err != nil {
		t.Fatal(err)
	}
}
