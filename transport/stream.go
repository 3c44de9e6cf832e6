package transport

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
)

// Stream is a two-way stream of bytes with a peer. Reads and writes may run at
// the same time; neither alone may be called twice at once.
type Stream struct {
	s       *quic.Stream
	r       io.Reader
	c       *conn
	closing sync.Once
	// The dialler's end: the status that the other end sends first is read
	// with the first bytes.
	status  bool
	counted bool // in c.streams, by this end's Open
	peer    string
}

// Open opens a stream of a kind; the caller must Close or Cancel it. ctx bounds
// the opening alone. It returns without waiting for the other end; that it
// refuses the stream shows at the first read.
func (t *Transport) Open(ctx context.Context, to, kind string) (*Stream, error) {
	if len(kind) > nameMax {
		return nil, &Error{Kind: KindInvalid, Peer: to, Msg: fmt.Sprintf("open %.32s...: a kind of over %d bytes", kind, nameMax)}
	}
	head := append([]byte{streamOpen, byte(len(kind))}, kind...)
	s, err := t.open(ctx, to, head)
	if err != nil {
		return nil, fromNetwork(to, "open "+kind, err)
	}
	s.status = true
	return s, nil
}

// open opens a stream and writes its head.
func (t *Transport) open(ctx context.Context, to string, head []byte) (*Stream, error) {
	c, q, err := t.openStream(ctx, to)
	if err != nil {
		return nil, err
	}
	s := &Stream{s: q, r: q, c: c, peer: to, counted: true}
	stop := context.AfterFunc(ctx, func() { q.CancelWrite(streamCancelled) }) // while there is no room for the head
	_, err = q.Write(padded(head))
	if !stop() || err != nil {
		s.Cancel()
		return nil, cmp.Or(ctx.Err(), err)
	}
	return s, nil
}

// serveOpen serves a stream that a peer opened.
func (t *Transport) serveOpen(c *conn, q *quic.Stream, r *bufio.Reader, kind string) {
	h := t.streams[kind]
	if h == nil {
		_ = writeError(q, &Error{Kind: KindNotFound, Msg: "no streams of kind " + kind + " here: another version?"})
		return
	}
	if _, err := q.Write([]byte{statusDone}); err != nil {
		return
	}
	if err := q.SetDeadline(time.Time{}); err != nil {
		return
	}
	// The reading side's end is not the caller's end: a stream may be half
	// closed. So the connection's context bounds it.
	ctx, cancel := context.WithCancel(c.Context())
	defer cancel()
	s := &Stream{s: q, r: r, c: c, peer: c.peer}
	_, err := contain(t, kind, func() (struct{}, error) { return struct{}{}, h(ctx, c.peer, s) })
	if err != nil {
		t.cfg.Log.Debug("a stream ended with an error", "kind", kind, "peer", c.peer, "err", err)
		q.CancelWrite(streamBroken)
	}
}

// Read reads what the other end wrote; io.EOF after its CloseWrite or Close.
func (s *Stream) Read(p []byte) (int, error) {
	if s.status {
		if err := s.readStatus(); err != nil {
			return 0, err
		}
	}
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		err = streamError(s.peer, err)
	}
	return n, err
}

func (s *Stream) readStatus() error {
	var status [1]byte
	if _, err := io.ReadFull(s.r, status[:]); err != nil {
		return streamError(s.peer, err)
	}
	s.status = false
	if status[0] == statusDone {
		return nil
	}
	s.status = true // and so it stays: there is nothing else to read
	var length [4]byte
	if _, err := io.ReadFull(s.r, length[:]); err != nil {
		return streamError(s.peer, err)
	}
	n := binary.BigEndian.Uint32(length[:])
	if n > errorMax {
		return &Error{Kind: KindInternal, Peer: s.peer, Msg: "an error that can't be read"}
	}
	body, err := readBody(s.r, int(n))
	if err != nil {
		return streamError(s.peer, err)
	}
	return decodeError(s.peer, body)
}

// streamError keeps what says that a deadline has passed.
func streamError(peer string, err error) error {
	if timeout, ok := err.(interface{ Timeout() bool }); ok && timeout.Timeout() {
		return err
	}
	return fromNetwork(peer, "stream", err)
}

// Write sends bytes; it blocks while the other end does not read.
func (s *Stream) Write(p []byte) (int, error) {
	n, err := s.s.Write(p)
	if err != nil {
		err = streamError(s.peer, err)
	}
	return n, err
}

// Context is done when the other end wants no more of what is written here, or
// this end has written all.
func (s *Stream) Context() context.Context { return s.s.Context() }

// CloseWrite says that nothing more is written; reading goes on. That the
// other end wants no more is no error.
func (s *Stream) CloseWrite() error {
	_ = s.s.Close() // fails only for a stream that either end cancelled
	return nil
}

// Close ends the stream on both sides. What was written still arrives.
func (s *Stream) Close() error {
	s.closing.Do(func() {
		s.s.CancelRead(streamCancelled)
		_ = s.CloseWrite() // never fails
		if s.counted {
			s.c.end()
		}
	})
	return nil
}

// Cancel ends the stream at once; what was written may not arrive.
func (s *Stream) Cancel() {
	s.s.CancelWrite(streamCancelled)
	_ = s.Close() // never fails
}

// SetDeadline bounds reads and writes.
func (s *Stream) SetDeadline(at time.Time) error { return s.s.SetDeadline(at) }

// SetReadDeadline bounds reads.
func (s *Stream) SetReadDeadline(at time.Time) error { return s.s.SetReadDeadline(at) }

// SetWriteDeadline bounds writes.
func (s *Stream) SetWriteDeadline(at time.Time) error { return s.s.SetWriteDeadline(at) }
