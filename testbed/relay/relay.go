package relay

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Link is one direction between two peers.
type Link struct {
	Delay  time.Duration // one way
	Jitter time.Duration // added, uniform in [0, Jitter)
	Loss   float64       // share of packets dropped, 0..1
	Cut    bool          // nothing passes
}

// packetMax is the largest UDP payload that the relay carries; QUIC stays far
// below it.
const packetMax = 2048

// queueMax bounds the packets in flight; what is over it is dropped, as a
// full router would.
const queueMax = 100_000

// Relay carries packets between peers.
type Relay struct {
	wake chan struct{}

	mu      sync.Mutex // guards what follows
	ends    map[string]*end
	byReal  map[netip.AddrPort]*end
	links   map[[2]string]Link
	usual   Link
	queue   packets
	rng     *rand.Rand
	dropped int
	passed  int
}

// end is one peer: its socket at the relay and its real address.
type end struct {
	name   string
	socket *net.UDPConn
	real   netip.AddrPort
}

type packet struct {
	due  time.Time
	from *end // whose socket it leaves from
	to   netip.AddrPort
	data []byte
}

// New makes a relay whose links are all as usual says.
func New(usual Link) *Relay {
	return &Relay{
		wake:   make(chan struct{}, 1),
		ends:   map[string]*end{},
		byReal: map[netip.AddrPort]*end{},
		links:  map[[2]string]Link{},
		usual:  usual,
		rng:    rand.New(rand.NewPCG(1, 2)),
	}
}

// Add gives the peer that listens at real an address to advertise. Call it
// before Run.
func (r *Relay) Add(name, real string) (advertise string, err error) {
	addr, err := netip.ParseAddrPort(real)
	if err != nil {
		return "", fmt.Errorf("relay: add %s: %w", name, err)
	}
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return "", fmt.Errorf("relay: add %s: %w", name, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ends[name] != nil {
		return "", errors.Join(fmt.Errorf("relay: add %s: added already", name), socket.Close())
	}
	e := &end{name: name, socket: socket, real: addr}
	r.ends[name], r.byReal[addr] = e, e
	return socket.LocalAddr().String(), nil
}

// SetLink changes both directions between a and b.
func (r *Relay) SetLink(a, b string, l Link) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.links[[2]string{a, b}], r.links[[2]string{b, a}] = l, l
}

// Isolate cuts every link between the named peers and all others; the named
// ones still reach each other.
func (r *Relay) Isolate(names ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	inside := map[string]bool{}
	for _, n := range names {
		inside[n] = true
	}
	for a := range r.ends {
		for b := range r.ends {
			if inside[a] != inside[b] {
				l := r.link(a, b)
				l.Cut = true
				r.links[[2]string{a, b}] = l
			}
		}
	}
}

// Heal mends every cut.
func (r *Relay) Heal() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for pair, l := range r.links {
		l.Cut = false
		r.links[pair] = l
	}
}

// Counts are the packets passed and dropped so far.
func (r *Relay) Counts() (passed, dropped int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.passed, r.dropped
}

// link is the link from a to b. The caller holds mu.
func (r *Relay) link(a, b string) Link {
	if l, ok := r.links[[2]string{a, b}]; ok {
		return l
	}
	return r.usual
}

// Run carries packets until ctx ends, and then closes the sockets.
func (r *Relay) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	r.mu.Lock()
	ends := make([]*end, 0, len(r.ends))
	for _, e := range r.ends {
		ends = append(ends, e)
	}
	r.mu.Unlock()
	for _, e := range ends {
		wg.Go(func() { r.receive(e) })
	}
	wg.Go(func() { r.send(ctx) })
	<-ctx.Done()
	for _, e := range ends {
		e.socket.Close()
	}
	wg.Wait()
	return nil
}

// receive takes what is sent to the advertised address of e.
func (r *Relay) receive(e *end) {
	buffer := make([]byte, packetMax)
	for {
		n, from, err := e.socket.ReadFromUDPAddrPort(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP refusal of an earlier packet
		}
		r.enqueue(netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), e, buffer[:n])
	}
}

func (r *Relay) enqueue(source netip.AddrPort, to *end, data []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	from := r.byReal[source]
	if from == nil || len(r.queue) >= queueMax {
		r.dropped++
		return
	}
	l := r.link(from.name, to.name)
	if l.Cut || (l.Loss > 0 && r.rng.Float64() < l.Loss) {
		r.dropped++
		return
	}
	delay := l.Delay
	if l.Jitter > 0 {
		delay += time.Duration(r.rng.Int64N(int64(l.Jitter)))
	}
	r.passed++
	heap.Push(&r.queue, packet{due: time.Now().Add(delay), from: from, to: to.real, data: append([]byte{}, data...)})
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// send lets packets go when they are due.
func (r *Relay) send(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		wait := r.flush()
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		case <-timer.C:
		}
	}
}

// flush sends what is due and says how long it is until the next.
func (r *Relay) flush() time.Duration {
	for {
		r.mu.Lock()
		if len(r.queue) == 0 {
			r.mu.Unlock()
			return time.Hour
		}
		if wait := time.Until(r.queue[0].due); wait > 0 {
			r.mu.Unlock()
			return wait
		}
		p := heap.Pop(&r.queue).(packet)
		r.mu.Unlock()
		// A refused or failed write is a lost packet, which is what links do.
		_, _ = p.from.socket.WriteToUDPAddrPort(p.data, p.to)
	}
}

// packets is a heap by due time.
type packets []packet

func (q packets) Len() int           { return len(q) }
func (q packets) Less(i, j int) bool { return q[i].due.Before(q[j].due) }
func (q packets) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *packets) Push(x any)        { *q = append(*q, x.(packet)) }
func (q *packets) Pop() any {
	old := *q
	p := old[len(old)-1]
	*q = old[:len(old)-1]
	return p
}
