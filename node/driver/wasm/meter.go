package wasm

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
)

// component is whose requests are counted together.
type component struct{ namespace, app, name string }

// meter counts the requests of one component, while any of its functions is
// here: what is counted up must not go down when one of several ends.
type meter struct {
	users int // guarded by meters.mu

	mu sync.Mutex // guards what follows
	n  driver.Requests
}

// count counts a request that no function saw.
func (m *meter) count(outcome string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.n.Outcomes[outcome]++
}

// call counts one that a function began to handle.
func (m *meter) call(outcome string, took, cpu time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.n.Outcomes[outcome]++
	at, _ := slices.BinarySearch(driver.RequestBounds, took.Seconds())
	for ; at < len(m.n.Within); at++ {
		m.n.Within[at]++
	}
	m.n.Count++
	m.n.Sum += took
	m.n.CPU += cpu
}

func (m *meter) read() driver.Requests {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.n
	n.Outcomes, n.Within = maps.Clone(n.Outcomes), slices.Clone(n.Within)
	return n
}

// meters are those of all components that have functions here.
type meters struct {
	mu  sync.Mutex // guards what follows, and the users of each
	all map[component]*meter
}

// componentOf is the component of a task, as its environment names it.
func componentOf(t driver.Task) component {
	return component{t.Env["HANSA_NAMESPACE"], t.Env["HANSA_APP"], t.Env["HANSA_COMPONENT"]}
}

func (m *meters) get(c component) *meter {
	m.mu.Lock()
	defer m.mu.Unlock()
	one := m.all[c]
	if one == nil {
		one = &meter{n: driver.Requests{
			Namespace: c.namespace, App: c.app, Component: c.name,
			Outcomes: map[string]uint64{}, Within: make([]uint64, len(driver.RequestBounds)),
		}}
		m.all[c] = one
	}
	one.users++
	return one
}

func (m *meters) put(c component) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.all[c].users--; m.all[c].users == 0 {
		delete(m.all, c)
	}
}

// Requests implements driver.RequestMeter.
func (d *Driver) Requests() []driver.Requests {
	now := map[component]usage{}
	for _, f := range d.running() {
		u, sum := f.memory.usage(), now[componentOf(f.task)]
		now[componentOf(f.task)] = usage{
			sum.units + u.units, sum.real + u.real, sum.busy + u.busy, sum.idle + u.idle, sum.queued + u.queued,
		}
	}
	d.meters.mu.Lock()
	all := maps.Clone(d.meters.all)
	d.meters.mu.Unlock()
	list := make([]driver.Requests, 0, len(all))
	for c, m := range all {
		n, u := m.read(), now[c]
		n.Busy, n.Idle, n.Queued, n.Memory = u.busy, u.idle, u.queued, u.real
		list = append(list, n)
	}
	slices.SortFunc(list, func(a, b driver.Requests) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.App, b.App), cmp.Compare(a.Component, b.Component))
	})
	return list
}

// Usage implements driver.Meter. CPU is that of calls which have ended, and
// Memory the linear memory of all instances.
func (d *Driver) Usage(ctx context.Context) (map[string]driver.Usage, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	all := map[string]driver.Usage{}
	for _, f := range d.running() {
		if !f.status().State.Ended() {
			all[f.task.ID] = driver.Usage{
				CPU: time.Duration(f.cpu.Load()), Memory: f.memory.usage().real,
				Requests: f.requests.Load(), At: time.Now(),
			}
		}
	}
	return all, nil
}
