package artifact

import (
	"context"
	"slices"
	"sync"
	"time"
)

const (
	// sendsMax bounds the chunks that are sent at once: few, so that each is
	// soon where it can be sent on from.
	sendsMax = 3
	// slowMax bounds those beside them that go to peers who read slowly: less than
	// slowPace bytes over paceOver.
	slowMax  = 12
	slowPace = 256 << 10
	paceOver = time.Second
	// waitingMax bounds the requests that wait for a lane, and laneWait how long;
	// what is over it is told to ask others.
	waitingMax = 4
	laneWait   = 2 * time.Second
)

// lanes share out the sending of chunks.
type lanes struct {
	fast, slow chan struct{}
	waiting    chan struct{}
	shares     *shares
	queue      *queue
}

func newLanes() lanes {
	return lanes{make(chan struct{}, sendsMax), make(chan struct{}, slowMax), make(chan struct{}, waitingMax), &shares{}, &queue{}}
}

// lane is the right to send one chunk.
type lane struct {
	lanes lanes
	mine  chan struct{}
	share *share
}

// enter waits for a lane for a chunk of a peer, and calls waits from time to time
// meanwhile; nil when there is none to be had soon. cut breaks the chunk off.
func (l lanes) enter(ctx context.Context, peer string, cut func(), waits func() error) (*lane, error) {
	begin := func() (*lane, error) {
		if l.shares.refuses(peer) { // since it came
			<-l.fast
			return nil, nil
		}
		return &lane{lanes: l, mine: l.fast, share: l.shares.hold(peer, cut)}, nil
	}
	select {
	case l.fast <- struct{}{}:
		return begin()
	default:
	}
	l.shares.demand(peer, false)
	place := l.queue.join(peer, l.shares.bars)
	if place == nil {
		return nil, nil
	}
	defer l.queue.leave(place)
	select { // whoever was sent away for this one is about to leave
	case l.waiting <- struct{}{}:
		defer func() { <-l.waiting }()
	case <-place.away:
		return nil, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	tick := time.NewTicker(waitEvery)
	defer tick.Stop()
	end := time.NewTimer(laneWait)
	defer end.Stop()
	for {
		select {
		case l.fast <- struct{}{}:
			return begin()
		case <-tick.C:
			l.shares.demand(peer, false)
			if err := waits(); err != nil {
				return nil, err
			}
		case <-place.away:
			return nil, nil
		case <-end.C:
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// slowDown makes room for another, of a chunk whose reader is slow, unless there
// are too many such.
func (l *lane) slowDown() {
	if l.mine == l.lanes.slow {
		return
	}
	select {
	case l.lanes.slow <- struct{}{}:
		<-l.mine
		l.mine = l.lanes.slow
		l.share.slowed()
	default:
		l.lanes.shares.demand(l.share.peer, true) // for the next time
	}
}

func (l *lane) leave() {
	l.share.leave()
	<-l.mine
}

// queue are the requests that wait for a lane, in the order in which they came.
type queue struct {
	mu     sync.Mutex // guards what follows
	places []*place
}

type place struct {
	peer string
	away chan struct{} // closed when it is another's
	gone bool          // so it is; guarded by queue.mu
}

// join is nil when the queue is full. One of a peer of which a chunk was broken off
// just now makes room, if it has more there than this one would have: others are not
// compared, since who gets much soon has much to give to the rest.
func (q *queue) join(peer string, barred func(peer string) bool) *place {
	q.mu.Lock()
	defer q.mu.Unlock()
	if counts := q.counts(); q.length() >= waitingMax {
		most := ""
		for _, p := range q.places {
			if counts[p.peer] > counts[most] && barred(p.peer) {
				most = p.peer
			}
		}
		if counts[most] <= counts[peer] {
			return nil
		}
		for _, p := range slices.Backward(q.places) {
			if p.peer == most && !p.gone {
				p.gone = true
				close(p.away)
				break
			}
		}
	}
	p := &place{peer: peer, away: make(chan struct{})}
	q.places = append(q.places, p)
	return p
}

func (q *queue) leave(p *place) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.places = slices.DeleteFunc(q.places, func(other *place) bool { return other == p })
}

// counts are the places of each peer. The caller holds mu.
func (q *queue) counts() map[string]int {
	counts := map[string]int{}
	for _, p := range q.places {
		if !p.gone {
			counts[p.peer]++
		}
	}
	return counts
}

func (q *queue) length() (n int) {
	for _, c := range q.counts() {
		n += c
	}
	return n
}
