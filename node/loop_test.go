package node

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/hansa-mesh/hansa/placement"
)

// A peer that floods this one fills its own share of the queue, by count or by
// bytes, and leaves room for the others; what was taken makes room again.
func TestFloodLeavesRoomForOthers(t *testing.T) {
	for _, size := range []int{1, 1 << 20} {
		l := newLoop(nil, machineClock(), nil, nil)
		n := 0
		for ; n <= receivedMax; n++ {
			if err := l.receive(placement.Receive{From: "m", Body: make([]byte, size)}); err != nil {
				if !errors.Is(err, errBusy) {
					t.Fatal(err)
				}
				break
			}
		}
		if want := min(receivedEachMax, receivedEachBytesMax/size); n != want {
			t.Errorf("%d messages of %d bytes wait, want %d", n, size, want)
		}
		if err := l.receive(placement.Receive{From: "b", Body: make([]byte, size)}); err != nil {
			t.Errorf("no room for another peer: %v", err)
		}
		for len(l.take()) > 0 {
		}
		if l.received != (backlog{}) || len(l.each) > 0 {
			t.Errorf("%+v of %d peers are counted, and nothing waits", l.received, len(l.each))
		}
		if err := l.receive(placement.Receive{From: "m", Body: make([]byte, size)}); err != nil {
			t.Errorf("no room, and nothing waits: %v", err)
		}
	}
}

// What waits for one slow peer is bounded by its bytes too.
func TestOutboxBytes(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	block := make(chan struct{})
	var mu sync.Mutex
	failed := 0
	o := newOutboxes(ctx, &work, func(context.Context, string, coreBatch) error { <-block; return nil },
		func(placement.PeerID, []byte) { mu.Lock(); failed++; mu.Unlock() })
	const size = 1 << 20
	const sent = outboxBytesMax/size + 2*inFlightMax
	for range sent {
		o.send("slow", make([]byte, size))
	}
	mu.Lock()
	lost := failed
	mu.Unlock()
	if lost == 0 || lost > 2*inFlightMax {
		t.Errorf("%d of %d messages were not taken", lost, sent)
	}
	close(block)
	cancel()
	work.Wait()
}
