package artifact

import (
	"context"
	"errors"
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
	// lanesPeerMax bounds the lanes of one peer: some are left for others, however
	// slowly it reads.
	lanesPeerMax = 2
	// waitingMax bounds the peers that wait for a lane, waitingPeerMax the requests
	// of each, and laneWait how long; what is over it is told to ask others.
	waitingMax     = 4
	waitingPeerMax = FetchesMax - lanesPeerMax
	laneWait       = 2 * time.Second
	// A send of less than leastPace bytes a second over leastOver is broken off
	// when others wait for its lane.
	leastPace = 16 << 10
	leastOver = 4 * time.Second
)

// errTooSlow says that a chunk is read so slowly that others would wait for it.
var errTooSlow = errors.New("it is read too slowly, and others wait")

// lanes share out the sending of chunks.
type lanes struct {
	mu         sync.Mutex // guards what follows
	fast, slow int
	held       []*lane
	waiting    []*lane // the first comes first
}

// lane is the right to send one chunk.
type lane struct {
	lanes    *lanes
	peer     string
	breakOff func()        // ends the sending
	ready    chan struct{} // closed when it is held

	// Guarded by lanes.mu.
	slow   bool
	sent   int       // bytes, since
	since  time.Time // not long ago, while any are sent
	broken bool
}

// enter waits for a lane, and calls waits from time to time meanwhile; nil when
// there is none to be had soon. breakOff ends a sending that others wait for.
func (l *lanes) enter(ctx context.Context, peer string, breakOff func(), waits func() error) (*lane, error) {
	mine := &lane{lanes: l, peer: peer, breakOff: breakOff, ready: make(chan struct{})}
	if !l.queue(mine) {
		return nil, nil
	}
	tick := time.NewTicker(waitEvery)
	defer tick.Stop()
	end := time.NewTimer(laneWait)
	defer end.Stop()
	for {
		select {
		case <-mine.ready:
			return mine, nil
		default:
		}
		select {
		case <-mine.ready:
			return mine, nil
		case <-tick.C:
			l.hurry(peer)
			if err := waits(); err != nil {
				mine.leave()
				return nil, err
			}
		case <-end.C:
			mine.leave()
			return nil, nil
		case <-ctx.Done():
			mine.leave()
			return nil, ctx.Err()
		}
	}
}

// queue has a lane wait for its turn, which may have come; false if too many wait.
func (l *lanes) queue(mine *lane) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.free(mine.peer) {
		l.take(mine)
		return true
	}
	own, others := 0, map[string]bool{}
	for _, w := range l.waiting {
		if w.peer == mine.peer {
			own++
		} else {
			others[w.peer] = true
		}
	}
	if own >= waitingPeerMax || len(others) >= waitingMax {
		return false
	}
	l.waiting = append(l.waiting, mine)
	return true
}

// free says whether a peer may have a lane now. The caller holds mu.
func (l *lanes) free(peer string) bool {
	own := 0
	for _, h := range l.held {
		if h.peer == peer {
			own++
		}
	}
	return l.fast < sendsMax && own < lanesPeerMax
}

// take gives out a lane. The caller holds mu.
func (l *lanes) take(mine *lane) {
	l.fast++
	l.held = append(l.held, mine)
	mine.since = time.Now()
	close(mine.ready)
}

// next gives free lanes to those that wait. The caller holds mu.
func (l *lanes) next() {
	for i := 0; i < len(l.waiting) && l.fast < sendsMax; {
		w := l.waiting[i]
		if !l.free(w.peer) {
			i++
			continue
		}
		l.waiting = slices.Delete(l.waiting, i, i+1)
		l.take(w)
	}
}

// hurry breaks off what is sent to others too slowly, where that keeps a peer from
// its turn.
func (l *lanes) hurry(peer string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range l.held {
		took := time.Since(h.since)
		if h.peer == peer || took < leastOver || h.slow && l.slow < slowMax {
			continue
		}
		if float64(h.sent) < leastPace*took.Seconds() && !h.broken {
			h.broken = true
			h.breakOff()
		}
	}
}

// moved notes that bytes were sent.
func (l *lane) moved(n int) error {
	l.lanes.mu.Lock()
	defer l.lanes.mu.Unlock()
	if time.Since(l.since) >= leastOver {
		l.sent, l.since = 0, time.Now()
	}
	l.sent += n
	if l.broken {
		return errTooSlow
	}
	return nil
}

// slowDown makes room for another, of a chunk whose reader is slow, unless there
// are too many such.
func (l *lane) slowDown() {
	l.lanes.mu.Lock()
	defer l.lanes.mu.Unlock()
	if l.slow || l.lanes.slow >= slowMax {
		return
	}
	l.slow = true
	l.lanes.slow++
	l.lanes.fast--
	l.lanes.next()
}

// leave gives a lane back, or waits for it no more.
func (l *lane) leave() {
	l.lanes.mu.Lock()
	defer l.lanes.mu.Unlock()
	is := func(other *lane) bool { return other == l }
	if i := slices.IndexFunc(l.lanes.waiting, is); i >= 0 {
		l.lanes.waiting = slices.Delete(l.lanes.waiting, i, i+1)
		return
	}
	l.lanes.held = slices.DeleteFunc(l.lanes.held, is)
	if l.slow {
		l.lanes.slow--
	} else {
		l.lanes.fast--
	}
	l.lanes.next()
}
