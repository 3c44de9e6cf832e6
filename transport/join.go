package transport

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/quic-go/quic-go"

	"github.com/hansa-mesh/hansa/transport/identity"
	"github.com/hansa-mesh/hansa/transport/trust"
)

// Limits of joining.
const (
	joinRequestMax = 4 << 10
	joinReplyMax   = 4 << 20
	joinWait       = 10 * time.Second
	joinBurst      = 64                     // newcomers at once
	joinEvery      = 100 * time.Millisecond // and one more in this time
	joinAddrBurst  = 32                     // from one address at once: a machine with many peers
	joinAddrEvery  = 250 * time.Millisecond
	joinAddrsMax   = 4096             // addresses remembered
	joinForget     = 10 * time.Minute // an address is
)

// Seed is a peer and where it is.
type Seed struct {
	ID   string `json:"id"`
	Addr string `json:"addr"`
}

// JoinRequest is what a newcomer asks. Key is the one that it proved to have.
type JoinRequest struct {
	Key   ed25519.PublicKey `json:"-"`
	From  net.Addr          `json:"-"`
	Token string            `json:"token"`
	Name  string            `json:"name,omitempty"`
	Site  string            `json:"site,omitempty"`
}

// LogValue leaves the invitation out: whoever reads a log must not be able to
// use it.
func (r JoinRequest) LogValue() slog.Value {
	return slog.GroupValue(slog.String("key", identity.IDOf(r.Key)), slog.String("name", r.Name), slog.String("site", r.Site))
}

// JoinReply lets a newcomer in.
type JoinReply struct {
	Admission []byte   `json:"admission"` // its own record
	Records   [][]byte `json:"records"`   // trust records, its own among them
	Seeds     []Seed   `json:"seeds"`
}

// joinAnswer is a JoinReply or an error.
type joinAnswer struct {
	Reply *JoinReply `json:"reply,omitempty"`
	Err   []byte     `json:"err,omitempty"` // see encodeError
}

// JoinHandler decides about a newcomer. What it answers is durable when it
// returns.
type JoinHandler func(ctx context.Context, request JoinRequest) (JoinReply, error)

// acceptJoin serves a newcomer: this peer's hello first, so that the newcomer
// knows whom it shows its invitation, then one request and its answer.
func (t *Transport) acceptJoin(ctx context.Context, q *quic.Conn) {
	ctx, cancel := context.WithTimeout(ctx, joinWait)
	defer cancel()
	if t.cfg.Join == nil {
		t.stats.joinsRefused.Add(1)
		_ = q.CloseWithError(codeForbidden, "refused: this peer takes no newcomers; ask another")
		return
	}
	if !t.joins.allow(q.RemoteAddr(), time.Now()) {
		t.stats.joinsRefused.Add(1)
		_ = q.CloseWithError(codeRefused, "too many newcomers at once: try again in a moment")
		return
	}
	err := t.serveJoin(ctx, q)
	if err != nil {
		t.stats.joinsRefused.Add(1)
		t.cfg.Log.Warn("a newcomer was not let in", "addr", q.RemoteAddr().String(), "err", err)
	}
	// The newcomer closes when it has the answer.
	select {
	case <-q.Context().Done():
	case <-ctx.Done():
		_ = q.CloseWithError(codeClosing, "done")
	}
}

func (t *Transport) serveJoin(ctx context.Context, q *quic.Conn) error {
	if err := t.hello(ctx, q); err != nil {
		return err
	}
	s, err := q.AcceptStream(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	deadline, _ := ctx.Deadline()
	if err := s.SetDeadline(deadline); err != nil {
		return err
	}
	raw, err := io.ReadAll(io.LimitReader(s, joinRequestMax+1))
	if err != nil {
		return err
	}
	reply, err := t.decideJoin(ctx, q, raw)
	answerErr := answerJoin(s, reply, err)
	if err == nil && answerErr == nil {
		t.stats.joins.Add(1)
	}
	return errors.Join(err, answerErr)
}

func (t *Transport) decideJoin(ctx context.Context, q *quic.Conn, raw []byte) (JoinReply, error) {
	if len(raw) > joinRequestMax {
		return JoinReply{}, &Error{Kind: KindTooLarge, Msg: fmt.Sprintf("a request of more than %d bytes", joinRequestMax)}
	}
	var request JoinRequest
	if err := cbor.Unmarshal(raw, &request); err != nil {
		return JoinReply{}, &Error{Kind: KindInvalid, Msg: "the request can't be read"}
	}
	request.Key, request.From = peerKey(q), q.RemoteAddr()
	return contain(t, "join", func() (JoinReply, error) { return t.cfg.Join(ctx, request) })
}

// answerJoin writes the answer: a reply, or why there is none.
func answerJoin(w io.Writer, reply JoinReply, refused error) error {
	if refused == nil {
		return WriteFrame(w, joinAnswer{Reply: &reply})
	}
	why, err := encodeError(refused)
	if err != nil {
		return err
	}
	return WriteFrame(w, joinAnswer{Err: why})
}

// JoinConfig is what a newcomer joins with.
type JoinConfig struct {
	Identity   *identity.Identity
	Conn       net.PacketConn // not used by anything else meanwhile; not closed
	Addr       string         // of any peer of the mesh
	Token      string         // the invitation
	Name, Site string         // "" as the invitation says
	Timeout    time.Duration  // default 10 s
}

// Join asks a peer to be let into its mesh. The other end must first prove
// that it belongs to the mesh of the invitation; only then is the invitation
// shown.
func Join(ctx context.Context, cfg JoinConfig) (JoinReply, error) {
	token, err := trust.ParseToken(cfg.Token)
	if err != nil {
		return JoinReply{}, err
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = joinWait
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	udp, err := resolve(ctx, cfg.Addr)
	if err != nil {
		return JoinReply{}, fmt.Errorf("join: %w", err)
	}
	reset := quic.StatelessResetKey(cfg.Identity.ResetKey())
	port := &quic.Transport{Conn: cfg.Conn, StatelessResetKey: &reset}
	defer port.Close()
	q, err := port.Dial(ctx, udp, clientTLS(cfg.Identity, "", protocolJoin), &quic.Config{HandshakeIdleTimeout: cfg.Timeout})
	if err != nil {
		return JoinReply{}, fmt.Errorf("join: no peer answers: %w", fromNetwork("", cfg.Addr, err))
	}
	defer q.CloseWithError(codeClosing, "done")
	return join(ctx, q, cfg, token)
}

// join joins over a connection that no side has shown anything on yet.
func join(ctx context.Context, q *quic.Conn, cfg JoinConfig, token trust.Token) (JoinReply, error) {
	server, set := identity.IDOf(peerKey(q)), trust.NewSet(token.Root)
	records, err := readHello(ctx, q)
	if err != nil {
		return JoinReply{}, fmt.Errorf("join: %w", fromNetwork(server, "its hello", err))
	}
	if len(records) > 0 { // none from the root's own peer
		err = set.AddChain(server, records)
	}
	if err == nil {
		err = set.Admitted(server)
	}
	if err != nil {
		return JoinReply{}, fmt.Errorf("join: the peer at %s does not belong to the invitation's mesh: %w", cfg.Addr, err)
	}
	answer, err := askToJoin(ctx, q, cfg)
	switch {
	case err != nil:
		return JoinReply{}, fmt.Errorf("join: %w", fromNetwork(server, "its answer", err))
	case len(answer.Err) > 0:
		return JoinReply{}, decodeError(server, answer.Err)
	case answer.Reply == nil:
		return JoinReply{}, errors.New("join: an answer without a reply")
	}
	for _, record := range append(answer.Reply.Records, answer.Reply.Admission) {
		if _, err := set.Add(record); err != nil {
			return JoinReply{}, fmt.Errorf("join: %w", err)
		}
	}
	if err := set.Admitted(cfg.Identity.ID()); err != nil {
		return JoinReply{}, fmt.Errorf("join: the answer does not let this peer in: %w", err)
	}
	return *answer.Reply, nil
}

// askToJoin shows the invitation and waits for the answer.
func askToJoin(ctx context.Context, q *quic.Conn, cfg JoinConfig) (answer joinAnswer, err error) {
	s, err := q.OpenStreamSync(ctx)
	if err != nil {
		return answer, err
	}
	deadline, _ := ctx.Deadline()
	if err := s.SetDeadline(deadline); err != nil {
		return answer, err
	}
	body, err := cbor.Marshal(JoinRequest{Token: cfg.Token, Name: cfg.Name, Site: cfg.Site})
	if err == nil {
		_, err = s.Write(body)
	}
	if err = errors.Join(err, s.Close()); err != nil {
		return answer, err
	}
	err = ReadFrame(s, &answer, joinReplyMax)
	return answer, err
}

// limiter bounds newcomers: in all, and from one address.
type limiter struct {
	mu    sync.Mutex // guards what follows
	all   bucket
	addrs map[netip.Addr]*bucket
}

func newLimiter() *limiter { return &limiter{addrs: map[netip.Addr]*bucket{}} }

func (l *limiter) allow(from net.Addr, now time.Time) bool {
	udp, ok := from.(*net.UDPAddr)
	if !ok {
		return false
	}
	addr := udp.AddrPort().Addr().Unmap().WithZone("")
	if addr.Is6() { // one customer has a whole /64
		if network, err := addr.Prefix(64); err == nil {
			addr = network.Addr()
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.addrs[addr]
	if b == nil {
		if len(l.addrs) >= joinAddrsMax {
			for a, old := range l.addrs {
				if now.Sub(old.at) > joinForget {
					delete(l.addrs, a)
				}
			}
			if len(l.addrs) >= joinAddrsMax {
				return false
			}
		}
		b = &bucket{}
		l.addrs[addr] = b
	}
	return b.take(now, joinAddrBurst, joinAddrEvery) && l.all.take(now, joinBurst, joinEvery)
}
