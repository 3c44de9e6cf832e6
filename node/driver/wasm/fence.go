package wasm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/boottime"
)

// Functions run inside the daemon, so that a deadline holds whatever happens to
// it: what kills the daemon kills them, what stops it (SIGSTOP) stops them. A
// goroutine of the driver ends each that has one, and needs nothing of those who
// extend it; a guest leaves its code at the next loop or call (wazero's
// CloseOnContextDone), and every wait of a call ends with it.

var _ driver.Fencer = (*Driver)(nil)

var errFenced = errors.New(driver.FencedReason(0))

// Boottime implements driver.Fencer.
func (d *Driver) Boottime() time.Duration { return boottime.Now() }

// Extend implements driver.Fencer.
func (d *Driver) Extend(_ context.Context, id string, until time.Duration) error {
	d.mu.Lock()
	f := d.functions[id]
	d.mu.Unlock()
	err := driver.ErrUnknownTask
	if f != nil {
		err = f.extend(until)
	}
	if err != nil {
		return fmt.Errorf("extend %q: %w", id, err)
	}
	return nil
}

func (f *function) extend(until time.Duration) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.s.State.Ended():
		return driver.ErrUnknownTask
	case f.s.Fence == nil:
		return fmt.Errorf("%w: it runs without a deadline", driver.ErrInvalid)
	case f.fenced:
		return fmt.Errorf("%w: %w", driver.ErrUnknownTask, errFenced)
	case until > f.s.Fence.Until:
		f.s.Fence = &driver.Fence{Number: f.s.Fence.Number, Until: until}
	}
	return nil
}

// due reports whether a task's deadline, less the margin, has come.
func due(f *driver.Fence) bool {
	return f != nil && boottime.Now() >= f.Until-driver.FenceMargin
}

// hold ends a function at its deadline. It returns once the function has ended.
func (d *Driver) hold(f *function) {
	for {
		until := f.status().Fence.Until
		if boottime.Wait(f.held, until-driver.FenceMargin) != nil {
			return
		}
		f.mu.Lock()
		f.fenced = due(f.s.Fence) // from here on no extension is taken
		fenced := f.fenced
		f.mu.Unlock()
		if fenced {
			break
		}
	}
	if f.stop(-1) {
		d.outbox.Post(f.status())
	}
	<-f.idle
	f.free(d)
	d.outbox.Post(f.status())
}
