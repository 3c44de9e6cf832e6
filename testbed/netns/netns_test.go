package netns_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/testbed/links"
	"github.com/hansa-mesh/hansa/testbed/netns"
)

// hosts are two of them, with their switch running.
func hosts(t *testing.T, usual links.Link) (*netns.Switch, *netns.Host, *netns.Host) {
	t.Helper()
	s := netns.New(usual)
	a, err := s.Add("a")
	if errors.Is(err, netns.ErrNotAllowed) {
		t.Skipf("run as root to see this: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.Add("b")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s, a, b
}

// echo is a program of this test binary that answers TCP with what it hears.
const echoAddr = "10.77.0.2:4711"

func TestMain(m *testing.M) {
	if os.Getenv("NETNS_ECHO") == "" {
		os.Exit(m.Run())
	}
	l, err := net.Listen("tcp4", echoAddr)
	if err != nil {
		panic(err)
	}
	for {
		c, err := l.Accept()
		if err != nil {
			panic(err)
		}
		go func() {
			defer c.Close()
			_, _ = io.Copy(c, c) // until the other end is gone
		}()
	}
}

// A program inside hears another namespace, after the delay of the link both
// ways, and does not hear it through a cut in either direction.
func TestDelaysAndCuts(t *testing.T) {
	const delay = 30 * time.Millisecond
	s, a, b := hosts(t, links.Link{Delay: delay})
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "NETNS_ECHO=1")
	if err := b.Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it never ends by itself
		_ = cmd.Wait()
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn, err := dial(ctx, a)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	exchange := func() (time.Duration, error) {
		begin := time.Now()
		if _, err := conn.Write([]byte("!")); err != nil {
			return 0, err
		}
		_, err := io.ReadFull(conn, make([]byte, 1))
		return time.Since(begin), err
	}
	if took, err := exchange(); err != nil || took < 2*delay {
		t.Errorf("there and back took %v, %v: the links alone take %v", took, err, 2*delay)
	}
	for _, way := range [][2]string{{"a", "b"}, {"b", "a"}} {
		s.Cut(way[0], way[1])
		if err := conn.SetDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if _, err := exchange(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("through a cut from %s to %s: %v", way[0], way[1], err)
		}
		s.Heal()
		if err := conn.SetDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil { // TCP says it again
			t.Errorf("after the cut from %s to %s was mended: %v", way[0], way[1], err)
		}
	}
}

// dial waits for the program to listen.
func dial(ctx context.Context, from *netns.Host) (net.Conn, error) {
	for {
		conn, err := from.Dial(ctx, "tcp4", echoAddr)
		if err == nil || ctx.Err() != nil {
			return conn, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func TestLoss(t *testing.T) {
	s, a, _ := hosts(t, links.Link{Loss: 1})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := a.Dial(ctx, "tcp4", echoAddr); err == nil {
		t.Error("something listens there")
	}
	if _, dropped := s.Counts(); dropped == 0 {
		t.Error("nothing was dropped")
	}
}

func TestNamesAreOnceOnly(t *testing.T) {
	s := netns.New(links.Link{})
	s.Join("a")
	if _, err := s.Add("a"); err == nil {
		t.Error("the same name twice")
	}
}
