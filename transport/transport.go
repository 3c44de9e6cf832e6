package transport

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/hansa-mesh/hansa/transport/identity"
	"github.com/hansa-mesh/hansa/transport/trust"
)

const (
	protocolPeers = "hansa/1"
	protocolJoin  = "hansa-join/1"
)

// Config is what a Transport is made with. Zero fields are the documented
// defaults.
type Config struct {
	Identity *identity.Identity // required
	Trust    *trust.Set         // required
	Conn     net.PacketConn     // required: the one UDP port; closed by who made it
	// Resolve says where a peer was last heard of; asked when Learn told
	// nothing.
	Resolve func(peer string) (addr string, ok bool)
	Join    JoinHandler // nil refuses newcomers
	Log     *slog.Logger

	HandshakeTimeout time.Duration // of a dial; default 2 s
	IdleTimeout      time.Duration // of a connection that hears nothing; default 20 s
	KeepAlive        time.Duration // default 5 s
	QuietTimeout     time.Duration // until a connection that nobody uses is closed; default 2 m
	CallTimeout      time.Duration // of a call without a deadline; default 30 s
	RequestMax       int           // bytes of a request or an answer; default 4 MiB
	InFlightMax      int           // calls and streams served at once, in all; default 4096
	InFlightPeerMax  int           // of one peer; default 512
	ConnsMax         int           // connections; default 2048
}

func (c Config) filled() (Config, error) {
	if c.Identity == nil || c.Trust == nil || c.Conn == nil {
		return c, errors.New("transport: identity, trust and a packet connection are needed")
	}
	c.HandshakeTimeout = cmp.Or(c.HandshakeTimeout, 2*time.Second)
	c.IdleTimeout = cmp.Or(c.IdleTimeout, 20*time.Second)
	c.KeepAlive = cmp.Or(c.KeepAlive, 5*time.Second)
	c.QuietTimeout = cmp.Or(c.QuietTimeout, 2*time.Minute)
	c.CallTimeout = cmp.Or(c.CallTimeout, 30*time.Second)
	c.RequestMax = cmp.Or(c.RequestMax, 4<<20)
	c.InFlightMax = cmp.Or(c.InFlightMax, 4096)
	c.InFlightPeerMax = cmp.Or(c.InFlightPeerMax, 512)
	c.ConnsMax = cmp.Or(c.ConnsMax, 2048)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// Handler answers calls of one method. What it returns crosses the wire; an
// error keeps its Kind if it is an *Error.
type Handler func(ctx context.Context, from string, request []byte) ([]byte, error)

// StreamHandler serves one stream; the stream is closed when it returns.
type StreamHandler func(ctx context.Context, from string, s *Stream) error

// Transport reaches peers, and is reached by them.
type Transport struct {
	cfg      Config
	quic     *quic.Transport
	handlers map[string]Handler
	streams  map[string]StreamHandler
	joins    *limiter
	gossip   *packets
	accepted chan *gossipConn // streams of gossip that wait to be accepted
	serving  chan struct{}    // one for each call or stream being served
	bodies   budget           // of all peers
	stats    counters
	work     sync.WaitGroup
	ready    chan struct{} // closed when Run has set up ctx

	greetings chan struct{}   // one for each inbound connection of a stranger
	ctx       context.Context // of Run; set before ready is closed

	mu      sync.Mutex // guards what follows
	started bool
	stopped bool // nothing may be started any more
	peers   map[string]*peer
	conns   int
}

var errStopping = &Error{Kind: KindUnavailable, Msg: "this peer is stopping"}

// counters are read by Stats.
type counters struct {
	dials, dialsFailed, accepted, refused atomic.Int64
	calls, callsFailed, served, exhausted atomic.Int64
	packetsOut, packetsIn, packetsDropped atomic.Int64
	joins, joinsRefused, disconnects      atomic.Int64
}

// Stats is what a Transport did so far.
type Stats struct {
	Conns                                 int // now
	Dials, DialsFailed, Accepted, Refused int64
	Calls, CallsFailed, Served, Exhausted int64
	PacketsOut, PacketsIn, PacketsDropped int64
	Joins, JoinsRefused, Disconnects      int64
}

// New makes a Transport; it starts nothing.
func New(cfg Config) (*Transport, error) {
	cfg, err := cfg.filled()
	if err != nil {
		return nil, err
	}
	reset := quic.StatelessResetKey(cfg.Identity.ResetKey())
	t := &Transport{
		cfg:       cfg,
		quic:      &quic.Transport{Conn: cfg.Conn, StatelessResetKey: &reset},
		handlers:  map[string]Handler{},
		streams:   map[string]StreamHandler{},
		joins:     newLimiter(),
		accepted:  make(chan *gossipConn, acceptedMax),
		serving:   make(chan struct{}, cfg.InFlightMax),
		ready:     make(chan struct{}),
		greetings: make(chan struct{}, greetingsMax),
		peers:     map[string]*peer{},
	}
	t.bodies.max = bodiesMax
	t.quic.VerifySourceAddress = new(handshakes).mustVerify
	t.gossip = newPackets(t)
	cfg.Trust.OnChange(t.trustChanged)
	return t, nil
}

// ID is this peer's id.
func (t *Transport) ID() string { return t.cfg.Identity.ID() }

// Handle answers calls of a method. Call it before Run.
func (t *Transport) Handle(method string, h Handler) { t.handlers[method] = h }

// HandleStream serves streams of a kind. Call it before Run.
func (t *Transport) HandleStream(kind string, h StreamHandler) { t.streams[kind] = h }

// Run accepts connections until ctx ends, and returns after all that it
// started.
func (t *Transport) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t.mu.Lock()
	again := t.started
	t.started = true
	t.mu.Unlock()
	if again {
		return errors.New("transport: run: once only")
	}
	listener, err := t.quic.Listen(t.serverTLS(), t.quicConfig())
	if err != nil {
		return fmt.Errorf("transport: listen: %w", err)
	}
	t.ctx = ctx
	close(t.ready)
	t.work.Go(func() { t.closeQuiet(ctx) })
	for {
		conn, err := listener.Accept(ctx)
		if err != nil {
			break
		}
		t.work.Go(func() { t.accept(ctx, conn) })
	}
	failed := ctx.Err() == nil
	cancel()
	t.mu.Lock()
	t.stopped = true
	t.mu.Unlock()
	t.closeAll()
	err = errors.Join(listener.Close(), t.quic.Close())
	t.gossip.shut()
	t.work.Wait()
	if failed {
		return errors.Join(errors.New("transport: the port was lost"), err)
	}
	return nil
}

// running is the context of Run, or an error before and after it.
func (t *Transport) running() (context.Context, error) {
	select {
	case <-t.ready:
	default:
		return nil, &Error{Kind: KindUnavailable, Msg: "the transport does not run yet"}
	}
	if t.ctx.Err() != nil {
		return nil, errStopping
	}
	return t.ctx, nil
}

func (t *Transport) quicConfig() *quic.Config {
	return &quic.Config{
		HandshakeIdleTimeout:           t.cfg.HandshakeTimeout,
		MaxIdleTimeout:                 t.cfg.IdleTimeout,
		KeepAlivePeriod:                t.cfg.KeepAlive,
		MaxIncomingStreams:             int64(t.cfg.InFlightPeerMax) * 2,
		MaxIncomingUniStreams:          uniStreamsMax,
		InitialStreamReceiveWindow:     256 << 10,
		MaxStreamReceiveWindow:         8 << 20,
		InitialConnectionReceiveWindow: 512 << 10,
		MaxConnectionReceiveWindow:     16 << 20,
		EnableDatagrams:                true,
	}
}

// uniStreamsMax bounds the uni-directional streams of a connection: the hello
// and packets that are too large for a datagram.
const uniStreamsMax = 64

func (t *Transport) serverTLS() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{t.cfg.Identity.Certificate()},
		ClientAuth:             tls.RequireAnyClientCert,
		NextProtos:             []string{protocolPeers, protocolJoin},
		SessionTicketsDisabled: true,
		VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error {
			_, err := keyOf(raw)
			return err
		},
	}
}

// clientTLS pins the key of the peer that is dialled; "" takes any, for a
// newcomer, who checks it otherwise.
func clientTLS(id *identity.Identity, peer, protocol string) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{id.Certificate()},
		NextProtos:             []string{protocol},
		SessionTicketsDisabled: true,
		// Names and dates in certificates mean nothing here: the key is pinned
		// below.
		InsecureSkipVerify: true,
		VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error {
			key, err := keyOf(raw)
			if err == nil && peer != "" && identity.IDOf(key) != peer {
				err = &Error{Kind: KindForbidden, Peer: peer, Msg: "the key at its address is that of " + identity.IDOf(key)}
			}
			return err
		},
	}
}

// keyOf is the key of a certificate.
func keyOf(raw [][]byte) (ed25519.PublicKey, error) {
	if len(raw) != 1 {
		return nil, fmt.Errorf("%d certificates, want 1", len(raw))
	}
	cert, err := x509.ParseCertificate(raw[0])
	if err != nil {
		return nil, err
	}
	key, ok := cert.PublicKey.(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("a key of type %T, want Ed25519", cert.PublicKey)
	}
	return key, nil
}

// peerKey is the key at the other end of a connection.
func peerKey(c *quic.Conn) ed25519.PublicKey {
	return c.ConnectionState().TLS.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
}

// Stats is what the Transport did so far.
func (t *Transport) Stats() Stats {
	t.mu.Lock()
	conns := t.conns
	t.mu.Unlock()
	c := &t.stats
	return Stats{
		Conns: conns, Dials: c.dials.Load(), DialsFailed: c.dialsFailed.Load(), Accepted: c.accepted.Load(), Refused: c.refused.Load(),
		Calls: c.calls.Load(), CallsFailed: c.callsFailed.Load(), Served: c.served.Load(), Exhausted: c.exhausted.Load(),
		PacketsOut: c.packetsOut.Load(), PacketsIn: c.packetsIn.Load(), PacketsDropped: c.packetsDropped.Load(),
		Joins: c.joins.Load(), JoinsRefused: c.joinsRefused.Load(), Disconnects: c.disconnects.Load(),
	}
}
