package table

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// ErrStalled is the other side of an exchange going silent, or too slow.
var ErrStalled = errors.New("the other side stalls")

// How long one frame may take: stallMax, and what its bytes need at rateMin.
// A peer that opens exchanges and says nothing must not keep others waiting.
const (
	stallMax = 30 * time.Second
	rateMin  = 8 << 10 // bytes a second
)

// Sync runs one exchange over a stream, as the side that began it. It returns
// when the copies have what they lacked, or when ctx ends, the other side
// stalls or the stream breaks; then what was applied stays. It does not close
// the stream: the next table may follow on it, unless there was an error.
func (r *Replica) Sync(ctx context.Context, rw io.ReadWriter) (SyncStats, error) {
	e := newExchanger(ctx, rw)
	defer e.end()
	return e.exchange(ctx, r, (*Table).Initiate, nil)
}

// Serve answers the exchanges that the other side begins on a stream, one
// table after another, until it ends the stream. find gives the table that is
// asked for; each, if any, is told of every exchange.
func Serve(ctx context.Context, rw io.ReadWriter, find func(name string) (*Replica, bool), each func(SyncStats, error)) error {
	e := newExchanger(ctx, rw)
	defer e.end()
	for {
		first, err := e.read()
		if err == io.EOF { // between exchanges: all is said
			return nil
		}
		if err != nil {
			return e.failed(ctx, "", err)
		}
		f, err := decodeFrame(first)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrProtocol, err)
		}
		r, ok := find(f.Name)
		if !ok {
			return fmt.Errorf("%w: asked for table %.64q, which is not here", ErrProtocol, f.Name)
		}
		stats, err := e.exchange(ctx, r, (*Table).Respond, first)
		if each != nil {
			each(stats, err)
		}
		if err != nil {
			return err
		}
	}
}

// exchanger is one side of a stream of exchanges. It reads frame by frame and
// nothing beyond, so that the next exchange finds its first one.
type exchanger struct {
	rw       io.ReadWriter
	stop     func() bool
	patience *time.Timer // runs while the other side is waited for
	stalled  atomic.Bool
}

// writers are for who speaks: most exchanges say little, and many wait at once.
var writers = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, chunkBytes) }}

func newExchanger(ctx context.Context, rw io.ReadWriter) *exchanger {
	e := &exchanger{rw: rw}
	e.stop = context.AfterFunc(ctx, func() { interrupt(rw) })
	e.patience = time.AfterFunc(stallMax, func() {
		e.stalled.Store(true)
		interrupt(rw)
	})
	return e
}

func (e *exchanger) end() {
	e.patience.Stop()
	e.stop()
}

// wait gives the other side the time for so many bytes.
func (e *exchanger) wait(bytes int) {
	e.patience.Reset(stallMax + time.Duration(bytes)*time.Second/rateMin)
}

// failed says why an exchange ended: a stream that was interrupted only knows
// that it was.
func (e *exchanger) failed(ctx context.Context, name string, err error) error {
	if e.stalled.Load() {
		err = errors.Join(ErrStalled, err)
	}
	return fmt.Errorf("sync table %s: %w", name, errors.Join(ctx.Err(), err))
}

// exchange runs one session; first is the frame that was read already.
func (e *exchanger) exchange(ctx context.Context, r *Replica, begin func(*Table) *Session, first []byte) (SyncStats, error) {
	var s *Session
	// Within a batch, so that nothing that is not durable is announced.
	err := r.do(ctx, func() (err error) {
		s = begin(r.table)
		if first != nil {
			err = s.step(first)
		}
		return err
	})
	for err == nil {
		if err = e.speak(s); err != nil || s.Done() {
			break
		}
		var b []byte
		if b, err = e.read(); err == nil {
			err = r.do(ctx, func() error { return s.step(b) })
		}
	}
	if err != nil {
		err = e.failed(ctx, r.name, err)
	}
	if s == nil {
		return SyncStats{}, err
	}
	return s.Stats(), err
}

// speak sends all that there is to send. The frames are of records that no
// longer change, so the replica's lock is not needed.
func (e *exchanger) speak(s *Session) error {
	defer e.patience.Stop()
	out := writers.Get().(*bufio.Writer)
	out.Reset(e.rw)
	defer func() {
		out.Reset(nil)
		writers.Put(out)
	}()
	for {
		b, ok := s.Next()
		if !ok {
			return out.Flush()
		}
		e.wait(len(b) + chunkBytes) // what is buffered goes first
		var size [4]byte
		binary.BigEndian.PutUint32(size[:], uint32(len(b)))
		if _, err := out.Write(size[:]); err != nil {
			return err
		}
		if _, err := out.Write(b); err != nil {
			return err
		}
	}
}

// read takes one frame; io.EOF if the stream ended before it.
func (e *exchanger) read() ([]byte, error) {
	defer e.patience.Stop() // what follows is this side's own time
	e.wait(0)
	var size [4]byte
	if _, err := io.ReadFull(e.rw, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > frameBytesMax {
		return nil, fmt.Errorf("%w: frame of %d bytes", ErrProtocol, n)
	}
	e.wait(int(n))
	b, err := readGrowing(e.rw, int(n))
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return b, err
}

// readGrowing reads n bytes without trusting n: memory follows what arrives.
func readGrowing(r io.Reader, n int) ([]byte, error) {
	b := make([]byte, 0, min(n, chunkBytes))
	for len(b) < n {
		part := min(n-len(b), max(len(b), chunkBytes))
		b = append(b, make([]byte, part)...)
		if _, err := io.ReadFull(r, b[len(b)-part:]); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// interrupt unblocks reads and writes of a stream whose exchange is over.
func interrupt(rw io.ReadWriter) {
	if d, ok := rw.(interface{ SetDeadline(time.Time) error }); ok {
		if d.SetDeadline(time.Unix(1, 0)) == nil {
			return
		}
	}
	if c, ok := rw.(io.Closer); ok {
		_ = c.Close()
	}
}
