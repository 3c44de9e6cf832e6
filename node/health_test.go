package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/fake"
	"github.com/hansa-mesh/hansa/placement"
)

// patient is a driver whose commands exit with a code of the test's, and that
// measures.
type patient struct {
	*fake.Driver
	code  *atomic.Int32
	began time.Time
}

func (p *patient) Exec(context.Context, string, driver.Exec) (int, error) {
	return int(p.code.Load()), nil
}

// Usage is half a core for everything.
func (p *patient) Usage(ctx context.Context) (map[string]driver.Usage, error) {
	list, err := p.List(ctx)
	all := map[string]driver.Usage{}
	for _, s := range list {
		all[s.ID] = driver.Usage{CPU: time.Since(p.began) / 2, Memory: 20 << 20, Tasks: 3, At: time.Now()}
	}
	return all, err
}

// noEngine is a driver that this machine can't offer.
type noEngine struct{ *fake.Driver }

const noEngineWhy = "permission denied on /var/run/docker.sock: add the user to the group docker"

func (noEngine) Probe(context.Context) driver.Info { return driver.Info{Reason: noEngineWhy} }

func checkedApp(site string) placement.App {
	app := serverApp("shop", 1)
	web := app.Components["web"]
	web.Place = placement.Place{Where: "site=" + site}
	web.Health = &placement.Health{Exec: &placement.ExecCheck{Command: []string{"probe"}}, StartPeriod: placement.Duration(time.Minute), Threshold: 2}
	app.Components["web"] = web
	return app
}

// A person sees at any peer that work falls ill, heals, is restarted and why, has
// it begun anew, and what it uses.
func TestHealthAndRestartThroughAnyPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 3, 40*time.Millisecond)
		defer m.close()
		var code atomic.Int32
		at := m.sites[1]
		m.kill(at, true)
		began := time.Now()
		at.wrap = func(d *fake.Driver) []driver.Driver {
			return []driver.Driver{&patient{d, &code, began}, noEngine{fake.New(fake.Config{Name: "docker"})}}
		}
		m.start(at, "")
		if _, err := (backend{m.sites[0].node}).PutApp(t.Context(), api.PutRequest{App: checkedApp("s2")}); err != nil {
			t.Fatal(err)
		}
		var row api.Allocation
		// seen is the allocation as a peer elsewhere shows it.
		seen := func(state string, more func(api.Allocation) bool) {
			t.Helper()
			m.until(state, 5*time.Minute, func() error {
				list, err := backend{m.sites[2].node}.Allocations(t.Context(), api.AllocationQuery{App: "shop"})
				if err != nil || len(list.Items) != 1 {
					return fmt.Errorf("%+v, %w", list.Items, err)
				}
				if row = list.Items[0]; row.State != state || more != nil && !more(row) {
					return fmt.Errorf("it is %+v, last exit %+v", row, row.LastExit)
				}
				return nil
			})
		}
		seen("running", func(a api.Allocation) bool { return !a.StartedAt.IsZero() && !a.CreatedAt.IsZero() })
		seen("running", func(a api.Allocation) bool { return a.Usage != nil && a.Usage.CPU == 500 && a.Usage.Memory == 20<<20 })
		code.Store(3)
		seen("unhealthy", func(a api.Allocation) bool { return strings.Contains(a.Reason, "probe: exit code 3") })
		code.Store(0)
		seen("running", func(a api.Allocation) bool { return a.Restarts == 0 && a.Reason == "" })
		code.Store(3)
		seen("starting", func(a api.Allocation) bool {
			return a.Restarts == 1 && a.LastExit != nil && strings.HasPrefix(a.LastExit.Reason, "unhealthy: 4 checks in a row failed")
		})
		code.Store(0)
		seen("running", nil)

		before := row.StartedAt
		if _, err := (backend{m.sites[0].node}).Restart(t.Context(), row.ID); err != nil {
			t.Fatal(err)
		}
		seen("running", func(a api.Allocation) bool {
			return a.Restarts == 2 && a.StartedAt.After(before) && a.LastExit.Reason == "a person began it anew"
		})
		if list, err := (&patient{Driver: fake.New(fake.Config{World: at.world})}).List(t.Context()); err != nil || len(list) != 1 || list[0].Starts != 3 {
			t.Errorf("its driver lists %+v, %v: what it had is not kept", list, err)
		}
		gone := strings.TrimSuffix(row.ID, ".0") + ".9"
		if _, err := (backend{m.sites[0].node}).Restart(t.Context(), gone); api.NewProblem(err).Kind != api.KindNotFound {
			t.Errorf("restart of what is not there: %v", err)
		}

		m.kill(at, false) // the daemon, not the work
		m.start(at, "")
		seen("running", func(a api.Allocation) bool { return !a.Stale })
		code.Store(3)
		seen("unhealthy", nil)
		code.Store(0)
		seen("running", nil)

		page, err := backend{m.sites[2].node}.Events(t.Context(), api.EventQuery{App: "shop", Page: api.Page{Limit: 1000}})
		if err != nil {
			t.Fatal(err)
		}
		var types []string
		for _, e := range page.Items {
			types = append(types, e.Type)
		}
		if !slices.Contains(types, "unhealthy") || !slices.Contains(types, "running") {
			t.Errorf("events since the start of the daemon: %v", types)
		}
	})
}

// The log of what has ended is read through any peer, as is that of what runs.
func TestLogsAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 2, 20*time.Millisecond)
		defer m.close()
		app := checkedApp("s2")
		web := app.Components["web"]
		web.Health, web.Server.Process.Command = nil, []string{"log"}
		app.Components["web"] = web
		m.sites[1].world.Program("log", func(ctx context.Context, p *fake.Proc) int {
			p.Print("it was here")
			select {
			case <-ctx.Done():
			case <-p.Signals:
			}
			return 0
		})
		at := backend{m.sites[0].node}
		if _, err := at.PutApp(t.Context(), api.PutRequest{App: app}); err != nil {
			t.Fatal(err)
		}
		m.until("it runs", time.Minute, func() error { return m.runOnce(m.sites[0], "shop", 1, "s2") })
		list, err := at.Allocations(t.Context(), api.AllocationQuery{App: "shop"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := at.DeleteApp(t.Context(), api.DeleteRequest{Key: app.Key()}); err != nil {
			t.Fatal(err)
		}
		m.until("it is gone", time.Minute, func() error {
			if left, err := at.Allocations(t.Context(), api.AllocationQuery{App: "shop"}); err != nil || len(left.Items) > 0 {
				return fmt.Errorf("%+v, %w", left.Items, err)
			}
			return nil
		})
		for _, s := range m.sites {
			logs, err := backend{s.node}.Logs(t.Context(), list.Items[0].ID, api.LogOptions{})
			if err != nil {
				t.Fatalf("at %s: %v", s.name, err)
			}
			text, err := io.ReadAll(logs)
			if err := errors.Join(err, logs.Close()); err != nil || !strings.Contains(string(text), "it was here") {
				t.Errorf("at %s: %q, %v", s.name, text, err)
			}
		}
	})
}

// Any peer says what each host can run and why not, and a plan says it too.
func TestHostsSayWhyNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 2, 20*time.Millisecond)
		defer m.close()
		at := m.sites[1]
		m.kill(at, true)
		at.wrap = func(d *fake.Driver) []driver.Driver {
			return []driver.Driver{d, noEngine{fake.New(fake.Config{Name: "docker"})}}
		}
		m.start(at, "")
		docker := func() (api.HostDriver, api.Host) {
			list, err := backend{m.sites[0].node}.Hosts(t.Context(), api.Page{})
			if err != nil {
				t.Fatal(err)
			}
			for _, h := range list.Items {
				for _, d := range h.Drivers {
					if h.Site == "s2" && d.Name == "docker" {
						return d, h
					}
				}
			}
			return api.HostDriver{}, api.Host{}
		}
		m.until("it says why not", time.Minute, func() error {
			if d, h := docker(); d.Available || d.Reason != noEngineWhy || h.ProbedAt.IsZero() || len(h.Drivers) != 2 || !h.Drivers[1].Fence {
				return fmt.Errorf("%+v of %+v", d, h)
			}
			return nil
		})
		app := placement.App{Name: "db", Namespace: "default", Components: map[string]placement.Component{
			"pg": {Container: &placement.Container{Image: "postgres:17"}, Place: placement.Place{Where: "site=s2"}}}}
		m.until("the plan says why not", time.Minute, func() error {
			plan, err := backend{m.sites[0].node}.Plan(t.Context(), app)
			if err != nil {
				return err
			}
			for _, c := range plan.Components[0].Decision.Considered {
				if c.Peer.Site == "s2" && strings.Contains(c.Reason, "it has no driver docker: permission denied on /var/run/docker.sock") {
					return nil
				}
			}
			return fmt.Errorf("%+v", plan.Components[0])
		})
		m.kill(at, true)
		m.until("what it said last stands", time.Minute, func() error {
			if d, h := docker(); d.Reason != noEngineWhy || h.State != "unreachable" {
				return fmt.Errorf("%+v of %+v", d, h)
			}
			return nil
		})
	})
}
