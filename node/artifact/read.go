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

const (
	// ReadersMax bounds the files that are read while they come; each takes a
	// chunk of memory.
	ReadersMax = 16
	// aheadMax is how many chunks before a reader come before all others.
	aheadMax = 8
	// agreeFor is for how long no chunk is asked for before readers know that peers
	// agree: their answers would come behind the chunks, on a slow link.
	agreeFor = 500 * time.Millisecond
	// agreeMax bounds the peers that are asked for their chain before a file is
	// read that is not here yet.
	agreeMax = 8
)

// ErrChanged says that a file being read turned out to be another: what was read
// of it is worth nothing.
var ErrChanged = errors.New("it is not the file that two peers said it is")

// Reader reads a file from its beginning, while it is still being fetched if that
// can be done.
//
// A digest says what the bytes of a file are once all are there: of its beginning
// alone it says nothing, since some end gives any digest to whoever can find it,
// and that a chain is the right one is only known by its end. So nothing is read
// that is not whole unless two peers that say they have all of it gave the same
// chain, which the one that lies can't bring about alone; and each chunk is given
// out once it fits that chain. The last one fits only if all bytes that were given
// out are those of the digest. Until then whoever reads must be ready to be told
// that they are not.
type Reader struct {
	m    *Mover
	f    *fetch
	ctx  context.Context
	file File        // once the fetch has ended
	c    chain.Chain // by which it is read
	next int         // the chunk that is read next; guarded by f.mu
	sure bool        // peers agree; guarded by f.mu
	data []byte      // that was read and not given out
	room []byte
	err  error
	shut bool
}

// Read fetches a file as Fetch does, for someone who reads it from the beginning:
// it returns when there is something to read, or when it is here whole. ctx ends
// the reading too.
func (m *Mover) Read(ctx context.Context, digest string, size int64, holders []string) (*Reader, error) {
	if err := chain.CheckDigest(digest); err != nil {
		return nil, fmt.Errorf("artifact: read: %w", err)
	}
	r := &Reader{m: m, ctx: ctx}
	if !m.cfg.Store.Has(digest) && !m.enlist(ctx, r, digest, size, holders) {
		if err := m.Fetch(ctx, digest, size, holders); err != nil {
			return nil, err
		}
	}
	if r.f == nil {
		return r, r.open(digest)
	}
	if err := r.agree(); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// enlist has a file fetched for a reader; false where there are too many.
func (m *Mover) enlist(ctx context.Context, r *Reader, digest string, size int64, holders []string) bool {
	select {
	case m.readers <- struct{}{}:
	default:
		return false
	}
	r.f = m.join(digest, size, holders)
	r.f.mu.Lock()
	r.f.readers = append(r.f.readers, r)
	r.f.mu.Unlock()
	return true
}

// open reads the whole file from now on.
func (r *Reader) open(digest string) error {
	file, c, err := r.m.cfg.Store.Open(digest)
	if err != nil {
		return fmt.Errorf("artifact: read %s: %w", digest, err)
	}
	if r.next > 0 && (c.Size() != r.c.Size() || c.Differ(r.c) >= 0) {
		return errors.Join(fmt.Errorf("artifact: read %s: %w", digest, ErrChanged), file.Close())
	}
	r.file, r.c = file, c
	return nil
}

// Size is the length of the file.
func (r *Reader) Size() int64 { return r.c.Size() }

// agree waits until two peers that have all of the file have said the same of it,
// or it is here.
func (r *Reader) agree() error {
	f := r.f
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	defer context.AfterFunc(f.ctx, cancel)()
	asked := map[string]chain.Chain{}
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	for {
		f.mu.Lock()
		c, chained, news := f.chain, f.chained, f.news
		f.mu.Unlock()
		if chained && c.Chunks() > 1 && len(asked) < agreeMax {
			if peer := f.wholeBut(asked); peer != "" {
				asked[peer], _ = f.m.askForChain(ctx, peer, f.digest, c.Size())
			}
			if same(asked, c) >= 2 {
				r.c = c
				f.mu.Lock()
				r.sure = true
				f.changed()
				f.mu.Unlock()
				return nil
			}
		}
		select {
		case <-f.done:
			return r.ended()
		case <-news:
		case <-tick.C:
		case <-r.ctx.Done():
			return r.ctx.Err()
		}
	}
}

// same counts those that gave a chain.
func same(asked map[string]chain.Chain, c chain.Chain) (n int) {
	for _, other := range asked {
		if other.Size() == c.Size() && other.Differ(c) < 0 {
			n++
		}
	}
	return n
}

// wholeBut is a peer that says it has all of the file, and was not asked.
func (f *fetch) wholeBut(asked map[string]chain.Chain) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.sessions {
		if _, was := asked[s.candidate.peer]; s.whole && !was {
			return s.candidate.peer
		}
	}
	return ""
}

// ended goes on with the whole file, if the fetch brought it here.
func (r *Reader) ended() error {
	if r.f.err != nil {
		return r.f.err
	}
	return r.open(r.f.digest)
}

// Read gives out what is right.
func (r *Reader) Read(p []byte) (int, error) {
	if len(r.data) == 0 && r.err == nil {
		r.err = r.chunk()
	}
	n := copy(p, r.data)
	r.data = r.data[n:]
	if n == 0 && len(p) > 0 {
		return 0, r.err
	}
	return n, nil
}

// chunk reads the next one, and waits for it.
func (r *Reader) chunk() error {
	if r.next == r.c.Chunks() || r.c.Size() == 0 {
		return io.EOF
	}
	if r.room == nil {
		r.room = make([]byte, chain.ChunkLen)
	}
	data, err := r.wait()
	if err != nil {
		return err
	}
	r.data = data
	if r.f == nil {
		r.next++
		return nil
	}
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	r.next++
	return nil
}

func (r *Reader) wait() ([]byte, error) {
	for r.file == nil {
		r.f.mu.Lock()
		news := r.f.news
		r.f.mu.Unlock()
		data, by, err := r.f.read(r.next, r.room)
		if err == nil {
			if by.Size() != r.c.Size() || by.Differ(r.c) >= 0 {
				return nil, fmt.Errorf("artifact: read %s: %w", r.f.digest, ErrChanged)
			}
			return data, nil
		}
		select {
		case <-r.f.done:
			err := r.ended()
			if errors.Is(err, io.EOF) { // of a stream: it is not that of the file
				err = fmt.Errorf("%w: %v", io.ErrUnexpectedEOF, err)
			}
			if err != nil {
				return nil, err
			}
		case <-news:
		case <-r.ctx.Done():
			return nil, r.ctx.Err()
		}
	}
	offset, length := r.c.Span(r.next)
	data := r.room[:length]
	if _, err := r.file.ReadAt(data, offset); err != nil && !errors.Is(err, io.EOF) || r.c.Check(r.next, data) != nil {
		return nil, errors.Join(fmt.Errorf("artifact: read %s: what is on the disk is not what was written", r.c.Digest()), r.m.cfg.Store.Check(r.c.Digest()))
	}
	return data, nil
}

// Close ends the reading, and the fetch if nobody else wants it and it is not all
// here.
func (r *Reader) Close() (err error) {
	if r.shut {
		return nil
	}
	r.shut = true
	if r.file != nil {
		err = r.file.Close()
	}
	if r.f != nil {
		r.f.mu.Lock()
		r.f.readers = slices.DeleteFunc(r.f.readers, func(other *Reader) bool { return other == r })
		r.f.mu.Unlock()
		r.m.leave(r.f)
		<-r.m.readers
	}
	return err
}

// held says that no chunk is asked for yet. The caller holds mu.
func (f *fetch) held(now time.Time) bool {
	return now.Sub(f.chainedAt) < agreeFor && f.have.count() == 0 &&
		slices.ContainsFunc(f.readers, func(r *Reader) bool { return !r.sure })
}

// ahead chooses among the chunks that are read next, and those alike as pick does; -1
// when there is none to ask for. The caller holds mu.
func (f *fetch) ahead(s *session, flying map[int]inFlight, now time.Time) int {
	for _, r := range f.readers {
		best, bestRank, looked := -1, 0, 0
		for i := r.next; i < f.chain.Chunks() && looked < aheadMax; i++ {
			if f.have.has(i) {
				continue
			}
			looked++
			rank, ok := f.rank(s, i, flying, now)
			if ok && (best < 0 || rank < bestRank) {
				best, bestRank = i, rank
			}
		}
		if best >= 0 {
			return best
		}
	}
	return -1
}
