package transport

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/quic-go/quic-go"
)

// The first byte of a stream.
const (
	streamHello  = 'h' // uni: this peer's admission
	streamPacket = 'p' // uni: one packet of gossip that is too large for a datagram
	streamCall   = 'c'
	streamOpen   = 's'
	streamGossip = 'g'
)

// A packet of at most 42 bytes is not answered with a stateless reset, so the
// first bytes of a stream fill a larger one, with zeros before the kind: else
// a short call to a peer that has just restarted would go unanswered.
const (
	headMin    = 32
	paddingMax = headMin
)

// padded is the first frame of a stream.
func padded(frame []byte) []byte {
	if len(frame) >= headMin {
		return frame
	}
	return append(make([]byte, headMin-len(frame), headMin), frame...)
}

// readKind reads the kind of a stream.
func readKind(r io.ByteReader) (byte, error) {
	for range paddingMax {
		if kind, err := r.ReadByte(); kind != 0 || err != nil {
			return kind, err
		}
	}
	return 0, errors.New("nothing but padding")
}

// The status of an answer.
const (
	statusDone  = 0
	statusError = 1
)

const (
	nameMax    = 128
	errorMax   = 4 << 10
	headWait   = 10 * time.Second // for the head of a stream
	timeoutMax = 10 * time.Minute // that a caller may ask for
	answerWait = time.Second      // for the answer to leave, beyond the caller's timeout
)

// A call is: padding, kind, length of the method (1 byte), method, timeout in
// milliseconds (4), length of the request (4), request. Its answer: status,
// length (4), response or CBOR of an Error. All numbers are big-endian.

// Call asks a peer and waits for its answer. Without a deadline in ctx,
// Config.CallTimeout is one; the deadline and the end of ctx reach the handler.
// The error is an *Error. A call that failed may have been done, unless its
// kind says otherwise.
func (t *Transport) Call(ctx context.Context, to, method string, request []byte) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, fromNetwork(to, method, ctx.Err())
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, t.cfg.CallTimeout)
		defer cancel()
	}
	t.stats.calls.Add(1)
	response, err := t.call(ctx, to, method, request)
	if err != nil {
		t.stats.callsFailed.Add(1)
	}
	return response, err
}

func (t *Transport) call(ctx context.Context, to, method string, request []byte) ([]byte, error) {
	if len(request) > t.cfg.RequestMax {
		return nil, &Error{Kind: KindTooLarge, Peer: to, Msg: fmt.Sprintf("%s: a request of %d bytes, at most %d", method, len(request), t.cfg.RequestMax)}
	}
	if len(method) > nameMax {
		return nil, &Error{Kind: KindInvalid, Peer: to, Msg: fmt.Sprintf("%.32s...: a method of over %d bytes", method, nameMax)}
	}
	var err error
	for range 2 {
		var response []byte
		if response, err = t.attempt(ctx, to, method, request); err == nil {
			return response, nil
		}
		// Given up as quiet at the other end while the request was on its way:
		// it was not served.
		var app *quic.ApplicationError
		if !errors.As(err, &app) || !app.Remote || app.ErrorCode != codeQuiet || ctx.Err() != nil {
			break
		}
	}
	return nil, fromNetwork(to, method, err)
}

func (t *Transport) attempt(ctx context.Context, to, method string, request []byte) ([]byte, error) {
	c, s, err := t.openStream(ctx, to)
	if err != nil {
		return nil, err
	}
	defer c.end()
	stop := context.AfterFunc(ctx, func() {
		s.CancelRead(streamCancelled)
		s.CancelWrite(streamCancelled)
	})
	defer stop()
	defer s.CancelRead(streamCancelled) // else stream credit leaks
	response, err := t.exchange(ctx, s, to, method, request)
	if err == nil {
		return response, nil
	}
	s.CancelWrite(streamCancelled) // else what was not taken is sent again and again
	var own *Error
	if ctx.Err() != nil && !errors.As(err, &own) {
		err = ctx.Err()
	}
	return nil, err
}

// openStream opens a stream on a live connection. One that has just ended is
// given up for another: nothing was asked on it.
func (t *Transport) openStream(ctx context.Context, to string) (*conn, *quic.Stream, error) {
	var err error
	for range dialsMax {
		var c *conn
		if c, err = t.connTo(ctx, to); err != nil {
			return nil, nil, err
		}
		if !c.begin() {
			t.drop(c, nil)
			continue
		}
		var s *quic.Stream
		if s, err = c.OpenStreamSync(ctx); err == nil {
			return c, s, nil
		}
		c.end()
		if ctx.Err() != nil {
			return nil, nil, err
		}
		t.drop(c, err)
	}
	return nil, nil, cmp.Or(err, error(&Error{Kind: KindUnavailable, Msg: "connect: each connection ended at once", Peer: to}))
}

func (t *Transport) exchange(ctx context.Context, s *quic.Stream, to, method string, request []byte) ([]byte, error) {
	deadline, _ := ctx.Deadline()
	frame := make([]byte, 0, 10+len(method)+len(request))
	frame = append(frame, streamCall, byte(len(method)))
	frame = append(frame, method...)
	frame = binary.BigEndian.AppendUint32(frame, uint32(min(timeoutMax, max(time.Millisecond, time.Until(deadline))).Milliseconds()))
	frame = binary.BigEndian.AppendUint32(frame, uint32(len(request)))
	_, err := s.Write(padded(append(frame, request...)))
	// The other end stops reading what it refuses, and what it has heard
	// enough of: either way there is an answer.
	var stopped *quic.StreamError
	if err != nil && !(errors.As(err, &stopped) && stopped.Remote) {
		return nil, err
	}
	_ = s.Close() // fails for a stream that ended already; reading says how
	return readAnswer(s, to, method, t.cfg.RequestMax)
}

func readAnswer(r io.Reader, from, method string, responseMax int) ([]byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n, limit := binary.BigEndian.Uint32(head[1:]), responseMax
	if head[0] == statusError {
		limit = errorMax
	}
	if uint64(n) > uint64(limit) {
		return nil, &Error{Kind: KindTooLarge, Peer: from, Msg: fmt.Sprintf("%s: an answer of %d bytes, at most %d", method, n, limit)}
	}
	body, err := readBody(r, int(n))
	if err != nil {
		return nil, err
	}
	if head[0] != statusDone {
		return nil, decodeError(from, body)
	}
	return body, nil
}

// serveStream serves one bidirectional stream of an admitted peer.
func (t *Transport) serveStream(c *conn, s *quic.Stream) {
	if !c.begin() {
		return // the connection is being closed
	}
	defer c.end()
	defer s.CancelRead(streamCancelled)
	defer s.Close()
	if err := s.SetDeadline(time.Now().Add(headWait)); err != nil {
		return
	}
	r := bufio.NewReaderSize(s, 512)
	kind, err := readKind(r)
	if err != nil {
		return
	}
	if kind == streamGossip {
		t.acceptGossip(c, s, r)
		return
	}
	name, err := readName(r)
	if err != nil {
		return
	}
	release, ok := t.room(c)
	if !ok {
		t.stats.exhausted.Add(1)
		_ = writeError(s, &Error{Kind: KindExhausted, Msg: name + ": too many calls at once"})
		return
	}
	defer release()
	t.stats.served.Add(1)
	switch kind {
	case streamCall:
		t.serveCall(c, s, r, name)
	case streamOpen:
		t.serveOpen(c, s, r, name)
	default:
		s.CancelWrite(streamBroken)
	}
}

// room takes a place among what is served at once.
func (t *Transport) room(c *conn) (release func(), ok bool) {
	select {
	case t.serving <- struct{}{}:
	default:
		return nil, false
	}
	select {
	case c.shares.inFlight <- struct{}{}:
		return func() { <-c.shares.inFlight; <-t.serving }, true
	default:
		<-t.serving
		return nil, false
	}
}

func readName(r *bufio.Reader) (string, error) {
	n, err := r.ReadByte()
	if err != nil {
		return "", err
	}
	if n > nameMax {
		return "", fmt.Errorf("a name of %d bytes", n)
	}
	name := make([]byte, n)
	_, err = io.ReadFull(r, name)
	return string(name), err
}

func (t *Transport) serveCall(c *conn, s *quic.Stream, r *bufio.Reader, method string) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return
	}
	timeout := min(timeoutMax, time.Duration(binary.BigEndian.Uint32(head[:]))*time.Millisecond)
	length := binary.BigEndian.Uint32(head[4:])
	if uint64(length) > uint64(t.cfg.RequestMax) {
		_ = writeError(s, &Error{Kind: KindTooLarge, Msg: fmt.Sprintf("%s: a request of %d bytes, at most %d", method, length, t.cfg.RequestMax)})
		return
	}
	h := t.handlers[method]
	if h == nil {
		_ = writeError(s, &Error{Kind: KindNotFound, Msg: fmt.Sprintf("no method %q here: another version?", method)})
		return
	}
	release, ok := t.hold(c, int(length))
	if !ok {
		t.stats.exhausted.Add(1)
		_ = writeError(s, &Error{Kind: KindExhausted, Msg: method + ": too many bytes at once"})
		return
	}
	defer release()
	// A caller that does not read its answer is not waited for either.
	if err := s.SetDeadline(time.Now().Add(timeout + answerWait)); err != nil {
		return
	}
	request, err := readBody(r, int(length))
	if err != nil {
		return
	}
	// The stream's context ends when the caller gives up.
	ctx, cancel := context.WithTimeout(s.Context(), timeout)
	defer cancel()
	response, err := contain(t, method, func() ([]byte, error) { return h(ctx, c.peer, request) })
	if err == nil && len(response) > t.cfg.RequestMax {
		err = &Error{Kind: KindTooLarge, Msg: fmt.Sprintf("%s: an answer of %d bytes, at most %d", method, len(response), t.cfg.RequestMax)}
	}
	if err == nil {
		var release func()
		if release, ok = t.hold(c, len(response)); ok {
			defer release()
		} else {
			t.stats.exhausted.Add(1)
			err = &Error{Kind: KindExhausted, Msg: method + ": too many bytes of answers that were not fetched"}
		}
	}
	if err != nil {
		_ = writeError(s, err) // the caller may have left
		return
	}
	frame := append(make([]byte, 0, 5+len(response)), statusDone)
	frame = binary.BigEndian.AppendUint32(frame, uint32(len(response)))
	_, _ = s.Write(append(frame, response...)) // the caller may have left
}

// readBody reads n bytes, and takes memory only as they come: a length is a
// claim.
func readBody(r io.Reader, n int) ([]byte, error) {
	const step = 64 << 10
	body := make([]byte, 0, min(n, step))
	for len(body) < n {
		if len(body) == cap(body) {
			body = append(make([]byte, 0, min(n, 2*cap(body))), body...)
		}
		m, err := io.ReadFull(r, body[len(body):min(n, cap(body))])
		body = body[:len(body)+m]
		if err != nil {
			return nil, err
		}
	}
	return body, nil
}

// contain turns a panic of a handler into an error.
func contain[T any](t *Transport, name string, f func() (T, error)) (v T, err error) {
	defer func() {
		if r := recover(); r != nil {
			t.cfg.Log.Error("a handler panicked", "method", name, "panic", r, "stack", string(debug.Stack()))
			err = &Error{Kind: KindInternal, Msg: name + ": a fault at this peer; its log says more"}
		}
	}()
	return f()
}

func writeError(w io.Writer, err error) error {
	body, err := encodeError(err)
	if err != nil {
		return err
	}
	frame := binary.BigEndian.AppendUint32([]byte{statusError}, uint32(len(body)))
	_, err = w.Write(append(frame, body...))
	return err
}

// HandleTyped answers calls of a method whose request and answer are CBOR.
func HandleTyped[Req, Resp any](t *Transport, method string, f func(ctx context.Context, from string, request Req) (Resp, error)) {
	t.Handle(method, func(ctx context.Context, from string, raw []byte) ([]byte, error) {
		var request Req
		if err := cbor.Unmarshal(raw, &request); err != nil {
			return nil, &Error{Kind: KindInvalid, Msg: method + ": " + err.Error()}
		}
		response, err := f(ctx, from, request)
		if err != nil {
			return nil, err
		}
		return cbor.Marshal(response)
	})
}

// CallTyped is Call with CBOR.
func CallTyped[Req, Resp any](ctx context.Context, t *Transport, to, method string, request Req) (Resp, error) {
	var response Resp
	raw, err := cbor.Marshal(request)
	if err != nil {
		return response, fmt.Errorf("transport: %s: %w", method, err)
	}
	if raw, err = t.Call(ctx, to, method, raw); err != nil {
		return response, err
	}
	if err := cbor.Unmarshal(raw, &response); err != nil {
		return response, &Error{Kind: KindInternal, Peer: to, Msg: method + ": its answer can't be read: " + err.Error()}
	}
	return response, nil
}
