package runner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"runtime"
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
	fenced  []driver.Status
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
		Fenced: func(_ placement.AllocationID, s driver.Status) {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.fenced = append(g.fenced, s)
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

// last is what was reported last; nothing if nothing was.
func (g *rig) last() placement.WorkState {
	g.states()
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.reports) == 0 {
		return placement.WorkState{}
	}
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
		if got := g.states(); got != "running" {
			t.Fatalf("reported %s", got)
		}
		if addr := g.last().Ports["http"]; !strings.HasPrefix(addr, "127.0.0.1:") {
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
		g.runner.Stop(anID)
		if s := g.last(); s.State != placement.AllocStopped || g.world.Running() != 0 {
			t.Errorf("after a stop: %+v, %d run", s, g.world.Running())
		}
		g.runner.Stop(anID) // what is not there is stopped
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
		var found []placement.Found
		err := next.runner.List(t.Context(), placement.DriverProcess, func(f []placement.Found) { found = f })
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
		if s := g.last(); s.State != placement.AllocFailed || !strings.Contains(s.Reason, "no such file") || s.Final {
			t.Errorf("%+v", s)
		}
		world.OnStart(func(driver.Task) error { return fmt.Errorf("pull x: %w", driver.ErrNotFound) })
		g.runner.Start(anID, spec("run"))
		if s := g.last(); s.State != placement.AllocFailed || !s.Final {
			t.Errorf("what does not exist: %+v", s)
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
		g.runner.Stop(anID)
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

// Work that was adopted has the grace that it was started with.
func TestAdoptedWorkKeepsItsGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := fake.NewWorld()
		g := newRig(t, world)
		slow := spec("stubborn")
		slow.Spec.Stop.Grace = placement.Duration(3 * time.Minute)
		g.runner.Start(anID, slow)
		g.states()
		g.stop()
		<-g.ended
		next := newRig(t, world)
		defer next.close()
		if err := next.runner.List(t.Context(), placement.DriverProcess, func([]placement.Found) {}); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		next.runner.Stop(anID)
		for next.last().State != placement.AllocStopped {
			time.Sleep(time.Second)
		}
		if took := time.Since(begin); took < 3*time.Minute || took > 10*time.Minute {
			t.Errorf("stopped after %v, want its grace of 3m", took)
		}
	})
}

// News of an earlier start are no news of this one, and none is told twice.
func TestStaleEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, fake.NewWorld())
		defer g.close()
		g.runner.Start(anID, spec("run"))
		g.states()
		g.world.Exit(DriverID(anID), 3)
		list, err := g.runner.cfg.Drivers[0].List(t.Context())
		if err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
		old := driver.Event{Driver: placement.DriverProcess, Status: list[0]}
		g.runner.Exited(old)
		time.Sleep(time.Second) // as the core's back-off: starts differ in time
		g.runner.Start(anID, spec("run"))
		g.states()
		g.runner.Exited(old)
		if got := g.states(); got != "running failed running" {
			t.Errorf("reported %s", got)
		}
	})
}

// racing lets a task end while its list is under way.
type racing struct {
	driver.Driver
	ending func()
}

func (d racing) List(ctx context.Context) ([]driver.Status, error) {
	list, err := d.Driver.List(ctx)
	d.ending()
	return list, err
}

// An end that overtakes the list is told after it.
func TestEndDuringList(t *testing.T) {
	world := fake.NewWorld()
	defer world.KillAll()
	inner := fake.New(fake.Config{Name: placement.DriverProcess, World: world})
	task := driver.Task{ID: DriverID(anID), Kind: driver.KindServer, Process: &driver.Process{Command: []string{"run"}}}
	if _, err := inner.Start(t.Context(), task); err != nil {
		t.Fatal(err)
	}
	news := make(chan placement.AllocState, 4)
	var r *Runner
	told := make(chan struct{})
	ending := func() {
		world.Exit(task.ID, 3)
		list, _ := inner.List(context.Background())
		go func() {
			defer close(told)
			r.Exited(driver.Event{Driver: placement.DriverProcess, Status: list[0]})
		}()
		for range 1000 { // it would be through by now if nothing held it
			runtime.Gosched()
		}
	}
	r = New(Config{
		Drivers: []driver.Driver{racing{inner, ending}}, Log: slog.New(slog.DiscardHandler),
		Report: func(_ placement.AllocationID, s placement.WorkState) { news <- s.State },
	})
	err := r.List(t.Context(), placement.DriverProcess, func(found []placement.Found) { news <- found[0].State.State })
	if err != nil {
		t.Fatal(err)
	}
	<-told
	close(news)
	var got []string
	for s := range news {
		got = append(got, string(s))
	}
	if s := strings.Join(got, " "); s != "running failed" {
		t.Errorf("told %q", s)
	}
}

// A restart keeps its port, unless somebody else took it meanwhile.
func TestPortsOverRestarts(t *testing.T) {
	p := newPorts("127.0.0.1")
	wanted := map[string]int{"http": 80, "admin": 81}
	first, err := p.allot(anID, wanted, false)
	if err != nil || len(first) != 2 || first["http"] == first["admin"] {
		t.Fatal(first, err)
	}
	if again, err := p.allot(anID, wanted, false); err != nil || !maps.Equal(again, first) {
		t.Errorf("a restart has %v, before it had %v: %v", again, first, err)
	}
	other, err := net.Listen("tcp", first["http"])
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if again, err := p.allot(anID, wanted, true); err != nil || !maps.Equal(again, first) {
		t.Errorf("what runs has %v, before it had %v: %v", again, first, err)
	}
	again, err := p.allot(anID, wanted, false)
	if err != nil || again["http"] == first["http"] || again["admin"] != first["admin"] {
		t.Errorf("with a port taken it has %v, before it had %v: %v", again, first, err)
	}
	p.release(anID)
	if len(p.used) != 0 || len(p.given) != 0 {
		t.Errorf("left after the release: %v, %v", p.used, p.given)
	}
}
