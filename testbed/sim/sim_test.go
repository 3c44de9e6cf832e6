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
)

var (
	seedFlag  = flag.Uint64("sim.seed", 0, "replay this seed with its trace")
	seedsFlag = flag.Int("sim.seeds", 1000, "how many seeds to run")
	fromFlag  = flag.Uint64("sim.from", 1, "the first seed")
)

// TestSim runs many seeds, or with -sim.seed one with its trace.
func TestSim(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(1600)) // much is thrown away, little is kept
	if *seedFlag != 0 {
		var trace io.Writer
		if testing.Verbose() {
			trace = os.Stdout
		}
		report(t, Run(*seedFlag, PlanOf(*seedFlag), trace))
		return
	}
	if testing.Short() { // under the race detector, say
		*seedsFlag = min(*seedsFlag, 50)
	}
	const shards = 8
	var mu sync.Mutex
	var total Report
	t.Run("seeds", func(t *testing.T) {
		for shard := range shards {
			t.Run(fmt.Sprint(shard), func(t *testing.T) {
				t.Parallel()
				for i := shard; i < *seedsFlag && !t.Failed(); i += shards {
					seed := *fromFlag + uint64(i)
					r := Run(seed, PlanOf(seed), nil)
					report(t, r)
					mu.Lock()
					total.Virtual += r.Virtual
					total.Steps += r.Steps
					total.Faults += r.Faults
					total.Requests += r.Requests
					total.Acknowledged += r.Acknowledged
					total.Below += r.Below
					total.Grants += r.Grants
					total.Messages += r.Messages
					mu.Unlock()
				}
			})
		}
	})
	t.Logf("%d seeds, %s virtual, %d events, %d faults, %d requests: %d acknowledged (%d below a quorum), %d grants, %d messages",
		*seedsFlag, total.Virtual.Round(time.Minute), total.Steps, total.Faults, total.Requests, total.Acknowledged, total.Below, total.Grants, total.Messages)
	if total.Acknowledged == 0 || total.Grants == 0 {
		t.Error("nothing happened")
	}
}

func report(t *testing.T, r Report) {
	t.Helper()
	if len(r.Failed) == 0 {
		return
	}
	for i, f := range r.Failed {
		if i == 10 {
			break
		}
		t.Errorf("seed %d: %s", r.Seed, f)
	}
	t.Errorf("replay with: go test ./testbed/sim -run '^TestSim$' -sim.seed=%d -v", r.Seed)
}
