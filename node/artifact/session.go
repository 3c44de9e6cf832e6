package artifact

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/hansa-mesh/hansa/store/chain"
)

const (
	// depth is how many chunks are asked of a peer at once, so that its link does
	// not wait for ours, and depthAlone if it is the only one.
	depth      = 2
	depthAlone = 4
	// waitMax is how long a peer may only say that its answer comes later: a large
	// file is read through in that time.
	waitMax = time.Minute
	// backOffMin and backOffMax are between two requests to a busy peer.
	backOffMin = 100 * time.Millisecond
	backOffMax = 1600 * time.Millisecond
	// askAgain is between two questions for what a peer has, at the least.
	askAgain = 20 * time.Millisecond
	// askEvery is how often a peer that has all is asked who else asks.
	askEvery = 2 * time.Second
)

var (
	// errNone says that a peer has nothing of the file.
	errNone = errors.New("not held here")
	// errGone says that a peer is not to be asked again.
	errGone = errors.New("it is not asked again")
	// errSlow says that a chunk was slow while others waited.
	errSlow = errors.New("it was slow while others waited")
	// errMissing says that a chunk is not here.
	errMissing = errors.New("this chunk is not here")
)

// session is what one fetch has with one peer.
type session struct {
	f         *fetch
	candidate *candidate
	begun     time.Time
	end       context.CancelFunc
	line
	broken  atomic.Bool   // off, in favour of another
	backOff time.Duration // since it said last that it is busy
	resting bool          // for that long
	asked   time.Time     // what it has

	// Guarded by f.mu.
	whole   bool
	have    bitset
	version uint64
	sent    bitset // what others got of it
	pending []flight
	waits   bool      // it said so, instead of the first of pending
	last    time.Time // when its last byte came
}

// flight is a chunk that was asked for.
type flight struct {
	chunk int
	since time.Time
}

func newSession(f *fetch, c *candidate, now time.Time) *session {
	ctx, cancel := context.WithCancel(f.ctx)
	return &session{f: f, candidate: c, begun: now, last: now, end: cancel, line: line{ctx: ctx}}
}

// gives says whether chunks are coming. The caller holds f.mu.
func (s *session) gives(now time.Time) bool {
	return len(s.pending) > 0 && !s.waits && now.Sub(s.last) < silentAfter
}

// silent says that what was asked should be asked elsewhere. The caller holds
// f.mu.
func (s *session) silent(now time.Time) bool {
	return len(s.pending) > 0 && !s.waits && now.Sub(s.last) >= silentAfter
}

func (s *session) offers(i int) bool { return s.whole || s.have.has(i) }

func (s *session) run() {
	err := s.talk()
	if s.f.m.avoids(s.candidate.peer) {
		err = errors.Join(err, errGone)
	}
	if s.broken.Load() {
		err = errSlow
	}
	s.end()
	s.f.ended(s, err)
}

// breakOff ends it in favour of another that waits.
func (s *session) breakOff() {
	s.broken.Store(true)
	s.end()
}

func (s *session) talk() error {
	f := s.f
	if f.m.avoids(s.candidate.peer) {
		return fmt.Errorf("%w: it sent wrong bytes before", errGone)
	}
	opening, cancel := context.WithTimeout(s.ctx, stallMax)
	stream, err := f.m.cfg.Open(opening, s.candidate.peer)
	cancel()
	if err != nil {
		return err
	}
	defer stream.Close()
	s.stream = stream
	defer context.AfterFunc(s.ctx, func() { _ = stream.SetDeadline(time.Unix(1, 0)) })()
	if err := s.ask(request{Digest: f.digest, What: askHave}); err != nil {
		return err
	}
	for s.ctx.Err() == nil {
		asked, err := s.fill()
		switch {
		case err != nil:
			return err
		case asked > 0:
			err = s.arrive()
		default:
			err = s.idle()
		}
		if err != nil {
			return err
		}
	}
	return s.ctx.Err()
}

// ask asks for what the peer has, and then for the chain if that is unknown.
func (s *session) ask(q request) error {
	s.asked = time.Now()
	if err := s.send(q); err != nil {
		return err
	}
	a, err := s.answer()
	if err != nil {
		return err
	}
	if a.Say == sayBusy {
		s.busy(a)
		return nil
	}
	if err := s.f.sizeIs(s, a.Size); err != nil {
		return err
	}
	s.note(a)
	if a.Whole && len(a.Data) == int(a.Size) { // a small file, or an empty one
		return s.take(0, a.Data)
	}
	return s.learnChain()
}

// answer reads past "wait" frames.
func (s *session) answer() (answer, error) {
	for begun := time.Now(); time.Since(begun) < waitMax; {
		var a answer
		if err := s.receive(&a); err != nil {
			return a, err
		}
		if err := a.check(); err != nil {
			return a, fmt.Errorf("%w: %w", errGone, err)
		}
		s.f.mu.Lock()
		s.waits = a.Say == sayWait
		if a.Say == sayDone && len(s.pending) > 0 { // its turn has come
			s.last = time.Now()
		}
		if a.Sent != nil {
			s.sent = a.Sent
		}
		if now := time.Now(); s.waits && now.Sub(s.f.bytesAt) < waitMax { // it is at work for this fetch
			s.f.moved = now
		}
		s.f.mu.Unlock()
		switch a.Say {
		case sayWait:
			continue
		case sayNone:
			s.f.found(a.Peers)
			return a, errNone
		}
		return a, nil
	}
	return answer{}, fmt.Errorf("%w: it only says that it is at work", errGone)
}

// note takes what a peer says that it has.
func (s *session) note(a answer) {
	f := s.f
	f.mu.Lock()
	s.candidate.answered, f.answered = true, true
	s.whole, s.have, s.version = a.Whole, a.Have, a.Version
	f.mu.Unlock()
	f.found(a.Peers)
}

// learnChain asks for the chain, if nobody gave it yet.
func (s *session) learnChain() error {
	f := s.f
	f.mu.Lock()
	size, need := f.size, f.sized && !f.chained
	f.mu.Unlock()
	if !need {
		return nil
	}
	var states []byte
	if chain.Chunks(size) > 1 {
		if err := s.send(request{What: askChain}); err != nil {
			return err
		}
		a, err := s.answer()
		if err != nil {
			return err
		}
		if a.Say != sayDone || a.Length != chain.StatesLen(f.digest, size) || a.Size != size {
			return fmt.Errorf("%w: a chain of %d bytes for a file of %d", errRefused, a.Length, a.Size)
		}
		states = make([]byte, a.Length)
		if err := s.read(states, func(int) { f.came(s, 0) }); err != nil {
			return err
		}
	}
	c, err := chain.Parse(f.digest, size, states)
	if err != nil {
		return err
	}
	f.judging.Lock()
	defer f.judging.Unlock()
	f.mu.Lock()
	late := f.chained || f.size != size
	f.mu.Unlock()
	if late || s.ctx.Err() != nil { // it was judged meanwhile
		return s.ctx.Err()
	}
	return f.adopt(c, s.candidate.peer)
}

// fill asks for chunks, up to the depth, and says how many are on their way.
func (s *session) fill() (int, error) {
	f := s.f
	for {
		f.mu.Lock()
		n := len(s.pending)
		most := depth
		if len(f.sessions) == 1 {
			most = depthAlone
		}
		i := -1
		if n < most && !s.resting {
			i = f.pick(s)
		}
		if i >= 0 {
			now := time.Now()
			if n == 0 {
				s.last = now
			}
			s.pending = append(s.pending, flight{i, now})
		}
		f.mu.Unlock()
		if i < 0 {
			return n, nil
		}
		if err := s.send(request{What: askChunk, Chunk: i}); err != nil {
			return n, err
		}
	}
}

// arrive reads the answer to the oldest request for a chunk.
func (s *session) arrive() error {
	f := s.f
	a, err := s.answer()
	if err != nil {
		return err
	}
	f.mu.Lock()
	at := s.pending[0]
	f.mu.Unlock()
	landed := func() {
		f.mu.Lock()
		s.pending = s.pending[1:]
		f.mu.Unlock()
	}
	switch a.Say {
	case sayBusy:
		landed()
		s.busy(a)
		return nil
	case sayMissing:
		landed()
		f.mu.Lock()
		s.whole, s.have, s.version = false, a.Have, a.Version
		if s.have.has(at.chunk) { // it says both
			s.have.unset(at.chunk)
		}
		f.mu.Unlock()
		s.rest()
		return nil
	}
	s.backOff, s.resting = 0, false
	if a.Length > chain.ChunkLen {
		return fmt.Errorf("%w: %w: a chunk of %d bytes", errGone, errRefused, a.Length)
	}
	buffer, share, err := f.m.buffer(s.ctx, s.candidate.peer, s.breakOff)
	if err != nil {
		return err
	}
	defer f.m.giveBack(buffer)
	defer share.leave()
	data, left := buffer[:a.Length], a.Length
	if err := s.read(data, func(n int) { f.came(s, n); left -= n; share.came(n, left) }); err != nil {
		return err
	}
	defer landed()
	f.landed(time.Since(at.since))
	return s.take(at.chunk, data)
}

// take keeps a chunk that is right, and finds out who lied if it is not.
func (s *session) take(i int, data []byte) error {
	f := s.f
	if err := s.learnForOne(); err != nil {
		return err
	}
	c, ok := f.chainNow()
	if !ok || i >= c.Chunks() { // another chain is being looked for
		return nil
	}
	if err := c.Check(i, data); err != nil {
		f.m.count(func(m *Moved) { m.Wrong++ })
		return f.judge(s, c, i, err)
	}
	if err := f.keep(c, i, data); err != nil {
		f.fail(err)
		return err
	}
	f.m.count(func(m *Moved) { m.FetchedBytes += int64(len(data)) })
	return nil
}

// learnForOne makes the chain of a file of one chunk: there is nothing to ask.
func (s *session) learnForOne() error {
	s.f.mu.Lock()
	one := s.f.sized && chain.Chunks(s.f.size) == 1
	s.f.mu.Unlock()
	if !one {
		return nil
	}
	return s.learnChain()
}

// busy goes easy on a peer that has too much to do.
func (s *session) busy(a answer) {
	s.rest()
	s.f.mu.Lock()
	s.candidate.answered, s.f.answered = true, true
	s.f.mu.Unlock()
	s.f.found(a.Peers)
}

// rest asks nothing of the peer for a while, and for longer the next time.
func (s *session) rest() {
	s.backOff, s.resting = min(max(backOffMin, 2*s.backOff), backOffMax), true
}

// idle waits until there may be something to ask for.
func (s *session) idle() error {
	f := s.f
	f.mu.Lock()
	news, whole, version, known := f.news, s.whole, s.version, f.chained
	f.mu.Unlock()
	wait := tickEvery // what another was asked for may be to have then
	switch {
	case s.resting:
		wait, news = s.backOff/2+rand.N(s.backOff), nil
	case time.Since(s.asked) < askAgain:
		wait, news = askAgain, nil
	case !known:
		return s.ask(request{What: askHave})
	case !whole:
		return s.ask(request{What: askHave, Seen: version, Hold: holdMax})
	case time.Since(s.asked) > askEvery:
		return s.ask(request{What: askHave, Seen: version})
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-news:
		return nil
	case <-timer.C:
	case <-s.ctx.Done():
		return nil
	}
	s.resting = false
	return nil
}
