package runner

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/placement"
)

const (
	// ClockSlack is by how much the core's clock may fall behind the machine's
	// over suspends that are shorter; deadlines are set so much earlier.
	ClockSlack = 10 * time.Millisecond
	// extendMax is how long a driver may take to move a deadline.
	extendMax = 2 * time.Second
	// extendRetry is the pause after a driver failed to.
	extendRetry = 250 * time.Millisecond
)

// counts are the atomic twins of Stats.
type counts struct{ fenced, overruns, extendsFailed atomic.Int64 }

// Stats counts since New.
type Stats struct {
	Fenced        int64 // allocations that their deadline ended
	Overruns      int64 // of those, that ran on after it
	ExtendsFailed int64 // tries to move a deadline that failed, and were repeated
}

// Stats returns the counters.
func (r *Runner) Stats() Stats {
	return Stats{r.counts.fenced.Load(), r.counts.overruns.Load(), r.counts.extendsFailed.Load()}
}

// Extend moves the deadline of an allocation to a later time, in the core's
// terms (Now.Mono). It only notes that: of many the latest is carried out, until
// the driver has taken it.
func (r *Runner) Extend(id placement.AllocationID, until time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.tasks[id]
	if t == nil {
		return // it has ended meanwhile
	}
	t.until = max(t.until, until)
	r.wake(id, t)
}

// fence is the right to run of an allocation, as its driver is told of it; nil
// for one that is not exclusive. noted is what to note as extended with it.
func (r *Runner) fence(t *task, d driver.Driver, spec placement.WorkSpec) (f *driver.Fence, noted time.Duration, err error) {
	if spec.Fence == 0 {
		return nil, 0, nil
	}
	fencer, ok := d.(driver.Fencer)
	if !ok {
		return nil, 0, fmt.Errorf("it is exclusive, and driver %q can't end it at a deadline", d.Name())
	}
	r.mu.Lock()
	t.until = max(t.until, spec.Until)
	noted = t.until
	r.mu.Unlock()
	return &driver.Fence{Number: spec.Fence, Until: r.boottime(fencer, noted)}, noted, nil
}

// boottime is a moment of the core's clock on the driver's. Whatever comes
// between the readings makes it earlier, never later.
func (r *Runner) boottime(f driver.Fencer, mono time.Duration) time.Duration {
	now := f.Boottime() // first
	return max(1, now+mono-r.cfg.Mono()-ClockSlack)
}

// mono is a moment of the driver's clock on the core's, or earlier.
func (r *Runner) mono(f driver.Fencer, until time.Duration) time.Duration {
	now := r.cfg.Mono() // first
	return now + until - f.Boottime()
}

// extend gives the driver the latest deadline. It is false if it is to be tried
// again.
func (r *Runner) extend(ctx context.Context, id placement.AllocationID, t *task) bool {
	r.mu.Lock()
	until, name := t.until, t.driver
	r.mu.Unlock()
	err := fmt.Errorf("driver %q: %w", name, driver.ErrUnavailable)
	late := until <= r.cfg.Mono()
	if f, ok := r.drivers[name].(driver.Fencer); ok {
		ctx, cancel := context.WithTimeout(ctx, extendMax)
		defer cancel()
		err = f.Extend(ctx, DriverID(id), r.boottime(f, until))
	}
	switch {
	case ctx.Err() != nil:
		return false // the next daemon adopts it
	case err == nil, errors.Is(err, driver.ErrUnknownTask): // it ended: the driver says how
	case errors.Is(err, driver.ErrInvalid), errors.Is(err, driver.ErrUnavailable), late:
		r.cfg.Log.Error("a deadline is not moved", "allocation", id.String(), "driver", name, "err", err)
	default:
		r.counts.extendsFailed.Add(1)
		r.cfg.Log.Warn("a deadline is not moved; it will be tried again", "allocation", id.String(), "driver", name, "err", err)
		return false
	}
	r.mu.Lock()
	t.extended = max(t.extended, until)
	r.mu.Unlock()
	return true
}

// adoptFence notes the deadline of an allocation that runs already. The caller
// holds mu.
func (r *Runner) adoptFence(t *task, d driver.Driver, s driver.Status) {
	if f, ok := d.(driver.Fencer); ok && s.Fence != nil {
		t.until = r.mono(f, s.Fence.Until)
		t.extended = t.until
	}
}

// tellFenced says that a deadline ended an allocation, once for each of its
// lives.
func (r *Runner) tellFenced(id placement.AllocationID, t *task, name string, s driver.Status) {
	if !s.Fenced || !s.State.Ended() {
		return
	}
	r.mu.Lock()
	told := t.fenced == lifeOf(s)
	t.fenced = lifeOf(s)
	r.mu.Unlock()
	if told {
		return
	}
	r.counts.fenced.Add(1)
	if s.Overrun > 0 {
		r.counts.overruns.Add(1)
		r.cfg.Log.Error("an allocation ran on after its lease", "allocation", id.String(), "driver", name, "overrun", s.Overrun)
	}
	if r.cfg.Fenced != nil {
		r.cfg.Fenced(id, s)
	}
}
