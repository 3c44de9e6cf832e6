package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/quic-go/quic-go"

	"github.com/hansa-mesh/hansa/transport/identity"
	"github.com/hansa-mesh/hansa/transport/trust"
)

// door is a join handler as a node has it.
func door(t *testing.T, id *identity.Identity, set *trust.Set) JoinHandler {
	return func(_ context.Context, r JoinRequest) (JoinReply, error) {
		token, err := trust.ParseToken(r.Token)
		if err != nil {
			return JoinReply{}, &Error{Kind: KindInvalid, Msg: err.Error()}
		}
		if err := set.CheckToken(token, time.Now()); err != nil {
			return JoinReply{}, &Error{Kind: KindForbidden, Msg: err.Error()}
		}
		record, err := trust.Admit(id, trust.Admission{Key: r.Key, Name: token.Name, Site: r.Site, Token: token.ID, At: time.Now().Unix()})
		if err != nil {
			return JoinReply{}, err
		}
		spent, err := trust.Spend(id, trust.Spent{Token: token.ID, Peer: identity.IDOf(r.Key)})
		if err != nil {
			return JoinReply{}, err
		}
		for _, raw := range [][]byte{record, spent} {
			if _, err := set.Add(raw); err != nil {
				t.Error(err)
			}
		}
		return JoinReply{Admission: record, Records: set.Records(), Seeds: []Seed{{ID: id.ID(), Addr: "10.0.0.1:7600"}}}, nil
	}
}

// host is a mesh of one, with a door.
func (m *mesh) host(change func(*Config)) *member {
	id := newIdentity(m.t)
	return m.member(id, [][]byte{admission(m.t, m.root, id, "host")}, nil, func(c *Config) {
		c.Join = door(m.t, id, c.Trust)
		if change != nil {
			change(c)
		}
	})
}

func (m *mesh) port() net.PacketConn {
	m.t.Helper()
	m.ports++
	conn, err := m.net.Listen(fmt.Sprintf("10.0.9.%d:7600", m.ports))
	if err != nil {
		m.t.Fatal(err)
	}
	return conn
}

func (m *mesh) token(by *identity.Identity, root *identity.Identity, now time.Time) string {
	m.t.Helper()
	text, err := trust.NewToken(by, trust.TokenOptions{Mesh: root.Public(), Name: "new", Now: now})
	if err != nil {
		m.t.Fatal(err)
	}
	return text
}

func TestJoin(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		host := m.host(nil)
		newcomer, conn := newIdentity(t), m.port()
		token := m.token(host.id, m.root, time.Now())
		reply, err := Join(t.Context(), JoinConfig{Identity: newcomer, Conn: conn, Addr: host.addr, Token: token, Site: "s"})
		if err != nil {
			t.Fatal(err)
		}
		set := trust.NewSet(m.root.Public())
		for _, r := range reply.Records {
			if _, err := set.Add(r); err != nil {
				t.Fatal(err)
			}
		}
		if err := set.Admitted(newcomer.ID()); err != nil {
			t.Fatal(err)
		}
		// And it goes on at the same port.
		p, err := New(Config{Identity: newcomer, Trust: set, Conn: conn})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		<-p.ready
		p.Learn(reply.Seeds[0].ID, reply.Seeds[0].Addr)
		if _, err := p.Call(t.Context(), host.ID(), "echo", nil); err != nil {
			t.Error(err)
		}
		if _, err := host.Call(t.Context(), newcomer.ID(), "nothing", nil); KindOf(err) != KindNotFound {
			t.Error(err)
		}
		// A second time is once too often.
		_, err = Join(t.Context(), JoinConfig{Identity: newIdentity(t), Conn: m.port(), Addr: host.addr, Token: token})
		if KindOf(err) != KindForbidden || !strings.Contains(err.Error(), "used already") {
			t.Errorf("%v; want that the invitation was used", err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestJoinIsRefusedWithTheReason(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		host := m.host(nil)
		stranger := newIdentity(t)
		for want, token := range map[string]string{
			"has expired":          m.token(host.id, m.root, time.Now().Add(-3*time.Hour)),
			"not made by a peer":   m.token(stranger, m.root, time.Now()),
			"not an invitation":    "hansa-nonsense",
			"does not belong":      m.token(stranger, stranger, time.Now()), // of another mesh: never shown
			"it is no invitation?": "",
		} {
			before := host.Stats().Joins
			_, err := Join(t.Context(), JoinConfig{Identity: newIdentity(t), Conn: m.port(), Addr: host.addr, Token: token})
			if err == nil || !strings.Contains(err.Error(), want) && token != "" {
				t.Errorf("%v; want %q", err, want)
			}
			if host.Stats().Joins != before {
				t.Errorf("%q: let in", want)
			}
		}
	})
}

// A newcomer shows its invitation only to a peer of the mesh that made it.
func TestInvitationIsNotShownToAnImpostor(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		impostor := newIdentity(t)
		shown := false
		x := m.member(impostor, nil, nil, func(c *Config) {
			c.Join = func(context.Context, JoinRequest) (JoinReply, error) { shown = true; return JoinReply{}, nil }
		})
		if _, err := Join(t.Context(), JoinConfig{Identity: newIdentity(t), Conn: m.port(), Addr: x.addr, Token: m.token(m.root, m.root, time.Now())}); err == nil {
			t.Error("joined an impostor")
		}
		if shown {
			t.Error("the invitation was shown to an impostor")
		}
	})
}

func TestJoinLimits(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		host := m.host(nil)
		dial := func() (*quic.Conn, func()) {
			port := &quic.Transport{Conn: m.port()}
			q, err := port.Dial(t.Context(), host.udp(), clientTLS(newIdentity(t), host.ID(), protocolJoin), &quic.Config{})
			if err != nil {
				t.Fatal(err)
			}
			return q, func() { port.Close() }
		}
		q, done := dial()
		if _, err := readHello(t.Context(), q); err != nil {
			t.Fatal(err)
		}
		s, err := q.OpenStreamSync(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		body, err := cbor.Marshal(JoinRequest{Token: strings.Repeat("x", joinRequestMax)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err = s.Write(body); err == nil {
			err = s.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		var head [4]byte
		if _, err := s.Read(head[:]); err != nil {
			t.Fatal(err)
		}
		if n := host.Stats(); n.Joins != 0 {
			t.Fatal("a request over the limit was taken")
		}
		done()
		// One address can only come so often.
		var refused *quic.ApplicationError
		for range joinAddrBurst + 10 {
			port := &quic.Transport{Conn: m.port()}
			q, err := port.Dial(t.Context(), host.udp(), clientTLS(newIdentity(t), host.ID(), protocolJoin), &quic.Config{})
			if err == nil {
				time.Sleep(time.Millisecond) // virtual: too short to earn another
				_ = errors.As(context.Cause(q.Context()), &refused)
			}
			port.Close()
		}
		if refused != nil {
			t.Fatal("newcomers from different addresses were taken for one")
		}
		l, now, allowed := newLimiter(), time.Now(), 0
		for range 1000 {
			if l.allow(host.udp(), now) {
				allowed++
			}
		}
		if allowed != joinAddrBurst {
			t.Fatalf("%d newcomers from one address at once", allowed)
		}
		if !l.allow(host.udp(), now.Add(time.Second)) {
			t.Fatal("never again")
		}
	})
}

func TestNoDoor(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		id := newIdentity(t)
		a := m.member(id, [][]byte{admission(t, m.root, id, "a")}, nil, nil)
		_, err := Join(t.Context(), JoinConfig{Identity: newIdentity(t), Conn: m.port(), Addr: a.addr, Token: m.token(id, m.root, time.Now())})
		if err == nil || !strings.Contains(err.Error(), "takes no newcomers") {
			t.Fatalf("%v", err)
		}
	})
}

func TestInvitationsAreNotLogged(t *testing.T) {
	var out strings.Builder
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "request", JoinRequest{Token: "hansa-secret", Name: "n"})
	if strings.Contains(out.String(), "secret") || !strings.Contains(out.String(), "name=n") {
		t.Fatal(out.String())
	}
}
