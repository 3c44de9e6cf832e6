package artifact

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/store/chain"
)

// Peers that send files byte by byte keep the room for chunks from nobody.
func TestTricklersHoldNoBuffers(t *testing.T) {
	file := content(8 * mib)
	var slow []chain.Chain
	for i := range FetchesMax - 1 {
		slow = append(slow, honest(flipped(content(6*mib), i)).chain)
	}
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t)
		m.add("good", file)
		m.add("slow0").serve = trickle(slow...)
		m.add("slow1").serve = trickle(slow...)
		here := m.add("here")
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for _, c := range slow {
			wg.Go(func() { _ = here.Fetch(ctx, c.Digest(), c.Size(), []string{"slow0", "slow1"}) })
		}
		<-time.After(2 * time.Second) // their chunks are arriving
		if len(here.buffers) > 0 {
			t.Errorf("%d buffers are free: this shows nothing", len(here.buffers))
		}
		begin := time.Now()
		if err := here.Fetch(t.Context(), digestOf(file), int64(len(file)), []string{"good"}); err != nil {
			t.Error(err)
		}
		took := time.Since(begin)
		t.Logf("beside two that trickle, %d MiB took %v", len(file)/mib, took)
		if took > 5*time.Second {
			t.Errorf("beside two that trickle it took %v", took)
		}
		m.holds("here", file)
		cancel()
		wg.Wait()
	})
}
