package node

import (
	"container/heap"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

// What bounds the messages of peers that wait for the core: of all, and of one,
// so that a peer that floods this one leaves room for the others. Past it a peer
// is told to come again: what it sent is level-triggered and will.
const (
	receivedMax          = 8192
	receivedBytesMax     = 128 << 20
	receivedEachMax      = 2048
	receivedEachBytesMax = 32 << 20
)

// stepsMax bounds the events taken between two looks at the timers.
const stepsMax = 256

var errBusy = errors.New("the core has too many messages waiting")

// loop is the one goroutine that steps the core. Whoever has news for the core
// posts an event; whoever wants to know something runs a function between two
// steps.
type loop struct {
	core  *placement.Peer
	carry func(placement.Effect) // carries out one effect; must not block on the loop
	taken func(*placement.Peer)  // after the effects of each step
	trace func(evs []placement.Event, effects []placement.Effect)
	clock *clock

	mu       sync.Mutex // guards what follows
	queue    []item
	received backlog                      // messages of peers in queue
	each     map[placement.PeerID]backlog // the same by peer
	closed   bool
	wake     chan struct{}
	stirred  chan struct{} // events were taken since it was read
	done     chan struct{} // closed when run returns

	timers timers // only the loop's goroutine
}

// backlog is messages that wait, and their bytes.
type backlog struct{ messages, bytes int }

func (b backlog) plus(messages, bytes int) backlog {
	return backlog{b.messages + messages, b.bytes + bytes}
}

// waits counts a message of a peer in, or with -1 out again, and says whether
// there is room for it.
func (l *loop) waits(ev placement.Receive, sign int) bool {
	all, one := l.received.plus(sign, sign*len(ev.Body)), l.each[ev.From].plus(sign, sign*len(ev.Body))
	if sign > 0 && (all.messages > receivedMax || all.bytes > receivedBytesMax ||
		one.messages > receivedEachMax || one.bytes > receivedEachBytesMax) {
		return false
	}
	if l.received, l.each[ev.From] = all, one; one.messages == 0 {
		delete(l.each, ev.From)
	}
	return true
}

// item is an event, or a function that looks at the core.
type item struct {
	event placement.Event
	late  func() placement.Event // makes the event when its turn comes
	apart bool                   // of late: not before the core's answer to what came earlier was carried out
	look  func(*placement.Peer)
}

func newLoop(core *placement.Peer, clock *clock, carry func(placement.Effect), taken func(*placement.Peer)) *loop {
	return &loop{core: core, carry: carry, taken: taken, clock: clock, wake: make(chan struct{}, 1), done: make(chan struct{}),
		stirred: make(chan struct{}, 1),
		each:    map[placement.PeerID]backlog{}, timers: timers{byKey: map[string]*timer{}}}
}

// now is the time in the core's terms.
func (l *loop) now() placement.Now { return l.clock.now() }

// lookEvery is how long the loop sleeps at most: Go's timers stand still while
// the machine is suspended, and the core's don't.
const lookEvery = 250 * time.Millisecond

// sleep is how long there is nothing to do, if no event comes.
func (l *loop) sleep() time.Duration { return min(lookEvery, l.timers.next(l.now().Mono)) }

// post hands an event to the core. It never blocks: what posts is bounded by
// what the core asked for, except for messages of peers, which are counted.
func (l *loop) post(ev placement.Event) { _ = l.add(item{event: ev}) }

// postLate is post for an event that is made when its turn comes, and with apart
// after all was carried out that the core wanted before it.
func (l *loop) postLate(apart bool, make func() placement.Event) {
	_ = l.add(item{late: make, apart: apart})
}

// receive hands a message of a peer to the core, or says that it is too busy.
func (l *loop) receive(ev placement.Receive) error { return l.add(item{event: ev}) }

func (l *loop) add(it item) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return errClosing
	}
	if ev, ok := it.event.(placement.Receive); ok && !l.waits(ev, 1) {
		return errBusy
	}
	l.queue = append(l.queue, it)
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return nil
}

// look runs f between two steps and waits for it.
func (l *loop) look(ctx context.Context, f func(*placement.Peer)) error {
	done := make(chan struct{})
	if err := l.add(item{look: func(p *placement.Peer) { f(p); close(done) }}); err != nil {
		return err
	}
	select {
	case <-done:
		return nil
	case <-l.done:
		return errClosing
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run steps the core until ctx ends.
func (l *loop) run(ctx context.Context) {
	defer close(l.done)
	l.effects(nil, l.core.Begin(l.now()))
	alarm := time.NewTimer(0)
	defer alarm.Stop()
	for {
		alarm.Reset(l.sleep())
		select {
		case <-ctx.Done():
			l.mu.Lock()
			l.closed, l.queue = true, nil
			l.mu.Unlock()
			return
		case <-l.wake:
		case <-alarm.C:
		}
		l.drain(ctx)
	}
}

// drain takes all that waits, timers between.
func (l *loop) drain(ctx context.Context) {
	for ctx.Err() == nil {
		var evs []placement.Event
		for _, key := range l.timers.due(l.now().Mono) {
			evs = append(evs, placement.TimerFired{Key: key})
		}
		batch := l.take()
		for _, it := range batch {
			switch {
			case it.look != nil: // it sees what came before it, and what that led to
				evs = l.step(evs)
				it.look(l.core)
			case it.late != nil:
				if it.apart {
					evs = l.step(evs)
				}
				evs = append(evs, it.late())
			default:
				evs = append(evs, it.event)
			}
		}
		l.step(evs)
		if len(batch) == 0 {
			return
		}
	}
}

func (l *loop) take() []item {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := min(len(l.queue), stepsMax)
	batch := l.queue[:n:n]
	if l.queue = l.queue[n:]; len(l.queue) == 0 {
		l.queue = nil
	}
	for _, it := range batch {
		if ev, ok := it.event.(placement.Receive); ok {
			l.waits(ev, -1)
		}
	}
	return batch
}

// step gives the core what came, together, and returns the empty rest.
func (l *loop) step(evs []placement.Event) []placement.Event {
	if len(evs) > 0 {
		select {
		case l.stirred <- struct{}{}:
		default:
		}
		l.effects(evs, l.core.Step(l.now(), evs...))
	}
	return nil
}

func (l *loop) effects(evs []placement.Event, effects []placement.Effect) {
	if l.trace != nil {
		l.trace(evs, effects)
	}
	for _, e := range effects {
		if t, ok := e.(placement.Timer); ok {
			l.timers.set(t.Key, time.Duration(t.At))
			continue
		}
		l.carry(e)
	}
	l.taken(l.core)
}

// timers is a heap of deadlines by key.
type timers struct {
	heap  timerHeap
	byKey map[string]*timer
}

type timer struct {
	key   string
	at    time.Duration
	index int
}

// idle is how long the loop sleeps when no timer is set.
const idle = time.Hour

func (t *timers) set(key string, at time.Duration) {
	if old := t.byKey[key]; old != nil {
		heap.Remove(&t.heap, old.index)
		delete(t.byKey, key)
	}
	if at > 0 {
		e := &timer{key: key, at: at}
		t.byKey[key] = e
		heap.Push(&t.heap, e)
	}
}

// next is how long it is until the first deadline.
func (t *timers) next(now time.Duration) time.Duration {
	if len(t.heap) == 0 {
		return idle
	}
	return max(0, t.heap[0].at-now)
}

// due takes out the keys whose time has come, in order.
func (t *timers) due(now time.Duration) []string {
	var keys []string
	for len(t.heap) > 0 && t.heap[0].at <= now {
		e := heap.Pop(&t.heap).(*timer)
		delete(t.byKey, e.key)
		keys = append(keys, e.key)
	}
	return keys
}

type timerHeap []*timer

func (h timerHeap) Len() int           { return len(h) }
func (h timerHeap) Less(i, j int) bool { return h[i].at < h[j].at }
func (h timerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}
func (h *timerHeap) Push(x any) {
	t := x.(*timer)
	t.index = len(*h)
	*h = append(*h, t)
}
func (h *timerHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	*h = old[:len(old)-1]
	return t
}
