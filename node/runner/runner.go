package runner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/health"
	"github.com/hansa-mesh/hansa/placement"
)

const (
	// startsMax is how many allocations are started at once: a host that
	// comes back with hundreds stays responsive.
	startsMax = 16
	// startMax is how long a driver may take to start one allocation.
	startMax = 2 * time.Minute
	// stopRetry is the pause after a driver failed to stop an allocation: it
	// is tried for ever, since what was granted away must not go on running.
	stopRetry = 2 * time.Second
	// stopMax is how long one try of stopping may take beyond its grace.
	stopMax = time.Minute
)

// Config is what a Runner is made with.
type Config struct {
	Drivers []driver.Driver
	// Path is where an artifact lies, verified; false when it is not here.
	Path func(digest string) (string, bool)
	// HasImage says whether all of an image that this machine needs is here; nil for
	// none.
	HasImage func(digest string) bool
	// Disk is where the disk of a machine lies whose chunks are here, by the digest of
	// its manifest. Nil: none.
	Disk func(ctx context.Context, digest string) (string, error)
	// Report takes news of an allocation. It must not block for long.
	Report func(id placement.AllocationID, state placement.WorkState)
	// Fenced is told when its deadline ended an allocation; nil for nobody. It
	// must not block for long.
	Fenced func(id placement.AllocationID, s driver.Status)
	// Mono is the core's clock, Now.Mono. Default: the time since New.
	Mono func() time.Duration
	// Env is set for every allocation (HANSA_MESH, HANSA_SITE, HANSA_PEER).
	Env map[string]string
	// Volumes makes the folders of an allocation's volumes, by name. Nil where the
	// host keeps none: then what has some is not started.
	Volumes func(id placement.AllocationID, spec placement.WorkSpec) (map[string]string, error)
	// Labels are given to the driver and come back from List.
	Labels func(id placement.AllocationID, spec placement.WorkSpec) map[string]string
	// Permit says why something may not be started, or nil; it is asked before each
	// start. Nil permits all.
	Permit func(ctx context.Context, spec placement.WorkSpec) error
	// Secret is the value of a secret, or an error that says what to do; one that
	// wraps placement.ErrConflict is not waited for. SecretsChanged is closed when
	// there may be another answer. Nil: none.
	Secret         func(ctx context.Context, namespace, name string) ([]byte, error)
	SecretsChanged func() <-chan struct{}
	// Credentials are those for the registry of a container's image; empty for
	// nobody's. Nil where there are none.
	Credentials func(ctx context.Context, namespace string, c placement.Container) (user, password string, err error)
	// Address is the IP address under which the work's ports are reached.
	// Default 127.0.0.1.
	Address string
	// Arch is this machine's, which chooses the files. Default runtime.GOARCH.
	Arch string
	Log  *slog.Logger
}

// Runner runs allocations on drivers.
type Runner struct {
	cfg     Config
	drivers map[string]driver.Driver
	ports   *ports
	work    sync.WaitGroup

	starting chan struct{} // one for each driver's Start under way
	prober   *health.Prober
	counts   counts

	// listing is held while a driver's list is on its way to the core, so that
	// no end of what is listed overtakes it.
	listing sync.Mutex

	mu     sync.Mutex // guards what follows
	ctx    context.Context
	later  []func() // what was asked before Run
	tasks  map[placement.AllocationID]*task
	listed map[string]bool // drivers that have said what they run
}

// task is one allocation: what is wanted of it, and whether a goroutine is at
// work on it.
//
//	        Start                exit (reported)
//	idle ─────────▶ run ◀──────────────────────┐
//	                 │ Stop                    │ Start (again: a restart)
//	                 ▼                         │
//	               stop ──▶ (gone)           ended
//
// A halt is a stop after which it is kept for the Start that follows; end is a
// halt of work whose checks failed too often, which is then reported as ended.
type task struct {
	want     want
	spec     placement.WorkSpec
	driver   string
	starts   int  // of the core's Start effects taken up
	busy     bool // a goroutine is at work
	run      life // that was reported last
	ended    life // whose end was reported last
	reported placement.WorkState
	cancel   context.CancelFunc // of a Start under way, so that a Stop need not wait for it
	keep     bool               // of wantStop: it is to be started again
	ill      string             // of wantEnd: why
	probe    context.CancelFunc // ends the checks of its run; nil if there are none

	until    time.Duration // its deadline as Now.Mono, 0 if it has none
	extended time.Duration // what its driver has taken of that
	fenced   life          // whose end by the deadline was told

	// news is held from the decision to report something until that is done,
	// before Runner.mu: reports of one allocation are in order.
	news sync.Mutex
}

// life is one start of a task, as its driver counts them.
type life struct {
	starts int
	at     int64 // Unix nanoseconds; 0 if it never ran
}

func lifeOf(s driver.Status) life {
	if s.StartedAt.IsZero() {
		return life{starts: s.Starts}
	}
	return life{s.Starts, s.StartedAt.UnixNano()}
}

type want int

const (
	wantNothing want = iota
	wantRun
	wantStop
	wantEnd // what runs, as if by itself
)

// New makes a Runner; it starts nothing.
func New(cfg Config) *Runner {
	if cfg.Address == "" {
		cfg.Address = "127.0.0.1"
	}
	if cfg.Arch == "" {
		cfg.Arch = runtime.GOARCH
	}
	if cfg.Mono == nil {
		made := time.Now()
		cfg.Mono = func() time.Duration { return time.Since(made) }
	}
	r := &Runner{cfg: cfg, drivers: map[string]driver.Driver{}, ports: newPorts(cfg.Address), starting: make(chan struct{}, startsMax), prober: health.NewProber(), tasks: map[placement.AllocationID]*task{}, listed: map[string]bool{}}
	for _, d := range cfg.Drivers {
		r.drivers[d.Name()] = d
	}
	return r
}

// Run runs the drivers until ctx ends, and returns when all is at rest. Work
// whose runtime outlives the daemon goes on.
func (r *Runner) Run(ctx context.Context) error {
	r.mu.Lock()
	r.ctx = ctx
	for id, t := range r.tasks { // what was asked before Run
		r.wake(id, t)
	}
	later := r.later
	r.later = nil
	r.mu.Unlock()
	for _, ask := range later {
		ask()
	}
	var wg sync.WaitGroup
	errs := make(chan error, len(r.cfg.Drivers))
	for _, d := range r.cfg.Drivers {
		wg.Go(func() {
			if err := d.Run(ctx); err != nil {
				// The others go on: their work is not at fault.
				r.cfg.Log.Error("a driver ended; what it runs is not watched any more", "driver", d.Name(), "err", err)
				errs <- fmt.Errorf("driver %s: %w", d.Name(), err)
			}
		})
	}
	for _, d := range r.cfg.Drivers {
		if m, ok := d.(driver.DiskMeter); ok {
			wg.Go(func() { r.watchDisk(ctx, d, m) })
		}
	}
	<-ctx.Done()
	wg.Wait()
	r.work.Wait()
	close(errs)
	var all error
	for err := range errs {
		all = errors.Join(all, err)
	}
	return all
}

// Start asks for an allocation to run. Asked again after it ended, it is
// started once more.
func (r *Runner) Start(id placement.AllocationID, spec placement.WorkSpec) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.tasks[id]
	if t == nil {
		t = &task{}
		r.tasks[id] = t
	}
	t.want, t.spec, t.driver = wantRun, spec, spec.Spec.Driver()
	t.starts++
	r.wake(id, t)
}

// Stop asks for an allocation to be ended and forgotten. It is reported as
// stopped when nothing of it runs any more, also when it was never there: then
// every driver is asked.
func (r *Runner) Stop(id placement.AllocationID) { r.askStop(id, false) }

// Halt is Stop of what will be started again: its driver keeps what it has, if it
// can, and it keeps its ports.
func (r *Runner) Halt(id placement.AllocationID) { r.askStop(id, true) }

func (r *Runner) askStop(id placement.AllocationID, keep bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.tasks[id]
	if t == nil {
		t = &task{}
		r.tasks[id] = t
	}
	t.want, t.keep = wantStop, keep
	if t.cancel != nil {
		t.cancel()
	}
	t.unprobe()
	r.wake(id, t)
}

// wake starts a goroutine for t unless one is at work. The caller holds mu.
func (r *Runner) wake(id placement.AllocationID, t *task) {
	if t.busy || r.ctx == nil || r.ctx.Err() != nil {
		return
	}
	t.busy = true
	ctx := r.ctx
	r.work.Go(func() { r.drive(ctx, id, t) })
}

// drive carries out what is wanted until nothing is left to do.
func (r *Runner) drive(ctx context.Context, id placement.AllocationID, t *task) {
	done := 0 // Start effects carried out by this goroutine
	for {
		r.mu.Lock()
		w, spec, starts := t.want, t.spec, t.starts
		idle := w == wantNothing || w == wantRun && done == starts
		if ctx.Err() != nil || idle && t.until <= t.extended {
			t.busy = false
			r.mu.Unlock()
			return
		}
		r.mu.Unlock()
		if idle {
			if !r.extend(ctx, id, t) {
				driver.Pause(ctx, extendRetry)
			}
			continue
		}
		if w == wantRun {
			r.start(ctx, id, t, spec)
			done = starts
			r.mu.Lock()
			if t.starts == starts && t.want == wantRun {
				t.want = wantNothing
			}
			r.mu.Unlock()
			continue
		}
		if w == wantEnd {
			if !r.end(ctx, id, t) {
				driver.Pause(ctx, stopRetry)
			}
			continue
		}
		if !r.stop(ctx, id, t) {
			driver.Pause(ctx, stopRetry) // not stopped: again, for as long as it takes
			continue
		}
		if r.forget(id, t) {
			return
		}
	}
}

// forget reports that nothing of an allocation is left, unless it is wanted
// again.
func (r *Runner) forget(id placement.AllocationID, t *task) bool {
	t.news.Lock()
	defer t.news.Unlock()
	r.mu.Lock()
	over := t.want == wantStop
	switch {
	case over && t.keep: // late news of what has ended find that it was told
		t.want, t.busy, t.ended, t.until, t.extended = wantNothing, false, t.run, 0, 0
	case over:
		delete(r.tasks, id)
		t.busy = false
	}
	r.mu.Unlock()
	if over {
		r.cfg.Report(id, placement.WorkState{State: placement.AllocStopped})
	}
	return over
}

func (r *Runner) start(ctx context.Context, id placement.AllocationID, t *task, spec placement.WorkSpec) {
	r.mu.Lock() // whoever asked for it knows, and is not told
	t.reported = placement.WorkState{State: placement.AllocStarting, Driver: t.driver}
	r.mu.Unlock()
	d := r.drivers[t.driver]
	if d == nil {
		r.report(id, t, placement.WorkState{State: placement.AllocFailed, Driver: t.driver,
			Reason: fmt.Sprintf("this peer has no driver %q", t.driver)})
		return
	}
	built, err := r.prepare(ctx, id, t, spec)
	if err != nil {
		r.reportIf(id, t, placement.WorkState{State: placement.AllocFailed, Driver: t.driver, Reason: err.Error()},
			func() bool { return ctx.Err() == nil && t.want != wantStop })
		return
	}
	var noted time.Duration
	if built.Fence, noted, err = r.fence(t, d, spec); err != nil {
		r.report(id, t, placement.WorkState{State: placement.AllocFailed, Driver: t.driver, Reason: err.Error()})
		return
	}
	if err := r.checkable(spec, d); err != nil {
		r.report(id, t, placement.WorkState{State: placement.AllocFailed, Driver: t.driver, Reason: err.Error()})
		return
	}
	startCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	r.mu.Lock()
	t.unprobe()
	if t.want == wantStop {
		r.mu.Unlock()
		return
	}
	t.cancel, t.extended = cancel, max(t.extended, noted)
	r.mu.Unlock()
	status, err := r.startOn(startCtx, d, built)
	news := untilChecked(spec, workState(t.driver, status))
	if err != nil {
		news = placement.WorkState{
			State: placement.AllocFailed, Driver: t.driver, Reason: startReason(built.ID, err), Final: errors.Is(err, driver.ErrNotFound),
		}
	}
	r.reportIf(id, t, news, func() bool {
		t.cancel = nil
		switch {
		case ctx.Err() != nil, t.want == wantStop:
			return false // the next daemon asks the driver, or the stop follows
		case err != nil:
			r.cfg.Log.Warn("start failed", "allocation", id.String(), "driver", t.driver, "err", err)
			return true
		case t.ended == lifeOf(status):
			return false // its end was reported already: that it ran is no news
		}
		if t.run = lifeOf(status); status.State.Ended() {
			t.ended = t.run
		}
		return true
	})
	if err == nil {
		r.watch(ctx, id, t, status, false)
	}
}

// prepare makes what a driver is to start: all that has to be known, allowed and
// fetched before.
func (r *Runner) prepare(ctx context.Context, id placement.AllocationID, t *task, spec placement.WorkSpec) (driver.Task, error) {
	built, err := r.build(id, t, spec)
	if err == nil && r.cfg.Permit != nil {
		err = r.cfg.Permit(ctx, spec)
	}
	if err == nil {
		err = r.giveDisk(ctx, t, spec, &built)
	}
	if err == nil {
		err = r.giveSecrets(ctx, id, t, spec, &built)
	}
	if err == nil {
		err = r.authorize(ctx, spec, &built)
	}
	return built, err
}

// startReason is why a driver did not start a task, without what people see beside
// it: which one it is, and that it can't be started.
func startReason(id string, err error) string {
	reason := err.Error()
	for _, known := range []string{fmt.Sprintf("start %q: ", id), fmt.Sprintf("%s %q: ", driver.ErrInvalid, id), driver.ErrInvalid.Error() + ": "} {
		reason = strings.TrimPrefix(reason, known)
	}
	return reason
}

// startOn starts an allocation on its driver, in its turn.
func (r *Runner) startOn(ctx context.Context, d driver.Driver, built driver.Task) (driver.Status, error) {
	select {
	case r.starting <- struct{}{}:
		defer func() { <-r.starting }()
	case <-ctx.Done():
		return driver.Status{}, fmt.Errorf("start %q: %w", built.ID, ctx.Err())
	}
	ctx, cancel := context.WithTimeout(ctx, startMax)
	defer cancel()
	return d.Start(ctx, built)
}

func (r *Runner) stop(ctx context.Context, id placement.AllocationID, t *task) bool {
	r.mu.Lock()
	grace := time.Duration(t.spec.Spec.Stop.Grace)
	name, keep := t.driver, t.keep
	r.mu.Unlock()
	if grace == 0 {
		grace = driver.GraceDefault // if it was adopted it may have more, and this waits again
	}
	var asked []driver.Driver
	if d := r.drivers[name]; d != nil {
		asked = append(asked, d)
	} else if name == "" { // it is not known whose it is: stopping is idempotent
		asked = r.cfg.Drivers
	}
	r.report(id, t, placement.WorkState{State: placement.AllocStopping, Driver: name})
	for _, d := range asked {
		stopCtx, cancel := context.WithTimeout(ctx, grace+stopMax)
		err := halt(stopCtx, d, DriverID(id), keep)
		cancel()
		if err != nil {
			if ctx.Err() == nil {
				r.cfg.Log.Warn("stop failed; it will be tried again", "allocation", id.String(), "driver", d.Name(), "err", err)
			}
			return false
		}
	}
	if !keep {
		r.ports.release(id)
	}
	return true
}

// halt ends a task within its own grace, and keeps what it has if it is to be
// started again and its driver can.
func halt(ctx context.Context, d driver.Driver, id string, keep bool) error {
	if h, ok := d.(driver.Halter); ok && keep {
		return h.Halt(ctx, id, 0)
	}
	return d.Stop(ctx, id, 0)
}

// report passes news on, once.
func (r *Runner) report(id placement.AllocationID, t *task, s placement.WorkState) {
	r.reportIf(id, t, s, func() bool { return true })
}

// reportIf passes news on, once, if they still are: that is asked with mu
// held.
func (r *Runner) reportIf(id placement.AllocationID, t *task, s placement.WorkState, still func() bool) {
	t.news.Lock()
	defer t.news.Unlock()
	r.mu.Lock()
	if !still() {
		r.mu.Unlock()
		return
	}
	same := t.reported.State == s.State && t.reported.Reason == s.Reason && s.State != placement.AllocFailed
	t.reported = s
	r.mu.Unlock()
	if !same {
		r.cfg.Report(id, s)
	}
}

// Exited takes an event of a driver.
func (r *Runner) Exited(e driver.Event) {
	id, err := FromDriverID(e.Status.ID)
	if err != nil || !e.Status.State.Ended() {
		return // starts are reported by who asked for them
	}
	r.listing.Lock() // what is not listed yet is listed with its end
	defer r.listing.Unlock()
	r.mu.Lock()
	t, listed := r.tasks[id], r.listed[e.Driver]
	r.mu.Unlock()
	if t == nil {
		if listed { // the stop that its deadline hastened is through
			r.tellFenced(id, &task{}, e.Driver, e.Status)
		}
		return
	}
	end := lifeOf(e.Status)
	r.tellFenced(id, t, e.Driver, e.Status)
	r.reportIf(id, t, workState(e.Driver, e.Status), func() bool {
		old := end.at != 0 && end.at < t.run.at
		if t.want == wantStop || t.want == wantEnd || old || end == t.ended {
			return false
		}
		t.ended = end
		t.unprobe()
		return true
	})
}

// workState is a driver's status in the core's words.
func workState(name string, s driver.Status) placement.WorkState {
	w := placement.WorkState{Driver: name, Reason: s.Reason, Ports: s.Ports, Fenced: s.Fenced}
	if !s.StartedAt.IsZero() {
		w.Started = s.StartedAt.UnixMilli()
	}
	switch s.State {
	case driver.StateRunning:
		w.State = placement.AllocRunning
	case driver.StateStarting:
		w.State = placement.AllocStarting
	case driver.StateStopping:
		w.State = placement.AllocStopping
	default:
		w.State = placement.AllocFailed
		if s.State == driver.StateExited {
			code := s.ExitCode
			w.ExitCode = &code
		}
		if w.Reason == "" {
			w.Reason = fmt.Sprintf("it ended with exit code %d", s.ExitCode)
		}
	}
	return w
}

// List asks one driver what it runs, notes it, so that later calls find it,
// and gives it to take before any news of it. take must not block for long.
func (r *Runner) List(ctx context.Context, name string, take func([]placement.Found)) error {
	d := r.drivers[name]
	if d == nil {
		return fmt.Errorf("list: no driver %q", name)
	}
	r.listing.Lock()
	defer r.listing.Unlock()
	list, err := d.List(ctx)
	if err != nil {
		return fmt.Errorf("list: driver %s: %w", name, err)
	}
	found := make([]placement.Found, 0, len(list))
	r.mu.Lock()
	r.listed[name] = true
	for _, s := range list {
		id, err := FromDriverID(s.ID)
		if err != nil {
			continue // not ours: it is left alone
		}
		state := workState(name, s)
		if r.tasks[id] == nil {
			t := &task{driver: name, reported: state, run: lifeOf(s)}
			if s.State.Ended() {
				t.ended = t.run
			}
			r.adoptFence(t, d, s)
			r.tasks[id] = t
		}
		r.ports.take(id, s.Ports)
		f := placement.Found{ID: id, Labels: s.Labels, State: state}
		if !s.StartedAt.IsZero() {
			f.Since = s.StartedAt.UnixMilli()
		}
		found = append(found, f)
	}
	r.mu.Unlock()
	take(found)
	for _, s := range list { // what ended while nobody watched
		if id, err := FromDriverID(s.ID); err == nil {
			r.mu.Lock()
			t := r.tasks[id]
			r.mu.Unlock()
			if t != nil {
				r.tellFenced(id, t, name, s)
			}
		}
	}
	return nil
}

// Logs reads the output of an allocation, also of one that ended.
func (r *Runner) Logs(ctx context.Context, id placement.AllocationID, o driver.LogOptions) (io.ReadCloser, error) {
	err := fmt.Errorf("logs of %s: %w", id, driver.ErrUnknownTask)
	for _, d := range r.cfg.Drivers {
		var logs io.ReadCloser
		if logs, err = d.Logs(ctx, DriverID(id), o); err == nil {
			return logs, nil
		}
		if !errors.Is(err, driver.ErrUnknownTask) {
			return nil, err
		}
	}
	return nil, err
}
