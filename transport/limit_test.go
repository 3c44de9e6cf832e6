package transport

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/hansa-mesh/hansa/transport/identity"
	"github.com/hansa-mesh/hansa/transport/memnet"
)

// hostile is a member of the mesh that speaks QUIC as it likes.
func (m *mesh) hostile(to *member, id *identity.Identity, cfg *quic.Config) (*quic.Conn, func()) {
	m.t.Helper()
	if err := to.set.Admitted(id.ID()); err != nil {
		if _, err := to.set.Add(admission(m.t, m.root, id, "hostile")); err != nil {
			m.t.Fatal(err)
		}
	}
	port := &quic.Transport{Conn: m.port()}
	cfg.EnableDatagrams = true
	q, err := port.Dial(m.t.Context(), to.udp(), clientTLS(id, to.ID(), protocolPeers), cfg)
	if err != nil {
		m.t.Fatal(err)
	}
	return q, func() { port.Close() }
}

// callFrame is a call whose request does not come.
func callFrame(method string, timeout time.Duration, length int) []byte {
	frame := append([]byte{streamCall, byte(len(method))}, method...)
	frame = binary.BigEndian.AppendUint32(frame, uint32(timeout.Milliseconds()))
	return padded(binary.BigEndian.AppendUint32(frame, uint32(length)))
}

// A peer that begins many large requests, or fetches no answer, holds a
// bounded number of bytes here, for a bounded time, and no place of others.
func TestBytesOfOnePeerAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a, b := m.pair(func(tr *Transport) {
			tr.Handle("large", func(context.Context, string, []byte) ([]byte, error) { return make([]byte, 1<<20), nil })
		}, nil)
		if _, err := a.Call(t.Context(), b.ID(), "echo", nil); err != nil {
			t.Fatal(err)
		}
		bad := newIdentity(t)
		q, done := m.hostile(b, bad, &quic.Config{InitialStreamReceiveWindow: 1 << 10, MaxStreamReceiveWindow: 1 << 10})
		defer done()
		begin := func(frame []byte) {
			s, err := q.OpenStreamSync(t.Context())
			if err == nil {
				_, err = s.Write(frame)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		for range 100 {
			begin(callFrame("echo", time.Minute, 4<<20))
			begin(callFrame("large", time.Minute, 0))
		}
		time.Sleep(time.Second)
		held := b.bodies.held.Load()
		if held > bodiesPeerMax || held < bodiesPeerMax/2 || b.Stats().Exhausted < 100 {
			t.Errorf("%d bytes are held, %d refused", held, b.Stats().Exhausted)
		}
		if got, err := a.Call(t.Context(), b.ID(), "large", nil); err != nil || len(got) != 1<<20 {
			t.Errorf("another peer: %v", err)
		}
		time.Sleep(time.Minute + 2*answerWait)
		synctest.Wait()
		if n, held := len(b.serving), b.bodies.held.Load(); n != 0 || held != 0 {
			t.Errorf("after their time %d are still served, with %d bytes", n, held)
		}
	})
}

// An answer that nobody reads, not even that it is refused, takes its place
// for no longer than the head of a stream may take.
func TestRefusalsThatAreNotRead(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		_, b := m.pair(func(tr *Transport) {
			tr.HandleStream("x", func(context.Context, string, *Stream) error { return nil })
		}, nil)
		q, done := m.hostile(b, newIdentity(t), &quic.Config{InitialStreamReceiveWindow: 1, MaxStreamReceiveWindow: 1})
		defer done()
		for i := range 60 {
			s, err := q.OpenStreamSync(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			frame := [][]byte{callFrame("nothing", time.Minute, 0), callFrame("echo", time.Minute, 1<<30), []byte("s\x04none"), []byte("s\x01x")}[i%4]
			if _, err := s.Write(frame); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(headWait + time.Second)
		synctest.Wait()
		if n := len(b.serving); n != 0 {
			t.Errorf("%d are still served", n)
		}
	})
}

// Strangers that connect and say nothing keep no peer out.
func TestStrangersKeepOutNoPeer(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a, b := m.pair(nil, nil)
		refused := 0
		for range greetingsMax + 40 {
			port := &quic.Transport{Conn: m.port()}
			defer port.Close()
			q, err := port.Dial(t.Context(), b.udp(), clientTLS(newIdentity(t), b.ID(), protocolPeers), &quic.Config{})
			var no *quic.ApplicationError
			if err != nil && !errors.As(err, &no) { // a refusal may come before the greeting has ended
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
			if err != nil || q.Context().Err() != nil {
				refused++
			}
		}
		if refused < 30 {
			t.Errorf("%d strangers were refused, of %d over the limit", refused, 40)
		}
		start := time.Now()
		if _, err := a.Call(t.Context(), b.ID(), "echo", nil); err != nil || time.Since(start) > time.Second {
			t.Errorf("a peer: %v after %v", err, time.Since(start))
		}
	})
}

// A flood of callers from made-up addresses costs a peer an answer each, not
// a connection each; and peers that call meanwhile need a round trip more.
func TestCallersProveTheirAddressUnderLoad(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a, b := m.pair(nil, nil)
		m.net.SetLink(a.addr, b.addr, memnet.Link{Latency: handshakesEvery / 2}) // sooner than the next is free
		verify := b.quic.VerifySourceAddress
		asked := 0
		for range 10 * handshakesBurst {
			if verify(a.udp()) {
				asked++
			}
		}
		if asked != 9*handshakesBurst {
			t.Errorf("%d of %d at once must show where they are", asked, 10*handshakesBurst)
		}
		start := time.Now()
		if _, err := a.Call(t.Context(), b.ID(), "echo", nil); err != nil {
			t.Fatal(err)
		}
		under := time.Since(start)
		b.Disconnect(a.ID(), "again")
		time.Sleep(time.Minute)
		start = time.Now()
		if _, err := a.Call(t.Context(), b.ID(), "echo", nil); err != nil {
			t.Fatal(err)
		}
		if usual := time.Since(start); under != usual+handshakesEvery {
			t.Errorf("%v under load, %v without", under, usual)
		}
	})
}

// A peer that floods another with packets takes no packet of others.
func TestPacketFloodLeavesRoom(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		_, b := m.pair(nil, nil)
		bad, good := &conn{peer: "bad"}, &conn{peer: "good"}
		for range 10 * packetsInMax {
			b.gossip.deliver(bad, []byte("flood"))
		}
		b.gossip.deliver(good, []byte("news"))
		buf := make([]byte, 10)
		got, from := 0, ""
		for ; from != "good" && got < packetsInMax; got++ {
			if err := b.gossip.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
				t.Fatal(err)
			}
			_, addr, err := b.gossip.ReadFrom(buf)
			if err != nil {
				t.Fatalf("the news are lost: %v", err)
			}
			from = addr.String()
		}
		if got != packetsBurst+1 {
			t.Errorf("%d packets of the flood were taken", got-1)
		}
		time.Sleep(time.Second)
		b.gossip.deliver(bad, []byte("later"))
		if len(b.gossip.in) != 1 {
			t.Error("never again")
		}
	})
}

// A peer that opens streams of gossip without end takes a few places.
func TestGossipStreamsAreShared(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a, b := m.pair(nil, nil)
		q, done := m.hostile(b, newIdentity(t), &quic.Config{})
		defer done()
		for range 90 {
			s, err := q.OpenStreamSync(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Write(padded([]byte{streamGossip})); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		if n := len(b.accepted); n != gossipPeerMax {
			t.Errorf("%d streams of one peer wait", n)
		}
		if _, err := a.DialGossip(t.Context(), b.ID()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if n := len(b.accepted); n != gossipPeerMax+1 {
			t.Errorf("%d streams wait, those of another peer among them", n)
		}
	})
}

// Certificates are only how a key travels: one that has expired, or is not
// valid yet for a clock that starts in 1970, is as good as any.
func TestExpiredCertificatesLockNobodyOut(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		_, b := m.pair(nil, nil)
		for name, years := range map[string][2]int{"expired": {1970, 1971}, "not valid yet": {9000, 9001}} {
			id := newIdentity(t)
			if _, err := b.set.Add(admission(t, m.root, id, name)); err != nil {
				t.Fatal(err)
			}
			template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: id.ID()},
				NotBefore: time.Date(years[0], 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(years[1], 1, 1, 0, 0, 0, 0, time.UTC)}
			der, err := x509.CreateCertificate(rand.Reader, template, template, id.Public(), id.Signer())
			if err != nil {
				t.Fatal(err)
			}
			conf := clientTLS(id, b.ID(), protocolPeers)
			conf.Certificates = []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: id.Signer()}}
			port := &quic.Transport{Conn: m.port()}
			q, err := port.Dial(t.Context(), b.udp(), conf, &quic.Config{EnableDatagrams: true})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			s, err := q.OpenStreamSync(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			frame := append(callFrame("echo", time.Minute, 2), "hi"...)
			if _, err := s.Write(frame); err != nil {
				t.Fatal(err)
			}
			if got, err := readAnswer(s, "", "echo", 100); err != nil || string(got) != fmt.Sprintf("%s:hi", id.ID()) {
				t.Errorf("%s: %q %v", name, got, err)
			}
			port.Close()
		}
	})
}

// What a hostile peer leaves behind is nothing: no goroutine, no entry.
func TestNothingIsLeftOfAPeer(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		_, b := m.pair(nil, nil)
		synctest.Wait()
		before := runtime.NumGoroutine()
		for range 20 {
			q, done := m.hostile(b, newIdentity(t), &quic.Config{})
			for range 30 {
				s, err := q.OpenStreamSync(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if _, err := s.Write([]byte("c\x04echo")); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(time.Second)
			done()
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		b.mu.Lock()
		defer b.mu.Unlock()
		if len(b.peers) > 1 || b.conns != 0 || len(b.serving) != 0 {
			t.Errorf("%d peers, %d connections, %d served", len(b.peers), b.conns, len(b.serving))
		}
		if after := runtime.NumGoroutine(); after > before+2 {
			t.Errorf("%d goroutines before, %d after", before, after)
		}
	})
}
