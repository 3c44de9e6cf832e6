package artifact

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/hansa-mesh/hansa/store/chain"
)

// showMax is how long a peer has to show that what it said is true.
const showMax = 5 * time.Second

// adopt goes by a chain from now on, with what of the file fits it. The caller
// holds judging.
func (f *fetch) adopt(c chain.Chain, giver string) error {
	have, bytes, err := f.lookThrough(c)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	first := f.version == 0
	f.chain, f.chained, f.chainedAt, f.giver = c, true, time.Now(), giver
	f.hold(have)
	if first {
		f.m.count(func(m *Moved) { m.ResumedBytes += bytes })
	}
	return nil
}

// sizeIs takes the size that a peer says a file has. The first is believed, until
// someone can show that it is another.
func (f *fetch) sizeIs(s *session, size int64) error {
	f.judging.Lock()
	defer f.judging.Unlock()
	f.mu.Lock()
	known, sized, sizer := f.size, f.sized, f.sizer
	f.mu.Unlock()
	peer := s.candidate.peer
	switch {
	case sized && size == known:
		if err := f.needFile(size); err != nil {
			f.fail(err)
			return err
		}
		return nil
	case !sized:
		if err := f.needFile(size); err != nil {
			return f.noFile(peer, size, err)
		}
		f.mu.Lock()
		f.size, f.sized, f.sizer = size, true, peer
		f.mu.Unlock()
		return nil
	case sizer == "":
		return fmt.Errorf("%w: it says that the artifact has %d bytes, not %d", errGone, size, known)
	}
	theirs, err := f.m.askForChain(f.ctx, peer, f.digest, size)
	if err != nil {
		return fmt.Errorf("%w: it says that the artifact has %d bytes, %s that it has %d: %w", errGone, size, sizer, known, err)
	}
	// Bytes of one length alone give the digest.
	reason := fmt.Errorf("it says that the artifact has %d bytes, %s that it has %d", size, sizer, known)
	if shown, err := f.shows(peer, theirs, theirs.Chunks()-1); !shown {
		if errors.Is(err, chain.ErrWrong) {
			f.convict(peer, reason)
		}
		return fmt.Errorf("%w: %w: %w", errGone, reason, err)
	}
	f.convict(sizer, fmt.Errorf("it said that the artifact has %d bytes; it has %d", known, size))
	f.mu.Lock()
	f.size, f.sizer, f.chained = size, peer, false
	for _, other := range f.sessions {
		if other != s {
			other.end()
		}
	}
	f.mu.Unlock()
	if err := f.begin(size); err != nil {
		f.fail(err)
		return err
	}
	return f.adopt(theirs, peer)
}

// needFile opens the file once its size is known.
func (f *fetch) needFile(size int64) error {
	f.fileMu.RLock()
	open := f.file != nil
	f.fileMu.RUnlock()
	if open {
		return nil
	}
	return f.begin(size)
}

// noFile takes it that there is no room for a file of the size that a peer says it
// has: that ends the fetch once another says so too, since one alone may lie. The
// caller holds judging.
func (f *fetch) noFile(peer string, size int64, err error) error {
	if by, ok := f.refused[size]; ok && by != peer {
		f.fail(err)
		return err
	}
	f.refused[size] = peer
	return fmt.Errorf("%w: it says that the artifact has %d bytes: %w", errGone, size, err)
}

// judge finds out why chunk i was wrong: its sender lied, or whoever gave the
// chain. Where both give the same chain the sender contradicts itself; unless it was
// lied to and has found out since, which each may show once. Else both show a chunk at
// the last place where their chains differ: whichever it is that lies can't. An error
// ends the session.
func (f *fetch) judge(s *session, used chain.Chain, i int, reason error) error {
	f.judging.Lock()
	defer f.judging.Unlock()
	f.mu.Lock()
	c, chained, giver := f.chain, f.chained, f.giver
	f.mu.Unlock()
	if !chained || c.Size() != used.Size() || c.Differ(used) >= 0 { // it was judged meanwhile: the chunk is asked for again
		return nil
	}
	peer := s.candidate.peer
	if c.Chunks() == 1 || f.pardoned[peer] && giver == peer {
		f.convict(peer, reason)
		return fmt.Errorf("%w: %w", errGone, reason)
	}
	theirs, err := f.m.askForChain(f.ctx, peer, f.digest, c.Size())
	if err != nil {
		return fmt.Errorf("%w: %w; asked for its chain: %w", errGone, reason, err)
	}
	at := c.Differ(theirs)
	if at < 0 {
		return f.pardon(peer, c, i, reason)
	}
	shown, hisErr := f.shows(peer, theirs, at)
	if errors.Is(hisErr, chain.ErrWrong) {
		f.convict(peer, hisErr)
	}
	if !shown {
		// The giver need not show anything yet: nothing speaks against it.
		return fmt.Errorf("%w: %w; asked to show its chain: %w", errGone, reason, hisErr)
	}
	if giver == peer {
		f.pardoned[peer] = true // it gave another chain before
	} else if _, err := f.shows(giver, c, at); errors.Is(err, chain.ErrWrong) {
		f.convict(giver, fmt.Errorf("it gave a chain that is wrong at chunk %d: %w", at, err))
	}
	return f.adopt(theirs, peer)
}

// pardon has a peer that sent a wrong chunk i, and gives the chain that tells so, show
// the right one: once, and else it lied. The caller holds judging.
func (f *fetch) pardon(peer string, c chain.Chain, i int, reason error) error {
	if !f.pardoned[peer] {
		f.pardoned[peer] = true
		shown, err := f.shows(peer, c, i)
		if shown {
			return nil // the chunk is asked for again
		}
		if !errors.Is(err, chain.ErrWrong) {
			return fmt.Errorf("%w: %w; asked for that chunk again: %w", errGone, reason, err)
		}
	}
	f.convict(peer, reason)
	return fmt.Errorf("%w: %w", errGone, reason)
}

// shows asks a peer for a chunk that its chain says it has.
func (f *fetch) shows(peer string, c chain.Chain, i int) (bool, error) {
	ctx, cancel := context.WithTimeout(f.ctx, showMax)
	defer cancel()
	_, length := c.Span(i)
	data, err := f.m.once(ctx, peer, f.digest, request{What: askChunk, Chunk: i}, c.Size(), length)
	if err != nil {
		return false, err
	}
	if err := c.Check(i, data); err != nil {
		return false, err
	}
	return true, nil
}

// convict ends all that this fetch has with a peer that lied. What it said counts
// no more. The caller holds judging.
func (f *fetch) convict(peer string, reason error) {
	f.m.avoid(peer, f.digest, reason)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.giver == peer {
		f.chained, f.giver = false, ""
	}
	f.candidates = slices.DeleteFunc(f.candidates, func(c *candidate) bool { return c.peer == peer })
	for _, s := range f.sessions {
		if s.candidate.peer == peer {
			s.end()
		}
	}
	f.changed()
}

func (m *Mover) askForChain(ctx context.Context, peer, digest string, size int64) (chain.Chain, error) {
	ctx, cancel := context.WithTimeout(ctx, showMax)
	defer cancel()
	if chain.Chunks(size) == 1 {
		return chain.Parse(digest, size, nil)
	}
	states, err := m.once(ctx, peer, digest, request{What: askChain}, size, chain.StatesLen(digest, size))
	if err != nil {
		return chain.Chain{}, err
	}
	return chain.Parse(digest, size, states)
}

// once asks one thing of a peer, on a stream of its own, until it is answered
// with so many bytes.
func (m *Mover) once(ctx context.Context, peer, digest string, q request, size int64, length int) ([]byte, error) {
	stream, err := m.cfg.Open(ctx, peer)
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	defer context.AfterFunc(ctx, func() { _ = stream.SetDeadline(time.Unix(1, 0)) })()
	l := line{ctx: ctx, stream: stream}
	q.Digest = digest
	for {
		if err := l.send(q); err != nil {
			return nil, err
		}
		var a answer
		for a.Say = sayWait; a.Say == sayWait; {
			a = answer{}
			if err := l.receive(&a); err != nil {
				return nil, err
			}
		}
		if a.Say == sayBusy {
			select {
			case <-time.After(backOffMin):
				continue
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		if a.Say != sayDone || a.Length != length || q.What == askChain && a.Size != size {
			return nil, fmt.Errorf("%w: %q, %d bytes where %d were asked for", errRefused, a.Say, a.Length, length)
		}
		data := make([]byte, length)
		if err := l.read(data, func(int) {}); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		return data, nil
	}
}
