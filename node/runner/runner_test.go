package runner

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/fake"
	"github.com/hansa-mesh/hansa/placement"
)

// rig is a runner on a fake driver, and what it reported.
type rig struct {
	t      *testing.T
	world  *fake.World
	runner *Runner
	stop   context.CancelFunc
	ended  chan error

	mu      sync.Mutex
	reports []placement.WorkState
}

func newRig(t *testing.T, world *fake.World) *rig {
	g := &rig{t: t, world: world, ended: make(chan error, 1)}
	d := fake.New(fake.Config{Name: placement.DriverProcess, World: world, Events: func(e driver.Event) { g.runner.Exited(e) }})
	g.runner = New(Config{
		Drivers: []driver.Driver{d}, Labels: placement.Labels, Log: slog.New(slog.DiscardHandler),
		Env: map[string]string{"HANSA_SITE": "here"},
		Report: func(_ placement.AllocationID, s placement.WorkState) {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.reports = append(g.reports, s)
		},
	})
	ctx, stop := context.WithCancel(context.Background())
	g.stop = stop
	go func() { g.ended <- g.runner.Run(ctx) }()
	return g
}

func (g *rig) close() {
	g.stop()
	if err := <-g.ended; err != nil {
		g.t.Error(err)
	}
	g.world.KillAll()
	synctest.Wait()
}

// states is what was reported so far, once everything is at rest.
func (g *rig) states() string {
	synctest.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []string
	for _, s := range g.reports {
		out = append(out, string(s.State))
	}
	return strings.Join(out, " ")
}

func (g *rig) last() placement.WorkState {
	g.states()
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.reports[len(g.reports)-1]
}

var anID = placement.AllocationID{Claim: placement.ClaimID{
	Ask: placement.AskID{Asker: "s", Incarnation: 1, Counter: 7}, Owner: placement.PeerRef{Peer: "p", Incarnation: 1},
}, Slot: 3}

func spec(command ...string) placement.WorkSpec {
	return placement.WorkSpec{UID: "u", Key: placement.AppKey{Namespace: "default", App: "shop"}, Component: "web", Spec: placement.Component{
		Server: &placement.Server{Process: &placement.Process{Command: command}}, Ports: map[string]int{"http": 80},
		Stop: placement.StopPolicy{Grace: placement.Duration(time.Second)},
	}}
}

func TestRunner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, fake.NewWorld())
		defer g.close()
		g.runner.Start(anID, spec("run"))
		if got := g.states(); got != "starting running" {
			t.Fatalf("reported %s", got)
		}
		if addr := g.runner.Ports(anID)["http"]; !strings.HasPrefix(addr, "127.0.0.1:") {
			t.Errorf("port %q", addr)
		}
		g.world.Exit(DriverID(anID), 3)
		if s := g.last(); s.State != placement.AllocFailed || s.ExitCode == nil || *s.ExitCode != 3 {
			t.Errorf("after an exit: %+v", s)
		}
		g.runner.Start(anID, spec("run")) // the core restarts it
		if s := g.last(); s.State != placement.AllocRunning || g.world.Starts() != 2 {
			t.Errorf("after a restart: %+v, %d starts", s, g.world.Starts())
		}
		logs, err := g.runner.Logs(t.Context(), anID, driver.LogOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(logs); err != nil {
			t.Error(err)
		}
		logs.Close()
		g.runner.Stop(anID, "")
		if s := g.last(); s.State != placement.AllocStopped || g.world.Running() != 0 {
			t.Errorf("after a stop: %+v, %d run", s, g.world.Running())
		}
		g.runner.Stop(anID, "") // what is not there is stopped
		if s := g.last(); s.State != placement.AllocStopped {
			t.Errorf("after a second stop: %+v", s)
		}
	})
}

// Work outlives the daemon: the next one finds it, with what it needs to book
// it again.
func TestRunnerFindsWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := fake.NewWorld()
		g := newRig(t, world)
		g.runner.Start(anID, spec("run"))
		g.states()
		g.stop()
		if err := <-g.ended; err != nil {
			t.Fatal(err)
		}
		next := newRig(t, world)
		defer next.close()
		found, err := next.runner.List(t.Context(), placement.DriverProcess)
		if err != nil || len(found) != 1 || found[0].ID != anID || found[0].State.State != placement.AllocRunning {
			t.Fatalf("found %+v: %v", found, err)
		}
		b, err := placement.FromLabels(found[0].Labels)
		if err != nil || b.ID != anID || b.UID != "u" || b.Component != "web" {
			t.Errorf("labels say %+v: %v", b, err)
		}
		next.runner.Start(anID, spec("run"))
		if next.states(); world.Starts() != 1 {
			t.Errorf("it was started %d times", world.Starts())
		}
	})
}

func TestRunnerFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := fake.NewWorld()
		g := newRig(t, world)
		defer g.close()
		world.OnStart(func(driver.Task) error { return errors.New("no such file") })
		g.runner.Start(anID, spec("run"))
		if s := g.last(); s.State != placement.AllocFailed || !strings.Contains(s.Reason, "no such file") {
			t.Errorf("%+v", s)
		}
		other := anID
		other.Slot = 4
		function := spec("run")
		function.Spec = placement.Component{Function: &placement.Function{Module: "sha256:00"}}
		g.runner.Start(other, function)
		if s := g.last(); s.State != placement.AllocFailed || !strings.Contains(s.Reason, `no driver "wasm"`) {
			t.Errorf("%+v", s)
		}
	})
}

// A Stop does not wait for a start that hangs.
func TestStopCutsAStartShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := fake.NewWorld()
		g := newRig(t, world)
		defer g.close()
		world.OnStart(func(driver.Task) error {
			time.Sleep(30 * time.Second)
			return nil
		})
		begin := time.Now()
		g.runner.Start(anID, spec("run"))
		synctest.Wait()
		g.runner.Stop(anID, "")
		for g.last().State != placement.AllocStopped {
			if time.Since(begin) > 5*time.Minute {
				t.Fatalf("reported %s", g.states())
			}
			time.Sleep(time.Second)
		}
		if world.Running() != 0 {
			t.Errorf("%d run", world.Running())
		}
	})
}

// A program that ends while its start is being told of has ended.
func TestFastExit(t *testing.T) {
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			g := newRig(t, fake.NewWorld())
			defer g.close()
			g.runner.Start(anID, spec("exit", "5"))
			if s := g.last(); s.State != placement.AllocFailed || s.ExitCode == nil || *s.ExitCode != 5 {
				t.Errorf("%s, last %+v", g.states(), s)
			}
		})
	}
}
