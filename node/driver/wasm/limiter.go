package wasm

import (
	"context"
	"errors"
	"sync"
	"time"
)

var errBusy = errors.New("busy")

// limiter shares a number of units (bytes of memory, or places) among calls:
// first come, first served, with a bounded queue.
type limiter struct {
	queueMax int
	holders  int // most that hold at one time

	mu      sync.Mutex // guards what follows
	total   int64
	used    int64
	holding int
	queue   []*waiter
}

type waiter struct {
	n       int64
	granted chan struct{} // closed with n taken
}

// acquire takes n units (at most the total), waiting up to wait in the queue,
// and no longer than kill is open.
func (l *limiter) acquire(ctx context.Context, kill <-chan struct{}, n int64, wait time.Duration) error {
	l.mu.Lock()
	if n > l.total {
		n = l.total
	}
	if len(l.queue) == 0 && l.fits(n) {
		l.take(n)
		l.mu.Unlock()
		return nil
	}
	if len(l.queue) >= l.queueMax {
		l.mu.Unlock()
		return errBusy
	}
	w := &waiter{n: n, granted: make(chan struct{})}
	l.queue = append(l.queue, w)
	l.mu.Unlock()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	err := errBusy
	select {
	case <-w.granted:
		return nil
	case <-timer.C:
	case <-kill:
	case <-ctx.Done():
		err = ctx.Err()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.queue {
		if l.queue[i] == w {
			l.queue = append(l.queue[:i], l.queue[i+1:]...)
			l.admit() // it may have stood before smaller ones
			return err
		}
	}
	return nil // it was granted at the same moment
}

func (l *limiter) fits(n int64) bool {
	return l.holding < l.holders && l.used+n <= l.total
}

func (l *limiter) take(n int64) {
	l.used += n
	l.holding++
}

func (l *limiter) admit() {
	for len(l.queue) > 0 && l.fits(l.queue[0].n) {
		l.take(l.queue[0].n)
		close(l.queue[0].granted)
		l.queue = l.queue[1:]
	}
}

// grow takes n more units for a holder, or nothing.
func (l *limiter) grow(n int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.used+n > l.total {
		return false
	}
	l.used += n
	return true
}

// release gives all of a holder's units back.
func (l *limiter) release(n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.used -= n
	l.holding--
	l.admit()
}

func (l *limiter) counts() (used int64, holding, queued int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.used, l.holding, len(l.queue)
}
