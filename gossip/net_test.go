package gossip

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// wire is a network in memory: datagrams that are late or lost, streams that
// are late, peers that are cut off from each other.
type wire struct {
	rtt func(a, b string) time.Duration

	silent   atomic.Bool   // datagrams are lost, all of them
	streamed atomic.Uint64 // bytes on streams

	mu    sync.Mutex // guards what follows
	ports map[string]*port
	cut   func(a, b string) bool
	loss  float64
}

func newWire(rtt time.Duration, loss float64) *wire {
	return &wire{rtt: func(string, string) time.Duration { return rtt }, loss: loss, ports: map[string]*port{},
		cut: func(string, string) bool { return false }}
}

func (w *wire) setCut(cut func(a, b string) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = cut
}

func (w *wire) setLoss(loss float64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.loss = loss
}

// loses says of one packet whether it is lost.
func (w *wire) loses() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return rand.Float64() < w.loss
}

// reach finds a peer that can be reached now.
func (w *wire) reach(from, to string) (*port, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p, ok := w.ports[to]
	return p, ok && !w.cut(from, to) && !w.cut(to, from)
}

func (w *wire) oneWay(a, b string) time.Duration { return w.rtt(a, b) / 2 }

// port is one peer's end: a net.PacketConn, a dial and an accept.
type port struct {
	w       *wire
	id      string
	packets chan packet
	streams chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

type packet struct {
	b    []byte
	from string
}

// plug gives a peer its end; a peer that restarts gets a new one.
func (w *wire) plug(id string) *port {
	p := &port{w: w, id: id, packets: make(chan packet, 512), streams: make(chan net.Conn), closed: make(chan struct{})}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ports[id] = p
	return p
}

func (p *port) WriteTo(b []byte, to net.Addr) (int, error) {
	if p.w.silent.Load() || p.w.loses() {
		return len(b), nil
	}
	b = append([]byte(nil), b...)
	dest := to.String()
	time.AfterFunc(p.w.oneWay(p.id, dest), func() {
		q, ok := p.w.reach(p.id, dest)
		if !ok {
			return
		}
		select {
		case q.packets <- packet{b, p.id}:
		case <-q.closed:
		default:
		}
	})
	return len(b), nil
}

func (p *port) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case q := <-p.packets:
		return copy(b, q.b), peerAddr(q.from), nil
	case <-p.closed:
		return 0, nil, net.ErrClosed
	}
}

func (p *port) Close() error {
	p.once.Do(func() {
		close(p.closed)
		p.w.mu.Lock()
		defer p.w.mu.Unlock()
		if p.w.ports[p.id] == p {
			delete(p.w.ports, p.id)
		}
	})
	return nil
}

func (p *port) LocalAddr() net.Addr              { return peerAddr(p.id) }
func (p *port) SetDeadline(time.Time) error      { return nil }
func (p *port) SetReadDeadline(time.Time) error  { return nil }
func (p *port) SetWriteDeadline(time.Time) error { return nil }

func (p *port) accept(ctx context.Context) (net.Conn, error) {
	select {
	case c := <-p.streams:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// dial takes one round trip, as a stream on a connection that stands; to a
// peer that is not there, until the handshake's patience ends.
func (p *port) dial(ctx context.Context, to string) (net.Conn, error) {
	q, ok := p.w.reach(p.id, to)
	wait := 500 * time.Millisecond
	if ok {
		wait = p.w.oneWay(p.id, to)
	}
	if !pause(ctx, wait) {
		return nil, ctx.Err()
	}
	if !ok {
		return nil, errors.New("no answer")
	}
	here, there := p.w.stream(p.id, to)
	select {
	case q.streams <- there:
		return here, nil
	case <-q.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// stream makes both ends of a connection.
func (w *wire) stream(a, b string) (net.Conn, net.Conn) {
	ab, ba := newLane(w, a, b), newLane(w, b, a)
	return &conn{in: ba, out: ab, peer: peerAddr(b)}, &conn{in: ab, out: ba, peer: peerAddr(a)}
}

type conn struct {
	in, out *lane
	peer    peerAddr
}

func (c *conn) Read(b []byte) (int, error)         { return c.in.read(b) }
func (c *conn) Write(b []byte) (int, error)        { return c.out.write(b) }
func (c *conn) Close() error                       { c.in.close(); c.out.close(); return nil }
func (c *conn) LocalAddr() net.Addr                { return peerAddr("here") }
func (c *conn) RemoteAddr() net.Addr               { return c.peer }
func (c *conn) SetDeadline(t time.Time) error      { return c.SetReadDeadline(t) }
func (c *conn) SetReadDeadline(t time.Time) error  { c.in.setDeadline(t); return nil }
func (c *conn) SetWriteDeadline(t time.Time) error { return nil }

// lane is one direction of a stream: what is written can be read after the
// latency; a loss costs a retransmission. Cut, it is silent.
type lane struct {
	w        *wire
	from, to string

	mu       sync.Mutex
	cond     *sync.Cond
	buf      []byte
	last     time.Time // arrival of the last write
	inFlight [][]byte
	ended    bool
	deadline time.Time
	timer    *time.Timer
}

func newLane(w *wire, from, to string) *lane {
	l := &lane{w: w, from: from, to: to}
	l.cond = sync.NewCond(&l.mu)
	return l
}

func (l *lane) write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return 0, io.ErrClosedPipe
	}
	delay := l.w.oneWay(l.from, l.to)
	if l.w.loses() {
		delay += l.w.rtt(l.from, l.to) * 3 / 2
	}
	if at := time.Now().Add(delay); at.After(l.last) {
		l.last = at
	}
	l.inFlight = append(l.inFlight, bytes.Clone(b))
	l.w.streamed.Add(uint64(len(b)))
	time.AfterFunc(time.Until(l.last), l.arrive)
	return len(b), nil
}

// arrive is of the oldest write, since timers that end together run in any order.
func (l *lane) arrive() {
	_, ok := l.w.reach(l.from, l.to)
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.inFlight[0]
	l.inFlight = l.inFlight[1:]
	if ok {
		l.buf = append(l.buf, b...)
	}
	l.cond.Broadcast()
}

func (l *lane) read(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		if len(l.buf) > 0 {
			n := copy(b, l.buf)
			l.buf = l.buf[n:]
			return n, nil
		}
		if l.ended && len(l.inFlight) == 0 {
			return 0, io.EOF
		}
		if !l.deadline.IsZero() && !time.Now().Before(l.deadline) {
			return 0, os.ErrDeadlineExceeded
		}
		l.cond.Wait()
	}
}

func (l *lane) setDeadline(t time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deadline = t
	if l.timer != nil {
		l.timer.Stop()
	}
	if !t.IsZero() {
		l.timer = time.AfterFunc(time.Until(t), func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.cond.Broadcast()
		})
	}
	l.cond.Broadcast()
}

func (l *lane) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	if l.timer != nil {
		l.timer.Stop()
	}
	l.cond.Broadcast()
}
