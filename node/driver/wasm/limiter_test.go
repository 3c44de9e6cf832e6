package wasm

import (
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"
)

// check holds what must be true of a limiter at any time.
func (l *limiter) check(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.used < 0 || l.used > l.total:
		t.Errorf("%d of %d units are taken", l.used, l.total)
	case l.holding < len(l.idle) || l.holding > l.holders:
		t.Errorf("%d hold of at most %d, %d of them idle", l.holding, l.holders, len(l.idle))
	case len(l.idle) > 0 && len(l.queue) > 0:
		t.Errorf("%d wait while %d are idle", len(l.queue), len(l.idle))
	case len(l.queue) > l.queueMax:
		t.Errorf("%d wait, over %d", len(l.queue), l.queueMax)
	}
}

// Whatever calls do at one time, no more is held than there is, nobody waits
// beside what is idle, and in the end all of it is free.
func TestLimiterUnderLoad(t *testing.T) {
	l := &limiter{queueMax: 4, holders: 5, total: 100}
	never := make(chan struct{})
	var all sync.WaitGroup
	for i := range 12 {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(i)))
			for range 300 {
				n := rng.Int64N(60)
				i, err := l.acquire(t.Context(), never, n, 20*time.Second)
				l.check(t)
				if errors.Is(err, errBusy) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				if i == nil {
					i = &instance{account: &account{limiter: l, reserved: n}}
				}
				if more := rng.Int64N(40); rng.IntN(2) == 0 && l.grow(more) {
					i.account.reserved += more
				}
				l.check(t)
				runtime.Gosched() // so that others come meanwhile
				switch rng.IntN(4) {
				case 0:
					i.close()
				case 1:
					l.drop(time.Now(), 1)
					fallthrough
				default:
					i.account.settle(rng.Int64N(30))
					l.put(i)
				}
				l.check(t)
			}
		})
	}
	all.Wait()
	l.drop(time.Now(), 0)
	if u := l.usage(); u != (usage{}) {
		t.Errorf("in the end %+v are held", u)
	}
}

// What a call reserves follows what calls need: up at once, and down again when
// they need less, so that more of them find room.
func TestReservationFollowsUse(t *testing.T) {
	f := &function{module: &module{minBytes: pageBytes}}
	f.learn(32 << 20)
	if got := f.usual.Load(); got != 32<<20 {
		t.Errorf("after a large call %d", got)
	}
	calls := 0
	for f.usual.Load() > 5<<20 {
		before := f.usual.Load()
		f.learn(4 << 20)
		if calls++; f.usual.Load() >= before || calls > 1000 {
			t.Fatalf("after %d small calls %d are reserved, before it were %d", calls, f.usual.Load(), before)
		}
	}
	if calls < 20 {
		t.Errorf("%d small calls and the large one was forgotten", calls)
	}
}
