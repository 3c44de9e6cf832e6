package transport

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
)

const (
	packetMax      = 64 << 10
	packetsInMax   = 4096 // that wait to be read
	packetsOutMax  = 128  // that wait for one peer
	packetIdle     = 30 * time.Second
	packetDialMax  = 4 * time.Second
	packetUniWait  = 2 * time.Second
	acceptedMax    = 64 // streams of gossip that wait to be accepted
	gossipOpenWait = 5 * time.Second
)

// Addr is a peer's id as a network address.
type Addr string

// Network is "hansa".
func (Addr) Network() string { return "hansa" }

// String is the peer's id.
func (a Addr) String() string { return string(a) }

// packets is the port as a net.PacketConn whose addresses are peers. WriteTo
// never blocks: it queues for a goroutine of the peer's own, so that one dead
// peer delays no probe of another.
type packets struct {
	t    *Transport
	in   chan packet
	done chan struct{}
	once sync.Once

	mu       sync.Mutex // guards what follows
	deadline time.Time
	changed  chan struct{} // closed and replaced when the deadline changes
}

type packet struct {
	from string
	data []byte
}

type packetQueue struct{ out chan []byte }

func newPackets(t *Transport) *packets {
	return &packets{t: t, in: make(chan packet, packetsInMax), done: make(chan struct{}), changed: make(chan struct{})}
}

// PacketConn is this port for the packets of gossip. Its addresses' String is
// a peer's id.
func (t *Transport) PacketConn() net.PacketConn { return t.gossip }

func (p *packets) shut() { p.once.Do(func() { close(p.done) }) }

// ReadFrom waits for a packet.
func (p *packets) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		p.mu.Lock()
		deadline, changed := p.deadline, p.changed
		p.mu.Unlock()
		var expired <-chan time.Time
		if !deadline.IsZero() {
			wait := time.Until(deadline)
			if wait <= 0 {
				return 0, nil, os.ErrDeadlineExceeded
			}
			timer := time.NewTimer(wait)
			defer timer.Stop()
			expired = timer.C
		}
		select {
		case got := <-p.in:
			return copy(b, got.data), Addr(got.from), nil
		case <-p.done:
			return 0, nil, net.ErrClosed
		case <-expired:
			return 0, nil, os.ErrDeadlineExceeded
		case <-changed:
		}
	}
}

// WriteTo queues a packet; one that finds no room is dropped, as a network
// may.
func (p *packets) WriteTo(b []byte, to net.Addr) (int, error) {
	if len(b) > packetMax {
		return 0, &Error{Kind: KindTooLarge, Msg: "a packet over 64 KiB", Peer: to.String()}
	}
	select {
	case <-p.done:
		return 0, net.ErrClosed
	default:
	}
	if _, err := p.t.running(); err != nil {
		return 0, err
	}
	data := append([]byte{}, b...)
	t, id := p.t, to.String()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.peers[id] == nil && len(t.peers) >= peersMax {
		t.stats.packetsDropped.Add(1)
		return len(b), nil
	}
	peer := t.peerOf(id)
	if peer.packets == nil {
		if t.stopped {
			return 0, net.ErrClosed
		}
		q := &packetQueue{out: make(chan []byte, packetsOutMax)}
		peer.packets = q
		t.work.Go(func() { t.sendPackets(id, q) })
	}
	select {
	case peer.packets.out <- data:
	default:
		t.stats.packetsDropped.Add(1)
	}
	return len(b), nil
}

// sendPackets sends what is queued for one peer, until it is quiet.
func (t *Transport) sendPackets(id string, q *packetQueue) {
	quiet := time.NewTimer(packetIdle)
	defer quiet.Stop()
	for {
		select {
		case data := <-q.out:
			t.sendPacket(id, data)
			quiet.Reset(packetIdle)
		case <-t.ctx.Done():
			return
		case <-quiet.C:
			t.mu.Lock()
			if len(q.out) == 0 {
				t.peerOf(id).packets = nil
				t.mu.Unlock()
				return
			}
			t.mu.Unlock()
			quiet.Reset(packetIdle)
		}
	}
}

func (t *Transport) sendPacket(id string, data []byte) {
	ctx, cancel := context.WithTimeout(t.ctx, packetDialMax)
	defer cancel()
	c, err := t.connTo(ctx, id)
	if err == nil {
		c.touch()
		err = c.SendDatagram(data)
		var large *quic.DatagramTooLargeError
		if errors.As(err, &large) {
			err = sendUni(ctx, c, data)
		}
	}
	if err != nil {
		t.stats.packetsDropped.Add(1)
		return
	}
	t.stats.packetsOut.Add(1)
}

// sendUni sends a packet that no datagram can carry.
func sendUni(ctx context.Context, c *conn, data []byte) error {
	ctx, cancel := context.WithTimeout(ctx, packetUniWait)
	defer cancel()
	s, err := c.OpenUniStreamSync(ctx)
	if err != nil {
		return err
	}
	deadline, _ := ctx.Deadline()
	if err := s.SetWriteDeadline(deadline); err != nil {
		return err
	}
	if _, err := s.Write(append([]byte{streamPacket}, data...)); err != nil {
		s.CancelWrite(streamCancelled)
		return err
	}
	return s.Close()
}

func (t *Transport) receiveDatagrams(ctx context.Context, c *conn) {
	for {
		data, err := c.ReceiveDatagram(ctx)
		if err != nil {
			return
		}
		t.gossip.deliver(c, data)
	}
}

// acceptUni takes uni-directional streams: packets, and the hello of a peer
// that was known without it.
func (t *Transport) acceptUni(ctx context.Context, c *conn) {
	for {
		s, err := c.AcceptUniStream(ctx)
		if err != nil {
			return
		}
		t.work.Go(func() {
			defer s.CancelRead(streamCancelled)
			if err := s.SetReadDeadline(time.Now().Add(headWait)); err != nil {
				return
			}
			data, err := io.ReadAll(io.LimitReader(s, packetMax+2))
			if err == nil && len(data) > 1 && len(data) <= packetMax+1 && data[0] == streamPacket {
				t.gossip.deliver(c, data[1:])
			}
		})
	}
}

// deliver hands a packet on. One peer that sends without end leaves room for
// the others.
func (p *packets) deliver(c *conn, data []byte) {
	c.touch()
	c.mu.Lock()
	ok := c.packets.take(time.Now(), packetsBurst, packetsEvery)
	c.mu.Unlock()
	if !ok {
		p.t.stats.packetsDropped.Add(1)
		return
	}
	select {
	case p.in <- packet{c.peer, data}:
		p.t.stats.packetsIn.Add(1)
	default:
		p.t.stats.packetsDropped.Add(1)
	}
}

// Close ends reads and writes; the port stays open for calls.
func (p *packets) Close() error {
	p.shut()
	return nil
}

// LocalAddr is this peer's id.
func (p *packets) LocalAddr() net.Addr { return Addr(p.t.ID()) }

// SetDeadline bounds reads.
func (p *packets) SetDeadline(at time.Time) error { return p.SetReadDeadline(at) }

// SetReadDeadline bounds reads.
func (p *packets) SetReadDeadline(at time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deadline = at
	close(p.changed)
	p.changed = make(chan struct{})
	return nil
}

// SetWriteDeadline does nothing: writes never block.
func (p *packets) SetWriteDeadline(time.Time) error { return nil }

// gossipConn is a stream as gossip's net.Conn.
type gossipConn struct {
	*Stream
	local, remote Addr
	finished      chan struct{} // closed by Close, for the end that serves it
	once          sync.Once
}

func (g *gossipConn) LocalAddr() net.Addr  { return g.local }
func (g *gossipConn) RemoteAddr() net.Addr { return g.remote }
func (g *gossipConn) Close() error {
	err := g.Stream.Close()
	g.once.Do(func() { close(g.finished) })
	return err
}

// DialGossip opens a stream of gossip to a peer.
func (t *Transport) DialGossip(ctx context.Context, id string) (net.Conn, error) {
	s, err := t.open(ctx, id, []byte{streamGossip})
	if err != nil {
		return nil, fromNetwork(id, "open gossip", err)
	}
	return &gossipConn{Stream: s, local: Addr(t.ID()), remote: Addr(id), finished: make(chan struct{})}, nil
}

// AcceptGossip waits for a stream of gossip from a peer.
func (t *Transport) AcceptGossip(ctx context.Context) (net.Conn, error) {
	select {
	case g := <-t.accepted:
		return g, nil
	case <-t.gossip.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// acceptGossip hands a stream of gossip over and waits until it is done with.
func (t *Transport) acceptGossip(c *conn, q *quic.Stream, r *bufio.Reader) {
	select {
	case c.shares.gossip <- struct{}{}:
		defer func() { <-c.shares.gossip }()
	default:
		t.stats.exhausted.Add(1)
		q.CancelWrite(streamCancelled)
		return
	}
	if err := q.SetDeadline(time.Time{}); err != nil {
		return
	}
	g := &gossipConn{Stream: &Stream{s: q, r: r, c: c, peer: c.peer}, local: Addr(t.ID()), remote: Addr(c.peer), finished: make(chan struct{})}
	wait := time.NewTimer(gossipOpenWait)
	defer wait.Stop()
	select {
	case t.accepted <- g:
	case <-wait.C:
		q.CancelWrite(streamCancelled)
		return
	case <-t.ctx.Done():
		return
	}
	select {
	case <-g.finished:
	case <-c.Context().Done():
	}
}
