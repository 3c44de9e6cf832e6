package node

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/runner"
	"github.com/hansa-mesh/hansa/placement"
)

const (
	// usageEvery is how often drivers are asked what their work uses.
	usageEvery = 10 * time.Second
	// usageMax is how long one may take to say.
	usageMax = 5 * time.Second
	// usageTasksMax bounds the tasks of one driver that are counted.
	usageTasksMax = 10_000
)

// usage is what allocations at this peer use, as it was sampled last.
type usage struct {
	mu       sync.Mutex // guards what follows
	byDriver map[string]map[string]sample
}

// sample is what one allocation uses, and what the next sample is compared with.
type sample struct {
	UsageRow
	total time.Duration // of CPU time
	at    time.Time
}

// UsageRow is what one allocation uses, as peers tell each other.
type UsageRow struct {
	CPU      int64  `json:"cpu"` // thousandths of a core
	Memory   int64  `json:"memory"`
	Tasks    int    `json:"tasks"`
	Requests uint64 `json:"requests"`
	At       int64  `json:"at"` // Unix milliseconds
}

// watchUsage samples each driver that measures, until ctx ends.
func (n *Node) watchUsage(ctx context.Context) error {
	var all sync.WaitGroup
	for _, d := range n.drivers {
		if m, ok := d.(driver.Meter); ok {
			all.Go(func() { n.sampleUsage(ctx, d.Name(), m) })
		}
	}
	all.Wait()
	return nil
}

// sampleUsage is a loop of its own for each driver: one that hangs delays no
// other.
func (n *Node) sampleUsage(ctx context.Context, name string, m driver.Meter) {
	tick := time.NewTicker(usageEvery)
	defer tick.Stop()
	for {
		askCtx, cancel := context.WithTimeout(ctx, usageMax)
		tasks, err := m.Usage(askCtx)
		cancel()
		if err != nil && ctx.Err() == nil {
			n.log.Debug("a driver can't say what its work uses", "driver", name, "err", err)
		}
		n.usage.take(name, tasks) // nothing is better than what is old
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// take notes a sample of a driver's tasks in place of the one before.
func (u *usage) take(name string, tasks map[string]driver.Usage) {
	u.mu.Lock()
	defer u.mu.Unlock()
	before := u.byDriver[name]
	now := make(map[string]sample, min(len(tasks), usageTasksMax))
	for task, t := range tasks {
		id, err := runner.FromDriverID(task)
		if err != nil || len(now) >= usageTasksMax {
			continue
		}
		s := sample{total: t.CPU, at: t.At, UsageRow: UsageRow{Memory: t.Memory, Tasks: t.Tasks, Requests: t.Requests, At: t.At.UnixMilli()}}
		if old, ok := before[id.String()]; ok && t.CPU >= old.total { // else it was started anew
			if span := t.At.Sub(old.at); span > 0 {
				s.CPU = int64((t.CPU - old.total) * 1000 / span)
			} else {
				s.CPU = old.CPU // the driver gave the same sample again
			}
		}
		now[id.String()] = s
	}
	if u.byDriver == nil {
		u.byDriver = map[string]map[string]sample{}
	}
	u.byDriver[name] = now
}

// rows are the samples by allocation.
func (u *usage) rows() map[string]UsageRow {
	u.mu.Lock()
	defer u.mu.Unlock()
	rows := map[string]UsageRow{}
	for _, tasks := range u.byDriver {
		for id, s := range maps.All(tasks) {
			rows[id] = s.UsageRow
		}
	}
	return rows
}

// usageOf is an allocation's row for people; nil where nothing is known.
func usageOf(rows map[string]UsageRow, v placement.AllocationView) *api.WorkUsage {
	row, ok := rows[v.ID.String()]
	switch v.State.State {
	case placement.AllocStarting, placement.AllocRunning, placement.AllocUnhealthy, placement.AllocStopping:
	default:
		ok = false
	}
	if !ok {
		return nil
	}
	return &api.WorkUsage{CPU: placement.CPU(max(0, row.CPU)), Memory: placement.Bytes(max(0, row.Memory)), Tasks: row.Tasks,
		Requests: row.Requests, At: time.UnixMilli(row.At).UTC()}
}

// workSeriesMax bounds the components that metrics tell apart; the others are
// counted together.
const workSeriesMax = 500

// workKey is what the metrics of work are by.
type workKey struct{ namespace, app, component string }

// used is what the allocations here use, by component.
func (u *usage) used(own []placement.AllocationView) map[workKey]UsageRow {
	rows := u.rows()
	sums := map[workKey]UsageRow{}
	for _, v := range own { // sorted: the same are told apart each time
		row, ok := rows[v.ID.String()]
		if !ok {
			continue
		}
		key := workKey{v.Key.Namespace, v.Key.App, v.Component}
		if _, known := sums[key]; !known && len(sums) >= workSeriesMax {
			key = workKey{"", "(others)", ""}
		}
		sum := sums[key]
		sum.CPU += row.CPU
		sum.Memory += row.Memory
		sums[key] = sum
	}
	return sums
}
