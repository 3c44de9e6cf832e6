package memnet

import (
	"errors"
	"net"
	"os"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const (
	addrA = "10.0.0.1:7600"
	addrB = "10.0.0.2:7600"
)

func listen(t *testing.T, n *Network, addr string) net.PacketConn {
	t.Helper()
	c, err := n.Listen(addr)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func send(t *testing.T, from, to net.PacketConn, text string) {
	t.Helper()
	if _, err := from.WriteTo([]byte(text), to.LocalAddr()); err != nil {
		t.Fatal(err)
	}
}

// receive is the next packet, or "" when none comes within wait.
func receive(t *testing.T, c net.PacketConn, wait time.Duration) (text, from string) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(wait)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 2000)
	n, addr, err := c.ReadFrom(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return "", ""
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n]), addr.String()
}

func TestLatencyIsExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		a, b := listen(t, n, addrA), listen(t, n, addrB)
		n.SetLink(addrA, addrB, Link{Latency: 40 * time.Millisecond})
		begin := time.Now()
		send(t, a, b, "there")
		if got, from := receive(t, b, time.Second); got != "there" || from != addrA {
			t.Fatal(got, from)
		}
		send(t, b, a, "back")
		if got, _ := receive(t, a, time.Second); got != "back" || time.Since(begin) != 80*time.Millisecond {
			t.Fatal(got, time.Since(begin))
		}
	})
}

func TestCutsAreOneWayAndHeal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		a, b := listen(t, n, addrA), listen(t, n, addrB)
		exchange := func(there, back bool) {
			t.Helper()
			send(t, a, b, "x")
			send(t, b, a, "y")
			gotThere, _ := receive(t, b, time.Second)
			gotBack, _ := receive(t, a, time.Second)
			if (gotThere == "x") != there || (gotBack == "y") != back {
				t.Fatalf("there %q, back %q", gotThere, gotBack)
			}
		}
		exchange(true, true)
		n.Cut(addrA, addrB)
		exchange(false, true)
		n.Heal()
		exchange(true, true)
		n.Partition([]string{addrA, "10.9.9.9:1"}, []string{addrB})
		exchange(false, false)
		n.Heal()
		exchange(true, true)
	})
}

func TestLossAndJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		arrived := func(seed uint64) (order string) {
			n := New(seed)
			a, b := listen(t, n, addrA), listen(t, n, addrB)
			n.SetLink(addrA, addrB, Link{Latency: time.Millisecond, Jitter: 10 * time.Millisecond, Loss: 0.3})
			for i := range 1000 {
				send(t, a, b, strconv.Itoa(i))
			}
			count, last, back := 0, -1, 0
			for {
				text, _ := receive(t, b, time.Second)
				if text == "" {
					break
				}
				i, err := strconv.Atoi(text)
				if err != nil {
					t.Fatal(err)
				}
				if i < last {
					back++
				}
				last = i
				count++
				order += text + " "
			}
			if count < 600 || count > 800 {
				t.Errorf("%d of 1000 packets arrived with a loss of 30%%", count)
			}
			if back == 0 {
				t.Error("jitter changed no order")
			}
			n.Close()
			return order
		}
		first, again, other := arrived(1), arrived(1), arrived(2)
		if first != again {
			t.Error("the same seed loses other packets")
		}
		if first == other {
			t.Error("another seed loses the same packets")
		}
	})
}

func TestQueueIsBounded(t *testing.T) {
	n := New(1)
	a, b := listen(t, n, addrA), listen(t, n, addrB)
	for range queueMax + 100 {
		send(t, a, b, "x")
	}
	if got := len(b.(*conn).queue); got != queueMax {
		t.Fatalf("%d packets wait", got)
	}
}

func TestCloseAndListenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		a, b := listen(t, n, addrA), listen(t, n, addrB)
		if _, err := n.Listen(addrB); err == nil {
			t.Fatal("two at one address")
		}
		failed := make(chan error)
		go func() {
			_, _, err := b.ReadFrom(make([]byte, 1))
			failed <- err
		}()
		synctest.Wait()
		b.Close()
		if err := <-failed; !errors.Is(err, net.ErrClosed) {
			t.Fatal(err)
		}
		if _, err := b.WriteTo(nil, a.LocalAddr()); !errors.Is(err, net.ErrClosed) {
			t.Fatal(err)
		}
		send(t, a, b, "to nobody")
		again := listen(t, n, addrB)
		send(t, a, again, "hello")
		if got, _ := receive(t, again, time.Second); got != "hello" {
			t.Fatal(got)
		}
		n.Close()
		listen(t, n, addrA)
	})
}

func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		a, b := listen(t, n, addrA), listen(t, n, addrB)
		send(t, a, b, "x")
		if err := b.SetReadDeadline(time.Now().Add(-time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.ReadFrom(make([]byte, 9)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("%v: a deadline that has passed comes before a packet", err)
		}
		if got, _ := receive(t, b, time.Second); got != "x" {
			t.Fatal(got)
		}
		if err := b.SetReadDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		var readers sync.WaitGroup
		for range 3 { // all are woken by a deadline that is set while they wait
			readers.Go(func() {
				if _, _, err := b.ReadFrom(make([]byte, 9)); !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("%v; want that the deadline has passed", err)
				}
			})
		}
		synctest.Wait()
		if err := b.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		readers.Wait()
	})
}
