package links

import (
	"container/heap"
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// Link is one direction between two sites.
type Link struct {
	Delay  time.Duration // one way
	Jitter time.Duration // added, uniform in [0, Jitter)
	Loss   float64       // share of packets dropped, 0..1
	Cut    bool          // nothing passes
}

// queueMax bounds the packets in flight; what is over it is dropped, as a full
// router would.
const queueMax = 100_000

type pair struct{ from, to string }

// Net is the links between named ends.
type Net struct {
	wake chan struct{}

	mu      sync.Mutex // guards what follows
	ends    map[string]bool
	links   map[pair]Link
	usual   Link
	queue   packets
	order   uint64
	rng     *rand.Rand
	passed  int
	dropped int
}

// New makes a net whose links are all as usual says.
func New(usual Link) *Net {
	return &Net{
		wake: make(chan struct{}, 1), ends: map[string]bool{}, links: map[pair]Link{}, usual: usual,
		rng: rand.New(rand.NewPCG(1, 2)),
	}
}

// Join adds an end. It says whether it is new.
func (n *Net) Join(name string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ends[name] {
		return false
	}
	n.ends[name] = true
	return true
}

// SetLink changes both directions between a and b.
func (n *Net) SetLink(a, b string, l Link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.links[pair{a, b}], n.links[pair{b, a}] = l, l
}

// Cut stops what goes from one end to another; the way back stays.
func (n *Net) Cut(from, to string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut(from, to)
}

// cut stops one direction. The caller holds mu.
func (n *Net) cut(from, to string) {
	l := n.link(from, to)
	l.Cut = true
	n.links[pair{from, to}] = l
}

// Mute stops all that goes from one end to any other: it still hears them.
func (n *Net) Mute(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for to := range n.ends {
		if to != name {
			n.cut(name, to)
		}
	}
}

// Isolate cuts every link between the named ends and all others; the named ones
// still reach each other.
func (n *Net) Isolate(names ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	inside := map[string]bool{}
	for _, name := range names {
		inside[name] = true
	}
	for a := range n.ends {
		for b := range n.ends {
			if inside[a] != inside[b] {
				n.cut(a, b)
			}
		}
	}
}

// Heal mends every cut.
func (n *Net) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for p, l := range n.links {
		l.Cut = false
		n.links[p] = l
	}
}

// Counts are the packets passed and dropped so far.
func (n *Net) Counts() (passed, dropped int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.passed, n.dropped
}

// Drop counts a packet that goes nowhere.
func (n *Net) Drop() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dropped++
}

// link is the link between two ends. The caller holds mu.
func (n *Net) link(from, to string) Link {
	if l, ok := n.links[pair{from, to}]; ok {
		return l
	}
	return n.usual
}

// Send puts a packet on its way, if the link lets it through; deliver is called
// by Run when it arrives, with a copy.
func (n *Net) Send(from, to string, data []byte, deliver func([]byte)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.link(from, to)
	if l.Cut || len(n.queue) >= queueMax || l.Loss > 0 && n.rng.Float64() < l.Loss {
		n.dropped++
		return
	}
	delay := l.Delay
	if l.Jitter > 0 {
		delay += time.Duration(n.rng.Int64N(int64(l.Jitter)))
	}
	n.passed++
	n.order++
	heap.Push(&n.queue, packet{due: time.Now().Add(delay), order: n.order, data: append([]byte{}, data...), deliver: deliver})
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// idle is how long Run sleeps when nothing is on its way.
const idle = time.Hour

// Run delivers packets when they are due, until ctx ends.
func (n *Net) Run(ctx context.Context) {
	timer := time.NewTimer(idle)
	defer timer.Stop()
	for {
		timer.Reset(n.flush())
		select {
		case <-ctx.Done():
			return
		case <-n.wake:
		case <-timer.C:
		}
	}
}

// flush delivers what is due and says how long it is until the next.
func (n *Net) flush() time.Duration {
	for {
		n.mu.Lock()
		if len(n.queue) == 0 {
			n.mu.Unlock()
			return idle
		}
		if wait := time.Until(n.queue[0].due); wait > 0 {
			n.mu.Unlock()
			return wait
		}
		p := heap.Pop(&n.queue).(packet)
		n.mu.Unlock()
		p.deliver(p.data)
	}
}

type packet struct {
	due     time.Time
	order   uint64 // of sending
	data    []byte
	deliver func([]byte)
}

// packets is a heap by due time, then order of sending.
type packets []packet

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
