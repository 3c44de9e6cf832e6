package artifact

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/hansa-mesh/hansa/transport"
)

const (
	// Kind names the transport stream that carries the protocol.
	Kind = "artifact/1"
	// FetchesMax bounds the artifacts that are fetched at once.
	FetchesMax = 4
	// ServesMax bounds the streams that are served at once.
	ServesMax = 8
	// HoldersMax bounds the holders that one fetch tries.
	HoldersMax = 8
	// SizeMax bounds one artifact.
	SizeMax = 64 << 30
	// stallMax is how long a stream may take for progressMin bytes: a peer that
	// is as good as dead must not hold up a fetch that another could serve.
	stallMax    = 15 * time.Second
	progressMin = 16 << 10

	frameMax  = 4 << 10
	bufferLen = 256 << 10
)

// ErrNoHolder says that no peer had the artifact.
var ErrNoHolder = errors.New("no peer in reach holds the artifact")

// errResumed says that a file is not what it should be, of which a part was
// here before.
var errResumed = errors.New("resumed")

// Store is the local store of files by digest.
type Store interface {
	Has(digest string) bool
	Open(digest string) (io.ReadSeekCloser, int64, error)
	// Create starts or resumes a file; what is written is verified on Commit.
	Create(ctx context.Context, digest string, size int64) (Writer, error)
}

// Writer takes the bytes of one artifact from Offset on.
type Writer interface {
	io.Writer
	Offset() int64
	Commit() error // verify, make durable, publish under the digest
	Close() error  // keep what was written for the next try
}

// Stream is one transport stream.
type Stream interface {
	io.ReadWriteCloser
	SetDeadline(time.Time) error
}

// Mover fetches and serves artifacts.
type Mover struct {
	store Store
	open  func(ctx context.Context, peer string) (Stream, error)
	log   *slog.Logger
	slots chan struct{} // one for each fetch under way
	serve chan struct{} // one for each stream being served

	mu       sync.Mutex // guards what follows
	underway map[string]*fetch
	moved    Moved
}

// Moved counts what a Mover did.
type Moved struct {
	Fetched, Served           int64 // artifacts
	FetchedBytes, ServedBytes int64
}

// fetch is one that is under way.
type fetch struct {
	holders []string
	done    chan struct{} // closed when what follows is set
	err     error
	broken  bool // its caller gave up
}

// speaksFor says whether what came of f is what a caller with those holders
// would get.
func (f *fetch) speaksFor(holders []string) bool {
	if f.err == nil {
		return true
	}
	other := func(p string) bool { return !slices.Contains(f.holders, p) }
	return !f.broken && !slices.ContainsFunc(holders, other)
}

// New makes a Mover; open opens a stream of Kind to a peer.
func New(store Store, open func(ctx context.Context, peer string) (Stream, error), log *slog.Logger) *Mover {
	return &Mover{
		store: store, open: open, log: log,
		slots:    make(chan struct{}, FetchesMax),
		serve:    make(chan struct{}, ServesMax),
		underway: map[string]*fetch{},
	}
}

// Moved is what was moved so far.
func (m *Mover) Moved() Moved {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.moved
}

type request struct {
	Digest string `json:"digest"`
	Offset int64  `json:"offset"`
}

type answer struct {
	Size int64  `json:"size"`
	Err  string `json:"err,omitempty"`
}

// Fetch brings an artifact here from one of the holders, in their order.
// Size may be 0 when it is not known. Callers of the same digest share one
// fetch, unless it fails and a caller knows of other holders.
func (m *Mover) Fetch(ctx context.Context, digest string, size int64, holders []string) error {
	for !m.store.Has(digest) {
		m.mu.Lock()
		f := m.underway[digest]
		if f == nil {
			f = &fetch{holders: holders, done: make(chan struct{})}
			m.underway[digest] = f
			m.mu.Unlock()
			f.err = m.fetch(ctx, digest, size, holders)
			f.broken = ctx.Err() != nil
			m.mu.Lock()
			delete(m.underway, digest)
			m.mu.Unlock()
			close(f.done)
			return f.err
		}
		m.mu.Unlock()
		select {
		case <-f.done:
		case <-ctx.Done():
			return ctx.Err()
		}
		if f.speaksFor(holders) {
			return f.err
		}
	}
	return nil
}

func (m *Mover) fetch(ctx context.Context, digest string, size int64, holders []string) error {
	select {
	case m.slots <- struct{}{}:
		defer func() { <-m.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	errs := []error{fmt.Errorf("artifact: fetch %s: %w", digest, ErrNoHolder)}
	for _, peer := range holders[:min(len(holders), HoldersMax)] {
		err := m.fetchFrom(ctx, peer, digest, size)
		if errors.Is(err, errResumed) { // what was left of an earlier try may be to blame: it is gone now
			err = m.fetchFrom(ctx, peer, digest, size)
		}
		if err == nil {
			return nil
		}
		errs = append(errs, fmt.Errorf("from %s: %w", peer, err))
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

func (m *Mover) fetchFrom(ctx context.Context, peer, digest string, size int64) error {
	openCtx, cancel := context.WithTimeout(ctx, stallMax)
	stream, err := m.open(openCtx, peer)
	cancel()
	if err != nil {
		return err
	}
	defer stream.Close()
	stop := context.AfterFunc(ctx, func() { _ = stream.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	// The size is asked first where it is not known, since the store wants it
	// to make room.
	var w Writer
	offset := int64(0)
	if size > 0 {
		if w, err = m.store.Create(ctx, digest, size); err != nil {
			return err
		}
		defer w.Close()
		offset = w.Offset()
	}
	if err := extend(ctx, stream); err != nil {
		return err
	}
	if err := transport.WriteFrame(stream, request{Digest: digest, Offset: offset}); err != nil {
		return err
	}
	var a answer
	if err := transport.ReadFrame(stream, &a, frameMax); err != nil {
		return err
	}
	switch {
	case a.Err != "":
		return errors.New(a.Err)
	case a.Size < 0 || a.Size > SizeMax:
		return fmt.Errorf("it says that the artifact has %d bytes", a.Size)
	case size > 0 && a.Size != size:
		return fmt.Errorf("it says that the artifact has %d bytes, not %d", a.Size, size)
	}
	if w == nil {
		if w, err = m.store.Create(ctx, digest, a.Size); err != nil {
			return err
		}
		defer w.Close()
		if w.Offset() > 0 { // a resumed file: ask again from there
			return m.fetchFrom(ctx, peer, digest, a.Size)
		}
	}
	n, err := copyAlive(ctx, w, io.LimitReader(stream, a.Size-offset), stream)
	m.count(func(c *Moved) { c.FetchedBytes += n })
	if err != nil {
		return err
	}
	if n < a.Size-offset {
		return io.ErrUnexpectedEOF
	}
	if err := w.Commit(); err != nil {
		if offset > 0 {
			err = fmt.Errorf("%w at %d: %w", errResumed, offset, err)
		}
		return err
	}
	m.count(func(c *Moved) { c.Fetched++ })
	return nil
}

// Serve answers one request of a peer on a stream that it opened.
func (m *Mover) Serve(ctx context.Context, stream Stream) error {
	select {
	case m.serve <- struct{}{}:
		defer func() { <-m.serve }()
	case <-ctx.Done():
		return ctx.Err()
	}
	stop := context.AfterFunc(ctx, func() { _ = stream.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := extend(ctx, stream); err != nil {
		return err
	}
	var q request
	if err := transport.ReadFrame(stream, &q, frameMax); err != nil {
		return fmt.Errorf("artifact: serve: %w", err)
	}
	file, size, err := m.store.Open(q.Digest)
	if err != nil {
		return transport.WriteFrame(stream, answer{Err: "not held here"})
	}
	defer file.Close()
	if q.Offset < 0 || q.Offset > size {
		return transport.WriteFrame(stream, answer{Err: fmt.Sprintf("offset %d of %d bytes", q.Offset, size)})
	}
	if _, err := file.Seek(q.Offset, io.SeekStart); err != nil {
		return errors.Join(fmt.Errorf("artifact: serve %s: %w", q.Digest, err), transport.WriteFrame(stream, answer{Err: "cannot be read here"}))
	}
	if err := transport.WriteFrame(stream, answer{Size: size}); err != nil {
		return err
	}
	n, err := copyAlive(ctx, stream, file, stream)
	m.count(func(c *Moved) { c.ServedBytes += n })
	if err != nil {
		return fmt.Errorf("artifact: serve %s: %w", q.Digest, err)
	}
	m.count(func(c *Moved) { c.Served++ })
	return nil
}

func (m *Mover) count(f func(*Moved)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(&m.moved)
}

// extend gives a stream another stallMax. That ctx is looked at afterwards
// leaves the deadline of a ctx that ends to whoever sets that.
func extend(ctx context.Context, stream Stream) error {
	// A stream that the other end closed may refuse a deadline; what it still
	// holds can be read all the same.
	_ = stream.SetDeadline(time.Now().Add(stallMax))
	return ctx.Err()
}

// copyAlive copies until the end, and gives up when too little moves.
func copyAlive(ctx context.Context, w io.Writer, r io.Reader, stream Stream) (int64, error) {
	buffer := make([]byte, bufferLen)
	for total, mark := int64(0), int64(-progressMin); ; {
		if total-mark >= progressMin {
			mark = total
			if err := extend(ctx, stream); err != nil {
				return total, err
			}
		}
		n, err := r.Read(buffer)
		if n > 0 {
			written, err := w.Write(buffer[:n])
			total += int64(written)
			if err != nil {
				return total, err
			}
		}
		if errors.Is(err, io.EOF) {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}
