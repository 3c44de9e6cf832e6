package artifact

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/transport"
)

// hog has a peer ask for chunks on several streams, again and again, and read so many
// bytes a second of each.
func (m *mesh) hog(name, from, digest string, streams, pace int) {
	m.t.Helper()
	m.add(name)
	for range streams {
		s, err := m.open(m.t.Context(), name, from)
		if err != nil {
			m.t.Fatal(err)
		}
		m.serves.Go(func() {
			defer s.Close()
			for m.ctx.Err() == nil && m.hogs(s, digest, pace) == nil {
			}
		})
	}
}

func (m *mesh) hogs(s Stream, digest string, pace int) error {
	if err := transport.WriteFrame(s, request{Digest: digest, What: askChunk}); err != nil {
		return err
	}
	a := answer{Say: sayWait}
	for a.Say == sayWait {
		a = answer{}
		if err := transport.ReadFrame(s, &a, frameMax); err != nil {
			return err
		}
	}
	for left := a.Length; ; {
		select {
		case <-time.After(time.Second):
		case <-m.ctx.Done():
			return m.ctx.Err()
		}
		if left == 0 { // or it is busy
			return nil
		}
		n, err := s.Read(make([]byte, min(left, pace)))
		if err != nil {
			return err
		}
		left -= n
	}
}

// One peer that reads slowly, on as many streams as it may have, keeps nobody else
// from a chunk.
func TestOneSlowReaderTakesNotAllLanes(t *testing.T) {
	file := content(3 * mib)
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t)
		m.add("good", file)
		m.hog("hog", "good", digestOf(file), servesPeerMax-1, 2*leastPace)
		here := m.add("here")
		synctest.Wait()
		<-time.After(15 * time.Second) // of the bubble: it has all lanes that it can get
		begin := time.Now()
		if err := here.Fetch(t.Context(), digestOf(file), 0, []string{"good"}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// Many that hardly read at all are broken off when another waits.
func TestSendsThatHardlyMoveAreBrokenOff(t *testing.T) {
	file := content(3 * mib)
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t)
		m.add("good", file)
		for i := range sendsMax + slowMax {
			m.hog(fmt.Sprint("hog", i), "good", digestOf(file), 2, leastPace/4)
		}
		here := m.add("here")
		synctest.Wait()
		<-time.After(time.Minute) // of the bubble
		begin := time.Now()
		if err := here.Fetch(t.Context(), digestOf(file), 0, []string{"good"}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took > 15*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}
