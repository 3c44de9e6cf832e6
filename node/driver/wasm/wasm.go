package wasm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/boottime"
	"github.com/hansa-mesh/hansa/node/driver/logs"
	"github.com/hansa-mesh/hansa/node/driver/prune"
)

// Name of the driver.
const Name = "wasm"

// Defaults and limits.
const (
	MemoryDefault = 128 << 20 // bytes, of a task that names none
	memoryMax     = 4 << 30   // WebAssembly has 32 bits
	logsBytesMax  = 128 << 20 // of logs on disk, of functions that ended
	logsCountMax  = 256       // functions that ended whose logs are kept
	trimEvery     = 64        // functions that end between two looks at those
	requestMaxDef = 256 << 20 // bytes of a request's body
	idleLeast     = 1         // instances of a function that stay however long they are idle
)

// Config of a Driver.
type Config struct {
	// Dir holds the logs, and the compiled code. Required.
	Dir string
	// CacheDir holds the compiled code, if it is to be elsewhere: several
	// drivers may share one. Default "compiled" in Dir.
	CacheDir string
	// Events receives changes of state while Run runs; nil for none.
	Events func(driver.Event)
	// Log; nil discards.
	Log *slog.Logger

	// ConcurrencyMax bounds the calls of one allocation that run at one time,
	// whatever its memory; default 64.
	ConcurrencyMax int
	// TotalMax bounds the calls that run at one time on the whole driver, so
	// that functions which only burn CPU leave some to the daemon; default 16
	// for each core.
	TotalMax int
	// QueueMax bounds the calls of one allocation that wait; default 128.
	QueueMax int
	// QueueWait bounds how long one waits; default 5 s.
	QueueWait time.Duration
	// IdleMax is how long an instance that stays in memory waits for another
	// call before it is dropped, unless it is the last; default 1 minute.
	IdleMax time.Duration
	// RequestMax and ResponseMax bound bodies, in bytes; default 256 MiB.
	RequestMax, ResponseMax int64
}

func (c Config) withDefaults() Config {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.ConcurrencyMax == 0 {
		c.ConcurrencyMax = 64
	}
	if c.TotalMax == 0 {
		c.TotalMax = 16 * runtime.GOMAXPROCS(0)
	}
	if c.QueueMax == 0 {
		c.QueueMax = 128
	}
	if c.QueueWait == 0 {
		c.QueueWait = 5 * time.Second
	}
	if c.IdleMax == 0 {
		c.IdleMax = time.Minute
	}
	if c.RequestMax == 0 {
		c.RequestMax = requestMaxDef
	}
	if c.ResponseMax == 0 {
		c.ResponseMax = responseMaxDef
	}
	return c
}

// Driver runs functions; see the package comment.
type Driver struct {
	c       Config
	outbox  *driver.Outbox
	modules *modules
	places  *limiter // calls on the whole driver
	counts  counts
	meters  meters
	holds   sync.WaitGroup // of deadlines

	mu        sync.Mutex // guards what follows
	functions map[string]*function
	starting  map[string]chan struct{} // closed when the Start that holds the ID is over
	ended     int                      // functions that were stopped
	closed    bool
}

// counts are the atomic twins of Stats.
type counts struct {
	calls, busy, timeouts, crashes, memory, bad, limits, canceled, compiles atomic.Int64
}

// Stats counts since New.
type Stats struct {
	Calls    int64 // that a function began to handle
	Busy     int64 // refused for want of room
	Timeouts int64
	Crashes  int64
	Memory   int64 // ended for want of memory
	Bad      int64 // answers that were no response
	Limits   int64 // over a limit on size
	Canceled int64 // the caller went away
	Compiles int64 // modules made ready, from disk or anew

	Functions   int   // that are running
	InFlight    int   // calls now
	Idle        int   // instances that stay in memory, waiting for a call
	Queued      int   // calls that wait now
	MemoryBytes int64 // held by instances now
}

var (
	_ driver.Driver       = (*Driver)(nil)
	_ driver.Invoker      = (*Driver)(nil)
	_ driver.Warmer       = (*Driver)(nil)
	_ driver.Meter        = (*Driver)(nil)
	_ driver.RequestMeter = (*Driver)(nil)
)

// New returns a driver; it starts nothing and touches no disk.
func New(c Config) (*Driver, error) {
	if c.Dir == "" {
		return nil, errors.New("wasm: Config.Dir is required")
	}
	c = c.withDefaults()
	if c.CacheDir == "" {
		c.CacheDir = filepath.Join(c.Dir, "compiled")
	}
	return &Driver{
		c: c, outbox: driver.NewOutbox(Name, c.Events),
		modules: newModules(c.CacheDir), meters: meters{all: map[component]*meter{}},
		places: &limiter{
			queueMax: c.TotalMax * 4, holders: c.TotalMax, total: int64(c.TotalMax),
		},
		functions: map[string]*function{}, starting: map[string]chan struct{}{},
	}, nil
}

// Name implements driver.Driver.
func (d *Driver) Name() string { return Name }

// Run implements driver.Driver: when ctx is done every function is stopped.
func (d *Driver) Run(ctx context.Context) error {
	if err := d.modules.cache.trim(); err != nil {
		d.c.Log.Warn("compiled functions are not trimmed", "error", err)
	}
	d.trimLogs()
	var wg sync.WaitGroup
	wg.Go(func() { d.dropIdle(ctx) })
	d.outbox.Run(ctx)
	d.mu.Lock()
	d.closed = true
	all := slices.Collect(maps.Values(d.functions))
	waits := slices.Collect(maps.Values(d.starting))
	d.mu.Unlock()
	for _, w := range waits {
		<-w
	}
	for _, f := range all {
		wg.Go(func() { d.end(f, -1) })
	}
	wg.Wait()
	d.holds.Wait()
	return nil
}

// dropIdle ends instances that nobody has wanted for long, until ctx is done.
func (d *Driver) dropIdle(ctx context.Context) {
	tick := time.NewTicker(max(d.c.IdleMax/2, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		for _, f := range d.running() {
			f.memory.drop(time.Now().Add(-d.c.IdleMax), idleLeast)
		}
	}
}

// running are the functions that are here now.
func (d *Driver) running() []*function {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Collect(maps.Values(d.functions))
}

// Probe implements driver.Driver.
func (d *Driver) Probe(context.Context) driver.Info {
	version := "wazero " + wazeroVersion()
	if runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64" {
		version += " (compiler)"
	} else {
		version += " (interpreter)"
	}
	return driver.Info{
		Available: true, Version: version, Fence: boottime.Counts,
		Kinds: []string{driver.KindFunction}, Runtimes: []string{"function"},
		Limits: map[string]driver.Limit{
			"memory": {Enforced: true, Detail: "shared by the calls that run at one time; growth beyond it fails in the guest"},
			"cpu":    {Detail: "functions share the daemon's cores; the number of calls and their time are bounded"},
			"time":   {Enforced: true, Detail: "a call is killed at its timeout"},
			"fence":  {Enforced: boottime.Counts, Detail: "calls are killed at the deadline, by the clock that goes on in suspend where the system has one"},
		},
	}
}

// Start implements driver.Driver: it compiles the module, or loads it from
// disk. A task is running once its code is ready.
func (d *Driver) Start(ctx context.Context, t driver.Task) (driver.Status, error) {
	if err := t.Validate(); err != nil {
		return driver.Status{}, err
	}
	if t.Function == nil {
		return driver.Status{}, fmt.Errorf("%w %q: the wasm driver runs functions only", driver.ErrInvalid, t.ID)
	}
	t = t.Clone().WithDefaults()
	for {
		d.mu.Lock()
		if d.closed {
			d.mu.Unlock()
			return driver.Status{}, fmt.Errorf("start %q: %w: it is shutting down", t.ID, driver.ErrUnavailable)
		}
		if f := d.functions[t.ID]; f != nil && !f.status().State.Ended() {
			d.mu.Unlock()
			return again(f, t)
		}
		other := d.starting[t.ID]
		if other == nil {
			break
		}
		d.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return driver.Status{}, fmt.Errorf("start %q: %w", t.ID, ctx.Err())
		}
	}
	mine := make(chan struct{})
	d.starting[t.ID] = mine
	d.mu.Unlock()
	f, err := d.prepareFunction(ctx, t)
	d.mu.Lock()
	delete(d.starting, t.ID)
	if err == nil && d.closed {
		err = driver.ErrUnavailable
		defer f.free(d)
	} else if err == nil {
		if old := d.functions[t.ID]; old != nil {
			f.s.Starts = old.status().Starts + 1
		}
		d.functions[t.ID] = f
		if t.Fence != nil {
			d.holds.Go(func() { d.hold(f) })
		}
	}
	close(mine)
	d.mu.Unlock()
	if err != nil {
		return driver.Status{}, fmt.Errorf("start %q: %w", t.ID, err)
	}
	s := f.status()
	d.outbox.Post(s)
	return s, nil
}

// again is the answer to a Start of what runs.
func again(f *function, t driver.Task) (driver.Status, error) {
	if t.Fence != nil {
		if err := f.extend(t.Fence.Until); err != nil {
			return driver.Status{}, fmt.Errorf("start %q: %w", t.ID, err)
		}
	}
	return f.status(), nil
}

// prepareFunction makes a task's code ready, and the first of the instances that
// stay in memory.
func (d *Driver) prepareFunction(ctx context.Context, t driver.Task) (*function, error) {
	if due(t.Fence) {
		return nil, fmt.Errorf("%w before it was started", errFenced)
	}
	memory := t.Memory
	if memory == 0 {
		memory = MemoryDefault
	}
	memory = max(1, min(memory, memoryMax)/pageBytes) * pageBytes
	mod, err := d.modules.get(ctx, t.Function.Module, t.Artifacts[t.Function.Module])
	if err != nil {
		return nil, err
	}
	if err := mod.serves(t.Function.Handler); err != nil {
		d.modules.put(mod)
		return nil, err
	}
	if mod.minBytes > memory {
		d.modules.put(mod)
		return nil, fmt.Errorf("%w: the module begins with %d KiB of memory, and %d KiB were granted", driver.ErrInvalid, mod.minBytes>>10, memory>>10)
	}
	d.counts.compiles.Add(1)
	w, err := logs.Open(d.logDir(t.ID), t.LogMax)
	if err != nil {
		d.modules.put(mod)
		return nil, err
	}
	f := newFunction(d, t, mod, w, memory)
	if t.Function.Handler == "" {
		return f, nil
	}
	if err := f.first(ctx); err != nil {
		f.free(d)
		return nil, err
	}
	return f, nil
}

// Stop implements driver.Driver: calls that run may end within grace, then
// they are killed. New calls are refused at once.
func (d *Driver) Stop(ctx context.Context, id string, grace time.Duration) error {
	for {
		d.mu.Lock()
		f, starting := d.functions[id], d.starting[id]
		d.mu.Unlock()
		if f == nil && starting == nil {
			return nil
		}
		var wait <-chan struct{} = starting
		if f != nil {
			done := make(chan struct{})
			go func() { defer close(done); d.end(f, grace) }()
			wait = done
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return fmt.Errorf("stop %q: %w", id, ctx.Err())
		}
	}
}

// end stops a function, waits for its last call, and forgets it.
func (d *Driver) end(f *function, grace time.Duration) {
	if grace == 0 {
		grace = f.task.Grace
	}
	if f.stop(grace) {
		d.outbox.Post(f.status())
	}
	<-f.idle
	f.free(d)
	d.mu.Lock()
	mine := d.functions[f.task.ID] == f
	if mine {
		delete(d.functions, f.task.ID)
		d.ended++
	}
	tidy := mine && d.ended%trimEvery == 0
	d.mu.Unlock()
	if mine {
		d.outbox.Post(f.status())
	}
	if tidy {
		d.trimLogs()
	}
}

// trimLogs deletes the oldest logs of functions that ended.
func (d *Driver) trimLogs() {
	live := map[string]bool{}
	d.mu.Lock()
	for id := range d.functions {
		live[driver.SafeID(id)] = true
	}
	for id := range d.starting {
		live[driver.SafeID(id)] = true
	}
	d.mu.Unlock()
	running := func(name string) bool { return live[name] }
	if err := prune.Folders(filepath.Join(d.c.Dir, "logs"), logsBytesMax, logsCountMax, running); err != nil {
		d.c.Log.Warn("logs of functions are not trimmed", "error", err)
	}
}

// List implements driver.Driver.
func (d *Driver) List(ctx context.Context) ([]driver.Status, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("list: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make([]driver.Status, 0, len(d.functions))
	for _, id := range slices.Sorted(maps.Keys(d.functions)) {
		all = append(all, d.functions[id].status())
	}
	return all, nil
}

func (d *Driver) logDir(id string) string {
	return filepath.Join(d.c.Dir, "logs", driver.SafeID(id))
}

// Logs implements driver.Driver.
func (d *Driver) Logs(ctx context.Context, id string, o driver.LogOptions) (io.ReadCloser, error) {
	d.mu.Lock()
	f := d.functions[id]
	d.mu.Unlock()
	ended := func() bool { return true }
	if f != nil {
		ended = func() bool { return f.status().State.Ended() }
	}
	r, err := logs.Read(ctx, d.logDir(id), o, ended)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("logs of %q: %w", id, driver.ErrUnknownTask)
	}
	if err != nil {
		return nil, fmt.Errorf("logs of %q: %w", id, err)
	}
	return r, nil
}

// Warm implements driver.Warmer: it compiles the module to disk.
func (d *Driver) Warm(ctx context.Context, digest, path string) error {
	d.mu.Lock()
	closed := d.closed
	d.mu.Unlock()
	if closed {
		return fmt.Errorf("warm %s: %w", digest, driver.ErrUnavailable)
	}
	mod, err := d.modules.get(ctx, digest, path)
	if err != nil {
		return fmt.Errorf("warm %s: %w", digest, err)
	}
	d.counts.compiles.Add(1)
	d.modules.put(mod)
	return nil
}

// Stats returns the counters.
func (d *Driver) Stats() Stats {
	s := Stats{
		Calls: d.counts.calls.Load(), Busy: d.counts.busy.Load(), Timeouts: d.counts.timeouts.Load(),
		Crashes: d.counts.crashes.Load(), Memory: d.counts.memory.Load(), Bad: d.counts.bad.Load(),
		Limits: d.counts.limits.Load(), Canceled: d.counts.canceled.Load(), Compiles: d.counts.compiles.Load(),
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	s.Functions = len(d.functions)
	for _, f := range d.functions {
		u := f.memory.usage()
		s.MemoryBytes += u.units
		s.InFlight += u.busy
		s.Idle += u.idle
		s.Queued += u.queued
	}
	return s
}
