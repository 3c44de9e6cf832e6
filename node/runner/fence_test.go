package runner

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/fake"
	"github.com/hansa-mesh/hansa/placement"
)

// exclusive is a spec with a right to run until a moment of the core's clock.
func exclusive(until time.Duration, command ...string) placement.WorkSpec {
	s := spec(command...)
	s.Fence, s.Until = 7, until
	return s
}

// status is what the driver says of anID.
func (g *rig) status() driver.Status {
	g.states()
	list, err := g.runner.cfg.Drivers[0].List(context.Background())
	if err != nil || len(list) != 1 {
		g.t.Fatal(list, err)
	}
	return list[0]
}

// told is whose end by a deadline was told of.
func (g *rig) told() []driver.Status {
	g.states()
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.fenced)
}

// runsAt reports whether anID runs so long after the rig was made.
func (g *rig) runsAt(at time.Duration) bool {
	time.Sleep(at - g.runner.cfg.Mono())
	return g.status().State == driver.StateRunning
}

// Work ends at its deadline, a little before rather than after, and that is
// told as what it is, once.
func TestFenced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, fake.NewWorld())
		defer g.close()
		g.runner.Start(anID, exclusive(10*time.Second, "stubborn"))
		if s := g.status(); s.Fence == nil || s.Fence.Number != 7 {
			t.Fatalf("started as %+v", s)
		}
		if !g.runsAt(10*time.Second - ClockSlack - 1) {
			t.Error("it ended too early")
		}
		if g.runsAt(10 * time.Second) {
			t.Error("it runs at its deadline")
		}
		if s := g.last(); s.State != placement.AllocFailed || !s.Fenced || !strings.Contains(s.Reason, "lease") {
			t.Errorf("reported %+v", s)
		}
		if err := g.runner.List(t.Context(), placement.DriverProcess, func([]placement.Found) {}); err != nil {
			t.Error(err)
		}
		if told := g.told(); len(told) != 1 || g.runner.Stats() != (Stats{Fenced: 1}) {
			t.Errorf("told %+v, counted %+v", told, g.runner.Stats())
		}
		g.runner.Start(anID, exclusive(time.Minute, "run")) // another right
		if !g.runsAt(30 * time.Second) {
			t.Error("it does not run under its next lease")
		}
	})
}

// The latest extension holds, however they come: before the start is through,
// in any order, to what was started again.
func TestExtend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, fake.NewWorld())
		defer g.close()
		g.world.OnStart(func(driver.Task) error { time.Sleep(2 * time.Second); return nil })
		g.runner.Extend(anID, time.Hour) // of what is not there
		g.runner.Start(anID, exclusive(10*time.Second, "run"))
		synctest.Wait()
		g.runner.Extend(anID, 20*time.Second) // while it starts
		if !g.runsAt(19 * time.Second) {
			t.Fatal("what was extended while it started ended")
		}
		for _, until := range []time.Duration{30, 45, 25, 35} {
			g.runner.Extend(anID, until*time.Second)
		}
		if !g.runsAt(39 * time.Second) {
			t.Error("the latest of many extensions does not hold")
		}
		g.world.Exit(DriverID(anID), 3)
		g.runner.Start(anID, exclusive(30*time.Second, "run")) // from before the last extension, which outlasts the start
		time.Sleep(2*time.Second - 1)
		g.states()
		g.runner.Extend(anID, 50*time.Second)
		if !g.runsAt(49*time.Second) || g.runsAt(50*time.Second) {
			t.Errorf("started again and extended it is %+v", g.status())
		}
	})
}

// failing is a driver that does not take some extensions.
type failing struct {
	*fake.Driver
	mu    sync.Mutex // guards left
	left  int
	err   error
	asked int
}

func (f *failing) Extend(ctx context.Context, id string, until time.Duration) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	if f.left > 0 {
		f.left--
		return f.err
	}
	return f.Driver.Extend(ctx, id, until)
}

// An extension that fails is repeated until it is taken; one that can't be is
// not.
func TestExtendThatFails(t *testing.T) {
	for err, want := range map[error]struct{ asked, failed int }{
		errors.New("busy"):    {6, 5},
		driver.ErrInvalid:     {1, 0},
		driver.ErrUnknownTask: {1, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			g := newRig(t, fake.NewWorld())
			defer g.close()
			f := &failing{Driver: g.runner.drivers[placement.DriverProcess].(*fake.Driver), left: 5, err: err}
			g.runner.drivers[placement.DriverProcess] = f
			g.runner.Start(anID, exclusive(10*time.Second, "run"))
			g.states()
			g.runner.Extend(anID, 20*time.Second)
			runs := g.runsAt(15 * time.Second)
			if f.asked != want.asked || int(g.runner.Stats().ExtendsFailed) != want.failed || runs != (want.failed > 0) {
				t.Errorf("%v: asked %d times, counted %+v, runs: %v", err, f.asked, g.runner.Stats(), runs)
			}
		})
	}
}

// A daemon that comes back can extend what it adopts; what ended meanwhile is
// told as what it was.
func TestAdoptedFence(t *testing.T) {
	for _, away := range []time.Duration{5 * time.Second, 15 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			world := fake.NewWorld()
			g := newRig(t, world)
			g.runner.Start(anID, exclusive(10*time.Second, "run"))
			g.states()
			g.stop()
			<-g.ended
			time.Sleep(away)
			next := newRig(t, world)
			defer next.close()
			next.states() // what the driver tells at first comes before the list
			var found []placement.Found
			if err := next.runner.List(t.Context(), placement.DriverProcess, func(f []placement.Found) { found = f }); err != nil || len(found) != 1 {
				t.Fatal(found, err)
			}
			if away > 10*time.Second {
				if told := next.told(); !found[0].State.Fenced || len(told) != 1 {
					t.Errorf("found %+v, told %+v", found[0], told)
				}
				return
			}
			next.runner.mu.Lock()
			until := next.runner.tasks[anID].until
			next.runner.mu.Unlock()
			if want := 10*time.Second - away; until > want || until < want-ClockSlack {
				t.Errorf("it runs until %v, want %v", until, want)
			}
			next.runner.Extend(anID, time.Minute)
			if !next.runsAt(50*time.Second) || world.Starts() != 1 {
				t.Errorf("adopted and extended it is %+v", next.status())
			}
		})
	}
}

// A stop is through by the deadline, whatever the grace, and is told as an end
// by it.
func TestStopEndsByTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, fake.NewWorld())
		defer g.close()
		if err := g.runner.List(t.Context(), placement.DriverProcess, func([]placement.Found) {}); err != nil {
			t.Fatal(err)
		}
		slow := exclusive(10*time.Second, "stubborn")
		slow.Spec.Stop.Grace = placement.Duration(time.Hour)
		g.runner.Start(anID, slow)
		g.states()
		g.runner.Stop(anID)
		time.Sleep(10 * time.Second)
		if s := g.last(); s.State != placement.AllocStopped || g.world.Running() != 0 {
			t.Errorf("at the deadline: %+v, %d run", s, g.world.Running())
		}
		if g.runner.Stats().Fenced != 1 {
			t.Errorf("counted %+v", g.runner.Stats())
		}
	})
}

// unfenced is a driver that can't fence.
type unfenced struct{ driver.Driver }

// What needs a fence does not run without one, nor after its end.
func TestNoFenceNoStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, fake.NewWorld())
		defer g.close()
		time.Sleep(time.Minute)
		g.runner.Start(anID, exclusive(time.Minute, "run"))
		if s := g.last(); s.State != placement.AllocFailed || !strings.Contains(s.Reason, "its lease ran out") {
			t.Errorf("after its lease: %+v", s)
		}
		g.runner.drivers[placement.DriverProcess] = unfenced{g.runner.cfg.Drivers[0]}
		g.runner.Start(anID, exclusive(time.Hour, "run"))
		if s := g.last(); s.State != placement.AllocFailed || !strings.Contains(s.Reason, "can't end it at a deadline") {
			t.Errorf("on a driver without fences: %+v", s)
		}
		if g.world.Running() != 0 {
			t.Errorf("%d run", g.world.Running())
		}
	})
}

// Whatever time passes between the readings of the clocks, a deadline never
// becomes later by it.
func TestDeadlinesOnlyBecomeEarlier(t *testing.T) {
	const ahead = 100 * time.Hour // of the driver's clock
	real := time.Duration(0)
	read := func() time.Duration { real += time.Second; return real }
	r := New(Config{Mono: read, Log: slog.New(slog.DiscardHandler)})
	clock := readings{boottime: func() time.Duration { return ahead + read() }}
	if at := r.boottime(clock, time.Hour); at > ahead+time.Hour {
		t.Errorf("until %v of the core's clock is %v of the driver's, whose is %v ahead", time.Hour, at, ahead)
	}
	if at := r.mono(clock, ahead+time.Hour); at > time.Hour {
		t.Errorf("back it is %v", at)
	}
}

// readings is a Fencer that is only a clock.
type readings struct {
	driver.Fencer
	boottime func() time.Duration
}

func (r readings) Boottime() time.Duration { return r.boottime() }
