package memnet

import (
	"container/heap"
	"net"
	"sync"
	"time"
)

// headerLen is what each packet takes of a link beside its bytes: IP and UDP.
const headerLen = 28

// queueDefault is how long packets wait before a capped link.
const queueDefault = 100 * time.Millisecond

// Cap bounds what a host sends and gets, over all its addresses and to and from
// all others: its link to the network.
type Cap struct {
	Up, Down int64 // bytes in a second; 0 is no bound
	// Queue is for how long a packet waits at most before either; what would wait
	// longer is dropped. Default 100 ms.
	Queue time.Duration
}

// SetCap changes the link of a host, which is named by an address on it.
func (n *Network) SetCap(addr string, c Cap) {
	udp, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return // nobody can listen there either
	}
	if c.Queue == 0 {
		c.Queue = queueDefault
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.capOf(udp)
	h.up.set(c.Up, c.Queue)
	h.down.set(c.Down, c.Queue)
}

// Carried are the bytes that went up and down a host's link so far, headers
// included.
func (n *Network) Carried(addr string) (up, down int64) {
	up, _, down, _ = n.carried(addr)
	return up, down
}

// Packets are those that went up and down a host's link so far.
func (n *Network) Packets(addr string) (up, down int64) {
	_, up, _, down = n.carried(addr)
	return up, down
}

func (n *Network) carried(addr string) (up, upPackets, down, downPackets int64) {
	udp, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return 0, 0, 0, 0
	}
	n.mu.Lock()
	h := n.capOf(udp)
	n.mu.Unlock()
	up, upPackets = h.up.carried()
	down, downPackets = h.down.carried()
	return up, upPackets, down, downPackets
}

// capOf is a host's. The caller holds mu.
func (n *Network) capOf(addr *net.UDPAddr) *hostCap {
	key := addr.IP.String()
	if n.caps[key] == nil {
		n.caps[key] = &hostCap{}
	}
	return n.caps[key]
}

type hostCap struct{ up, down meter }

// meter is one direction of a host's link. Packets pass it one after another.
type meter struct {
	mu    sync.Mutex // guards what follows
	rate  int64
	queue time.Duration
	free  time.Time // when the last packet is through

	bytes, packets int64 // that passed
}

func (m *meter) set(rate int64, queue time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rate, m.queue = rate, queue
}

func (m *meter) carried() (bytes, packets int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.bytes, m.packets
}

// pass is when a packet that comes to the link at some time is through; false
// when too many wait before it.
func (m *meter) pass(at time.Time, length int) (time.Time, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	length += headerLen
	if m.rate > 0 {
		if m.free.Before(at) {
			m.free = at
		}
		if m.free.Sub(at) > m.queue {
			return at, false
		}
		m.free = m.free.Add(time.Duration(length) * time.Second / time.Duration(m.rate))
		at = m.free
	}
	m.bytes += int64(length)
	m.packets++
	return at, true
}

// admit takes the packets that have come to this end of the network down the
// host's link, in the order in which they came. The caller holds mu.
func (c *conn) admit(now time.Time) {
	for len(c.queue) > 0 && !c.queue[0].down && !c.queue[0].due.After(now) {
		p := heap.Pop(&c.queue).(packet)
		due, ok := c.cap.down.pass(p.due, len(p.data))
		if !ok {
			continue
		}
		p.due, p.down = due, true
		heap.Push(&c.queue, p)
	}
}
