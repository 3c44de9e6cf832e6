package table

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// Sync runs one exchange over a stream, as the side that began it. It returns
// when the copies have what they lacked, or when ctx ends or the stream
// breaks; then what was applied stays. It does not close the stream.
func (r *Replica) Sync(ctx context.Context, rw io.ReadWriter) (SyncStats, error) {
	return r.exchange(ctx, rw, (*Table).Initiate)
}

// Serve is Sync for the side that was called.
func (r *Replica) Serve(ctx context.Context, rw io.ReadWriter) (SyncStats, error) {
	return r.exchange(ctx, rw, (*Table).Respond)
}

func (r *Replica) exchange(ctx context.Context, rw io.ReadWriter, begin func(*Table) *Session) (SyncStats, error) {
	defer context.AfterFunc(ctx, func() { interrupt(rw) })()
	e := &exchanger{r: r, in: bufio.NewReader(rw), out: bufio.NewWriterSize(rw, chunkBytes)}
	// Within a batch, so that nothing that is not durable is announced.
	err := r.do(ctx, func() error { e.s = begin(r.table); return nil })
	for err == nil {
		if err = e.speak(); err != nil || e.s.Done() {
			break
		}
		err = e.listen(ctx)
	}
	if e.s == nil {
		return SyncStats{}, err
	}
	if err != nil {
		err = fmt.Errorf("sync table %s: %w", r.name, errors.Join(ctx.Err(), err))
	}
	return e.s.Stats(), err
}

type exchanger struct {
	r   *Replica
	s   *Session
	in  *bufio.Reader
	out *bufio.Writer
}

// speak sends all that there is to send. The frames are of records that no
// longer change, so the replica's lock is not needed.
func (e *exchanger) speak() error {
	for {
		b, ok := e.s.Next()
		if !ok {
			return e.out.Flush()
		}
		var size [4]byte
		binary.BigEndian.PutUint32(size[:], uint32(len(b)))
		if _, err := e.out.Write(size[:]); err != nil {
			return err
		}
		if _, err := e.out.Write(b); err != nil {
			return err
		}
	}
}

// listen takes one frame and makes its effect durable.
func (e *exchanger) listen(ctx context.Context) error {
	var size [4]byte
	if _, err := io.ReadFull(e.in, size[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > frameBytesMax {
		return fmt.Errorf("%w: frame of %d bytes", ErrProtocol, n)
	}
	b, err := readGrowing(e.in, int(n))
	if err != nil {
		return err
	}
	return e.r.do(ctx, func() error { return e.s.step(b) })
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
