package fake

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
)

var errFenced = errors.New(driver.FencedReason(0))

// bootedBefore is how long the World's machine has been up when it is made, so
// that deadlines in the past can be said.
const bootedBefore = 24 * time.Hour

func (w *World) boottime() time.Duration { return bootedBefore + time.Since(w.made) }

// Boottime implements driver.Fencer.
func (d *Driver) Boottime() time.Duration { return d.world.boottime() }

// Extend implements driver.Fencer.
func (d *Driver) Extend(ctx context.Context, id string, until time.Duration) error {
	d.world.mu.Lock()
	r := d.world.tasks[id]
	d.world.mu.Unlock()
	err := ctx.Err()
	switch {
	case err != nil:
	case r == nil:
		err = driver.ErrUnknownTask
	default:
		err = r.extend(until)
	}
	if err != nil {
		return fmt.Errorf("extend %q: %w", id, err)
	}
	return nil
}

func (r *run) extend(until time.Duration) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.status.State.Ended():
		return driver.ErrUnknownTask
	case r.status.Fence == nil:
		return fmt.Errorf("%w: it runs without a deadline", driver.ErrInvalid)
	case until > r.status.Fence.Until:
		r.status.Fence = &driver.Fence{Number: r.status.Fence.Number, Until: until}
		r.fence.Reset(until - r.world.boottime())
	}
	return nil
}

// arm sets the timer of a task with a fence.
func (r *run) arm() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f := r.status.Fence; f != nil && !r.status.State.Ended() {
		r.fence = time.AfterFunc(f.Until-r.world.boottime(), r.expire)
	}
}

// expire ends the task at its deadline, unless that was moved: then the timer
// is set anew.
func (r *run) expire() {
	ended := r.setIf(func(s *driver.Status) bool {
		if r.world.boottime() < s.Fence.Until {
			return false
		}
		s.State, s.ExitCode, s.ExitedAt = driver.StateExited, 137, time.Now()
		s.Fenced, s.Reason = true, driver.FencedReason(0)
		return true
	})
	if ended {
		r.kill()
	}
}
