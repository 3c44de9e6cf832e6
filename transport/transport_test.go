package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/transport/identity"
	"github.com/hansa-mesh/hansa/transport/memnet"
	"github.com/hansa-mesh/hansa/transport/trust"
)

// mesh is a few transports on one in-memory network.
type mesh struct {
	t     *testing.T
	net   *memnet.Network
	root  *identity.Identity
	all   []*member
	ports int
}

type member struct {
	*Transport
	addr string
	id   *identity.Identity
	set  *trust.Set
	stop func()
}

func (m *member) udp() *net.UDPAddr {
	addr, err := net.ResolveUDPAddr("udp", m.addr)
	if err != nil {
		panic(err)
	}
	return addr
}

func newIdentity(t testing.TB) *identity.Identity {
	t.Helper()
	id, err := identity.New()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func admission(t testing.TB, by, who *identity.Identity, name string) []byte {
	t.Helper()
	record, err := trust.Admit(by, trust.Admission{Key: who.Public(), Name: name, Site: "s"})
	if err != nil {
		t.Fatal(err)
	}
	return record
}

func newMesh(t *testing.T) *mesh {
	return &mesh{t: t, net: memnet.New(1), root: newIdentity(t)}
}

// member makes one that knows the given records.
func (m *mesh) member(id *identity.Identity, records [][]byte, setup func(*Transport), change func(*Config)) *member {
	m.t.Helper()
	p := &member{addr: fmt.Sprintf("10.0.0.%d:7600", len(m.all)+1), id: id, set: trust.NewSet(m.root.Public())}
	for _, r := range records {
		if _, err := p.set.Add(r); err != nil {
			m.t.Fatal(err)
		}
	}
	m.all = append(m.all, p)
	m.run(p, setup, change)
	return p
}

func (m *mesh) run(p *member, setup func(*Transport), change func(*Config)) {
	m.t.Helper()
	conn, err := m.net.Listen(p.addr)
	if err != nil {
		m.t.Fatal(err)
	}
	cfg := Config{Identity: p.id, Trust: p.set, Conn: conn}
	if change != nil {
		change(&cfg)
	}
	if p.Transport, err = New(cfg); err != nil {
		m.t.Fatal(err)
	}
	p.Handle("echo", func(_ context.Context, from string, request []byte) ([]byte, error) {
		return append([]byte(from+":"), request...), nil
	})
	if setup != nil {
		setup(p.Transport)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Transport.Run(ctx) }()
	<-p.ready
	p.stop = func() {
		cancel()
		if err := <-done; err != nil {
			m.t.Error(err)
		}
		conn.Close()
	}
}

// pair is two members that know each other, 20 ms apart.
func (m *mesh) pair(setup func(*Transport), change func(*Config)) (a, b *member) {
	ida, idb := newIdentity(m.t), newIdentity(m.t)
	records := [][]byte{admission(m.t, m.root, ida, "a"), admission(m.t, m.root, idb, "b")}
	a, b = m.member(ida, records, nil, change), m.member(idb, records, setup, change)
	m.net.SetLink(a.addr, b.addr, memnet.Link{Latency: 10 * time.Millisecond})
	a.Learn(b.ID(), b.addr)
	b.Learn(a.ID(), a.addr)
	return a, b
}

func (m *mesh) close() {
	for _, p := range m.all {
		p.stop()
	}
	m.net.Close()
}

// bubble runs a test in virtual time with a mesh that is closed at the end.
func bubble(t *testing.T, f func(t *testing.T, m *mesh)) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t)
		defer m.close()
		f(t, m)
	})
}

func TestCall(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a, b := m.pair(nil, nil)
		got, err := a.Call(t.Context(), b.ID(), "echo", []byte("hello"))
		if err != nil || string(got) != a.ID()+":hello" {
			t.Fatalf("%q, %v", got, err)
		}
		begin := time.Now()
		if _, err := a.Call(t.Context(), b.ID(), "echo", nil); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took > 25*time.Millisecond {
			t.Fatalf("a call over a live connection took %v; want one round trip of 20 ms", took)
		}
		if rtt, ok := a.RTT(b.ID()); !ok || rtt < 15*time.Millisecond || rtt > 60*time.Millisecond {
			t.Fatalf("rtt %v %v", rtt, ok)
		}
		if _, err := a.Call(t.Context(), b.ID(), "nothing", nil); KindOf(err) != KindNotFound {
			t.Fatalf("%v; want not_found", err)
		}
		if _, err := b.Call(t.Context(), a.ID(), "echo", nil); err != nil { // over the same connection
			t.Fatal(err)
		}
		if b.Stats().Dials != 0 {
			t.Fatal("the inbound connection was not shared")
		}
	})
}

func TestErrorsKeepTheirKind(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a, b := m.pair(func(tr *Transport) {
			tr.Handle("full", func(context.Context, string, []byte) ([]byte, error) {
				return nil, fmt.Errorf("deep: %w", &Error{Kind: KindFull, Msg: "no room"})
			})
			tr.Handle("panic", func(context.Context, string, []byte) ([]byte, error) { panic("boom") })
			tr.Handle("slow", func(ctx context.Context, _ string, _ []byte) ([]byte, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			})
		}, func(c *Config) { c.RequestMax = 1000 })
		for method, want := range map[string]Kind{"full": KindFull, "panic": KindInternal} {
			if _, err := a.Call(t.Context(), b.ID(), method, nil); KindOf(err) != want {
				t.Errorf("%s: %v; want %s", method, err, want)
			}
		}
		if _, err := a.Call(t.Context(), b.ID(), "echo", make([]byte, 1001)); KindOf(err) != KindTooLarge {
			t.Errorf("%v; want too_large", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := a.Call(ctx, b.ID(), "slow", nil); KindOf(err) != KindTimeout {
			t.Errorf("%v; want timeout", err)
		}
	})
}

func TestCancelReachesTheHandler(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		ended := make(chan error, 1)
		a, b := m.pair(func(tr *Transport) {
			tr.Handle("slow", func(ctx context.Context, _ string, _ []byte) ([]byte, error) {
				<-ctx.Done()
				ended <- ctx.Err()
				return nil, ctx.Err()
			})
		}, nil)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, err := a.Call(ctx, b.ID(), "slow", nil); !errors.Is(err, context.Canceled) && KindOf(err) != KindUnavailable {
			t.Fatal(err)
		}
		begin := time.Now()
		<-ended
		if time.Since(begin) > time.Second {
			t.Fatal("the handler was not told that the caller left")
		}
	})
}

func TestTooManyAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		release := make(chan struct{})
		a, b := m.pair(func(tr *Transport) {
			tr.Handle("wait", func(context.Context, string, []byte) ([]byte, error) { <-release; return nil, nil })
		}, func(c *Config) { c.InFlightPeerMax = 4 })
		results := make(chan error, 6)
		for range 6 {
			go func() { _, err := a.Call(t.Context(), b.ID(), "wait", nil); results <- err }()
		}
		time.Sleep(time.Second) // virtual
		close(release)
		exhausted := 0
		for range 6 {
			if err := <-results; KindOf(err) == KindExhausted {
				exhausted++
			} else if err != nil {
				t.Fatal(err)
			}
		}
		if exhausted != 2 {
			t.Fatalf("%d calls were refused; want 2 of 6 with room for 4", exhausted)
		}
	})
}

func TestStreams(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a, b := m.pair(func(tr *Transport) {
			tr.HandleStream("upper", func(_ context.Context, _ string, s *Stream) error {
				data, err := io.ReadAll(s)
				if err != nil {
					return err
				}
				_, err = s.Write([]byte(strings.ToUpper(string(data))))
				return err
			})
		}, nil)
		for range 3000 { // more than there is stream credit: none may leak
			s, err := a.Open(t.Context(), b.ID(), "upper")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Write([]byte("abc")); err != nil {
				t.Fatal(err)
			}
			if err := s.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(s); err != nil || string(got) != "ABC" {
				t.Fatalf("%q, %v", got, err)
			}
			s.Close()
		}
		s, err := a.Open(t.Context(), b.ID(), "nothing")
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if _, err := s.Read(make([]byte, 1)); KindOf(err) != KindNotFound {
			t.Fatalf("%v; want not_found", err)
		}
	})
}

func TestStrangerIsHeldBack(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		served := 0
		ida, idb, stranger := newIdentity(t), newIdentity(t), newIdentity(t)
		records := [][]byte{admission(t, m.root, ida, "a"), admission(t, m.root, idb, "b")}
		a := m.member(ida, records, func(tr *Transport) {
			tr.Handle("count", func(context.Context, string, []byte) ([]byte, error) { served++; return nil, nil })
		}, nil)
		// The stranger knows the mesh, but the mesh does not know it; it even
		// believes in itself.
		forged := admission(t, stranger, stranger, "x")
		x := m.member(stranger, append(records, forged), nil, nil)
		x.Learn(a.ID(), a.addr)
		if _, err := x.Call(t.Context(), a.ID(), "count", nil); KindOf(err) != KindForbidden {
			t.Fatalf("%v; want forbidden", err)
		}
		if served != 0 || a.Stats().Served != 0 {
			t.Fatal("a stranger was served")
		}
		if a.Stats().Refused == 0 {
			t.Fatal("the refusal was not counted")
		}
	})
}

func TestUnknownDiallerShowsItsChain(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		ida, idb, idc := newIdentity(t), newIdentity(t), newIdentity(t)
		ra, rb := admission(t, m.root, ida, "a"), admission(t, m.root, idb, "b")
		rc := admission(t, idb, idc, "c") // b let c in; a has heard of neither
		a := m.member(ida, [][]byte{ra}, nil, nil)
		c := m.member(idc, [][]byte{ra, rb, rc}, nil, nil)
		c.Learn(a.ID(), a.addr)
		if _, err := c.Call(t.Context(), a.ID(), "echo", nil); err != nil {
			t.Fatal(err)
		}
		if err := a.set.Admitted(c.ID()); err != nil {
			t.Fatalf("a did not learn of c: %v", err)
		}
	})
}

func TestRevocationClosesLiveConnections(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a, b := m.pair(nil, nil)
		if _, err := b.Call(t.Context(), a.ID(), "echo", nil); err != nil {
			t.Fatal(err)
		}
		out, err := trust.Revoke(a.id, trust.Revocation{Peer: b.ID()})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.set.Add(out); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // virtual: the close arrives
		_, err = b.Call(t.Context(), a.ID(), "echo", nil)
		if KindOf(err) != KindForbidden || !strings.Contains(err.Error(), "revoked by") {
			t.Fatalf("%v; want forbidden, and by whom", err)
		}
	})
}

func TestCutHealsAndRestartIsQuick(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a, b := m.pair(nil, nil)
		call := func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			_, err := a.Call(ctx, b.ID(), "echo", nil)
			return err
		}
		if err := call(); err != nil {
			t.Fatal(err)
		}
		m.net.Partition([]string{a.addr}, []string{b.addr})
		if err := call(); err == nil {
			t.Fatal("a call crossed a cut")
		}
		time.Sleep(time.Minute)
		if err := call(); err == nil {
			t.Fatal("a call crossed a cut")
		}
		m.net.Heal()
		begin := time.Now()
		for call() != nil {
			time.Sleep(50 * time.Millisecond)
			if time.Since(begin) > 5*time.Second {
				t.Fatal("no call 5 s after the cut was mended")
			}
		}
		b.stop() // and come back at the same address
		m.run(b, nil, nil)
		b.Learn(a.ID(), a.addr)
		begin = time.Now()
		for call() != nil {
			time.Sleep(50 * time.Millisecond)
			if time.Since(begin) > 5*time.Second {
				t.Fatal("no call 5 s after a restart")
			}
		}
	})
}

func TestQuietConnectionsAreClosed(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a, b := m.pair(nil, nil)
		if _, err := a.Call(t.Context(), b.ID(), "echo", nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if len(a.Peers()) != 1 {
			t.Fatal("the connection was not kept alive")
		}
		time.Sleep(3 * time.Minute)
		if n := len(a.Peers()) + len(b.Peers()); n != 0 {
			t.Fatalf("%d ends of connections after minutes of silence", n)
		}
	})
}

func TestGossipPort(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a, b := m.pair(nil, nil)
		large := strings.Repeat("x", 20_000)
		for _, text := range []string{"small", large} {
			if _, err := a.PacketConn().WriteTo([]byte(text), Addr(b.ID())); err != nil {
				t.Fatal(err)
			}
			buffer := make([]byte, 64<<10)
			n, from, err := b.PacketConn().ReadFrom(buffer)
			if err != nil || string(buffer[:n]) != text || from.String() != a.ID() {
				t.Fatalf("%d bytes from %v, %v", n, from, err)
			}
		}
		// A peer that is nowhere blocks nobody.
		for range 1000 {
			if _, err := a.PacketConn().WriteTo([]byte("x"), Addr("nowhere")); err != nil {
				t.Fatal(err)
			}
		}
		out, err := a.DialGossip(t.Context(), b.ID())
		if err != nil {
			t.Fatal(err)
		}
		in, err := b.AcceptGossip(t.Context())
		if err != nil || in.RemoteAddr().String() != a.ID() {
			t.Fatal(err)
		}
		go func() { _, _ = out.Write([]byte("push")); out.Close() }()
		if got, err := io.ReadAll(in); err != nil || string(got) != "push" {
			t.Fatalf("%q, %v", got, err)
		}
		in.Close()
	})
}
