package drivertest

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
)

// fenceSoon is a deadline that a test waits for: long enough for a program to
// start first on a machine that is busy.
var fenceSoon = time.Second + driver.FenceMargin

// fencing is a daemon whose driver can fence.
type fencing struct {
	*daemon
	driver.Fencer
}

// startFencing is start for a driver that can fence; else the test is skipped.
func startFencing(t *testing.T, m Machine) fencing {
	t.Helper()
	d := start(t, m)
	info := d.Probe(t.Context())
	f, ok := d.Driver.(driver.Fencer)
	if info.Fence && !ok {
		t.Fatalf("Info says that driver %s fences, and it is no Fencer", d.Name())
	}
	if !info.Fence {
		t.Skipf("this driver can't fence here: %s", info.Limits["fence"].Detail)
	}
	if w, ok := d.Driver.(driver.Warmer); ok && m.Function != nil { // compiling takes longer than fenceSoon
		task := m.Function(t, "c/0")
		if err := w.Warm(t.Context(), task.Function.Module, task.Artifacts[task.Function.Module]); err != nil {
			t.Fatalf("Warm: %v", err)
		}
	}
	return fencing{d, f}
}

// fence is a right to run for so long from now.
func (f fencing) fence(number uint64, in time.Duration) *driver.Fence {
	return &driver.Fence{Number: number, Until: f.Boottime() + in}
}

// fenced waits for the end of a task by its deadline, and checks what is said
// of it: nothing of it ran longer without that being reported.
func (f fencing) fenced(m Machine, id string) driver.Status {
	f.t.Helper()
	s := f.waitEnd(id)
	if !s.Fenced || s.State != driver.StateExited || !strings.Contains(s.Reason, "its lease ran out") {
		f.t.Errorf("it ended as %+v, want fenced", s)
	}
	if m.Leftovers != nil && m.Leftovers(f.t) != 0 {
		f.t.Errorf("%d tasks run after the deadline", m.Leftovers(f.t))
	}
	return s
}

// past waits until a moment of the driver's clock.
func (f fencing) past(at time.Duration) {
	f.t.Helper()
	Eventually(f.t, "a deadline to pass", func() bool { return f.Boottime() > at })
}

var fenceTests = []test{
	{"FencedAtTheDeadline", func(t *testing.T, m Machine) {
		d := startFencing(t, m)
		task := m.some(t, "c/0")
		task.Fence = d.fence(7, fenceSoon)
		task.Grace = time.Hour
		s := d.mustStart(task)
		if s.State != driver.StateRunning || s.Fence == nil || *s.Fence != *task.Fence {
			t.Errorf("Start answered %+v, want its fence in it", s)
		}
		d.mustStart(m.some(t, "c/1")) // which has none
		end := d.waitEnd("c/0")
		if !end.Fenced || end.Fence == nil || end.Fence.Until != task.Fence.Until {
			t.Errorf("it ended as %+v", end)
		}
		if s, ok := d.status("c/1"); !ok || s.State != driver.StateRunning || s.Fence != nil {
			t.Errorf("its neighbour is %+v", s)
		}
		d.mustStop("c/0", 0)
		d.mustStop("c/1", -1)
	}},
	{"ExtendedAndNeverShortened", func(t *testing.T, m Machine) {
		d := startFencing(t, m)
		task := m.some(t, "c/0")
		task.Fence = d.fence(7, fenceSoon)
		d.mustStart(task)
		far := d.Boottime() + time.Hour
		for _, until := range []time.Duration{far, task.Fence.Until, d.Boottime(), 1} {
			if err := d.Extend(t.Context(), "c/0", until); err != nil {
				t.Fatalf("Extend: %v", err)
			}
		}
		d.past(task.Fence.Until)
		s, ok := d.status("c/0")
		if !ok || s.State != driver.StateRunning || s.Fence == nil || s.Fence.Until != far || s.Fence.Number != 7 {
			t.Errorf("past its first deadline it is %+v, want until %v", s, far)
		}
		d.mustStop("c/0", -1)
		if err := d.Extend(t.Context(), "c/0", far); !errors.Is(err, driver.ErrUnknownTask) {
			t.Errorf("Extend after Stop: %v, want ErrUnknownTask", err)
		}
	}},
	{"StartAgainExtends", func(t *testing.T, m Machine) {
		d := startFencing(t, m)
		task := m.some(t, "c/0")
		task.Fence = d.fence(7, fenceSoon)
		first := d.mustStart(task)
		old := task.Fence.Until
		task.Fence = d.fence(7, time.Hour)
		if s := d.mustStart(task); s.Starts != 1 || s.Fence == nil || s.Fence.Until != task.Fence.Until {
			t.Errorf("started again it is %+v, before it was %+v", s, first)
		}
		d.past(old)
		if s, ok := d.status("c/0"); !ok || s.State != driver.StateRunning {
			t.Errorf("it is %+v", s)
		}
		d.mustStop("c/0", -1)
	}},
	{"StartAfterItsEnd", func(t *testing.T, m Machine) {
		d := startFencing(t, m)
		task := m.some(t, "c/0")
		for _, in := range []time.Duration{-time.Hour, 0} {
			task.Fence = d.fence(7, in)
			if s, err := d.Start(t.Context(), task); err == nil || !strings.Contains(err.Error(), "its lease ran out") {
				t.Errorf("started after its deadline: %+v, %v", s, err)
			}
		}
		if all, err := d.List(t.Context()); err != nil || len(all) != 0 {
			t.Errorf("List has %+v, %v", all, err)
		}
		task.Fence = d.fence(8, fenceSoon)
		d.mustStart(task)
		d.fenced(m, "c/0")
		task.Fence = d.fence(9, time.Hour) // a lease once more
		if s := d.mustStart(task); s.State != driver.StateRunning || s.Fence.Number != 9 || s.Fenced || s.Reason != "" {
			t.Errorf("started once more it is %+v", s)
		}
		d.mustStop("c/0", -1)
	}},
	{"ExtendWhatDoesNotRun", func(t *testing.T, m Machine) {
		d := startFencing(t, m)
		if err := d.Extend(t.Context(), "never/0", d.Boottime()+time.Hour); !errors.Is(err, driver.ErrUnknownTask) {
			t.Errorf("a task that never was: %v, want ErrUnknownTask", err)
		}
		d.mustStart(m.some(t, "c/0"))
		if err := d.Extend(t.Context(), "c/0", d.Boottime()+time.Hour); !errors.Is(err, driver.ErrInvalid) {
			t.Errorf("a task without a fence: %v, want ErrInvalid", err)
		}
		task := m.some(t, "c/1")
		task.Fence = d.fence(7, fenceSoon)
		d.mustStart(task)
		d.waitEnd("c/1")
		if err := d.Extend(t.Context(), "c/1", d.Boottime()+time.Hour); !errors.Is(err, driver.ErrUnknownTask) {
			t.Errorf("a task that was fenced: %v, want ErrUnknownTask", err)
		}
		d.mustStop("c/0", -1)
	}},
}

var fencedProgramTests = []test{
	{"FenceInTheEnvironment", func(t *testing.T, m Machine) {
		d := startFencing(t, m)
		task := m.Program(t, "c/0", "env")
		if task.Env == nil {
			task.Env = map[string]string{}
		}
		task.Env[driver.FenceEnv] = "99" // of a manifest: it does not count
		task.Fence = d.fence(12345678901, time.Hour)
		d.mustStart(task)
		d.waitEnd("c/0")
		if got := texts(d.lines("c/0", driver.LogOptions{})); !strings.Contains(got, "HANSA_FENCE=12345678901\n") {
			t.Errorf("the environment lacks the fence's number:\n%s", got)
		}
	}},
	{"FencedTaskEndsByItself", func(t *testing.T, m Machine) {
		d := startFencing(t, m)
		for _, code := range []int{0, 3} {
			id := "c/" + strconv.Itoa(code)
			task := m.Program(t, id, "exit", strconv.Itoa(code))
			task.Fence = d.fence(7, time.Hour)
			d.mustStart(task)
			if s := d.waitEnd(id); s.ExitCode != code || s.Fenced || s.State != driver.StateExited {
				t.Errorf("exit %d: %+v", code, s)
			}
		}
		task := m.Program(t, "c/9", "on-stop", "9")
		task.Fence = d.fence(7, time.Hour)
		d.mustRun(task)
		d.mustStop("c/9", patience)
		if s := d.waitEvent("c/9", func(s driver.Status) bool { return s.State.Ended() }); s.ExitCode != 9 {
			t.Errorf("stopped it ended as %+v, want exit code 9", s)
		}
	}},
	{"GraceEndsAtTheDeadline", func(t *testing.T, m Machine) {
		d := startFencing(t, m)
		task := m.Program(t, "c/0", "stubborn")
		task.Grace = time.Hour
		task.Fence = d.fence(7, fenceSoon)
		d.mustRun(task)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := d.Stop(ctx, "c/0", 0); err != nil {
			t.Errorf("Stop: %v", err)
		}
		if m.Leftovers != nil && m.Leftovers(t) != 0 {
			t.Errorf("%d tasks are left over", m.Leftovers(t))
		}
	}},
	{"FencedWithoutADaemon", func(t *testing.T, m Machine) {
		first := startFencing(t, m)
		if !first.Probe(t.Context()).Survives {
			t.Skip("this driver's tasks end with the daemon")
		}
		task := m.Program(t, "c/0", "stubborn")
		task.Fence = first.fence(7, fenceSoon)
		first.mustRun(task)
		first.shutdown()
		if m.Leftovers != nil {
			Eventually(t, "the task to end with no daemon", func() bool { return m.Leftovers(t) == 0 })
		}
		first.past(task.Fence.Until)
		second := startFencing(t, m)
		second.fenced(m, "c/0")
		second.mustStop("c/0", 0)
	}},
	{"AdoptedWithItsDeadline", func(t *testing.T, m Machine) {
		first := startFencing(t, m)
		task := m.Program(t, "c/0", "stubborn")
		task.Fence = first.fence(7, fenceSoon)
		first.mustRun(task)
		if err := first.Extend(t.Context(), "c/0", task.Fence.Until+time.Second); err != nil {
			t.Fatalf("Extend: %v", err)
		}
		first.shutdown()

		second := startFencing(t, m)
		s, ok := second.status("c/0")
		if !ok || s.State != driver.StateRunning || s.Starts != 1 || s.Fence == nil || s.Fence.Number != 7 || s.Fence.Until != task.Fence.Until+time.Second {
			t.Fatalf("adopted it is %+v, want its fence as it was extended", s)
		}
		far := second.Boottime() + time.Hour
		if err := second.Extend(t.Context(), "c/0", far); err != nil {
			t.Fatalf("Extend of an adopted task: %v", err)
		}
		second.past(task.Fence.Until + time.Second)
		if s, ok := second.status("c/0"); !ok || s.State != driver.StateRunning || s.Fence.Until != far {
			t.Errorf("extended by the second daemon it is %+v", s)
		}
		second.mustStop("c/0", -1)
	}},
	{"NothingRunsPastTheDeadlineUnnoticed", func(t *testing.T, m Machine) {
		if m.Damage == nil { // no real processes
			t.Skip("this driver's programs have no clock of the machine")
		}
		d := startFencing(t, m)
		task := m.Program(t, "c/0", "beat")
		task.Fence = d.fence(7, fenceSoon)
		d.mustStart(task)
		s := d.fenced(m, "c/0")
		last, lines := time.Duration(0), d.lines("c/0", driver.LogOptions{})
		for _, l := range lines {
			if n, err := strconv.ParseInt(l.Text, 10, 64); err == nil && l.Stream == "stdout" {
				last = time.Duration(n)
			}
		}
		if last == 0 {
			t.Fatal("the program never ran")
		}
		if over := last - task.Fence.Until; over > s.Overrun {
			t.Errorf("it ran %v past its deadline, and %v are reported", over, s.Overrun)
		}
	}},
}

var fencedFunctionTests = []test{
	{"FencedFunction", func(t *testing.T, m Machine) {
		d := startFencing(t, m)
		task := m.Function(t, "c/0")
		task.Fence = d.fence(12345678901, time.Hour)
		d.mustStart(task)
		if _, got, err := call(t, d.daemon, "c/0", get(http.Header{})); err != nil || !strings.Contains(got, driver.FenceEnv) || !strings.Contains(got, "12345678901") {
			t.Errorf("the fence's number does not reach the function: %q, %v", got, err)
		}
		d.mustStop("c/0", -1)
		task = m.Function(t, "c/1")
		task.Fence = d.fence(7, fenceSoon)
		d.mustStart(task)
		d.fenced(m, "c/1")
		if _, _, err := call(t, d.daemon, "c/1", get(http.Header{})); !errors.Is(err, driver.ErrUnknownTask) {
			t.Errorf("called after its deadline: %v, want ErrUnknownTask", err)
		}
	}},
}
