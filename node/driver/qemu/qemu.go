package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/process"
)

const (
	loadRetry = 2 * time.Second // pause after the folders could not be read
	reapEvery = time.Hour       // between looks at parked disks
)

// Driver runs virtual machines; see the package comment.
type Driver struct {
	c      Config
	inner  driver.Driver // runs each qemu as a program
	outbox *driver.Outbox
	mark   string       // of this data folder, in names elsewhere
	locks  driver.Locks // held by Start, and by the end of Stop

	probing probing

	crew *driver.Crew    // who looks after machines
	ctx  context.Context // the crew's: done when Run returns

	loading  sync.Mutex // held while the machines are read
	mu       sync.Mutex // guards what follows
	loaded   bool
	machines map[string]*machine
	images   map[string]image // by digest
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
		return nil, errors.New("qemu: Config.Dir is required")
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("qemu: %w", err)
	}
	c.Dir = dir
	c = c.withDefaults()
	crew := driver.NewCrew()
	d := &Driver{
		c: c, outbox: driver.NewOutbox(Name, c.Events), mark: driver.Mark(dir),
		crew: crew, ctx: crew.Context(), machines: map[string]*machine{}, images: map[string]image{},
	}
	d.inner, err = process.New(process.Config{
		Dir: filepath.Join(dir, "programs"), Events: d.heard, Log: c.Log,
		Executable: c.Executable, StartMax: c.StartMax,
	})
	if err != nil {
		return nil, fmt.Errorf("qemu: %w", err)
	}
	return d, nil
}

// Name implements driver.Driver.
func (d *Driver) Name() string { return Name }

// Run implements driver.Driver: machines go on when it returns.
func (d *Driver) Run(ctx context.Context) error {
	defer d.crew.Dismiss()
	for d.load(ctx) != nil { // List says why; nothing is started before it answers
		if !driver.Pause(ctx, loadRetry) {
			return nil
		}
	}
	d.crew.Go(func() {
		tick := time.NewTicker(reapEvery)
		defer tick.Stop()
		for {
			d.reap()
			select {
			case <-d.ctx.Done():
				return
			case <-tick.C:
			}
		}
	})
	// Not before all machines are known, or what it tells of one would be lost.
	ended := make(chan error, 1)
	go func() { ended <- d.inner.Run(ctx) }()
	d.outbox.Run(ctx)
	return <-ended
}

func (d *Driver) machine(id string) *machine {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.machines[id]
}

// load finds once what an earlier daemon left.
func (d *Driver) load(ctx context.Context) error {
	d.loading.Lock()
	defer d.loading.Unlock()
	d.mu.Lock()
	loaded := d.loaded
	d.mu.Unlock()
	if loaded {
		return nil
	}
	if err := os.MkdirAll(filepath.Join(d.c.Dir, "machines"), 0o700); err != nil {
		return fmt.Errorf("read the machines: %w", err)
	}
	all, err := d.inner.List(ctx)
	if err != nil {
		return fmt.Errorf("read the machines: %w", err)
	}
	d.dropSeeds()
	for _, s := range all {
		m := newMachine(s.ID)
		m.starts = s.Starts
		if m.rec, err = readRecord(d.folder(s.ID)); err != nil {
			return fmt.Errorf("read the machine %q: %w", s.ID, err)
		}
		d.mu.Lock()
		d.machines[s.ID] = m
		d.mu.Unlock()
		if s.State.Ended() {
			d.settle(m, s)
			continue
		}
		d.follow(m, nil, s)
	}
	d.mu.Lock()
	d.loaded = true
	d.mu.Unlock()
	return nil
}

// program is what runs of a machine, or ran; false if nothing is known of it.
func (d *Driver) program(ctx context.Context, id string) (driver.Status, bool, error) {
	all, err := d.inner.List(ctx)
	for _, s := range all {
		if s.ID == id {
			return s, true, err
		}
	}
	return driver.Status{}, false, err
}

// status is a machine's, from that of its qemu.
func (d *Driver) status(s driver.Status) driver.Status {
	if m := d.machine(s.ID); m != nil {
		return m.translate(s)
	}
	return s
}

// List implements driver.Driver.
func (d *Driver) List(ctx context.Context) ([]driver.Status, error) {
	if err := d.load(ctx); err != nil {
		return nil, err
	}
	all, err := d.inner.List(ctx)
	if err != nil {
		return nil, err
	}
	for i := range all {
		all[i] = d.status(all[i])
	}
	return all, nil
}

// Logs implements driver.Driver: a machine's log is what it writes to its first
// serial port; what qemu itself says is the stream "stderr".
func (d *Driver) Logs(ctx context.Context, id string, o driver.LogOptions) (io.ReadCloser, error) {
	return d.inner.Logs(ctx, id, o)
}

// Usage implements driver.Meter: what qemu uses is what the machine does, with
// qemu's own share.
func (d *Driver) Usage(ctx context.Context) (map[string]driver.Usage, error) {
	if m, ok := d.inner.(driver.Meter); ok {
		return m.Usage(ctx)
	}
	return nil, nil
}

// Boottime implements driver.Fencer.
func (d *Driver) Boottime() time.Duration {
	if f, ok := d.inner.(driver.Fencer); ok {
		return f.Boottime()
	}
	return 0
}

// Extend implements driver.Fencer.
func (d *Driver) Extend(ctx context.Context, id string, until time.Duration) error {
	f, ok := d.inner.(driver.Fencer)
	if !ok {
		return fmt.Errorf("extend %q: %w", id, driver.ErrUnavailable)
	}
	return f.Extend(ctx, id, until)
}

// Collect implements driver.Collector: disks of machines that were ended while
// their folder could not be parked.
func (d *Driver) Collect(ctx context.Context, gone func(id string) bool) error {
	if err := d.load(ctx); err != nil {
		return err
	}
	var failed []error
	if c, ok := d.inner.(driver.Collector); ok {
		failed = append(failed, c.Collect(ctx, gone))
	}
	entries, err := os.ReadDir(filepath.Join(d.c.Dir, "machines"))
	if err != nil {
		return fmt.Errorf("collect: %w", err)
	}
	for _, e := range entries {
		rec, err := readRecord(filepath.Join(d.c.Dir, "machines", e.Name()))
		if err != nil || rec.ID == "" || driver.SafeID(rec.ID) != e.Name() || !gone(rec.ID) {
			continue // no evidence
		}
		failed = append(failed, d.collectOne(ctx, rec.ID))
	}
	return errors.Join(failed...)
}

func (d *Driver) collectOne(ctx context.Context, id string) error {
	defer d.locks.Lock(id)()
	_, known, err := d.program(ctx, id)
	if err != nil || known {
		return err // Stop is for what runs, or is listed
	}
	return d.park(id)
}
