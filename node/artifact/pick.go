package artifact

import (
	"math/rand/v2"
	"time"
)

// lookedAtMax bounds the chunks among which the rarest is chosen.
const lookedAtMax = 1024

// pick chooses the chunk to ask of a peer: one that few others have, and any of
// those, so that all that fetch a file soon have something that others lack. -1
// when there is none. The caller holds mu.
func (f *fetch) pick(s *session) int {
	if !f.chained || f.left == 0 {
		return -1
	}
	now := time.Now()
	if f.held(now) {
		return -1
	}
	flying := f.flying(s, now)
	if i := f.ahead(s, flying, now); i >= 0 {
		return i
	}
	best, bestRank, ties := -1, 0, 0
	n := f.chain.Chunks()
	start := rand.IntN(n)
	for k, looked := 0, 0; k < n && looked < lookedAtMax; k++ {
		i := (start + k) % n
		if f.have.has(i) || !s.offers(i) {
			continue
		}
		looked++
		rank, ok := f.rank(s, i, flying, now)
		switch {
		case !ok:
		case best < 0 || rank < bestRank:
			best, bestRank, ties = i, rank, 1
		case rank == bestRank:
			if ties++; rand.IntN(ties) == 0 {
				best = i
			}
		}
	}
	return best
}

// rank is the lower the sooner a chunk should be asked of a peer; false if it should
// not be now. The caller holds mu.
func (f *fetch) rank(s *session, i int, flying map[int]inFlight, now time.Time) (rank int, ok bool) {
	if !s.offers(i) {
		return 0, false
	}
	if others, ok := flying[i]; ok {
		if others.mine || others.n > 1 || now.Sub(others.since) < max(silentAfter, 2*f.typical) {
			return 0, false
		}
		rank = 3 * sessionsMax // only when there is nothing else to ask for
	}
	if s.sent.has(i) { // others can give it soon
		rank += sessionsMax
	}
	for _, other := range f.sessions {
		if other.offers(i) {
			rank++
		}
	}
	return rank, true
}

// inFlight is what is on its way of a chunk.
type inFlight struct {
	n     int
	mine  bool // from the peer itself
	since time.Time
}

// flying are the chunks that were asked for, of peers that are not silent. The
// caller holds mu.
func (f *fetch) flying(s *session, now time.Time) map[int]inFlight {
	flying := map[int]inFlight{}
	for _, other := range f.sessions {
		if other != s && other.silent(now) {
			continue
		}
		for _, p := range other.pending {
			c := flying[p.chunk]
			c.n++
			c.mine = c.mine || other == s
			if c.since.IsZero() || p.since.After(c.since) {
				c.since = p.since
			}
			flying[p.chunk] = c
		}
	}
	return flying
}

// came notes that bytes came.
func (f *fetch) came(s *session, _ int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s.last = time.Now()
	f.moved, f.bytesAt = s.last, s.last
}

// landed notes how long a chunk took.
func (f *fetch) landed(took time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.typical == 0 {
		f.typical = took
	}
	f.typical += (took - f.typical) / 8
}
