package fake_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/drivertest"
	"github.com/hansa-mesh/hansa/node/driver/fake"
)

func program(id string, command ...string) driver.Task {
	return driver.Task{ID: id, Kind: driver.KindServer, Process: &driver.Process{Command: command}}
}

func TestConformance(t *testing.T) {
	cannot := map[string]string{"EscapedChildrenEnd": "goroutines fork nothing"}
	drivertest.Run(t, drivertest.Harness{Cannot: cannot, New: func(t *testing.T) drivertest.Machine {
		world := fake.NewWorld()
		t.Cleanup(world.KillAll)
		return drivertest.Machine{
			Open: func(_ *testing.T, events func(driver.Event)) driver.Driver {
				return fake.New(fake.Config{World: world, Events: events})
			},
			Program: func(_ *testing.T, id string, verb ...string) driver.Task { return program(id, verb...) },
			Function: func(_ *testing.T, id string) driver.Task {
				return driver.Task{
					ID: id, Kind: driver.KindFunction, Function: &driver.Function{Module: "sha256:00"},
					Artifacts: map[string]string{"sha256:00": "unread"},
				}
			},
			Command:   func(_ *testing.T, verb ...string) []string { return verb },
			Leftovers: func(*testing.T) int { return world.Running() },
			Litter:    func(_ *testing.T, id string) { world.Litter(id) },
			Littered:  func(_ *testing.T, id string) bool { return world.Littered(id) },
			Flood:     1 << 20,
		}
	}})
}

// A crash that a test commands arrives as an event, in a bubble too.
func TestWorldExit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		events := make(chan driver.Status, 10)
		world := fake.NewWorld()
		d := fake.New(fake.Config{World: world, Events: func(e driver.Event) { events <- e.Status }})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go d.Run(ctx)
		synctest.Wait()
		if _, err := d.Start(ctx, program("c/0", "anything", "at", "all")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if !world.Exit("c/0", 4) || world.Exit("c/1", 4) {
			t.Error("Exit does not say whether there was a task")
		}
		synctest.Wait()
		var last driver.Status
		for len(events) > 0 {
			last = <-events
		}
		if last.State != driver.StateExited || last.ExitCode != 4 {
			t.Errorf("the last event is %+v", last)
		}
	})
}

func TestOnStartFailsAndDelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := fake.NewWorld()
		defer world.KillAll()
		d := fake.New(fake.Config{World: world})
		broken := errors.New("no room")
		world.OnStart(func(driver.Task) error { time.Sleep(time.Second); return broken })
		before := time.Now()
		if _, err := d.Start(t.Context(), program("c/0", "run")); !errors.Is(err, broken) {
			t.Errorf("Start: %v", err)
		}
		if waited := time.Since(before); waited != time.Second {
			t.Errorf("waited %v", waited)
		}
		if n := world.Running(); n != 0 {
			t.Errorf("%d run", n)
		}
	})
}
