package node

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A peer that tells of a digest all the time, and lets nobody have it, is asked once
// more after each pause, and not once for each time that it was asked.
func TestRefresherAsksOnceLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var asked atomic.Int64
		var r *refresher
		r = newRefresher(func(_ context.Context, peer string) {
			asked.Add(1)
			r.askLater(peer, 10*time.Second, func() bool { return ctx.Err() == nil })
		})
		done := make(chan error, 1)
		go func() { done <- r.run(ctx) }()
		for range 30 { // a minute of news
			r.ask("p")
			time.Sleep(2 * time.Second)
		}
		asked.Store(0)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := asked.Load(); n < 5 || n > 7 {
			t.Errorf("asked %d times in a minute: want one in ten seconds", n)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute) // of virtual time: what was to come later
	})
}
