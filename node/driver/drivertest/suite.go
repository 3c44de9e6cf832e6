package drivertest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
)

type test struct {
	name string
	run  func(t *testing.T, m Machine)
}

// Run runs the suite.
func Run(t *testing.T, h Harness) {
	if h.Patience > 0 {
		patience = h.Patience
		fenceSoon = h.Patience/20 + driver.FenceMargin
	}
	groups := []struct {
		applies func(Machine) bool
		why     string
		tests   []test
		waits   bool // for a deadline, mostly: they do so side by side
	}{
		{func(Machine) bool { return true }, "", anyTests, false},
		{func(Machine) bool { return true }, "", haltTests, false},
		{func(m Machine) bool { return m.Program != nil }, "this driver runs no programs", programTests, false},
		{func(m Machine) bool { return m.Program != nil }, "this driver runs no programs", fileTests, false},
		{func(m Machine) bool { return m.Program != nil }, "this driver runs no programs", hostileTests, false},
		{func(m Machine) bool { return m.Command != nil }, "this driver's tasks can't be entered", execTests, false},
		{func(m Machine) bool { return m.Litter != nil }, "this driver leaves nothing behind that List does not name", collectTests, false},
		{func(m Machine) bool { return m.Function != nil }, "this driver runs no functions", functionTests, false},
		{func(m Machine) bool { return m.Warm != nil }, "this driver keeps no functions in memory", warmTests, false},
		{func(Machine) bool { return true }, "", fenceTests, true},
		{func(m Machine) bool { return m.Program != nil }, "this driver runs no programs", fencedProgramTests, true},
		{func(m Machine) bool { return m.Function != nil }, "this driver runs no functions", fencedFunctionTests, true},
	}
	for _, g := range groups {
		for _, tc := range g.tests {
			t.Run(tc.name, func(t *testing.T) {
				if why := h.Cannot[tc.name]; why != "" {
					t.Skip(why)
				}
				if g.waits {
					t.Parallel()
				}
				m := h.New(t)
				if !g.applies(m) {
					t.Skip(g.why)
				}
				tc.run(t, m)
			})
		}
	}
}

// some returns a task that runs until it is stopped.
func (m Machine) some(t *testing.T, id string) driver.Task {
	var task driver.Task
	if m.Program != nil {
		task = m.Program(t, id, "run")
	} else {
		task = m.Function(t, id)
	}
	task.Labels = map[string]string{"app": "shop", "slot": id}
	return task
}

var anyTests = []test{
	{"Probe", func(t *testing.T, m Machine) {
		d := start(t, m)
		info := d.Probe(t.Context())
		if !info.Available {
			t.Fatalf("not available: %s", info.Reason)
		}
		if d.Name() == "" || info.Version == "" || len(info.Kinds) == 0 || len(info.Runtimes) == 0 {
			t.Errorf("Probe leaves things open: %+v", info)
		}
		for _, name := range []string{"cpu", "memory"} {
			if l, ok := info.Limits[name]; !ok || l.Detail == "" {
				t.Errorf("Probe does not say how the limit on %s holds: %+v", name, l)
			}
		}
	}},
	{"StartTwiceIsOneTask", func(t *testing.T, m Machine) {
		d := start(t, m)
		task := m.some(t, "c/0")
		first := d.mustStart(task)
		if first.State != driver.StateRunning || first.Starts != 1 || first.StartedAt.IsZero() {
			t.Errorf("Start answered %+v", first)
		}
		second := d.mustStart(task)
		if second.Starts != 1 || !second.StartedAt.Equal(first.StartedAt) {
			t.Errorf("the second Start answered %+v, the first %+v", second, first)
		}
		if all, _ := d.List(t.Context()); len(all) != 1 {
			t.Errorf("List has %d tasks, want 1", len(all))
		}
	}},
	{"ConcurrentStartsAreOneTask", func(t *testing.T, m Machine) {
		d := start(t, m)
		task := m.some(t, "c/0")
		var wg sync.WaitGroup
		answers := make([]driver.Status, 8)
		for i := range answers {
			wg.Go(func() {
				var err error
				if answers[i], err = d.Start(t.Context(), task); err != nil {
					t.Errorf("Start: %v", err)
				}
			})
		}
		wg.Wait()
		for _, s := range answers {
			if s.Starts != 1 || !s.StartedAt.Equal(answers[0].StartedAt) {
				t.Errorf("answers differ: %+v and %+v", s, answers[0])
			}
		}
		if m.Leftovers != nil && m.Leftovers(t) != 1 {
			t.Errorf("%d tasks run, want 1", m.Leftovers(t))
		}
	}},
	{"StopTwiceAndUnknown", func(t *testing.T, m Machine) {
		d := start(t, m)
		d.mustStop("never/0", 0)
		d.mustStart(m.some(t, "c/0"))
		d.mustStop("c/0", 0)
		d.mustStop("c/0", 0)
		if m.Leftovers != nil && m.Leftovers(t) != 0 {
			t.Errorf("%d tasks run after Stop", m.Leftovers(t))
		}
		again := d.mustStart(m.some(t, "c/0"))
		if again.State != driver.StateRunning {
			t.Errorf("Start after Stop answered %+v", again)
		}
	}},
	{"ListGivesLabelsBack", func(t *testing.T, m Machine) {
		d := start(t, m)
		var want []driver.Status
		for _, id := range []string{"c/0", "c/1", "c/10", "odd id: ../ü/0"} {
			task := m.some(t, id)
			d.mustStart(task)
			want = append(want, driver.Status{ID: id, Labels: task.Labels})
		}
		all, err := d.List(t.Context())
		if err != nil || len(all) != len(want) {
			t.Fatalf("List: %d tasks, %v", len(all), err)
		}
		for i, s := range all {
			if s.ID != want[i].ID || !reflect.DeepEqual(s.Labels, want[i].Labels) || s.State != driver.StateRunning {
				t.Errorf("task %d: %+v, want %+v", i, s, want[i])
			}
		}
	}},
	{"InvalidTaskIsRefused", func(t *testing.T, m Machine) {
		d := start(t, m)
		noArtifact := m.some(t, "c/1")
		switch {
		case noArtifact.Process != nil:
			noArtifact.Process.Artifact = "sha256:none"
		case noArtifact.Function != nil:
			noArtifact.Function.Module = "sha256:none"
		case noArtifact.Machine != nil:
			noArtifact.Machine.Image = "sha256:none"
		case noArtifact.Container != nil:
			noArtifact.Container.Image = ""
		}
		badEnv := m.some(t, "c/2")
		badEnv.Env = map[string]string{"A=B": "x"}
		for _, task := range []driver.Task{{}, {ID: "c/0", Kind: driver.KindServer}, noArtifact, badEnv} {
			if _, err := d.Start(t.Context(), task); !errors.Is(err, driver.ErrInvalid) {
				t.Errorf("Start of %+v: %v, want ErrInvalid", task, err)
			}
		}
		if all, err := d.List(t.Context()); err != nil || len(all) != 0 {
			t.Errorf("List after refusals: %v, %v", all, err)
		}
	}},
	{"StartThatIsGivenUp", func(t *testing.T, m Machine) {
		d := start(t, m)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		task := m.some(t, "c/0")
		if s, err := d.Start(ctx, task); err == nil && s.State != driver.StateRunning {
			t.Errorf("a Start whose caller left answered %+v", s)
		}
		// What was begun is running or undone, and the next one is one task.
		if all, err := d.List(t.Context()); err != nil || len(all) > 1 {
			t.Errorf("List has %+v, %v", all, err)
		}
		if s := d.mustStart(task); s.State != driver.StateRunning || s.Starts != 1 {
			t.Errorf("the next Start answered %+v", s)
		}
	}},
	{"StopDuringStart", func(t *testing.T, m Machine) {
		d := start(t, m)
		for range 10 {
			var wg sync.WaitGroup
			wg.Go(func() { _, _ = d.Start(t.Context(), m.some(t, "c/0")) }) // either may be first
			wg.Go(func() {
				if err := d.Stop(t.Context(), "c/0", -1); err != nil {
					t.Errorf("Stop: %v", err)
				}
			})
			wg.Wait()
			d.mustStop("c/0", -1)
			if m.Leftovers != nil && m.Leftovers(t) != 0 {
				t.Fatalf("%d tasks run after Stop", m.Leftovers(t))
			}
		}
	}},
	{"EventsEndWithTheLastState", func(t *testing.T, m Machine) {
		d := start(t, m)
		s := d.mustStart(m.some(t, "c/0"))
		d.waitEvent("c/0", func(e driver.Status) bool { return e.State == driver.StateRunning && e.StartedAt.Equal(s.StartedAt) })
		d.mustStop("c/0", -1)
		d.waitEvent("c/0", func(e driver.Status) bool { return e.State.Ended() })
		d.mu.Lock()
		defer d.mu.Unlock()
		if last := d.events[len(d.events)-1]; !last.State.Ended() || last.ExitedAt.IsZero() || !reflect.DeepEqual(last.Labels, s.Labels) {
			t.Errorf("the last event is %+v", last)
		}
	}},
	{"LogsOfUnknownTask", func(t *testing.T, m Machine) {
		d := start(t, m)
		if _, err := d.Logs(t.Context(), "never/0", driver.LogOptions{}); !errors.Is(err, driver.ErrUnknownTask) {
			t.Errorf("Logs: %v, want ErrUnknownTask", err)
		}
	}},
	{"ManyStartsAndStopsLeakNothing", func(t *testing.T, m Machine) {
		d := start(t, m)
		cycle := func(i int) {
			id := fmt.Sprintf("c/%d", i)
			d.mustStart(m.some(t, id))
			grace := time.Duration(0)
			if i%2 == 0 {
				grace = -1
			}
			d.mustStop(id, grace)
		}
		cycle(0) // what is made once is no leak
		runtime.GC()
		goroutines, files := runtime.NumGoroutine(), openFiles()
		for i := 1; i <= m.many(); i++ {
			cycle(i)
		}
		Eventually(t, "goroutines and descriptors of many tasks to go", func() bool {
			runtime.GC()
			return runtime.NumGoroutine() <= goroutines+2 && openFiles() <= files+2
		})
		if m.Leftovers != nil && m.Leftovers(t) != 0 {
			t.Errorf("%d tasks are left over", m.Leftovers(t))
		}
	}},
}
