package artifact

import (
	"context"
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
}

func newLanes() lanes {
	return lanes{make(chan struct{}, sendsMax), make(chan struct{}, slowMax), make(chan struct{}, waitingMax)}
}

// lane is the right to send one chunk.
type lane struct {
	lanes lanes
	mine  chan struct{}
}

// enter waits for a lane, and calls waits from time to time meanwhile; nil when
// there is none to be had soon.
func (l lanes) enter(ctx context.Context, waits func() error) (*lane, error) {
	select {
	case l.fast <- struct{}{}:
		return &lane{lanes: l, mine: l.fast}, nil
	default:
	}
	select {
	case l.waiting <- struct{}{}:
		defer func() { <-l.waiting }()
	default:
		return nil, nil
	}
	tick := time.NewTicker(waitEvery)
	defer tick.Stop()
	end := time.NewTimer(laneWait)
	defer end.Stop()
	for {
		select {
		case l.fast <- struct{}{}:
			return &lane{lanes: l, mine: l.fast}, nil
		case <-tick.C:
			if err := waits(); err != nil {
				return nil, err
			}
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
	default:
	}
}

func (l *lane) leave() { <-l.mine }
