package transport

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// What one peer may take of this one, so that it harms nobody but itself.
const (
	// bodiesMax and bodiesPeerMax bound the bytes of requests and answers that
	// are held at once, in all and for one peer.
	bodiesMax     = 256 << 20
	bodiesPeerMax = 32 << 20
	// packetsBurst and packetsEvery bound the packets that are taken from one
	// connection: some thirty times what a large mesh sends.
	packetsBurst = 1024
	packetsEvery = time.Millisecond
	// gossipPeerMax bounds the gossip streams of one peer.
	gossipPeerMax = 16
	// Beyond so many handshakes, and one more in this time, whoever calls must
	// first show that it is where it says: a round trip more.
	handshakesBurst = 256
	handshakesEvery = 10 * time.Millisecond
)

// shares is what a peer has of this one's room, over all its connections.
type shares struct {
	inFlight chan struct{} // one for each call or stream being served
	gossip   chan struct{} // one for each stream of gossip
	bodies   budget
}

func newShares(inFlightMax int) *shares {
	return &shares{
		inFlight: make(chan struct{}, inFlightMax), gossip: make(chan struct{}, gossipPeerMax),
		bodies: budget{max: bodiesPeerMax},
	}
}

func (s *shares) idle() bool { return len(s.inFlight) == 0 && len(s.gossip) == 0 }

// budget is a number of bytes that may be held.
type budget struct {
	max  int64
	held atomic.Int64
}

func (b *budget) take(n int) bool {
	if b.held.Add(int64(n)) <= b.max {
		return true
	}
	b.give(n)
	return false
}

func (b *budget) give(n int) { b.held.Add(-int64(n)) }

// hold takes n bytes of a connection's peer and of all; release gives them
// back.
func (t *Transport) hold(c *conn, n int) (release func(), ok bool) {
	if !c.shares.bodies.take(n) {
		return nil, false
	}
	if !t.bodies.take(n) {
		c.shares.bodies.give(n)
		return nil, false
	}
	return func() { t.bodies.give(n); c.shares.bodies.give(n) }, true
}

// bucket is a token bucket.
type bucket struct {
	level float64
	at    time.Time
}

func (b *bucket) take(now time.Time, burst float64, every time.Duration) bool {
	if b.at.IsZero() {
		b.level = burst
	} else {
		b.level = min(burst, b.level+float64(now.Sub(b.at))/float64(every))
	}
	b.at = now
	if b.level < 1 {
		return false
	}
	b.level--
	return true
}

// handshakes decides whether a caller must show that it is where it says.
type handshakes struct {
	mu   sync.Mutex // guards what follows
	free bucket
}

func (h *handshakes) mustVerify(net.Addr) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.free.take(time.Now(), handshakesBurst, handshakesEvery)
}
