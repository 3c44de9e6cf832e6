package runner

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/fake"
	"github.com/hansa-mesh/hansa/placement"
)

// ailing is a fake driver whose functions answer with a status of the test's, and
// whose commands exit with a code of it.
type ailing struct {
	*fake.Driver
	status, code atomic.Int32
	disk         atomic.Int64
}

func (a *ailing) DiskUsed(context.Context, string) (int64, error) { return a.disk.Load(), nil }

func (a *ailing) Invoke(context.Context, string, *driver.Request) (*driver.Response, error) {
	return &driver.Response{Status: int(a.status.Load()), Body: io.NopCloser(strings.NewReader("ok"))}, nil
}

func (a *ailing) Exec(_ context.Context, _ string, x driver.Exec) (int, error) {
	_, err := io.WriteString(x.Stderr, "the database is away\n")
	return int(a.code.Load()), err
}

// newAilingRig is a rig on an ailing driver; plain hides what only ailing can do.
func newAilingRig(t *testing.T, world *fake.World, name string) (*rig, *ailing) {
	g := &rig{t: t, world: world, ended: make(chan error, 1)}
	a := &ailing{Driver: fake.New(fake.Config{Name: name, World: world, Events: func(e driver.Event) { g.runner.Exited(e) }})}
	a.status.Store(200)
	g.runner = New(Config{
		Drivers: []driver.Driver{a}, Labels: placement.Labels, Log: slog.New(slog.DiscardHandler),
		Path: func(string) (string, bool) { return "/module", true },
		Report: func(_ placement.AllocationID, s placement.WorkState) {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.reports = append(g.reports, s)
		},
	})
	ctx, stop := context.WithCancel(context.Background())
	g.stop = stop
	go func() { g.ended <- g.runner.Run(ctx) }()
	return g, a
}

func checked(kind string) placement.WorkSpec {
	h := &placement.Health{Interval: placement.Duration(10 * time.Second), StartPeriod: placement.Duration(20 * time.Second), Threshold: 2}
	s := spec("run")
	if kind == placement.DriverWasm {
		h.HTTP = &placement.HTTPCheck{Path: "/healthz?deep=1"}
		s.Spec = placement.Component{Function: &placement.Function{Module: "sha256:" + strings.Repeat("a", 64)}}
	} else {
		h.Exec = &placement.ExecCheck{Command: []string{"probe"}}
	}
	s.Spec.Health = h
	return s
}

// changes is the states that were reported, each once for as long as it lasted.
func (g *rig) changes() string {
	var out []string
	for _, s := range strings.Fields(g.states()) {
		if len(out) == 0 || out[len(out)-1] != s {
			out = append(out, s)
		}
	}
	return strings.Join(out, " ")
}

// Work is starting until its first successful check, unhealthy after some that
// failed, and ended after as many again.
func TestHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, d := newAilingRig(t, fake.NewWorld(), placement.DriverWasm)
		defer g.close()
		d.status.Store(503)
		g.runner.Start(anID, checked(placement.DriverWasm))
		time.Sleep(10 * time.Second)
		if got, last := g.changes(), g.last(); got != "starting" || !strings.Contains(last.Reason, "GET /healthz?deep=1: status 503") || last.Started == 0 {
			t.Fatalf("at first: %s, %+v", got, last)
		}
		d.status.Store(204)
		time.Sleep(11 * time.Second)
		if got := g.changes(); got != "starting running" || g.last().Reason != "" {
			t.Fatalf("after a success: %s, %+v", got, g.last())
		}
		d.status.Store(500)
		time.Sleep(22 * time.Second)
		if got := g.changes(); got != "starting running unhealthy" || !strings.Contains(g.last().Reason, "checks in a row failed") {
			t.Fatalf("after failures: %s, %+v", got, g.last())
		}
		d.status.Store(200)
		time.Sleep(11 * time.Second)
		if got := g.changes(); got != "starting running unhealthy running" {
			t.Fatalf("healed: %s", got)
		}
		d.status.Store(500)
		time.Sleep(time.Minute)
		if got, last := g.changes(), g.last(); got != "starting running unhealthy running unhealthy failed" || !strings.HasPrefix(last.Reason, "unhealthy: 4 checks in a row failed") {
			t.Fatalf("at the end: %s, %+v", got, last)
		}
		if g.world.Running() != 0 {
			t.Error("it was not ended")
		}
		d.status.Store(200)
		g.runner.Start(anID, checked(placement.DriverWasm))
		time.Sleep(10 * time.Second)
		if last := g.last(); last.State != placement.AllocRunning {
			t.Fatalf("started again: %+v", last)
		}
		if list, err := d.List(t.Context()); err != nil || len(list) != 1 || list[0].Starts != 2 {
			t.Errorf("its driver lists %+v, %v: what it had is not kept", list, err)
		}
		g.runner.Stop(anID)
		if last := g.last(); last.State != placement.AllocStopped {
			t.Errorf("stopped: %+v", last)
		}
		d.status.Store(500)
		before := g.states()
		time.Sleep(10 * time.Minute)
		if g.states() != before {
			t.Errorf("what is stopped is still checked: %s", g.states())
		}
	})
}

// An end by itself ends the checks of that run, and the next has its own.
func TestHealthOverExits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, d := newAilingRig(t, fake.NewWorld(), placement.DriverProcess)
		defer g.close()
		g.runner.Start(anID, checked(placement.DriverProcess))
		time.Sleep(5 * time.Second)
		g.world.Exit(DriverID(anID), 3)
		if last := g.last(); last.State != placement.AllocFailed || *last.ExitCode != 3 {
			t.Fatalf("after an exit: %+v", last)
		}
		d.code.Store(1)
		before := g.states()
		time.Sleep(10 * time.Minute)
		if g.states() != before {
			t.Errorf("what has ended is still checked: %s", g.states())
		}
		g.runner.Start(anID, checked(placement.DriverProcess))
		time.Sleep(5 * time.Second)
		if last := g.last(); last.State != placement.AllocStarting || !strings.Contains(last.Reason, "probe: exit code 1: the database is away") {
			t.Errorf("the next run: %+v", last)
		}
	})
}

// Work that ran before the daemon did is taken to work, and checked once it is
// known what it is.
func TestAdoptedWorkIsChecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := fake.NewWorld()
		g, _ := newAilingRig(t, world, placement.DriverProcess)
		g.runner.Start(anID, checked(placement.DriverProcess))
		time.Sleep(5 * time.Second)
		g.stop()
		if err := <-g.ended; err != nil {
			t.Fatal(err)
		}
		next, d := newAilingRig(t, world, placement.DriverProcess)
		defer next.close()
		d.code.Store(1)
		if err := next.runner.List(t.Context(), placement.DriverProcess, func(found []placement.Found) {
			if len(found) != 1 || found[0].State.State != placement.AllocRunning {
				t.Errorf("found %+v", found)
			}
		}); err != nil {
			t.Fatal(err)
		}
		next.runner.Watch(anID, checked(placement.DriverProcess))
		next.runner.Watch(anID, checked(placement.DriverProcess)) // once is enough
		time.Sleep(25 * time.Second)
		if got := next.changes(); got != "unhealthy" {
			t.Fatalf("checked: %s", got)
		}
		time.Sleep(time.Minute)
		if got := next.changes(); got != "unhealthy failed" || world.Running() != 0 {
			t.Errorf("at the end: %s, %d run", got, world.Running())
		}
	})
}

// A halt ends work and keeps what it has, its address too.
func TestHalt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, d := newAilingRig(t, fake.NewWorld(), placement.DriverProcess)
		defer g.close()
		g.runner.Start(anID, spec("run"))
		g.states()
		address := g.last().Ports["http"]
		for i := range 3 {
			g.runner.Halt(anID)
			if last := g.last(); last.State != placement.AllocStopped || g.world.Running() != 0 {
				t.Fatalf("halted: %+v", last)
			}
			if list, err := d.List(t.Context()); err != nil || len(list) != 1 || list[0].State != driver.StateExited {
				t.Fatalf("its driver lists %+v, %v", list, err)
			}
			g.runner.Start(anID, spec("run"))
			if last := g.last(); last.State != placement.AllocRunning || last.Ports["http"] != address || g.world.Starts() != i+2 {
				t.Fatalf("started again: %+v, it had %s", last, address)
			}
		}
		g.runner.Stop(anID)
		g.states()
		if list, err := d.List(t.Context()); err != nil || len(list) != 0 {
			t.Errorf("its driver lists %+v, %v", list, err)
		}
		if got := g.changes(); strings.Contains(got, "failed") {
			t.Errorf("a halt is reported as its own end: %s", got)
		}
	})
}

// A check that can't be made says so; it does not fail for ever.
func TestCheckThatCannotBeMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, fake.NewWorld())
		defer g.close()
		if _, ok := any((*fake.Driver)(nil)).(driver.Execer); ok {
			t.Skip("the fake runs commands inside")
		}
		g.runner.Start(anID, checked(placement.DriverProcess))
		if last := g.last(); last.State != placement.AllocFailed || !strings.Contains(last.Reason, "check it by http or tcp") || g.world.Starts() != 0 {
			t.Errorf("reported %+v", last)
		}
	})
}
