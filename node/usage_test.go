package node

import (
	"fmt"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/runner"
	"github.com/hansa-mesh/hansa/placement"
)

func usageID(n int) placement.AllocationID {
	return placement.AllocationID{Slot: placement.Slot(n), Claim: placement.ClaimID{
		Ask: placement.AskID{Asker: "s", Incarnation: 1, Counter: 7}, Owner: placement.PeerRef{Peer: "p", Incarnation: 1}}}
}

// What is used of the CPU follows from two samples of one run.
func TestUsageOfCPU(t *testing.T) {
	at := time.Unix(1_800_000_000, 0)
	var u usage
	for _, c := range []struct {
		name  string
		after time.Duration
		cpu   time.Duration
		want  int64
	}{
		{"the first sample", 0, 5 * time.Second, 0},
		{"half a core", 10 * time.Second, 10 * time.Second, 500},
		{"the same sample again", 10 * time.Second, 10 * time.Second, 500},
		{"two cores", 20 * time.Second, 30 * time.Second, 2000},
		{"started anew", 30 * time.Second, time.Second, 0},
		{"idle", 40 * time.Second, time.Second, 0},
	} {
		u.take("process", map[string]driver.Usage{
			runner.DriverID(usageID(0)): {CPU: c.cpu, Memory: 1 << 20, Tasks: 2, At: at.Add(c.after)},
			"of somebody else":          {CPU: time.Hour, At: at},
		})
		rows := u.rows()
		if len(rows) != 1 || rows[usageID(0).String()].CPU != c.want || rows[usageID(0).String()].Memory != 1<<20 {
			t.Errorf("%s: %+v, want %d", c.name, rows, c.want)
		}
	}
	u.take("process", nil) // it can't say: what is old is not shown
	if rows := u.rows(); len(rows) != 0 {
		t.Errorf("after a failure: %+v", rows)
	}
}

// Metrics tell so many components apart, and sum the others.
func TestUsageSeriesAreBounded(t *testing.T) {
	var u usage
	tasks := map[string]driver.Usage{}
	var own []placement.AllocationView
	const many = workSeriesMax + 50
	for n := range many {
		tasks[runner.DriverID(usageID(n))] = driver.Usage{Memory: 1, At: time.Unix(1_800_000_000, 0)}
		own = append(own, placement.AllocationView{ID: usageID(n), Key: placement.AppKey{Namespace: "default", App: fmt.Sprintf("app-%d", n)}, Component: "c"})
	}
	u.take("process", tasks)
	sums := u.used(own)
	total := int64(0)
	for _, s := range sums {
		total += s.Memory
	}
	if len(sums) != workSeriesMax+1 || total != many {
		t.Errorf("%d series of %d bytes, want %d of %d", len(sums), total, workSeriesMax+1, many)
	}
}

// What does not run uses nothing, whatever was sampled.
func TestUsageOfWhatRuns(t *testing.T) {
	rows := map[string]UsageRow{usageID(0).String(): {CPU: 250, Memory: 5, At: 1_800_000_000_000}}
	for state, shown := range map[placement.AllocState]bool{
		placement.AllocRunning: true, placement.AllocUnhealthy: true, placement.AllocPending: false, placement.AllocFailed: false,
	} {
		got := usageOf(rows, placement.AllocationView{ID: usageID(0), State: placement.WorkState{State: state}})
		if (got != nil) != shown || got != nil && (got.CPU != 250 || got.Memory != 5) {
			t.Errorf("%s: %+v", state, got)
		}
	}
}
