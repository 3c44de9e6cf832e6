package process

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/boottime"
)

// Boottime implements driver.Fencer.
func (d *Driver) Boottime() time.Duration { return boottime.Now() }

// Extend implements driver.Fencer: it moves the deadline in the memory that
// whoever holds it goes by.
func (d *Driver) Extend(_ context.Context, id string, until time.Duration) error {
	if err := d.load(); err != nil {
		return err
	}
	t := d.task(id)
	if t == nil {
		return fmt.Errorf("extend %q: %w", id, driver.ErrUnknownTask)
	}
	if err := t.extend(until); err != nil {
		return fmt.Errorf("extend %q: %w", id, err)
	}
	return nil
}

func (t *task) extend(until time.Duration) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.status.State.Ended() {
		return driver.ErrUnknownTask
	}
	if t.spec.Task.Fence == nil {
		return fmt.Errorf("%w: it runs without a deadline", driver.ErrInvalid)
	}
	err := t.share()
	if err == nil {
		err = t.held.extend(until)
	}
	if errors.Is(err, errClosed) || errors.Is(err, errGone) {
		return fmt.Errorf("%w: %w", driver.ErrUnknownTask, err)
	}
	return err
}

// share opens the deadline of a task that runs, unless that was done. The
// caller holds t.mu.
func (t *task) share() (err error) {
	if t.held == nil && t.spec.Task.Fence != nil {
		t.held, err = openDeadline(t.run.Supervisor, t.run.DeadlineFd)
	}
	return err
}

// shareNow is share, where it need not succeed yet: Extend tries again.
func (d *Driver) shareNow(t *task) {
	if err := t.share(); err != nil && !errors.Is(err, errGone) {
		d.c.Log.Error("a deadline can't be extended for now", "task", t.spec.Task.ID, "error", err)
	}
}

// unshare gives the deadline back, and reports whether it had come. The caller
// holds t.mu.
func (t *task) unshare() (until time.Duration, fenced bool) {
	if t.held == nil {
		return 0, false
	}
	until, fenced = t.held.until()
	t.held.close()
	t.held = nil
	return until, fenced
}

// fenceNow is the fence with the deadline that holds now. The caller holds t.mu.
func (t *task) fenceNow() *driver.Fence {
	f := t.spec.Task.Fence
	if f == nil || t.held == nil {
		return f
	}
	until, _ := t.held.until()
	return &driver.Fence{Number: f.Number, Until: until}
}

// deadline is the one that holds now; false if there is none, or no longer, or
// this daemon can't know it.
func (t *task) deadline() (time.Duration, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.status.State.Ended() || t.share() != nil || t.held == nil {
		return 0, false
	}
	until, _ := t.held.until()
	return until, true
}

// overdue closes the deadline if it has come and nobody else did. It is false
// if it was moved, or the task has ended.
func (t *task) overdue() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.status.State.Ended() {
		return false
	}
	return t.held != nil && t.held.closeAt(boottime.Now())
}

// oversee is the third to hold the deadline, for as long as the daemon lives:
// if supervisor and warden were both stopped, or starved, the program is killed
// from here. It returns when ctx is done.
func (d *Driver) oversee(ctx context.Context, t *task) {
	for {
		until, ok := t.deadline()
		if !ok || boottime.Wait(ctx, until) != nil {
			return
		}
		if !t.overdue() {
			continue
		}
		d.c.Log.Error("a task runs at its deadline and is killed by the daemon", "task", t.spec.Task.ID)
		d.sweep(t)
		if boottime.Wait(ctx, until+stopPatience) == nil { // its supervisor does not even end itself
			t.mu.Lock()
			who := t.run.Supervisor
			t.mu.Unlock()
			if pidfd, err := who.open(); err == nil {
				_ = send(pidfd, unix.SIGKILL)
				pidfd.Close()
			}
		}
		return
	}
}
