package wasm

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

var errBusy = errors.New("busy")

// limiter shares a number of units (bytes of memory, or places) among calls:
// first come, first served, with a bounded queue. Of a function that stays in
// memory it keeps the instances, too: those that are idle hold their units
// until a call takes them over, another needs the room, or they are dropped.
// While some are idle nobody waits.
type limiter struct {
	queueMax int
	holders  int // most that hold at one time

	real atomic.Int64 // bytes of linear memory that there are, of those taken

	mu      sync.Mutex // guards what follows
	total   int64
	used    int64
	holding int // idle ones included
	queue   []*waiter
	idle    []*instance // the one that worked last at the end
}

type waiter struct {
	n       int64
	granted chan *instance // gets an instance, or nil with n taken; holds one
}

// acquire returns an idle instance, or takes n units (at most the total),
// waiting up to wait in the queue for either, and no longer than kill is open.
func (l *limiter) acquire(ctx context.Context, kill <-chan struct{}, n int64, wait time.Duration) (*instance, error) {
	l.mu.Lock()
	n = min(n, l.total)
	if last := len(l.idle) - 1; last >= 0 {
		defer l.mu.Unlock()
		warm := l.idle[last]
		l.idle = slices.Delete(l.idle, last, last+1)
		return warm, nil
	}
	if len(l.queue) == 0 && l.fits(n) {
		l.take(n)
		l.mu.Unlock()
		return nil, nil
	}
	if len(l.queue) >= l.queueMax {
		l.mu.Unlock()
		return nil, errBusy
	}
	w := &waiter{n: n, granted: make(chan *instance, 1)}
	l.queue = append(l.queue, w)
	l.mu.Unlock()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	err := errBusy
	select {
	case warm := <-w.granted:
		return warm, nil
	case <-timer.C:
	case <-kill:
	case <-ctx.Done():
		err = ctx.Err()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if at := slices.Index(l.queue, w); at >= 0 {
		l.queue = slices.Delete(l.queue, at, at+1)
		l.admit() // it may have stood before smaller ones
		return nil, err
	}
	return <-w.granted, nil // it was granted at the same moment
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
		l.next().granted <- nil
	}
}

// next takes the first waiter out of the queue.
func (l *limiter) next() *waiter {
	w := l.queue[0]
	l.queue = l.queue[1:]
	return w
}

// grow takes n more units for a holder, or nothing. Idle instances make room,
// the longest idle first.
func (l *limiter) grow(n int64) bool {
	for {
		l.mu.Lock()
		if l.used+n <= l.total {
			l.used += n
			l.mu.Unlock()
			return true
		}
		var old *instance
		if len(l.idle) > 0 {
			old = l.idle[0]
			l.idle = slices.Delete(l.idle, 0, 1)
		}
		l.mu.Unlock()
		if old == nil {
			return false
		}
		old.close()
	}
}

// spare takes n more units for a holder if nobody has to make room for them.
func (l *limiter) spare(n int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.used+n > l.total {
		return false
	}
	l.used += n
	return true
}

// shrink gives n units of a holder back.
func (l *limiter) shrink(n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.used -= n
	l.admit()
}

// release gives all of a holder's units back.
func (l *limiter) release(n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.used -= n
	l.holding--
	l.admit()
}

// put hands an instance to the first who waits, or keeps it.
func (l *limiter) put(warm *instance) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) > 0 {
		l.next().granted <- warm
		return
	}
	warm.since = time.Now()
	l.idle = append(l.idle, warm)
}

// drop closes the instances that have been idle since before or then, but for the least
// number that is to be kept.
func (l *limiter) drop(before time.Time, least int) {
	l.mu.Lock()
	n := 0
	for n < len(l.idle) && l.holding-n > least && !l.idle[n].since.After(before) {
		n++
	}
	old := slices.Clone(l.idle[:n])
	l.idle = slices.Delete(l.idle, 0, n)
	l.mu.Unlock()
	for _, warm := range old {
		warm.close()
	}
}

// usage is what a limiter's units are used for now.
type usage struct {
	units, real        int64
	busy, idle, queued int
}

func (l *limiter) usage() usage {
	l.mu.Lock()
	defer l.mu.Unlock()
	return usage{l.used, l.real.Load(), l.holding - len(l.idle), len(l.idle), len(l.queue)}
}
