package node

import (
	"context"
	"sync"
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

// settledEvery is how often it is looked at whether the mesh is settled, so that
// it is known since when.
const settledEvery = time.Second

// settledSince is since when the mesh is settled in this peer's view.
type settledSince struct {
	mu    sync.Mutex // guards since
	since time.Time  // zero while it is not
}

// note takes what was seen at a time, and says since when the mesh is settled.
func (s *settledSince) note(settled bool, now time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !settled:
		s.since = time.Time{}
	case s.since.IsZero():
		s.since = now
	}
	return s.since
}

// watchSettled looks, until ctx ends.
func (n *Node) watchSettled(ctx context.Context) error {
	tick := time.NewTicker(settledEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		open := n.gossipOpen()
		if len(open) == 0 {
			if err := n.loop.look(ctx, func(core *placement.Peer) { open = core.Open() }); err != nil {
				continue
			}
		}
		n.settled.note(len(open) == 0, time.Now().UTC())
	}
}

// gossipOpen is what of the others is in the way of being settled, in words: who
// is suspect, and whose tables are not known to be equal to this peer's.
func (n *Node) gossipOpen() []string {
	var open []string
	_, why := n.gossip.Settled()
	for _, o := range []struct {
		peers []string
		what  string
	}{{why.Suspect, "does not answer"}, {why.Differ, "has other records than this peer"}, {why.Unknown, "has not told of its records yet"}} {
		for _, p := range o.peers {
			open = append(open, n.nameOf(p)+" "+o.what)
		}
	}
	return open
}
