package artifact

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/transport"
)

// hoard opens streams to a peer, asks for a chunk on each, and reads next to nothing
// of it, over and over.
func hoard(ctx context.Context, m *mesh, from, to, digest string, streams int) (wait func()) {
	var wg sync.WaitGroup
	for i := range streams {
		wg.Go(func() {
			for ctx.Err() == nil {
				hoardOnce(ctx, m, from, to, digest, i)
			}
		})
	}
	return wg.Wait
}

func hoardOnce(ctx context.Context, m *mesh, from, to, digest string, i int) {
	s, err := m.open(ctx, from, to)
	if err != nil {
		return
	}
	defer s.Close()
	defer context.AfterFunc(ctx, func() { _ = s.SetDeadline(time.Unix(1, 0)) })()
	_ = transport.WriteFrame(s, request{Digest: digest, What: askChunk, Chunk: i % 8})
	var a answer
	for a.Say = sayWait; a.Say == sayWait; {
		a = answer{}
		if transport.ReadFrame(s, &a, frameMax) != nil {
			return
		}
	}
	for b := make([]byte, 1); a.Length > 0; {
		if _, err := s.Read(b); err != nil {
			return
		}
		select {
		case <-time.After(10 * time.Second):
		case <-ctx.Done():
			return
		}
	}
	select { // it was sent away
	case <-time.After(50 * time.Millisecond):
	case <-ctx.Done():
	}
}

// Peers that ask for chunks on many streams, and read next to nothing of them, keep
// nobody else from being served.
func TestHoardersOfLanesAreCutOff(t *testing.T) {
	file := content(8 * mib)
	for hoarders := range 3 {
		synctest.Test(t, func(t *testing.T) {
			m := newMesh(t)
			m.add("good", file)
			here := m.add("here")
			ctx, cancel := context.WithCancel(t.Context())
			var waits []func()
			name := func(i int) string { return fmt.Sprint("hoarder", i) }
			for i := range hoarders + 1 { // all of them, before any looks for another
				m.add(name(i))
			}
			for i := range hoarders + 1 {
				waits = append(waits, hoard(ctx, m, name(i), "good", digestOf(file), servesPeerMax))
			}
			<-time.After(2 * time.Second) // they have all lanes, and are known to be slow
			begin := time.Now()
			if err := here.Fetch(t.Context(), digestOf(file), 0, []string{"good"}); err != nil {
				t.Errorf("beside %d: %v", hoarders+1, err)
			}
			took := time.Since(begin)
			t.Logf("beside %d that hoard, %d MiB took %v", hoarders+1, len(file)/mib, took)
			if took > time.Minute {
				t.Errorf("beside %d that hoard it took %v", hoarders+1, took)
			}
			cancel()
			for _, wait := range waits {
				wait()
			}
		})
	}
}
