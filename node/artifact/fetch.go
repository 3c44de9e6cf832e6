package artifact

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/hansa-mesh/hansa/store/chain"
)

const (
	// sessionsGoal is from how many peers chunks should be arriving at once, and
	// sessionsMax how many may be tried for it.
	sessionsGoal = 4
	sessionsMax  = 16
	// freshFor is how long a peer has to answer before another is asked as well,
	// and firstFor, when none has answered yet.
	freshFor = 300 * time.Millisecond
	firstFor = 150 * time.Millisecond
	// silentAfter is for how long no byte may come before what was asked of a
	// peer is asked of another too.
	silentAfter = 600 * time.Millisecond
	// uselessAfter is when a peer that has nothing to give makes room for others.
	uselessAfter = 3 * time.Second
	tickEvery    = 100 * time.Millisecond
	// retriesMax bounds how often a peer that broke off is asked again, each time
	// after twice as long.
	retriesMax = 5
	retryAfter = 500 * time.Millisecond
	// commitsMax bounds how often a file is looked through that came out wrong.
	commitsMax = 3
	errorsMax  = 16
)

// fetch is one that is under way.
type fetch struct {
	m      *Mover
	digest string
	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{} // closed when err is set
	err    error
	work   sync.WaitGroup // sessions

	callers int // guarded by m.mu

	judging  sync.Mutex       // held to change size or chain, and to find out who lied
	refused  map[int64]string // sizes for which there is no file to be had, and who said them; guarded by judging
	pardoned map[string]bool  // peers that showed that they had been lied to; guarded by judging

	fileMu sync.RWMutex // held to use file
	file   Assembly     // nil before the size is known, and after the end

	mu         sync.Mutex // guards what follows
	size       int64
	sized      bool   // the size is known
	sizer      string // who said so; "" for a caller
	chain      chain.Chain
	chained    bool
	chainedAt  time.Time
	giver      string // of the chain
	have       bitset
	left       int
	version    uint64
	news       chan struct{} // closed when something changed
	sessions   []*session
	candidates []*candidate
	readers    []*Reader
	known      map[string]bool
	errs       []error
	fatal      error
	answered   bool      // a peer said what it has
	bytesAt    time.Time // when the last byte came
	moved      time.Time // when it did, or a peer was at work for this
	typical    time.Duration
}

// candidate is a peer to be asked.
type candidate struct {
	peer     string
	after    time.Time
	tries    int
	answered bool // ever
}

func newFetch(m *Mover, digest string) *fetch {
	ctx, cancel := context.WithCancel(context.Background())
	return &fetch{
		m: m, digest: digest, ctx: ctx, cancel: cancel, done: make(chan struct{}),
		news: make(chan struct{}), known: map[string]bool{}, refused: map[int64]string{}, pardoned: map[string]bool{}, moved: time.Now(),
	}
}

// wanted takes what another caller knows.
func (f *fetch) wanted(size int64, holders []string) {
	f.mu.Lock()
	if size > 0 && !f.sized {
		f.size, f.sized = size, true
	}
	f.mu.Unlock()
	f.found(holders)
}

// found adds peers that may have something of the file.
func (f *fetch) found(peers []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range peers {
		if f.known[p] || len(f.known) >= HoldersMax {
			continue
		}
		f.known[p] = true
		f.candidates = append(f.candidates, &candidate{peer: p})
		f.changed()
	}
}

// changed wakes whoever waits for news. The caller holds mu.
func (f *fetch) changed() {
	close(f.news)
	f.news = make(chan struct{})
}

// await waits for another version of what is here.
func (f *fetch) await(ctx context.Context, seen uint64, most time.Duration) {
	end := time.NewTimer(most)
	defer end.Stop()
	for {
		f.mu.Lock()
		news, version := f.news, f.version
		f.mu.Unlock()
		if version != seen {
			return
		}
		select {
		case <-news:
		case <-end.C:
			return
		case <-f.ctx.Done():
			return
		case <-ctx.Done():
			return
		}
	}
}

func (f *fetch) run() {
	f.err = f.bring()
	f.cancel()
	f.work.Wait()
	f.fileMu.Lock()
	if f.file != nil {
		f.err = errors.Join(f.err, f.file.Close())
		f.file = nil
	}
	f.fileMu.Unlock()
	f.m.mu.Lock()
	delete(f.m.underway, f.digest)
	f.m.mu.Unlock()
	close(f.done)
}

func (f *fetch) bring() error {
	f.mu.Lock()
	var small chan struct{}
	if f.sized && f.size <= smallMax {
		small = f.m.small
	}
	f.mu.Unlock()
	select {
	case f.m.slots <- struct{}{}:
		defer func() { <-f.m.slots }()
	case small <- struct{}{}:
		defer func() { <-small }()
	case <-f.ctx.Done():
		return f.ctx.Err()
	}
	if f.m.cfg.Store.Has(f.digest) { // it came while this waited
		return nil
	}
	f.mu.Lock()
	f.moved = time.Now()
	f.bytesAt = f.moved
	f.mu.Unlock()
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	for commits := 0; ; {
		f.mu.Lock()
		whole, news, fatal := f.chained && f.left == 0, f.news, f.fatal
		f.mu.Unlock()
		switch {
		case fatal != nil:
			return fatal
		case whole && commits == commitsMax:
			return fmt.Errorf("artifact: fetch %s: what is written to the disk is not what is read from it", f.digest)
		case whole:
			commits++
			if done, err := f.commit(); done {
				return err
			}
			continue
		}
		if err := f.spawn(); err != nil {
			return err
		}
		select {
		case <-news:
		case <-tick.C:
		case <-f.ctx.Done():
			if !f.whole() { // else all that is left is to take it over
				return f.ctx.Err()
			}
		}
	}
}

// whole says whether all of the file is here.
func (f *fetch) whole() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.chained && f.left == 0
}

// spawn asks another peer if chunks should come from more, and ends a fetch that
// nothing comes of any more.
func (f *fetch) spawn() error {
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	goal, fresh, useful := sessionsGoal, freshFor, 0
	if !f.answered {
		goal, fresh = 1, firstFor
	} else if f.chained {
		goal = min(goal, f.left)
	}
	for _, s := range f.sessions {
		if s.gives(now) || now.Sub(s.begun) < fresh {
			useful++
		}
	}
	if len(f.sessions) == sessionsMax && useful < goal && f.ready(now) >= 0 {
		f.makeRoom(now)
	}
	for ; useful < goal && len(f.sessions) < sessionsMax; useful++ {
		i := f.ready(now)
		if i < 0 {
			break
		}
		c := f.candidates[i]
		f.candidates = slices.Delete(f.candidates, i, i+1)
		s := newSession(f, c, now)
		f.sessions = append(f.sessions, s)
		f.work.Go(s.run)
	}
	if len(f.sessions)+len(f.candidates) == 0 || now.Sub(f.moved) > stallMax+tickEvery && f.answered {
		return errors.Join(append([]error{fmt.Errorf("artifact: fetch %s: %w", f.digest, ErrNoHolder)}, f.errs...)...)
	}
	return nil
}

// ready is the next peer to ask; -1 if there is none now. The caller holds mu.
func (f *fetch) ready(now time.Time) int {
	return slices.IndexFunc(f.candidates, func(c *candidate) bool { return !now.Before(c.after) })
}

// makeRoom ends a session that gave nothing for long. The caller holds mu.
func (f *fetch) makeRoom(now time.Time) {
	for _, s := range f.sessions {
		if !s.whole && now.Sub(s.last) > uselessAfter {
			s.end()
			return
		}
	}
}

// ended takes a session away, and notes what became of it.
func (f *fetch) ended(s *session, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sessions = slices.DeleteFunc(f.sessions, func(other *session) bool { return other == s })
	f.changed()
	if err == nil || f.ctx.Err() != nil {
		return
	}
	c := s.candidate
	switch {
	case errors.Is(err, errNone):
		delete(f.known, c.peer) // it may have something later, as others will say
	case c.answered && !errors.Is(err, errGone) && !errors.Is(err, os.ErrDeadlineExceeded) && c.tries < retriesMax:
		c.after = time.Now().Add(retryAfter << c.tries)
		c.tries++
		f.candidates = append(f.candidates, c)
	}
	if len(f.errs) < errorsMax {
		f.errs = append(f.errs, fmt.Errorf("from %s: %w", c.peer, err))
	}
}

func (f *fetch) progress() Progress {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := Progress{Digest: f.digest, Size: f.size, From: len(f.sessions)}
	if f.chained {
		p.Have = min(f.size, int64(f.have.count())*chain.ChunkLen)
	}
	return p
}

// fail ends the fetch for a reason of this peer's own.
func (f *fetch) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fatal = fmt.Errorf("artifact: fetch %s: %w", f.digest, err)
	f.changed()
}
