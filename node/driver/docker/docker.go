package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/logs"
	"github.com/hansa-mesh/hansa/node/driver/prune"
)

// Driver runs containers; see the package comment.
type Driver struct {
	c      Config
	mark   string // of this scope, in names
	outbox *driver.Outbox
	locks  driver.Locks // by task: held while it is started, and at the end of Stop
	nets   driver.Locks // by network: held while it is made, joined or removed

	crew *driver.Crew    // followers, stops, pulls
	ctx  context.Context // the crew's: done when Run returns

	engine engine
	pulls  pulls
	kept   kept

	loading sync.Mutex // held while everything is listed
	mu      sync.Mutex // guards what follows
	loaded  bool
	probing *probing // nil while the engine is not asked
	tasks   map[string]*task
	busy    map[string]int // tasks that are being started: their containers are not taken for left over
}

var (
	_ driver.Driver    = (*Driver)(nil)
	_ driver.Halter    = (*Driver)(nil)
	_ driver.Execer    = (*Driver)(nil)
	_ driver.Meter     = (*Driver)(nil)
	_ driver.Teller    = (*Driver)(nil)
	_ driver.Collector = (*Driver)(nil)
	_ driver.Imager    = (*Driver)(nil)
)

// New returns a driver; it starts nothing and touches neither disk nor engine.
func New(c Config) (*Driver, error) {
	if c.Dir == "" || c.Scope == "" {
		return nil, errors.New("docker: Config.Dir and Config.Scope are required")
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("docker: %w", err)
	}
	c.Dir = dir
	mark := driver.Mark(c.Scope)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.SecretsDir == "" {
		c.SecretsDir = filepath.Join("/dev/shm", "hansa-"+mark)
	}
	if c.StoppedMax == 0 {
		c.StoppedMax = stoppedMaxDefault
	}
	if c.PullQuiet == 0 {
		c.PullQuiet = pullQuietDefault
	}
	if c.PullMax == 0 {
		c.PullMax = pullMaxDefault
	}
	crew := driver.NewCrew()
	d := &Driver{
		c: c, mark: mark, outbox: driver.NewOutbox(Name, c.Events), crew: crew, ctx: crew.Context(),
		tasks: map[string]*task{}, busy: map[string]int{},
	}
	d.engine.fixed, d.engine.noted = c.Host, filepath.Join(dir, "engine")
	return d, nil
}

// Name implements driver.Driver.
func (d *Driver) Name() string { return Name }

// Run implements driver.Driver: containers go on when it returns.
func (d *Driver) Run(ctx context.Context) error {
	defer d.engine.close()
	defer d.crew.Dismiss()
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() { d.watch(ctx) })
	d.prune()
	d.outbox.Run(ctx)
	return nil
}

func (d *Driver) task(id string) *task {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.tasks[id]
}

// forget drops a task if it is still that one.
func (d *Driver) forget(t *task) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.tasks[t.rec.ID] == t {
		delete(d.tasks, t.rec.ID)
	}
}

// busyWith says that a task is being started, until done.
func (d *Driver) busyWith(id string) (done func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.busy[id]++
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.busy[id]--; d.busy[id] == 0 {
			delete(d.busy, id)
		}
	}
}

// List implements driver.Driver: it asks the engine.
func (d *Driver) List(ctx context.Context) ([]driver.Status, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("list: %w", err)
	}
	if err := d.look(ctx); err != nil {
		return nil, fmt.Errorf("list: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make([]driver.Status, 0, len(d.tasks))
	for _, t := range d.tasks {
		all = append(all, t.snapshot())
	}
	slices.SortFunc(all, func(a, b driver.Status) int { return strings.Compare(a.ID, b.ID) })
	return all, nil
}

// load is look if there was none yet.
func (d *Driver) load(ctx context.Context) error {
	d.mu.Lock()
	loaded := d.loaded
	d.mu.Unlock()
	if loaded {
		return nil
	}
	return d.look(ctx)
}

// Logs implements driver.Driver.
func (d *Driver) Logs(ctx context.Context, id string, o driver.LogOptions) (io.ReadCloser, error) {
	name := driver.SafeID(id)
	ended := func() bool { return true }
	dirs := []string{filepath.Join(d.c.Dir, tasksDir, name), filepath.Join(d.c.Dir, stoppedDir, name)}
	if t := d.task(id); t != nil {
		ended = func() bool { return t.snapshot().State.Ended() }
	} else if o.Follow {
		if err := d.load(ctx); err == nil { // it may run, and not be known yet
			if t := d.task(id); t != nil {
				ended = func() bool { return t.snapshot().State.Ended() }
			}
		}
	}
	for _, dir := range dirs {
		r, err := logs.Read(ctx, filepath.Join(dir, logsDir), o, ended)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("logs of %q: %w", id, err)
		}
		return r, nil
	}
	return nil, fmt.Errorf("logs of %q: %w", id, driver.ErrUnknownTask)
}

// prune deletes the oldest folders of stopped tasks beyond the budget.
func (d *Driver) prune() {
	if err := prune.Folders(filepath.Join(d.c.Dir, stoppedDir), d.c.StoppedMax, stoppedCountMax, nil); err != nil {
		d.c.Log.Warn("logs of a stopped task are not deleted", "error", err)
	}
}
