package qemu

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
)

const (
	dialEvery = 20 * time.Millisecond // between looks whether qemu answers
	quitGrace = 3 * time.Second       // for qemu to write out what it holds
)

// Start implements driver.Driver. A machine runs once qemu has set it up and
// begins to execute it; whether its system is up shows in its health.
func (d *Driver) Start(ctx context.Context, t driver.Task) (driver.Status, error) {
	if err := t.Validate(); err != nil {
		return driver.Status{}, err
	}
	if t.Machine == nil {
		return driver.Status{}, fmt.Errorf("%w %q: the qemu driver runs machines only", driver.ErrInvalid, t.ID)
	}
	t = t.Clone().WithDefaults()
	if err := check(&t, d.c.Bridges); err != nil {
		return driver.Status{}, err
	}
	if err := d.load(ctx); err != nil {
		return driver.Status{}, err
	}
	defer d.locks.Lock(t.ID)()
	fail := func(err error) (driver.Status, error) {
		return driver.Status{}, fmt.Errorf("start %q: %w", t.ID, err)
	}
	s, known, err := d.program(ctx, t.ID)
	if err != nil {
		return fail(err)
	}
	if known {
		if now := d.status(s); !now.State.Ended() {
			if t.Fence == nil {
				return now, nil
			}
			if err := d.Extend(ctx, t.ID, t.Fence.Until); err != nil {
				return fail(err)
			}
			s, _, err := d.program(ctx, t.ID)
			return d.status(s), err
		}
	}
	m := newMachine(t.ID)
	if s, err = d.launch(ctx, &t, m); err != nil {
		return fail(err)
	}
	m.mu.Lock()
	m.starting, m.starts = false, s.Starts
	m.mu.Unlock()
	d.outbox.Post(m.translate(s))
	// What was told of it until now was not heeded.
	if now, known, err := d.program(ctx, t.ID); err == nil && known {
		d.heard(driver.Event{Status: now})
	}
	return m.translate(s), nil
}

// launch makes what the machine needs, and gets its qemu to run it. What it has
// begun is undone when it fails, but for the disk.
func (d *Driver) launch(ctx context.Context, t *driver.Task, m *machine) (driver.Status, error) {
	var none driver.Status
	found, err := d.tools(ctx)
	if err != nil {
		return none, fmt.Errorf("%w: %w", driver.ErrUnavailable, err)
	}
	l := layout{tools: found}
	l.accel, _ = d.accel(ctx, found)
	if err := ctx.Err(); err != nil {
		return none, err
	}
	dir := d.folder(t.ID)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return none, fmt.Errorf("make its folder: %w", err)
	}
	old, err := readRecord(dir)
	if err != nil {
		return none, err
	}
	if l.disk, err = d.overlay(ctx, t, found, old); err != nil {
		return none, err
	}
	m.starting = true
	m.rec = record{ID: t.ID, Image: t.Machine.Image, DiskBytes: l.disk.Size, Grace: t.Grace}
	if err := writeRecord(dir, m.rec); err != nil {
		return none, err
	}
	for _, v := range t.Volumes {
		file, err := volume(v)
		if err != nil {
			return none, err
		}
		l.volumes = append(l.volumes, file)
	}
	if t.Machine.Bridge != "" {
		l.tap = tapName(t.ID)
	}
	if os.Geteuid() == 0 {
		l.user = userOf(t.ID)
	}
	if l.seed, err = d.makeSeed(t); err != nil {
		return none, err
	}
	defer d.dropSeed(l.seed) // qemu has it open by then, or there is no qemu
	d.mu.Lock()
	d.machines[t.ID] = m
	d.mu.Unlock()
	s, control, err := d.execute(ctx, t, m, l)
	if err != nil {
		d.undo(t.ID)
		return none, err
	}
	d.follow(m, control, s)
	return s, nil
}

// execute runs qemu until it answers.
func (d *Driver) execute(ctx context.Context, t *driver.Task, m *machine, l layout) (driver.Status, *qmp, error) {
	s, err := d.inner.Start(ctx, d.programOf(t, l))
	if err != nil {
		return s, nil, err
	}
	control, err := d.greet(ctx, m)
	if err == nil && t.Machine.Bridge != "" {
		if err = joinBridge(l.tap, t.Machine.Bridge); err != nil {
			control.close()
		}
	}
	return s, control, err
}

// programOf is a machine as the program that runs it.
func (d *Driver) programOf(t *driver.Task, l layout) driver.Task {
	// The shell enters the machine's folder and becomes qemu.
	command := append([]string{"/bin/sh", "-c", `cd "$0" && exec "$@"`, d.folder(t.ID)}, machineArgs(t, l)...)
	for i := range command {
		command[i] = strings.ReplaceAll(command[i], "${", "$${")
	}
	limit := memory(t) + overheadMemory
	if l.accel == accelTCG {
		limit += codeCache
	}
	return driver.Task{
		ID: t.ID, Labels: t.Labels, Kind: t.Kind, Ports: t.Ports,
		CPU: t.CPU, Memory: limit, StopSignal: "SIGTERM", Grace: quitGrace, LogMax: t.LogMax, Fence: t.Fence,
		Process: &driver.Process{Command: command, User: strconv.Itoa(os.Getuid())},
	}
}

// greet waits until the machine's qemu answers, or has ended.
func (d *Driver) greet(ctx context.Context, m *machine) (*qmp, error) {
	ctx, cancel := context.WithTimeout(ctx, d.c.StartMax)
	defer cancel()
	tick := time.NewTicker(dialEvery)
	defer tick.Stop()
	for {
		control, err := d.dialControl(ctx, m.id)
		if err == nil {
			return control, nil
		}
		s, known, listErr := d.program(ctx, m.id)
		if listErr == nil && (!known || s.State.Ended()) {
			if s.Fenced {
				return nil, errors.New(s.Reason)
			}
			return nil, d.refusal(m.id)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("qemu does not answer: %w", errors.Join(err, ctx.Err()))
		}
	}
}

// refusal is what a qemu said that ended before it ran the machine.
func (d *Driver) refusal(id string) error {
	const by = "qemu-system-x86_64: "
	said := "it said nothing"
	r, err := d.inner.Logs(context.Background(), id, driver.LogOptions{Tail: 50})
	if err == nil {
		defer r.Close()
		for lines := bufio.NewScanner(r); lines.Scan(); {
			l, err := driver.ParseLogLine(lines.Text())
			if err != nil || l.Stream != "stderr" {
				continue
			}
			if text, first := strings.CutPrefix(l.Text, by); first {
				said = text
			} else {
				said += " " + l.Text // goes on
			}
		}
	}
	return fmt.Errorf("qemu refused the machine: %.400s", said)
}

// undo ends what a start that failed has begun. Its log stays readable.
func (d *Driver) undo(id string) {
	if err := d.inner.Stop(d.ctx, id, -1); err != nil {
		d.c.Log.Warn("a start that failed is not undone yet", "task", id, "error", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.machines, id)
}

// dial connects to a socket in the machine's folder. Its path goes by a
// descriptor of the folder, for those of sockets are at most 107 bytes long.
func (d *Driver) dial(ctx context.Context, id, name string) (net.Conn, error) {
	path := filepath.Join(d.folder(id), name)
	if len(path) > 107 {
		dir, err := os.Open(d.folder(id))
		if err != nil {
			return nil, err
		}
		defer dir.Close()
		path = fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), name)
	}
	var dialer net.Dialer
	return dialer.DialContext(ctx, "unix", path)
}

func (d *Driver) dialControl(ctx context.Context, id string) (*qmp, error) {
	conn, err := d.dial(ctx, id, qmpSocket)
	if err != nil {
		return nil, err
	}
	return newQMP(ctx, conn)
}
