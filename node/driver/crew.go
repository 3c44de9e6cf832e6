package driver

import (
	"context"
	"errors"
	"sync"
	"time"
)

// ErrShutdown is why a wait ended whose outcome the next daemon will learn.
var ErrShutdown = errors.New("the daemon is shutting down")

// ErrRestarted is why a Stop did not take away what it had ended: it runs again.
var ErrRestarted = errors.New("it was started anew meanwhile")

// Crew is the goroutines of a driver's Run: those that look after tasks. Once it
// is dismissed it takes no more of them.
type Crew struct {
	ctx    context.Context // done when it is dismissed
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu        sync.Mutex // guards what follows
	dismissed bool
}

// NewCrew returns a crew; it starts nothing.
func NewCrew() *Crew {
	ctx, cancel := context.WithCancel(context.Background())
	return &Crew{ctx: ctx, cancel: cancel}
}

// Context is done once the crew is dismissed.
func (c *Crew) Context() context.Context { return c.ctx }

// Done is closed once the crew is dismissed.
func (c *Crew) Done() <-chan struct{} { return c.ctx.Done() }

// Go runs f as one of the crew, or reports that the crew is dismissed.
func (c *Crew) Go(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dismissed {
		return false
	}
	c.wg.Go(f)
	return true
}

// Dismiss ends the context and returns when all have returned.
func (c *Crew) Dismiss() {
	c.mu.Lock()
	c.dismissed = true
	c.mu.Unlock()
	c.cancel()
	c.wg.Wait()
}

// Await waits until a task has ended, for Stop and Halt: when ctx or the daemon
// ends before, the ending goes on.
func (c *Crew) Await(ctx context.Context, ended <-chan struct{}) error {
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-c.Done():
		return ErrShutdown
	}
}

// Pause waits, or returns false when ctx is done before.
func Pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
