package artifact

import (
	"maps"
	"slices"
	"sync"
	"time"
)

const (
	// moreThan is by how much the chunks of a peer have to be more than those of one
	// that waits, for its slowest to be broken off.
	moreThan = 2
	// greedyPace is what none of them may be below then: on a link of our own that is
	// slow all are, and to break them off makes that no faster.
	greedyPace = 12 << 10
	// stillMax is for how long not a piece of a chunk may move while another waits, and
	// stillBarred that of a peer of which one was broken off just now.
	stillMax    = 5 * time.Second
	stillBarred = 2 * time.Second
	// barredFor is for how long a peer of which a chunk was broken off has no more than
	// one, which on a slow link is no slower; barredMax bounds those of which that is
	// known.
	barredFor = 10 * time.Second
	barredMax = 1024
)

// shares knows whose the chunks are that take up what is bounded: lanes, or buffers.
// While nobody waits any peer may have all. When one does, a chunk is broken off that
// is slow and belongs to a peer that has more than its share, or one that stands still. That
// peer has one at a time for a while, which may stand still for less long. One that is
// fast never is broken off.
type shares struct {
	mu     sync.Mutex // guards what follows
	held   []*share
	barred map[string]time.Time // when a chunk of theirs was broken off
}

// share is one chunk on its way.
type share struct {
	of   *shares
	peer string
	slow bool   // it has a lane for slow ones
	cut  func() // called at most once, under mu

	// Guarded by of.mu.
	begun, mark  time.Time
	last         time.Time // when bytes moved
	moved, since int       // bytes since begun, and since mark
	pace         float64
	whole        bool // all bytes moved: the rest is this peer's own work
	ended        bool // cut, and still there
}

// hold notes a chunk that begins.
func (s *shares) hold(peer string, cut func()) *share {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	h := &share{of: s, peer: peer, cut: cut, begun: now, mark: now, last: now, pace: slowPace}
	s.held = append(s.held, h)
	return h
}

// came notes that bytes moved, and how many are left.
func (h *share) came(n, left int) {
	h.of.mu.Lock()
	defer h.of.mu.Unlock()
	h.last = time.Now()
	h.moved, h.since, h.whole = h.moved+n, h.since+n, left == 0
	if took := time.Since(h.mark); took >= paceOver {
		h.pace = float64(h.since) / took.Seconds()
		h.mark, h.since = time.Now(), 0
	}
}

func (h *share) leave() {
	h.of.mu.Lock()
	defer h.of.mu.Unlock()
	h.of.held = slices.DeleteFunc(h.of.held, func(other *share) bool { return other == h })
}

// slowed says that it has a lane for slow ones from now on.
func (h *share) slowed() {
	h.of.mu.Lock()
	defer h.of.mu.Unlock()
	h.slow = true
}

// demand breaks off a chunk for a peer that waits, if one is to be, and none is
// ending already. slow says for which kind of lane it waits.
func (s *shares) demand(peer string, slow bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, counts := time.Now(), map[string]int{}
	for _, h := range s.held {
		counts[h.peer]++
		if h.ended && h.slow == slow {
			return
		}
	}
	var worst *share
	for _, h := range s.held {
		if h.whole || h.slow != slow || h.peer == peer {
			continue
		}
		greedy := counts[h.peer] >= counts[peer]+moreThan && h.now(now) < greedyPace
		still := now.Sub(h.last)
		crawls := still >= stillMax || still >= stillBarred && s.isBarred(h.peer)
		if !greedy && !crawls {
			continue
		}
		if worst == nil || counts[h.peer] > counts[worst.peer] || counts[h.peer] == counts[worst.peer] && h.all(now) < worst.all(now) {
			worst = h
		}
	}
	if worst != nil {
		worst.ended = true
		s.bar(worst.peer, now)
		worst.cut()
	}
}

// bar notes that a chunk of a peer is broken off. The caller holds mu.
func (s *shares) bar(peer string, now time.Time) {
	maps.DeleteFunc(s.barred, func(_ string, at time.Time) bool { return now.Sub(at) >= barredFor })
	if s.barred == nil || len(s.barred) >= barredMax {
		s.barred = map[string]time.Time{}
	}
	s.barred[peer] = now
}

// isBarred is called with mu held.
func (s *shares) isBarred(peer string) bool {
	at, ok := s.barred[peer]
	return ok && time.Since(at) < barredFor
}

func (s *shares) bars(peer string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.isBarred(peer)
}

// refuses says that a peer has to wait until fewer chunks of it are on their way.
func (s *shares) refuses(peer string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.isBarred(peer) && slices.ContainsFunc(s.held, func(h *share) bool { return h.peer == peer })
}

// now is the pace of the last paceOver, or longer, and all that of all of it; in
// bytes a second. The caller holds mu.
func (h *share) now(now time.Time) float64 {
	if took := now.Sub(h.mark); took >= paceOver {
		return float64(h.since) / took.Seconds()
	}
	return h.pace
}

func (h *share) all(now time.Time) float64 {
	return float64(h.moved) / max(now.Sub(h.begun), time.Millisecond).Seconds()
}
