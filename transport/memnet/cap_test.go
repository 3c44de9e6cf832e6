package memnet

import (
	"errors"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// flood sends packets as fast as a link takes them, for so long, and says how
// many bytes come.
func flood(t *testing.T, to net.PacketConn, lasts time.Duration, from ...net.PacketConn) (bytes int64) {
	t.Helper()
	begin := time.Now()
	for _, c := range from {
		go func() {
			for time.Since(begin) < lasts {
				for range 10 {
					_, _ = c.WriteTo(make([]byte, 1000-headerLen), to.LocalAddr())
				}
				<-time.After(time.Millisecond)
			}
		}()
	}
	if err := to.SetReadDeadline(begin.Add(lasts)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 2000)
	for {
		n, _, err := to.ReadFrom(b)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			synctest.Wait()
			return bytes
		}
		if err != nil {
			t.Fatal(err)
		}
		bytes += int64(n + headerLen)
	}
}

func TestCaps(t *testing.T) {
	const mega = 1_000_000
	for _, c := range []struct {
		name     string
		up, down int64
		from     int
		wantMega float64 // in a second
	}{
		{"no bound", 0, 0, 1, 10},
		{"up", mega, 0, 1, 1},
		{"up of each of two", mega, 0, 2, 2},
		{"down", 0, mega, 1, 1},
		{"down of two together", 0, mega, 2, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			n := New(1)
			to := listen(t, n, "10.0.0.9:1")
			n.SetCap("10.0.0.9:1", Cap{Down: c.down})
			var from []net.PacketConn
			for i := range c.from {
				addr := net.JoinHostPort("10.0.0."+string(rune('1'+i)), "1")
				from = append(from, listen(t, n, addr))
				n.SetCap(addr, Cap{Up: c.up})
			}
			got := float64(flood(t, to, 2*time.Second, from...)) / 2 / mega
			if got < 0.9*c.wantMega || got > 1.1*c.wantMega {
				t.Errorf("%s: %.2f MB/s came, want %.1f", c.name, got, c.wantMega)
			}
			if _, down := n.Carried("10.0.0.9:1"); float64(down) < 1.9*c.wantMega*0.9*mega {
				t.Errorf("%s: it says that %d bytes came", c.name, down)
			}
			<-time.After(time.Second) // what is left ends
		})
	}
}

// A packet waits its turn, and no longer than the queue.
func TestCapQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		a, b := listen(t, n, addrA), listen(t, n, addrB)
		n.SetLink(addrA, addrB, Link{Latency: 40 * time.Millisecond})
		n.SetCap(addrA, Cap{Up: 10_000, Queue: 250 * time.Millisecond})
		begin := time.Now()
		for range 5 { // each takes 100 ms
			send(t, a, b, string(make([]byte, 1000-headerLen)))
		}
		for i := 1; i <= 3; i++ {
			if got, _ := receive(t, b, time.Second); len(got) != 1000-headerLen || time.Since(begin) != time.Duration(i)*100*time.Millisecond+40*time.Millisecond {
				t.Errorf("packet %d: %d bytes after %v", i, len(got), time.Since(begin))
			}
		}
		if got, _ := receive(t, b, time.Second); got != "" {
			t.Error("more than the queue holds came")
		}
		up, _ := n.Packets(addrA)
		if _, down := n.Packets(addrB); up != 3 || down != 3 {
			t.Errorf("it says that %d packets went up and %d came down, of 3", up, down)
		}
	})
}
