package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/logs"
)

// loadRetry is the pause after the tasks folder could not be read.
const loadRetry = 2 * time.Second

// stopPatience is what a supervisor gets beyond the grace before it is killed
// itself, which ends the program too.
const stopPatience = killPatience + drainPatience + 3*time.Second

// Driver runs programs; see the package comment.
type Driver struct {
	c      Config
	outbox *driver.Outbox
	mark   string       // of this data folder, in the names of cgroups
	locks  driver.Locks // held by Start, and by the end of Stop

	crew *driver.Crew    // watchers
	ctx  context.Context // the crew's: done when Run returns

	loading sync.Mutex // held while the tasks folder is read
	mu      sync.Mutex // guards what follows
	loaded  bool
	tasks   map[string]*task
}

// task is one that runs, or has ended and was not acknowledged.
type task struct {
	dir   string
	spec  spec
	execs atomic.Int32 // commands that run beside it

	mu     sync.Mutex // guards what follows
	run    runRecord
	status driver.Status
	held   *deadline     // shared with the supervisor while it runs; nil without a fence
	ended  chan struct{} // closed with the state exited or failed
}

var (
	_ driver.Driver    = (*Driver)(nil)
	_ driver.Halter    = (*Driver)(nil)
	_ driver.Fencer    = (*Driver)(nil)
	_ driver.Execer    = (*Driver)(nil)
	_ driver.Meter     = (*Driver)(nil)
	_ driver.Collector = (*Driver)(nil)
)

// New returns a driver; it starts nothing and touches no disk.
func New(c Config) (*Driver, error) {
	if c.Dir == "" {
		return nil, errors.New("process: Config.Dir is required")
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("process: %w", err)
	}
	c.Dir = dir
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Executable == "" {
		c.Executable = "/proc/self/exe" // holds though the file was replaced by an update
	}
	if c.StoppedMax == 0 {
		c.StoppedMax = stoppedMaxDefault
	}
	if c.ProcessesMax == 0 {
		c.ProcessesMax = processesMaxDefault
	}
	if c.StartMax == 0 {
		c.StartMax = startMaxDefault
	}
	crew := driver.NewCrew()
	return &Driver{
		c: c, outbox: driver.NewOutbox(Name, c.Events), mark: driver.Mark(dir),
		crew: crew, ctx: crew.Context(), tasks: map[string]*task{},
	}, nil
}

// Name implements driver.Driver.
func (d *Driver) Name() string { return Name }

// Run implements driver.Driver: programs go on when it returns.
func (d *Driver) Run(ctx context.Context) error {
	defer d.crew.Dismiss()
	for d.load() != nil { // List says why; nothing is started before it answers
		if !driver.Pause(ctx, loadRetry) {
			return nil
		}
	}
	d.collect()
	d.outbox.Run(ctx)
	return nil
}

// groupName is the name of the groups of the task in that folder.
func (d *Driver) groupName(folder string) string { return d.mark + "-" + folder }

// Probe implements driver.Driver.
func (d *Driver) Probe(context.Context) driver.Info {
	info := driver.Info{
		Available: true, Survives: true, Version: "linux " + release(),
		Kinds: []string{driver.KindServer}, Runtimes: []string{"process"},
		Limits: detect("/").limits(),
	}
	own, err := isolated()
	info.Limits["fence"], info.Fence = driver.Limit{Enforced: true, Detail: "process namespace, ended at its deadline"}, true
	if err != nil {
		info.Limits["fence"], info.Fence = driver.Limit{Detail: err.Error()}, false
	}
	info.Limits["isolation"] = own.limit(err)
	info.Limits["disk"] = driver.Limit{Detail: "programs write to the machine's disk; who is found to take more than its own is ended"}
	if err := os.MkdirAll(filepath.Join(d.c.Dir, "tasks"), 0o700); err != nil {
		info.Available, info.Reason = false, fmt.Sprintf("the data folder can't be used: %v", err)
	}
	if _, err := identify(os.Getpid()); err != nil {
		info.Available, info.Reason = false, fmt.Sprintf("/proc can't be read (%v): mount it", err)
	}
	return info
}

func release() string {
	b, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "of unknown release"
	}
	return strings.TrimSpace(string(b))
}

func (d *Driver) task(id string) *task {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.tasks[id]
}

func (t *task) snapshot() driver.Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.current()
}

// current is snapshot for a caller who holds t.mu.
func (t *task) current() driver.Status {
	s := t.status
	s.Fence = t.fenceNow()
	return s
}

// end sets the final state once, and reports it.
func (d *Driver) end(t *task, state driver.State, e exitRecord) {
	t.mu.Lock()
	if t.status.State.Ended() {
		t.mu.Unlock()
		return
	}
	t.status.State, t.status.ExitCode, t.status.Reason = state, e.ExitCode, e.Reason
	t.status.OOM, t.status.ExitedAt = e.OOM, e.ExitedAt
	t.status.Fenced, t.status.Overrun = e.Fenced, e.Overrun
	t.unshare()
	s := t.current()
	close(t.ended)
	t.mu.Unlock()
	d.outbox.Post(s)
}

// Start implements driver.Driver.
func (d *Driver) Start(ctx context.Context, job driver.Task) (driver.Status, error) {
	if err := job.Validate(); err != nil {
		return driver.Status{}, err
	}
	if job.Process == nil {
		return driver.Status{}, fmt.Errorf("%w %q: the process driver runs programs only", driver.ErrInvalid, job.ID)
	}
	if err := d.load(); err != nil {
		return driver.Status{}, err
	}
	job = job.Clone().WithDefaults()
	command, err := job.ExpandCommand()
	if err != nil {
		return driver.Status{}, err
	}
	defer d.locks.Lock(job.ID)()
	old := d.task(job.ID)
	starts := 1
	if old != nil {
		s := old.snapshot()
		if !s.State.Ended() {
			return d.again(job, old)
		}
		starts = s.Starts + 1
	}
	if err := ctx.Err(); err != nil {
		return driver.Status{}, fmt.Errorf("start %q: %w", job.ID, err)
	}
	if job.Fence != nil {
		if err := canFence(); err != nil {
			return driver.Status{}, fmt.Errorf("start %q: %w: it can't be fenced: %w", job.ID, driver.ErrUnavailable, err)
		}
	}
	t, how, err := d.prepare(job, command, starts)
	if err == nil {
		err = d.supervise(ctx, t, how)
	}
	if err != nil {
		d.mu.Lock()
		delete(d.tasks, job.ID)
		d.mu.Unlock()
		if t != nil {
			if err := d.archive(t); err != nil { // the next start clears it away
				d.c.Log.Warn("the log of a start that failed is not kept", "task", job.ID, "error", err)
			}
			d.collect()
		}
		return driver.Status{}, fmt.Errorf("start %q: %w", job.ID, err)
	}
	return t.snapshot(), nil
}

// again is the answer to a Start of what runs.
func (d *Driver) again(job driver.Task, t *task) (driver.Status, error) {
	if job.Fence != nil {
		if err := t.extend(job.Fence.Until); err != nil {
			return driver.Status{}, fmt.Errorf("start %q: %w", job.ID, err)
		}
	}
	return t.snapshot(), nil
}

// Stop implements driver.Driver.
func (d *Driver) Stop(ctx context.Context, id string, grace time.Duration) error {
	t, err := d.quit(ctx, id, grace)
	if err != nil {
		return fmt.Errorf("stop %q: %w", id, err)
	}
	if t == nil {
		return nil
	}
	defer d.locks.Lock(id)()
	switch now := d.task(id); {
	case now == nil:
		return nil // another Stop was first
	case now != t:
		return fmt.Errorf("stop %q: %w", id, driver.ErrRestarted)
	}
	if err := d.archive(t); err != nil {
		return fmt.Errorf("stop %q: %w", id, err)
	}
	d.mu.Lock()
	delete(d.tasks, id)
	d.mu.Unlock()
	d.collect()
	return nil
}

// Halt implements driver.Halter: the program's folder stays as it left it.
func (d *Driver) Halt(ctx context.Context, id string, grace time.Duration) error {
	if _, err := d.quit(ctx, id, grace); err != nil {
		return fmt.Errorf("halt %q: %w", id, err)
	}
	return nil
}

// quit orders a task to end and waits until it has; nil if there is none.
func (d *Driver) quit(ctx context.Context, id string, grace time.Duration) (*task, error) {
	if err := d.load(); err != nil {
		return nil, err
	}
	unlock := d.locks.Lock(id) // not while one is starting
	t := d.task(id)
	unlock()
	if t == nil {
		return nil, nil
	}
	if err := d.order(t, grace); err != nil {
		return nil, err
	}
	return t, d.crew.Await(ctx, t.ended)
}

// order tells the supervisor to stop, and sees to it that it does.
func (d *Driver) order(t *task, grace time.Duration) error {
	t.mu.Lock()
	if t.status.State.Ended() {
		t.mu.Unlock()
		return nil
	}
	t.status.State = driver.StateStopping
	who, s := t.run.Supervisor, t.current()
	t.mu.Unlock()
	d.outbox.Post(s)
	if grace == 0 {
		grace = t.spec.Task.Grace
	}
	if err := writeJSON(filepath.Join(t.dir, stopFile), stopOrder{t.spec.Task.StopSignal, grace}); err != nil {
		// On a full disk the supervisor goes by the task's own grace.
		d.c.Log.Warn("a stop order is not written", "task", t.spec.Task.ID, "error", err)
	}
	pidfd, err := who.open()
	if errors.Is(err, errGone) {
		return nil // the watcher finds how it ended
	}
	if err != nil {
		return err
	}
	if err := send(pidfd, unix.SIGTERM); err != nil {
		pidfd.Close()
		return err
	}
	enforce := func() {
		defer pidfd.Close()
		timer := time.NewTimer(max(0, grace) + stopPatience)
		defer timer.Stop()
		select {
		case <-t.ended:
		case <-d.ctx.Done():
		case <-timer.C:
			d.c.Log.Error("a supervisor does not stop its program and is killed", "task", t.spec.Task.ID)
			_ = send(pidfd, unix.SIGKILL) // the kernel kills the program with it
		}
	}
	if !d.crew.Go(enforce) {
		pidfd.Close()
	}
	return nil
}

// List implements driver.Driver.
func (d *Driver) List(ctx context.Context) ([]driver.Status, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("list: %w", err)
	}
	if err := d.load(); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make([]driver.Status, 0, len(d.tasks))
	for _, id := range slices.Sorted(maps.Keys(d.tasks)) {
		all = append(all, d.tasks[id].snapshot())
	}
	return all, nil
}

// Logs implements driver.Driver.
func (d *Driver) Logs(ctx context.Context, id string, o driver.LogOptions) (io.ReadCloser, error) {
	if err := d.load(); err != nil {
		return nil, err
	}
	name := driver.SafeID(id)
	dir, ended := filepath.Join(d.c.Dir, "stopped", name), func() bool { return true }
	if t := d.task(id); t != nil {
		dir, ended = t.dir, func() bool { return t.snapshot().State.Ended() }
	}
	r, err := logs.Read(ctx, filepath.Join(dir, logsDir), o, ended)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("logs of %q: %w", id, driver.ErrUnknownTask)
	}
	if err != nil {
		return nil, fmt.Errorf("logs of %q: %w", id, err)
	}
	return r, nil
}
