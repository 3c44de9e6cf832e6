package wasm

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/boottime"
	"github.com/hansa-mesh/hansa/node/driver/logs"
)

// fencedCode is the exit code of a function that its deadline ended, that of a
// program which was killed.
const fencedCode = 137

// function is one task: compiled code, a grant of memory, and the calls that
// are under way.
type function struct {
	task   driver.Task
	module *module
	log    *logs.Writer
	memory *limiter
	// usual is the memory that calls of this function need, learnt from the
	// ones before: what a call reserves.
	usual atomic.Int64

	meter    *meter // of its component
	requests atomic.Uint64
	cpu      atomic.Int64 // nanoseconds of calls that have ended

	idle chan struct{} // closed when stopping and the last call is over
	kill chan struct{} // closed when calls must end now

	freed sync.Once

	held    context.Context // done when it has ended
	release context.CancelFunc

	mu       sync.Mutex // guards what follows
	s        driver.Status
	calls    int
	killOnce bool
	fenced   bool // its deadline has come
}

func newFunction(d *Driver, t driver.Task, mod *module, w *logs.Writer, memory int64) *function {
	f := &function{
		task: t, module: mod, log: w, meter: d.meters.get(componentOf(t)),
		memory: &limiter{queueMax: d.c.QueueMax, holders: d.c.ConcurrencyMax, total: memory},
		idle:   make(chan struct{}), kill: make(chan struct{}),
		s: driver.Status{
			ID: t.ID, Labels: t.Labels, State: driver.StateRunning, ExitCode: -1,
			StartedAt: time.Now(), Starts: 1, Fence: t.Fence,
		},
	}
	f.held, f.release = context.WithCancel(context.Background())
	f.usual.Store(max(mod.minBytes, pageBytes))
	return f
}

func (f *function) status() driver.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.s
}

// enter begins a call, unless the function is stopping or most are under way
// already, those that wait and those whose body is still being read included.
func (f *function) enter(most int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.s.State != driver.StateRunning, due(f.s.Fence):
		return driver.ErrUnknownTask
	case f.calls >= most:
		return errBusy
	}
	f.calls++
	return nil
}

func (f *function) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.calls--; f.calls == 0 && f.s.State == driver.StateStopping {
		close(f.idle)
	}
}

// stop refuses new calls and kills those that still run after grace. It
// reports whether this was the first stop.
func (f *function) stop(grace time.Duration) bool {
	f.mu.Lock()
	first := f.s.State == driver.StateRunning
	if first {
		f.s.State = driver.StateStopping
		if f.calls == 0 {
			close(f.idle)
		}
	}
	f.mu.Unlock()
	if grace > 0 {
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-f.idle:
			return first
		case <-f.kill:
			return first
		case <-timer.C:
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.killOnce {
		f.killOnce = true
		close(f.kill)
	}
	return first
}

// free ends it for good, after the last call.
func (f *function) free(d *Driver) { f.freed.Do(func() { f.freeOnce(d) }) }

func (f *function) freeOnce(d *Driver) {
	f.memory.drop(time.Now(), 0) // first: nothing is left of what is said to have ended
	f.mu.Lock()
	f.s.State, f.s.ExitCode, f.s.ExitedAt = driver.StateExited, 0, time.Now()
	if f.fenced {
		late := max(0, boottime.Now()-f.s.Fence.Until)
		f.s.ExitCode, f.s.Fenced, f.s.Overrun, f.s.Reason = fencedCode, true, late, driver.FencedReason(late)
		f.log.Note("%s", f.s.Reason)
	}
	f.mu.Unlock()
	f.release()
	d.meters.put(componentOf(f.task))
	if err := f.log.Close(); err != nil {
		d.c.Log.Warn("the log of a function is not closed", "task", f.task.ID, "error", err)
	}
	d.modules.put(f.module)
}

// learn adapts what a call reserves: up at once, down slowly.
func (f *function) learn(peak int64) {
	for {
		old := f.usual.Load()
		next := max(peak, old-(old-peak)/64, f.module.minBytes, pageBytes)
		if next == old || f.usual.CompareAndSwap(old, next) {
			return
		}
	}
}
