package fake

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
)

// Config of a Driver.
type Config struct {
	// Name; default "fake".
	Name string
	// World that it runs things in; default a new one.
	World *World
	// Events receives changes of state while Run runs; nil for none.
	Events func(driver.Event)
}

// Driver is one daemon's view of a World.
type Driver struct {
	name   string
	world  *World
	outbox *driver.Outbox
	locks  driver.Locks
}

var (
	_ driver.Driver  = (*Driver)(nil)
	_ driver.Invoker = (*Driver)(nil)
	_ driver.Warmer  = (*Driver)(nil)
	_ driver.Fencer  = (*Driver)(nil)

	_ driver.Execer    = (*Driver)(nil)
	_ driver.Meter     = (*Driver)(nil)
	_ driver.Collector = (*Driver)(nil)
	_ driver.Imager    = (*Driver)(nil)
	_ driver.Halter    = (*Driver)(nil)
)

// New returns a driver; it starts nothing.
func New(c Config) *Driver {
	if c.Name == "" {
		c.Name = "fake"
	}
	if c.World == nil {
		c.World = NewWorld()
	}
	d := &Driver{name: c.Name, world: c.World, outbox: driver.NewOutbox(c.Name, c.Events)}
	c.World.mu.Lock()
	defer c.World.mu.Unlock()
	c.World.watchers[d] = struct{}{}
	for _, r := range c.World.tasks {
		d.outbox.Post(r.snapshot())
	}
	return d
}

// Name implements driver.Driver.
func (d *Driver) Name() string { return d.name }

// World returns what the driver runs things in.
func (d *Driver) World() *World { return d.world }

// Run implements driver.Driver; the tasks go on when it returns.
func (d *Driver) Run(ctx context.Context) error {
	defer func() {
		d.world.mu.Lock()
		delete(d.world.watchers, d)
		d.world.mu.Unlock()
	}()
	d.outbox.Run(ctx)
	return nil
}

// Probe implements driver.Driver.
func (d *Driver) Probe(context.Context) driver.Info {
	no := driver.Limit{Detail: "goroutines can't be slowed down"}
	counted := driver.Limit{Enforced: true, Detail: "counts what programs say that they take"}
	return driver.Info{
		Available: true, Version: "fake", Survives: true, Fence: true,
		Kinds:    []string{driver.KindFunction, driver.KindServer, driver.KindContainer},
		Runtimes: []string{"function", "process"},
		Limits:   map[string]driver.Limit{"cpu": no, "memory": counted},
	}
}

// Start implements driver.Driver.
func (d *Driver) Start(ctx context.Context, t driver.Task) (driver.Status, error) {
	if err := t.Validate(); err != nil {
		return driver.Status{}, err
	}
	t = t.Clone().WithDefaults()
	defer d.locks.Lock(t.ID)()
	if err := ctx.Err(); err != nil {
		return driver.Status{}, err
	}
	w := d.world
	w.mu.Lock()
	old, onStart := w.tasks[t.ID], w.onStart
	w.mu.Unlock()
	if old != nil {
		if s := old.snapshot(); !s.State.Ended() {
			if t.Fence == nil {
				return s, nil
			}
			err := old.extend(t.Fence.Until)
			return old.snapshot(), err
		}
		<-old.done
	}
	if onStart != nil {
		if err := onStart(t); err != nil {
			return driver.Status{}, fmt.Errorf("start %q: %w", t.ID, err)
		}
	}
	if t.Fence != nil && w.boottime() >= t.Fence.Until { // a start may take longer than its right to run
		return driver.Status{}, fmt.Errorf("start %q: %w before it was started", t.ID, errFenced)
	}
	var args []string
	if t.Process != nil {
		var err error
		if args, err = t.ExpandCommand(); err != nil {
			return driver.Status{}, err
		}
	}
	r := &run{
		world: w, task: t, done: make(chan struct{}), grown: make(chan struct{}), files: filesOf(t),
		status: driver.Status{
			ID: t.ID, Labels: t.Labels, State: driver.StateRunning, ExitCode: -1,
			StartedAt: time.Now(), Starts: 1, Ports: t.HostPorts(), Fence: t.Fence,
		},
	}
	if old != nil {
		r.status.Starts = old.snapshot().Starts + 1
		old.mu.Lock()
		r.lines, r.first = old.lines, old.first
		old.mu.Unlock()
	}
	status := r.status
	w.mu.Lock()
	w.tasks[t.ID] = r
	w.pulled(t)
	program := w.programFor(args)
	begin := r.begin(ctx, program, args)
	r.arm()
	delete(w.ended, t.ID)
	w.starts++
	w.mu.Unlock()
	w.notify(status)
	begin()
	return status, nil
}

// begin makes the run ready to end, and returns what starts it. What only runs until
// it is stopped is no goroutine: a machine may have a hundred thousand of such.
func (r *run) begin(ctx context.Context, program Program, args []string) (start func()) {
	if program == nil {
		r.kill = sync.OnceFunc(func() { close(r.done) })
		return func() { r.print("stdout", "ready\n") }
	}
	runCtx, kill := context.WithCancel(context.WithoutCancel(ctx))
	r.kill, r.signal = kill, make(chan string, 8)
	p := &Proc{
		Task: r.task, Args: args, Env: r.task.Environment(), Signals: r.signal, Stdin: strings.NewReader(""),
		Size: make(chan driver.Size), run: r, write: r.print,
	}
	return func() {
		go func() {
			defer close(r.done)
			r.end(program(runCtx, p), driver.StateExited, "")
		}()
	}
}

// Stop implements driver.Driver.
func (d *Driver) Stop(ctx context.Context, id string, grace time.Duration) error {
	w := d.world
	w.mu.Lock()
	r := w.tasks[id]
	w.mu.Unlock()
	if r == nil {
		return nil
	}
	if err := r.stop(ctx, grace); err != nil {
		return fmt.Errorf("stop %q: %w", id, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.tasks[id] == r {
		delete(w.tasks, id)
		w.ended[id] = r
	}
	return nil
}

// Halt implements driver.Halter.
func (d *Driver) Halt(ctx context.Context, id string, grace time.Duration) error {
	d.world.mu.Lock()
	r := d.world.tasks[id]
	d.world.mu.Unlock()
	if r == nil {
		return nil
	}
	if err := r.stop(ctx, grace); err != nil {
		return fmt.Errorf("halt %q: %w", id, err)
	}
	return nil
}

// stop ends the run, and returns when it has ended.
func (r *run) stop(ctx context.Context, grace time.Duration) error {
	if grace == 0 {
		grace = r.task.Grace
	}
	if r.set(func(s *driver.Status) { s.State = driver.StateStopping }) && grace > 0 {
		if r.signal == nil {
			r.end(0, driver.StateExited, "")
			return nil
		}
		select {
		case r.signal <- r.task.StopSignal:
		default: // it has not read the earlier ones
		}
		kill := time.AfterFunc(grace, func() { r.end(137, driver.StateExited, "killed after its grace") })
		select {
		case <-r.done:
			kill.Stop()
		case <-ctx.Done(): // the stopping goes on without the caller
			return ctx.Err()
		}
	}
	r.end(137, driver.StateExited, "killed")
	<-r.done
	return nil
}

// List implements driver.Driver.
func (d *Driver) List(ctx context.Context) ([]driver.Status, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("list: %w", err)
	}
	d.world.mu.Lock()
	defer d.world.mu.Unlock()
	all := make([]driver.Status, 0, len(d.world.tasks))
	for _, r := range d.world.tasks {
		all = append(all, r.snapshot())
	}
	slices.SortFunc(all, func(a, b driver.Status) int { return strings.Compare(a.ID, b.ID) })
	return all, nil
}

// Logs implements driver.Driver.
func (d *Driver) Logs(ctx context.Context, id string, o driver.LogOptions) (io.ReadCloser, error) {
	d.world.mu.Lock()
	r := d.world.tasks[id]
	if r == nil {
		r = d.world.ended[id]
	}
	d.world.mu.Unlock()
	if r == nil {
		return nil, fmt.Errorf("logs of %q: %w", id, driver.ErrUnknownTask)
	}
	ctx, cancel := context.WithCancel(ctx)
	pr, pw := io.Pipe()
	context.AfterFunc(ctx, func() { pw.CloseWithError(ctx.Err()) })
	go r.read(ctx, pw, o)
	return &logReader{pr, cancel}, nil
}

type logReader struct {
	*io.PipeReader
	cancel context.CancelFunc
}

func (l *logReader) Close() error {
	l.cancel()
	return l.PipeReader.Close()
}

// Warm implements driver.Warmer.
func (d *Driver) Warm(ctx context.Context, _, _ string) error { return ctx.Err() }

// Echo is what a function of the fake answers, as JSON.
type Echo struct {
	Method string            `json:"method"`
	Script string            `json:"script"`
	Path   string            `json:"path"`
	Query  string            `json:"query"`
	Body   string            `json:"body"`
	Env    map[string]string `json:"env"`
}

// echoBodyMax bounds what an Echo holds of the request's body.
const echoBodyMax = 1 << 20

// Invoke implements driver.Invoker.
func (d *Driver) Invoke(ctx context.Context, id string, req *driver.Request) (*driver.Response, error) {
	d.world.mu.Lock()
	r := d.world.tasks[id]
	d.world.mu.Unlock()
	if r == nil || r.task.Function == nil || r.snapshot().State != driver.StateRunning {
		return nil, fmt.Errorf("invoke %q: %w", id, driver.ErrUnknownTask)
	}
	e := Echo{Method: req.Method, Script: req.ScriptName, Path: req.Path, Query: req.RawQuery, Env: r.task.Environment()}
	if req.Body != nil {
		b, err := io.ReadAll(io.LimitReader(req.Body, echoBodyMax))
		if err != nil {
			return nil, fmt.Errorf("invoke %q: read the body: %w", id, err)
		}
		e.Body = string(b)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("invoke %q: %w", id, err)
	}
	b, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("invoke %q: %w", id, err)
	}
	r.print("stderr", req.Method+" "+req.Path)
	return &driver.Response{
		Status: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(strings.NewReader(string(b))),
	}, nil
}
