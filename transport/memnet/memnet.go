package memnet

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"time"
)

const (
	// queueMax bounds the packets on their way to one address; what is over it
	// is dropped, as a full router would.
	queueMax = 16384
	// packetMax is the largest packet; QUIC finds the path's size below it.
	packetMax = 1500
)

// Link is one direction between two addresses.
type Link struct {
	Latency time.Duration // one way
	Jitter  time.Duration // added, uniform in [0, Jitter)
	Loss    float64       // share of packets dropped, 0..1
}

type pair struct{ from, to string }

// Network is a packet network.
type Network struct {
	mu    sync.Mutex // guards what follows
	rng   *rand.Rand
	conns map[string]*conn
	links map[pair]Link
	cut   map[pair]bool
	caps  map[string]*hostCap // by host
}

// New makes a network without latency or loss; the seed decides what is lost.
func New(seed uint64) *Network {
	return &Network{rng: rand.New(rand.NewPCG(seed, 0)), conns: map[string]*conn{}, links: map[pair]Link{}, cut: map[pair]bool{}, caps: map[string]*hostCap{}}
}

// Listen opens an address; one that was closed can be opened again.
func (n *Network) Listen(addr string) (net.PacketConn, error) {
	udp, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return nil, fmt.Errorf("memnet: listen: %w", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	key := udp.String()
	if n.conns[key] != nil {
		return nil, fmt.Errorf("memnet: listen %s: address in use", addr)
	}
	c := &conn{net: n, addr: udp, key: key, wake: make(chan struct{}, 1), closed: make(chan struct{})}
	c.cap = n.capOf(udp)
	n.conns[key] = c
	return c, nil
}

// SetLink changes both directions between two addresses.
func (n *Network) SetLink(a, b string, l Link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	a, b = canonical(a), canonical(b)
	n.links[pair{a, b}], n.links[pair{b, a}] = l, l
}

// Cut stops what goes from one address to another.
func (n *Network) Cut(from, to string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[pair{canonical(from), canonical(to)}] = true
}

// canonical is an address as packets carry it.
func canonical(addr string) string {
	if udp, err := net.ResolveUDPAddr("udp", addr); err == nil {
		return udp.String()
	}
	return addr
}

// Partition cuts all links between addresses of different groups, in addition
// to what is cut already. Addresses in no group keep their links. Packets on
// their way still arrive.
func (n *Network) Partition(groups ...[]string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, a := range groups {
		for j, b := range groups {
			if i == j {
				continue
			}
			for _, from := range a {
				for _, to := range b {
					n.cut[pair{canonical(from), canonical(to)}] = true
				}
			}
		}
	}
}

// Heal mends all cuts.
func (n *Network) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.cut)
}

// Close closes every address; they can be listened on again.
func (n *Network) Close() error {
	n.mu.Lock()
	conns := make([]*conn, 0, len(n.conns))
	for _, c := range n.conns {
		conns = append(conns, c)
	}
	n.mu.Unlock()
	for _, c := range conns {
		c.Close()
	}
	return nil
}

// send puts a packet on its way.
func (n *Network) send(from *conn, to string, data []byte) {
	n.mu.Lock()
	target, link, cut := n.conns[to], n.links[pair{from.key, to}], n.cut[pair{from.key, to}]
	lost := link.Loss > 0 && n.rng.Float64() < link.Loss
	delay := link.Latency
	if link.Jitter > 0 {
		delay += time.Duration(n.rng.Int64N(int64(link.Jitter)))
	}
	n.mu.Unlock()
	if len(data) > packetMax {
		return
	}
	left, ok := from.cap.up.pass(time.Now(), len(data))
	if !ok || target == nil || cut || lost {
		return
	}
	target.arrive(packet{due: left.Add(delay), from: from.addr, data: append([]byte{}, data...)})
}

// conn is one address.
type conn struct {
	net    *Network
	addr   *net.UDPAddr
	key    string
	cap    *hostCap
	wake   chan struct{}
	closed chan struct{}
	once   sync.Once

	mu       sync.Mutex // guards what follows
	queue    packets
	order    uint64
	deadline time.Time
}

func (c *conn) arrive(p packet) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) >= queueMax {
		return
	}
	c.order++
	p.order = c.order
	heap.Push(&c.queue, p)
	c.rouse()
}

// rouse makes a waiting reader look again.
func (c *conn) rouse() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// next takes the packet whose time has come, or says how long to wait; a wait
// below zero is for ever.
func (c *conn) next() (p packet, ok bool, wait time.Duration, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	wait = -1
	if !c.deadline.IsZero() {
		if wait = c.deadline.Sub(now); wait <= 0 {
			c.rouse() // another reader
			return p, false, 0, os.ErrDeadlineExceeded
		}
	}
	if len(c.queue) == 0 {
		return p, false, wait, nil
	}
	c.admit(now)
	if len(c.queue) == 0 {
		return p, false, wait, nil
	}
	if due := c.queue[0].due.Sub(now); due > 0 {
		if wait < 0 || due < wait {
			wait = due
		}
		return p, false, wait, nil
	}
	p = heap.Pop(&c.queue).(packet)
	if len(c.queue) > 0 {
		c.rouse() // for another reader
	}
	return p, true, 0, nil
}

// ReadFrom waits for a packet.
func (c *conn) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		select {
		case <-c.closed:
			return 0, nil, net.ErrClosed
		default:
		}
		p, ok, wait, err := c.next()
		if err != nil {
			return 0, nil, err
		}
		if ok {
			return copy(b, p.data), p.from, nil
		}
		if err := c.await(wait); err != nil {
			return 0, nil, err
		}
	}
}

func (c *conn) await(wait time.Duration) error {
	var due <-chan time.Time
	if wait >= 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-c.wake:
	case <-due:
	case <-c.closed:
		return net.ErrClosed
	}
	return nil
}

// WriteTo sends a packet.
func (c *conn) WriteTo(b []byte, to net.Addr) (int, error) {
	select {
	case <-c.closed:
		return 0, net.ErrClosed
	default:
	}
	c.net.send(c, to.String(), b)
	return len(b), nil
}

// Close closes the address; what is on its way to it is lost.
func (c *conn) Close() error {
	c.once.Do(func() {
		close(c.closed)
		c.net.mu.Lock()
		defer c.net.mu.Unlock()
		if c.net.conns[c.key] == c {
			delete(c.net.conns, c.key)
		}
	})
	return nil
}

func (c *conn) LocalAddr() net.Addr { return c.addr }

func (c *conn) SetDeadline(at time.Time) error { return c.SetReadDeadline(at) }

func (c *conn) SetReadDeadline(at time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = at
	c.rouse()
	return nil
}

func (c *conn) SetWriteDeadline(time.Time) error { return nil }

// SetReadBuffer and SetWriteBuffer exist so that quic-go does not warn.
func (c *conn) SetReadBuffer(int) error  { return nil }
func (c *conn) SetWriteBuffer(int) error { return nil }

// packets is a heap by due time, then order of sending.
type packets []packet

type packet struct {
	due   time.Time
	order uint64
	from  net.Addr
	data  []byte
	down  bool // it came down the receiver's link
}

func (q packets) Len() int { return len(q) }
func (q packets) Less(i, j int) bool {
	if q[i].due.Equal(q[j].due) {
		return q[i].order < q[j].order
	}
	return q[i].due.Before(q[j].due)
}
func (q packets) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *packets) Push(x any)   { *q = append(*q, x.(packet)) }
func (q *packets) Pop() any {
	old := *q
	p := old[len(old)-1]
	old[len(old)-1] = packet{}
	*q = old[:len(old)-1]
	return p
}
