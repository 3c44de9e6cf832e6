package transport

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/transport/memnet"
	"github.com/hansa-mesh/hansa/transport/trust"
)

func callWithin(t *testing.T, from, to *member, wait time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	_, err := from.Call(ctx, to.ID(), "echo", nil)
	return err
}

// A peer that crashed, and so said no good-bye, is reached at once when it is
// back at its port: it answers what belongs to its former life with a reset.
func TestCrashAndRestartOnTheSamePort(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a, b := m.pair(nil, nil)
		if err := callWithin(t, a, b, time.Second); err != nil {
			t.Fatal(err)
		}
		m.net.Cut(b.addr, a.addr)
		b.stop()
		m.net.Heal()
		m.run(b, nil, nil)
		begin := time.Now()
		for callWithin(t, a, b, time.Second) != nil {
			if time.Since(begin) > 200*time.Millisecond {
				t.Fatalf("not reachable %v after it is back", time.Since(begin))
			}
		}
		if d := a.Stats().Dials; d != 2 {
			t.Errorf("%d dials", d)
		}
	})
}

func TestManyCallersShareOneDial(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a, b := m.pair(nil, nil)
		var callers sync.WaitGroup
		for range 200 {
			callers.Go(func() {
				if err := callWithin(t, a, b, 5*time.Second); err != nil {
					t.Error(err)
				}
			})
		}
		callers.Wait()
		if d := a.Stats().Dials; d != 1 {
			t.Fatalf("%d dials for calls at one time", d)
		}
	})
}

func TestBothDialAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a, b := m.pair(nil, nil)
		for range 20 {
			var both sync.WaitGroup
			for _, way := range [][2]*member{{a, b}, {b, a}} {
				both.Go(func() {
					if err := callWithin(t, way[0], way[1], 5*time.Second); err != nil {
						t.Error(err)
					}
				})
			}
			both.Wait()
			a.Disconnect(b.ID(), "test")
			time.Sleep(time.Second)
			if n := len(a.Peers()) + len(b.Peers()); n != 0 {
				t.Fatalf("%d ends are left", n)
			}
		}
	})
}

func TestBackOff(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a, b := m.pair(nil, nil)
		m.net.Partition([]string{a.addr}, []string{b.addr})
		begin := time.Now()
		err := callWithin(t, a, b, 10*time.Second)
		if KindOf(err) != KindUnavailable || time.Since(begin) > 3*time.Second {
			t.Fatalf("%v after %v; want unavailable soon", err, time.Since(begin))
		}
		for range 100 { // while it is early, the last error comes at once
			_ = callWithin(t, a, b, 10*time.Second)
			time.Sleep(100 * time.Millisecond)
		}
		if d := a.Stats().Dials; d > 30 {
			t.Errorf("%d dials in %v", d, time.Since(begin))
		}
		m.net.Heal()
		a.Learn(b.ID(), b.addr) // nothing new
		// An inbound contact ends the wait.
		if err := callWithin(t, b, a, 5*time.Second); err != nil {
			t.Fatal(err)
		}
		begin = time.Now()
		if err := callWithin(t, a, b, time.Second); err != nil || time.Since(begin) > 25*time.Millisecond {
			t.Fatalf("%v after %v", err, time.Since(begin))
		}
	})
}

func TestANewAddressEndsTheWait(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a, b := m.pair(nil, nil)
		a.Learn(b.ID(), "10.0.0.99:1") // nobody
		for range 5 {
			if err := callWithin(t, a, b, 10*time.Second); err == nil {
				t.Fatal("a call to nobody")
			}
			time.Sleep(backoffMax)
		}
		a.Learn(b.ID(), b.addr)
		begin := time.Now()
		if err := callWithin(t, a, b, 10*time.Second); err != nil || time.Since(begin) > 200*time.Millisecond {
			t.Fatalf("%v after %v", err, time.Since(begin))
		}
	})
}

// A peer that moved is found where Resolve says, or where it called from.
func TestOtherAddressesAreTried(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		var b *member
		a, b := m.pair(nil, func(c *Config) {
			c.Resolve = func(string) (string, bool) { return "10.0.0.98:1", true } // wrong
		})
		if err := callWithin(t, b, a, 30*time.Second); err != nil {
			t.Fatal(err)
		}
		a.Disconnect(b.ID(), "test")
		a.Learn(b.ID(), "10.0.0.99:1") // wrong too
		time.Sleep(time.Second)
		begin := time.Now()
		for callWithin(t, a, b, 10*time.Second) != nil {
			time.Sleep(100 * time.Millisecond)
			if time.Since(begin) > 15*time.Second {
				t.Fatal("never tried where it called from")
			}
		}
	})
}

func TestLossyLink(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a, b := m.pair(nil, nil)
		m.net.SetLink(a.addr, b.addr, memnet.Link{Latency: 75 * time.Millisecond, Jitter: 20 * time.Millisecond, Loss: 0.05})
		failed := 0
		for range 100 {
			if callWithin(t, a, b, 5*time.Second) != nil {
				failed++
			}
		}
		if failed > 2 {
			t.Fatalf("%d of 100 calls failed at a loss of 5%%", failed)
		}
	})
}

func TestDeadlineTravels(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		left := make(chan time.Duration, 1)
		a, b := m.pair(func(tr *Transport) {
			tr.Handle("x", func(ctx context.Context, _ string, _ []byte) ([]byte, error) {
				at, ok := ctx.Deadline()
				if !ok {
					t.Error("no deadline")
				}
				left <- time.Until(at)
				<-ctx.Done()
				return nil, ctx.Err()
			})
		}, nil)
		begin := time.Now()
		err := func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			_, err := a.Call(ctx, b.ID(), "x", nil)
			return err
		}()
		if KindOf(err) != KindTimeout || !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != 3*time.Second {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		if d := <-left; d < 2500*time.Millisecond || d > 3*time.Second {
			t.Errorf("the handler had %v", d)
		}
		time.Sleep(time.Second)
		if n := len(b.serving); n != 0 {
			t.Errorf("%d are still being served", n)
		}
	})
}

// Who serves a stream learns that the caller went away, though it only waits.
func TestStreamContextEndsWithTheCaller(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		served := make(chan struct{}, 1)
		a, b := m.pair(func(tr *Transport) {
			tr.HandleStream("wait", func(ctx context.Context, _ string, s *Stream) error {
				served <- struct{}{}
				<-s.Context().Done()
				served <- struct{}{}
				return ctx.Err()
			})
		}, nil)
		s, err := a.Open(t.Context(), b.ID(), "wait")
		if err != nil {
			t.Fatal(err)
		}
		<-served
		s.Close()
		<-served
	})
}

func TestStreamDeadlinesAndCancel(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		ended := make(chan error, 1)
		a, b := m.pair(func(tr *Transport) {
			tr.HandleStream("hold", func(_ context.Context, _ string, s *Stream) error {
				_, err := io.Copy(io.Discard, s)
				ended <- err
				return err
			})
			tr.HandleStream("panic", func(context.Context, string, *Stream) error { panic("boom") })
		}, nil)
		s, err := a.Open(t.Context(), b.ID(), "hold")
		if err != nil {
			t.Fatal(err)
		}
		if err := s.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%v; want that the deadline has passed", err)
		}
		s.Cancel()
		if err := <-ended; err == nil {
			t.Error("the other end took a cancelled stream for a whole one")
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		s, err = a.Open(t.Context(), b.ID(), "panic")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(s); err == nil {
			t.Error("a panic looks like an end")
		}
		s.Close()
		time.Sleep(time.Second)
		for _, p := range append(a.Peers(), b.Peers()...) {
			if p.Streams != 0 {
				t.Errorf("%v: streams are left", p)
			}
		}
	})
}

func TestStopWhileBusy(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		var handlers atomic.Int64
		a, b := m.pair(func(tr *Transport) {
			tr.Handle("wait", func(ctx context.Context, _ string, _ []byte) ([]byte, error) {
				handlers.Add(1)
				defer handlers.Add(-1)
				<-ctx.Done()
				return nil, ctx.Err()
			})
		}, nil)
		var callers sync.WaitGroup
		for range 50 {
			callers.Go(func() {
				if _, err := a.Call(t.Context(), b.ID(), "wait", nil); KindOf(err) != KindUnavailable {
					t.Errorf("%v; want unavailable", err)
				}
			})
		}
		time.Sleep(time.Second)
		b.stop()
		if handlers.Load() != 0 {
			t.Error("Run returned before its handlers")
		}
		callers.Wait()
		b.stop = func() {}
		if _, err := b.Call(t.Context(), a.ID(), "echo", nil); KindOf(err) != KindUnavailable {
			t.Errorf("%v; want unavailable", err)
		}
		if _, _, err := b.PacketConn().ReadFrom(nil); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%v; want closed", err)
		}
		if _, err := b.AcceptGossip(t.Context()); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%v; want closed", err)
		}
		if err := b.Run(t.Context()); err == nil {
			t.Error("it ran a second time")
		}
	})
}

func TestPacketsOfOneDeadPeerHoldUpNoOther(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a, b := m.pair(nil, nil)
		dead := newIdentity(t)
		a.Learn(dead.ID(), "10.0.0.99:1")
		begin := time.Now()
		for range 1000 {
			if _, err := a.PacketConn().WriteTo([]byte("x"), Addr(dead.ID())); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := a.PacketConn().WriteTo([]byte("hello"), Addr(b.ID())); err != nil {
			t.Fatal(err)
		}
		buffer := make([]byte, 100)
		n, _, err := b.PacketConn().ReadFrom(buffer)
		if err != nil || string(buffer[:n]) != "hello" || time.Since(begin) > 100*time.Millisecond {
			t.Fatalf("%q, %v after %v", buffer[:n], err, time.Since(begin))
		}
		if st := a.Stats(); st.PacketsDropped < 1000-packetsOutMax-1 {
			t.Errorf("%d dropped packets were counted", st.PacketsDropped)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.peers[dead.ID()].packets != nil {
			t.Error("the dead peer's goroutine stays")
		}
	})
}

func TestPacketDeadlines(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a, b := m.pair(nil, nil)
		c := b.PacketConn()
		begin := time.Now()
		if err := c.SetReadDeadline(begin.Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.ReadFrom(nil); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begin) != time.Second {
			t.Fatalf("%v after %v", err, time.Since(begin))
		}
		time.AfterFunc(time.Second, func() { _ = c.SetReadDeadline(time.Time{}) })
		time.AfterFunc(3*time.Second, func() { _, _ = a.PacketConn().WriteTo([]byte("x"), c.LocalAddr()) })
		if err := c.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if n, from, err := c.ReadFrom(make([]byte, 9)); n != 1 || err != nil || from.String() != a.ID() {
			t.Fatal(n, from, err)
		}
		if _, err := a.PacketConn().WriteTo(make([]byte, packetMax+1), c.LocalAddr()); KindOf(err) != KindTooLarge {
			t.Errorf("%v; want too_large", err)
		}
	})
}

func TestTypedCalls(t *testing.T) {
	type question struct{ A, B int }
	type answer struct{ Sum int }
	bubble(t, func(t *testing.T, m *mesh) {
		a, b := m.pair(func(tr *Transport) {
			HandleTyped(tr, "add", func(_ context.Context, _ string, q question) (answer, error) { return answer{q.A + q.B}, nil })
		}, nil)
		got, err := CallTyped[question, answer](t.Context(), a.Transport, b.ID(), "add", question{2, 3})
		if err != nil || got.Sum != 5 {
			t.Fatal(got, err)
		}
		if _, err := a.Call(t.Context(), b.ID(), "add", []byte("no CBOR")); KindOf(err) != KindInvalid {
			t.Errorf("%v; want invalid", err)
		}
		if _, err := CallTyped[question, string](t.Context(), a.Transport, b.ID(), "add", question{}); KindOf(err) != KindInternal {
			t.Errorf("%v; want internal", err)
		}
	})
}

// A call that crosses the end of a quiet connection is made again: it was not
// served.
func TestCallsCrossAQuietEnd(t *testing.T) {
	again := 0
	for offset := -300 * time.Millisecond; offset <= 300*time.Millisecond; offset += 20 * time.Millisecond {
		bubble(t, func(t *testing.T, m *mesh) {
			var served atomic.Int64
			a, b := m.pair(func(tr *Transport) {
				tr.Handle("count", func(context.Context, string, []byte) ([]byte, error) { served.Add(1); return nil, nil })
			}, func(c *Config) { c.QuietTimeout = 5 * time.Second })
			m.net.SetLink(a.addr, b.addr, memnet.Link{Latency: 100 * time.Millisecond})
			begin := time.Now()
			if err := callWithin(t, a, b, time.Second); err != nil {
				t.Fatal(err)
			}
			time.Sleep(quietLook + offset - time.Since(begin))
			a.mu.Lock()
			for _, c := range a.peers[b.ID()].conns {
				c.touch() // so that only the other end finds it quiet
			}
			a.mu.Unlock()
			dials := a.Stats().Dials
			if _, err := a.Call(t.Context(), b.ID(), "count", nil); err != nil || served.Load() != 1 {
				t.Fatalf("%v before the other end looks: %v, served %d times", -offset, err, served.Load())
			}
			again += int(a.Stats().Dials - dials)
		})
	}
	if again == 0 {
		t.Fatal("no call met the end of a connection; the test tests nothing")
	}
}

// One that was let in by a peer that was shut out with all it had let in is
// back as soon as another lets it in, wherever that is not known yet.
func TestLetInAgainByAnother(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		ida, bad, idc := newIdentity(t), newIdentity(t), newIdentity(t)
		ra, rb, rc := admission(t, m.root, ida, "a"), admission(t, m.root, bad, "bad"), admission(t, bad, idc, "c")
		out, err := trust.Revoke(m.root, trust.Revocation{Peer: bad.ID(), WithAdmitted: true})
		if err != nil {
			t.Fatal(err)
		}
		a := m.member(ida, [][]byte{ra, rb, rc, out}, nil, nil)
		c := m.member(idc, [][]byte{ra, rb, rc, out}, nil, nil)
		c.Learn(a.ID(), a.addr)
		if err := callWithin(t, c, a, time.Second); KindOf(err) != KindForbidden {
			t.Fatalf("%v; want forbidden", err)
		}
		if _, err := c.set.Add(admission(t, m.root, idc, "c")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(backoffMax)
		if err := callWithin(t, c, a, time.Second); err != nil {
			t.Fatal(err)
		}
	})
}
