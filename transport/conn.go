package transport

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
)

const (
	backoffMin = 50 * time.Millisecond
	backoffMax = time.Second
	// connsPeerMax bounds the connections with one peer: two, when both ends
	// dial at once, and one that is being replaced.
	connsPeerMax = 4
	// helloMax and helloWait bound the chain that a peer shows.
	helloMax  = 128 << 10
	helloWait = 5 * time.Second
	quietLook = 10 * time.Second
	// greetingsMax bounds the inbound connections of those that are not known
	// yet, each of which may hold a connection's receive window.
	greetingsMax = 128
	// dialsMax is how often one call dials, when connections end at once.
	dialsMax = 3
	// peersMax bounds the peers that are remembered here.
	peersMax = 16384
)

// peer is what is known of another peer.
//
//	      dial              ok
//	idle ──────▶ dialling ──────▶ connected ──▶ idle (closed, lost, quiet)
//	  ▲             │ failed
//	  └── wait ◀────┘   ended early by an inbound connection or a new address
type peer struct {
	addr    string        // as Learn told
	seen    string        // where its last inbound connection came from
	conns   []*conn       // usable, the newest last
	dialing chan struct{} // closed when the attempt is over; nil when there is none
	failed  error         // of the last attempt
	failure int           // attempts that failed in a row
	retryAt time.Time
	packets *packetQueue // gossip datagrams on their way there
	shares  *shares
}

// conn is one admitted connection.
type conn struct {
	*quic.Conn
	peer    string
	inbound bool
	since   time.Time
	used    atomic.Int64 // Unix nanoseconds of the last call, stream or packet
	shares  *shares      // of the peer
	packets bucket       // taken from it; see packets.deliver

	mu      sync.Mutex // guards what follows, and packets
	streams int        // open now, calls among them
	quiet   bool       // given up: nothing more is begun on it
}

func (c *conn) touch() { c.used.Store(time.Now().UnixNano()) }

// begin counts a stream, at either end; false when the connection was given
// up. So a stream that was not answered before a connection was closed as
// quiet was never served.
func (c *conn) begin() bool {
	c.touch()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.quiet {
		return false
	}
	c.streams++
	return true
}

func (c *conn) end() {
	c.touch()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.streams--
}

func (c *conn) open() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.streams
}

func (c *conn) idle() time.Duration { return time.Since(time.Unix(0, c.used.Load())) }

// giveUp ends the use of a connection that nobody used for so long.
func (c *conn) giveUp(after time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.quiet = c.streams == 0 && c.idle() > after
	return c.quiet
}

// ConnInfo describes one live connection.
type ConnInfo struct {
	Peer    string
	Addr    string
	Inbound bool
	Since   time.Time
	Quiet   time.Duration // since it was used
	Streams int
	RTT     time.Duration
	Sent    uint64 // bytes
	Got     uint64
}

// serve takes what the other end of an admitted connection sends, until it
// ends.
func (t *Transport) serve(c *conn) {
	ctx := c.Context()
	stop := context.AfterFunc(t.ctx, func() { _ = c.CloseWithError(codeClosing, "this peer stops") })
	defer stop()
	var parts sync.WaitGroup
	parts.Go(func() { t.receiveDatagrams(ctx, c) })
	parts.Go(func() { t.acceptUni(ctx, c) })
	for {
		s, err := c.AcceptStream(ctx)
		if err != nil {
			break
		}
		parts.Go(func() { t.serveStream(c, s) })
	}
	t.drop(c, context.Cause(ctx))
	parts.Wait()
}

// drop forgets a connection that ended, and why.
func (t *Transport) drop(c *conn, why error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.peerOf(c.peer)
	i := slices.Index(p.conns, c)
	if i < 0 {
		return
	}
	p.conns = slices.Delete(p.conns, i, i+1)
	t.conns--
	// A peer that refuses this one is not asked again at once.
	var app *quic.ApplicationError
	if errors.As(why, &app) && app.Remote && (app.ErrorCode == codeForbidden || app.ErrorCode == codeRefused) {
		p.failed = fromNetwork(c.peer, "connect", app)
		p.failure++
		t.wait(p, backoffMax)
	}
}

// Disconnect closes the connections with a peer, and tells it why.
func (t *Transport) Disconnect(id, reason string) { t.disconnect(id, codeClosing, reason) }

func (t *Transport) disconnect(id string, code quic.ApplicationErrorCode, reason string) {
	t.mu.Lock()
	var conns []*conn
	if p := t.peers[id]; p != nil {
		conns = slices.Clone(p.conns)
	}
	t.mu.Unlock()
	for _, c := range conns {
		t.stats.disconnects.Add(1)
		_ = c.CloseWithError(code, reason) // it may have ended already
	}
}

// trustChanged closes the connections of a peer that was shut out.
func (t *Transport) trustChanged(id string) {
	if err := t.cfg.Trust.Admitted(id); err != nil {
		t.disconnect(id, codeForbidden, "refused: "+err.Error())
	}
}

// closeQuiet closes connections that nobody uses.
func (t *Transport) closeQuiet(ctx context.Context) {
	tick := time.NewTicker(quietLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		t.mu.Lock()
		var quiet []*conn
		for id, p := range t.peers {
			for _, c := range p.conns {
				if c.giveUp(t.cfg.QuietTimeout) {
					quiet = append(quiet, c)
				}
			}
			if len(p.conns) == 0 && p.addr == "" && p.shares.idle() && p.dialing == nil && p.packets == nil {
				delete(t.peers, id)
			}
		}
		t.mu.Unlock()
		for _, c := range quiet {
			t.drop(c, nil) // so that nobody takes it while it closes
			_ = c.CloseWithError(codeQuiet, "quiet")
		}
	}
}

func (t *Transport) closeAll() {
	t.mu.Lock()
	var all []*conn
	for _, p := range t.peers {
		all = append(all, p.conns...)
	}
	t.mu.Unlock()
	for _, c := range all {
		_ = c.CloseWithError(codeClosing, "this peer stops")
	}
}

// RTT is the smoothed round-trip time to a peer, while there is a connection.
func (t *Transport) RTT(id string) (time.Duration, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.peers[id]
	if p == nil || len(p.conns) == 0 {
		return 0, false
	}
	rtt := p.conns[len(p.conns)-1].ConnectionStats().SmoothedRTT
	return rtt, rtt > 0
}

// Peers are the live connections, by peer.
func (t *Transport) Peers() []ConnInfo {
	t.mu.Lock()
	var all []*conn
	for _, p := range t.peers {
		all = append(all, p.conns...)
	}
	t.mu.Unlock()
	infos := make([]ConnInfo, 0, len(all))
	for _, c := range all {
		s := c.ConnectionStats()
		infos = append(infos, ConnInfo{
			Peer: c.peer, Addr: c.RemoteAddr().String(), Inbound: c.inbound, Since: c.since,
			Quiet: c.idle().Round(time.Millisecond), Streams: c.open(),
			RTT: s.SmoothedRTT, Sent: s.BytesSent, Got: s.BytesReceived,
		})
	}
	slices.SortFunc(infos, func(a, b ConnInfo) int {
		return cmp.Or(cmp.Compare(a.Peer, b.Peer), a.Since.Compare(b.Since))
	})
	return infos
}

// String is one line.
func (i ConnInfo) String() string {
	way := "out"
	if i.Inbound {
		way = "in"
	}
	return fmt.Sprintf("%s %s %s rtt %v streams %d quiet %v sent %d got %d", i.Peer, i.Addr, way, i.RTT, i.Streams, i.Quiet, i.Sent, i.Got)
}
