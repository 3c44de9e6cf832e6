package artifact

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/hansa-mesh/hansa/store/chain"
)

const (
	// Kind names the transport stream that carries the protocol.
	Kind = "artifact/2"
	// FetchesMax bounds the files that are fetched at once.
	FetchesMax = 8
	// smallFetches bounds those beside them of files that are known to be small, of
	// at most smallMax bytes: they need not wait for large ones.
	smallFetches = 2
	smallMax     = 4 << 20
	// ServesMax bounds the streams that are served at once, most of which are
	// idle, and servesPeerMax those of one peer.
	ServesMax     = 256
	servesPeerMax = 32
	// SizeMax bounds one file.
	SizeMax = 64 << 30
	// HoldersMax bounds the peers that one fetch knows of.
	HoldersMax = 128
	// stallMax is how long a stream may take for progressMin bytes, and how long
	// a fetch goes on without any.
	stallMax    = 15 * time.Second
	progressMin = 16 << 10

	// buffersMax bounds the chunks in memory that are arriving.
	buffersMax = 8
	// avoidFor is for how long a peer that lied is not asked again.
	avoidFor   = 10 * time.Minute
	avoidedMax = 1024
)

// ErrNoHolder says that no peer had the file.
var ErrNoHolder = errors.New("no peer in reach holds the artifact")

// Store is the local store of files by digest.
type Store interface {
	Has(digest string) bool
	// Known says whether Open answers at once, since the file need not be read
	// through first.
	Known(digest string) bool
	Open(digest string) (File, chain.Chain, error)
	// Check reads a file through, and puts it aside when it has rotted.
	Check(digest string) error
	// Assemble begins a file, or resumes it.
	Assemble(digest string, size int64) (Assembly, error)
}

// File is an open file.
type File interface {
	io.ReaderAt
	io.Closer
}

// Assembly is a file that comes in chunks, in any order.
type Assembly interface {
	io.ReaderAt
	io.WriterAt
	// Written is false where nothing was ever written.
	Written(offset int64, length int) bool
	Commit() error // verify, make durable, publish under the digest
	Drop() error   // forget what was written
	Close() error  // keep what was written for the next try
}

// Stream is one transport stream.
type Stream interface {
	io.ReadWriteCloser
	SetDeadline(time.Time) error
}

// Config is what a Mover is made of.
type Config struct {
	Store Store
	// Open opens a stream of Kind to a peer.
	Open func(ctx context.Context, peer string) (Stream, error)
	// Lied is told of a peer that sent wrong bytes; it must not block. May be
	// nil.
	Lied func(peer, digest string, reason error)
	Log  *slog.Logger
}

// Mover fetches and serves files.
type Mover struct {
	cfg     Config
	slots   chan struct{} // one for each fetch under way
	small   chan struct{} // one for each small one beside those
	buffers chan []byte   // of ChunkLen, free
	readers chan struct{} // one for each file that is read while it comes
	sends   lanes
	arrives shares // who has the buffers

	mu       sync.Mutex // guards what follows
	underway map[string]*fetch
	swarms   map[string]*swarm
	visits   map[string]int       // streams being served, by peer
	avoided  map[string]time.Time // until when, by peer
	moved    Moved
}

// Moved counts what a Mover did.
type Moved struct {
	Fetched, Served           int64 // files; streams on which something was served
	FetchedBytes, ServedBytes int64
	ResumedBytes              int64 // that an earlier try had left
	Wrong                     int64 // chunks that came and were not right
	Lied                      int64 // times that a peer was found to have lied
	Busy                      int64 // requests that were sent to others
}

// New makes a Mover.
func New(cfg Config) *Mover {
	m := &Mover{
		cfg:   cfg,
		slots: make(chan struct{}, FetchesMax), small: make(chan struct{}, smallFetches), buffers: make(chan []byte, buffersMax), readers: make(chan struct{}, ReadersMax), sends: newLanes(),
		underway: map[string]*fetch{}, swarms: map[string]*swarm{}, visits: map[string]int{}, avoided: map[string]time.Time{},
	}
	for range buffersMax {
		m.buffers <- nil // made when it is needed
	}
	return m
}

// Moved is what was moved so far.
func (m *Mover) Moved() Moved {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.moved
}

func (m *Mover) count(f func(*Moved)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(&m.moved)
}

// Progress is a fetch under way.
type Progress struct {
	Digest     string
	Size, Have int64 // bytes; Size is 0 while it is not known
	From       int   // peers that it has a stream to
}

// Progress says how far the fetches under way are.
func (m *Mover) Progress() []Progress {
	m.mu.Lock()
	fetches := make([]*fetch, 0, len(m.underway))
	for _, f := range m.underway {
		fetches = append(fetches, f)
	}
	m.mu.Unlock()
	all := make([]Progress, len(fetches))
	for i, f := range fetches {
		all[i] = f.progress()
	}
	return all
}

// Fetch brings a file here from those of the holders that have it, the first
// ones first, and from whom they know. Size may be 0 when it is not known. It
// returns when the file is here, when nobody in reach can give what is missing,
// or with ctx; what has come is kept for the next time.
func (m *Mover) Fetch(ctx context.Context, digest string, size int64, holders []string) error {
	if err := chain.CheckDigest(digest); err != nil {
		return fmt.Errorf("artifact: fetch: %w", err)
	}
	if size < 0 || size > SizeMax {
		return fmt.Errorf("artifact: fetch %s: %d bytes, at most %d", digest, size, int64(SizeMax))
	}
	if m.cfg.Store.Has(digest) {
		return nil
	}
	f := m.join(digest, size, holders)
	select {
	case <-f.done:
	case <-ctx.Done():
	}
	m.leave(f)
	select {
	case <-f.done:
		if f.err != nil && ctx.Err() != nil {
			return ctx.Err()
		}
		return f.err
	default:
		return ctx.Err()
	}
}

// join takes part in the fetch of a digest, and begins it if there is none.
func (m *Mover) join(digest string, size int64, holders []string) *fetch {
	for {
		m.mu.Lock()
		f, begin := m.underway[digest], false
		if f == nil {
			f, begin = newFetch(m, digest), true
			m.underway[digest] = f
		}
		ending := !begin && f.callers == 0
		if !ending {
			f.callers++
		}
		m.mu.Unlock()
		if ending { // its last caller left: it has the file open still
			<-f.done
			continue
		}
		f.wanted(size, holders)
		if begin {
			go f.run()
		}
		return f
	}
}

// leave ends a caller's part in a fetch, which has ended when its last caller
// returns.
func (m *Mover) leave(f *fetch) {
	m.mu.Lock()
	f.callers--
	last := f.callers == 0
	m.mu.Unlock()
	if last {
		f.cancel()
		<-f.done
	}
}

// avoid notes that a peer lied, and tells of it.
func (m *Mover) avoid(peer, digest string, reason error) {
	m.mu.Lock()
	m.moved.Lied++
	if len(m.avoided) >= avoidedMax {
		clear(m.avoided)
	}
	m.avoided[peer] = time.Now().Add(avoidFor)
	m.mu.Unlock()
	m.cfg.Log.Warn("a peer sent bytes that are not those of their digest; it is avoided", "peer", peer, "digest", digest, "for", avoidFor, "err", reason)
	if m.cfg.Lied != nil {
		m.cfg.Lied(peer, digest, reason)
	}
}

// avoids says whether a peer is not to be asked.
func (m *Mover) avoids(peer string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	until, ok := m.avoided[peer]
	if ok && time.Now().After(until) {
		delete(m.avoided, peer)
		ok = false
	}
	return ok
}

// buffer waits for room for one chunk of a peer; cut breaks it off.
func (m *Mover) buffer(ctx context.Context, peer string, cut func()) ([]byte, *share, error) {
	tick := time.NewTicker(waitEvery)
	defer tick.Stop()
	for {
		free := m.buffers
		if m.arrives.refuses(peer) {
			free = nil // for now
		} else if len(free) == 0 {
			m.arrives.demand(peer, false)
		}
		select {
		case b := <-free:
			if b == nil {
				b = make([]byte, chain.ChunkLen)
			}
			return b, m.arrives.hold(peer, cut), nil
		case <-tick.C:
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
}

func (m *Mover) giveBack(b []byte) { m.buffers <- b } // never full
