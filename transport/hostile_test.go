package transport

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/hansa-mesh/hansa/transport/identity"
	"github.com/hansa-mesh/hansa/transport/memnet"
	"github.com/hansa-mesh/hansa/transport/trust"
)

// raw dials a member with QUIC alone, and says nothing of its own.
func (m *mesh) raw(id *identity.Identity, to *member) (*quic.Conn, func()) {
	m.t.Helper()
	port := &quic.Transport{Conn: m.port()}
	q, err := port.Dial(m.t.Context(), to.udp(), clientTLS(id, to.ID(), protocolPeers), &quic.Config{EnableDatagrams: true})
	if err != nil {
		m.t.Fatal(err)
	}
	return q, func() { port.Close() }
}

func closedBecause(t *testing.T, q *quic.Conn) string {
	t.Helper()
	select {
	case <-q.Context().Done():
	case <-time.After(time.Minute):
		t.Fatal("the connection of a stranger stays open")
	}
	var app *quic.ApplicationError
	if !errors.As(context.Cause(q.Context()), &app) || !app.Remote {
		t.Fatalf("closed by %v", context.Cause(q.Context()))
	}
	return app.ErrorMessage
}

// What a stranger sends with its handshake is not even read.
func TestNothingIsTakenBeforeAdmission(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		id, stranger := newIdentity(t), newIdentity(t)
		var served atomic.Int64
		a := m.member(id, [][]byte{admission(t, m.root, id, "a")}, func(tr *Transport) {
			tr.Handle("x", func(context.Context, string, []byte) ([]byte, error) { served.Add(1); return nil, nil })
			tr.HandleStream("x", func(context.Context, string, *Stream) error { served.Add(1); return nil })
		}, nil)
		q, done := m.raw(stranger, a)
		defer done()
		for _, frame := range []string{"c\x01x\x00\x00\x10\x00\x00\x00\x00\x00", "s\x01x", "g"} {
			s, err := q.OpenStreamSync(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Write([]byte(frame)); err != nil {
				t.Fatal(err)
			}
		}
		if err := q.SendDatagram([]byte("packet")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // virtual: all of it is there, and no hello
		if len(a.accepted) != 0 || len(a.gossip.in) != 0 || served.Load() != 0 || len(a.Peers()) != 0 {
			t.Error("a stranger was served before it said who it is")
		}
		if why := closedBecause(t, q); !strings.HasPrefix(why, "refused: ") {
			t.Errorf("closed because %q", why)
		}
		st := a.Stats()
		if served.Load() != 0 || st.Served != 0 || st.PacketsIn != 0 || st.Refused != 1 {
			t.Errorf("%+v", st)
		}
	})
}

func TestHellosThatProveNothing(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		id, victim, stranger := newIdentity(t), newIdentity(t), newIdentity(t)
		records := [][]byte{admission(t, m.root, id, "a"), admission(t, m.root, victim, "v")}
		a := m.member(id, records, nil, nil)
		revocation, err := trust.Revoke(victim, trust.Revocation{Peer: id.ID()})
		if err != nil {
			t.Fatal(err)
		}
		forged := bytes.Clone(records[1])
		forged[len(forged)-1] ^= 1
		for name, hello := range map[string][]byte{
			"nothing": {}, "another first byte": []byte("p"), "a length without bytes": []byte("h\xff\xff\xff\xff"), "cut": []byte("h\x00\x00"),
			"too long": append([]byte("h"), make([]byte, helloMax)...), "noise": append([]byte("h\x00\x00\x00\x05"), "noise"...),
			"the chain of another": encodeHello([][]byte{records[1]}), "a forged one": encodeHello([][]byte{forged}),
			"an admission by itself":   encodeHello([][]byte{admission(t, stranger, stranger, "x")}),
			"a revocation by a member": encodeHello([][]byte{revocation}),
		} {
			before := len(a.set.Records())
			q, done := m.raw(stranger, a)
			s, err := q.OpenUniStreamSync(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Write(hello); err == nil {
				s.Close()
			}
			if why := closedBecause(t, q); !strings.HasPrefix(why, "refused: ") {
				t.Errorf("%s: closed because %q", name, why)
			}
			if len(a.set.Records()) != before {
				t.Errorf("%s: a stranger brought a record", name)
			}
			done()
		}
		if err := a.set.Admitted(a.ID()); err != nil {
			t.Errorf("a stranger's hello shut a peer out of its own mesh: %v", err)
		}
	})
}

func TestRefusedDiallerWaitsAndIsLetInLater(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		ida, late := newIdentity(t), newIdentity(t)
		ra := admission(t, m.root, ida, "a")
		a := m.member(ida, [][]byte{ra}, nil, nil)
		x := m.member(late, [][]byte{ra}, nil, nil)
		x.Learn(a.ID(), a.addr)
		for range 1000 {
			_, err := x.Call(t.Context(), a.ID(), "echo", nil)
			if KindOf(err) != KindForbidden || !strings.Contains(err.Error(), "refused: ") {
				t.Fatalf("%v", err)
			}
			time.Sleep(time.Millisecond)
		}
		if dials := x.Stats().Dials; dials > 10 {
			t.Errorf("%d dials in a second or two to a peer that refuses", dials)
		}
		record := admission(t, m.root, late, "late")
		if _, err := x.set.Add(record); err != nil {
			t.Fatal(err)
		}
		time.Sleep(backoffMax)
		if _, err := x.Call(t.Context(), a.ID(), "echo", nil); err != nil {
			t.Error(err)
		}
	})
}

func TestWrongKeyAtTheAddress(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a, b := m.pair(nil, nil)
		c := newIdentity(t)
		if _, err := a.set.Add(admission(t, m.root, c, "c")); err != nil {
			t.Fatal(err)
		}
		a.Learn(c.ID(), b.addr)
		_, err := a.Call(t.Context(), c.ID(), "echo", nil)
		if err == nil || !strings.Contains(err.Error(), b.ID()) || b.Stats().Served != 0 {
			t.Fatalf("%v; want who is there instead", err)
		}
	})
}

// Both decide at once: whatever the order, no connection of a revoked peer
// stays.
func TestRevocationWhileConnecting(t *testing.T) {
	for after := range 12 {
		bubble(t, func(t *testing.T, m *mesh) {
			a, b := m.pair(nil, nil)
			out, err := trust.Revoke(m.root, trust.Revocation{Peer: b.ID()})
			if err != nil {
				t.Fatal(err)
			}
			time.AfterFunc(time.Duration(after)*5*time.Millisecond, func() {
				if _, err := a.set.Add(out); err != nil {
					t.Error(err)
				}
			})
			_, _ = b.Call(t.Context(), a.ID(), "echo", nil) // either way is right
			time.Sleep(time.Second)
			if left := a.Peers(); len(left) != 0 {
				t.Errorf("revoked after %d ms: %v stays", 5*after, left)
			}
		})
	}
}

func TestRandomBytesAtThePort(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a, b := m.pair(nil, nil)
		noise, rng := m.port(), rand.New(rand.NewPCG(1, 2))
		for range 5000 {
			packet := make([]byte, rng.IntN(1400))
			for i := range packet {
				packet[i] = byte(rng.Uint32())
			}
			if len(packet) > 5 && rng.IntN(2) == 0 {
				copy(packet, "\xc0\x00\x00\x00\x01") // like the first of a handshake
			}
			if _, err := noise.WriteTo(packet, b.udp()); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := a.Call(t.Context(), b.ID(), "echo", nil); err != nil {
			t.Fatal(err)
		}
	})
}

// An admitted peer that sends nonsense harms only its own streams.
func TestRandomFramesOfAMember(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a, b := m.pair(nil, func(c *Config) { c.RequestMax = 10_000 })
		rng := rand.New(rand.NewPCG(3, 4))
		for range 500 {
			_, s, err := a.openStream(t.Context(), b.ID())
			if err != nil {
				t.Fatal(err)
			}
			frame := make([]byte, rng.IntN(300))
			for i := range frame {
				frame[i] = byte(rng.Uint32())
			}
			if len(frame) > 8 {
				frame[0] = "csghpx"[rng.IntN(6)]
				frame[1] = byte(rng.IntN(6))
			}
			if _, err := s.Write(frame); err == nil {
				s.Close()
			}
			s.CancelRead(streamCancelled)
		}
		if _, err := a.Call(t.Context(), b.ID(), "echo", nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) // what was left half said is given up
		synctest.Wait()
		if n := len(b.serving); n != 0 {
			t.Fatalf("%d are still being served", n)
		}
	})
}

func TestRefusalsReachACallerThatIsStillSending(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		large := make([]byte, 3<<20)
		release := make(chan struct{})
		ida, idb := newIdentity(t), newIdentity(t)
		records := [][]byte{admission(t, m.root, ida, "a"), admission(t, m.root, idb, "b")}
		a := m.member(ida, records, nil, nil)
		b := m.member(idb, records, func(tr *Transport) {
			tr.Handle("wait", func(context.Context, string, []byte) ([]byte, error) { <-release; return nil, nil })
		}, func(c *Config) { c.RequestMax, c.InFlightPeerMax = 1000, 1 })
		m.net.SetLink(a.addr, b.addr, memnet.Link{Latency: 10 * time.Millisecond})
		a.Learn(b.ID(), b.addr)
		if _, err := a.Call(t.Context(), b.ID(), "echo", large); KindOf(err) != KindTooLarge {
			t.Errorf("%v; want too_large", err)
		}
		if _, err := a.Call(t.Context(), b.ID(), "nothing", large); err == nil {
			t.Error("no error")
		}
		var waiting sync.WaitGroup
		waiting.Go(func() {
			if _, err := a.Call(t.Context(), b.ID(), "wait", nil); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		time.Sleep(time.Second)
		if _, err := a.Call(t.Context(), b.ID(), "echo", large); KindOf(err) != KindExhausted {
			t.Errorf("%v; want exhausted", err)
		}
		close(release)
		waiting.Wait()
		if _, err := a.Call(t.Context(), b.ID(), "echo", nil); err != nil {
			t.Error(err)
		}
	})
}

func TestAnswerOverTheLimit(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a, b := m.pair(func(tr *Transport) {
			tr.Handle("large", func(context.Context, string, []byte) ([]byte, error) { return make([]byte, 1001), nil })
			tr.Handle("odd", func(context.Context, string, []byte) ([]byte, error) {
				return nil, &Error{Kind: "made_up", Msg: strings.Repeat("\xff\xc3\xa9", errorMax)}
			})
		}, func(c *Config) { c.RequestMax = 1000 })
		if _, err := a.Call(t.Context(), b.ID(), "large", nil); KindOf(err) != KindTooLarge {
			t.Errorf("%v; want too_large", err)
		}
		if _, err := a.Call(t.Context(), b.ID(), "odd", nil); KindOf(err) != KindInternal || len(err.Error()) > 3*errorMax {
			t.Errorf("%.200v; want internal", err)
		}
		if _, err := a.Call(t.Context(), b.ID(), strings.Repeat("m", 200), nil); KindOf(err) != KindInvalid {
			t.Errorf("%v; want invalid", err)
		}
		if _, err := a.Call(t.Context(), a.ID(), "echo", nil); KindOf(err) != KindInvalid {
			t.Errorf("%v; want invalid", err)
		}
	})
}

func FuzzHello(f *testing.F) {
	f.Add([]byte("h"))
	f.Add(encodeHello([][]byte{[]byte("one"), nil, []byte("three")}))
	f.Fuzz(func(t *testing.T, data []byte) {
		records, err := parseHello(data)
		if err == nil && !bytes.Equal(encodeHello(records), data) {
			t.Fatalf("%q is read as %q", data, records)
		}
	})
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00\x02ok"))
	f.Add([]byte("\x01\x00\x00\x00\x01\xa0"))
	f.Fuzz(func(t *testing.T, data []byte) {
		body, err := readAnswer(bytes.NewReader(data), "peer", "m", 100)
		if err == nil && len(body) > 100 {
			t.Fatal("an answer over the limit")
		}
		var own *Error
		if errors.As(err, &own) && !known[own.Kind] {
			t.Fatalf("an unknown kind %q came through", own.Kind)
		}
		if err != nil && own == nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatal(err)
		}
	})
}
