package node

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestRefresherTriesAgain: what failed is tried again soon, then less and less often,
// and no more often for a peer that is asked for all the time; and not once it worked,
// or is not wanted any more.
func TestRefresherTriesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var asked atomic.Int64
		var works, gone atomic.Bool
		r := newRefresher(func(context.Context, string) error {
			asked.Add(1)
			if works.Load() {
				return nil
			}
			return errors.New("no answer")
		}, func(string) bool { return ctx.Err() == nil && !gone.Load() })
		done := make(chan error, 1)
		go func() { done <- r.run(ctx) }()
		during := func(d time.Duration) int64 {
			asked.Store(0)
			time.Sleep(d)
			synctest.Wait()
			return asked.Load()
		}
		r.ask("p")
		if n := during(time.Second); n < 3 || n > 5 {
			t.Errorf("tried %d times in the first second", n)
		}
		for range 30 { // a minute of news
			r.ask("p")
			time.Sleep(2 * time.Second)
		}
		if n := during(time.Minute); n < 6 || n > 12 {
			t.Errorf("tried %d times in a minute: want one in five to ten seconds", n)
		}
		works.Store(true)
		if n := during(time.Minute); n != 1 {
			t.Errorf("tried %d times, and the first worked", n)
		}
		works.Store(false)
		r.ask("p")
		if n := during(time.Second); n < 3 || n > 5 {
			t.Errorf("tried %d times in the first second after it had worked", n)
		}
		gone.Store(true)
		if n := during(time.Minute); n > 0 {
			t.Errorf("tried %d times for one that is gone", n)
		}
		if len(r.failed) > 0 {
			t.Errorf("%d are still remembered", len(r.failed))
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
