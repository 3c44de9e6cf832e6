package transport

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/hansa-mesh/hansa/transport/identity"
)

// hello shows this peer's admission, in the first uni-directional stream.
func (t *Transport) hello(ctx context.Context, q *quic.Conn) error {
	s, err := q.OpenUniStreamSync(ctx)
	if err != nil {
		return err
	}
	if _, err := s.Write(encodeHello(t.cfg.Trust.Chain(t.ID()))); err != nil {
		return err
	}
	return s.Close()
}

func encodeHello(chain [][]byte) []byte {
	frame := []byte{streamHello}
	for _, record := range chain {
		frame = binary.BigEndian.AppendUint32(frame, uint32(len(record)))
		frame = append(frame, record...)
	}
	return frame
}

// readHello reads the records that the other end shows.
func readHello(ctx context.Context, q *quic.Conn) ([][]byte, error) {
	s, err := q.AcceptUniStream(ctx)
	if err != nil {
		return nil, err
	}
	defer s.CancelRead(streamCancelled)
	if deadline, ok := ctx.Deadline(); ok {
		if err := s.SetReadDeadline(deadline); err != nil {
			return nil, err
		}
	}
	data, err := io.ReadAll(io.LimitReader(s, helloMax+1))
	if err != nil {
		return nil, err
	}
	return parseHello(data)
}

func parseHello(data []byte) (records [][]byte, err error) {
	if len(data) > helloMax || len(data) == 0 || data[0] != streamHello {
		return nil, &Error{Kind: KindInvalid, Msg: "its first stream is no hello"}
	}
	for data = data[1:]; len(data) > 0; {
		if len(data) < 4 {
			return nil, &Error{Kind: KindInvalid, Msg: "its hello is cut"}
		}
		n := binary.BigEndian.Uint32(data)
		if uint64(n) > uint64(len(data)-4) {
			return nil, &Error{Kind: KindInvalid, Msg: "its hello is cut"}
		}
		records = append(records, data[4:4+n])
		data = data[4+n:]
	}
	return records, nil
}

// know learns who the other end is from its hello, if need be.
func (t *Transport) know(ctx context.Context, q *quic.Conn, id string) error {
	err := t.cfg.Trust.Admitted(id)
	if err == nil {
		return nil
	}
	// One whose admitter was shut out may have been let in again by another.
	ctx, cancel := context.WithTimeout(ctx, helloWait)
	defer cancel()
	records, helloErr := readHello(ctx, q)
	if helloErr == nil && len(records) > 0 {
		helloErr = t.cfg.Trust.AddChain(id, records)
	}
	if helloErr != nil {
		return fmt.Errorf("%w; what it showed is no proof: %w", err, helloErr)
	}
	return t.cfg.Trust.Admitted(id)
}

// admit decides about a connection before anything is taken from it: the
// hello is only read when the other end is not known, and skipped later when
// it is.
func (t *Transport) admit(ctx context.Context, q *quic.Conn, id string, inbound bool) (*conn, error) {
	if err := t.know(ctx, q, id); err != nil {
		return nil, t.refuse(q, id, err)
	}
	c := &conn{Conn: q, peer: id, inbound: inbound, since: time.Now()}
	c.touch()
	if err := t.publish(c); err != nil {
		return nil, err
	}
	// It may have been shut out before the connection could be found here.
	if err := t.cfg.Trust.Admitted(id); err != nil {
		t.drop(c, nil)
		return nil, t.refuse(q, id, err)
	}
	return c, nil
}

func (t *Transport) refuse(q *quic.Conn, id string, why error) error {
	t.stats.refused.Add(1)
	t.cfg.Log.Warn("a connection was refused", "peer", id, "addr", q.RemoteAddr().String(), "err", why)
	reason := "refused: " + why.Error()
	_ = q.CloseWithError(codeForbidden, reason[:min(len(reason), reasonMax)]) // it may be gone already
	return &Error{Kind: KindForbidden, Msg: reason, Peer: id, cause: why}
}

// reasonMax is what fits the packet that closes a connection.
const reasonMax = 512

// publish makes a connection usable by all.
func (t *Transport) publish(c *conn) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped {
		_ = c.CloseWithError(codeClosing, "this peer stops")
		return errStopping
	}
	if t.conns >= t.cfg.ConnsMax {
		t.stats.refused.Add(1)
		_ = c.CloseWithError(codeRefused, "too many connections")
		return &Error{Kind: KindExhausted, Msg: "too many connections", Peer: c.peer}
	}
	p := t.peerOf(c.peer)
	if len(p.conns) >= connsPeerMax { // the oldest gives way
		old := p.conns[0]
		p.conns = slices.Delete(p.conns, 0, 1)
		t.conns--
		t.work.Go(func() { _ = old.CloseWithError(codeClosing, "replaced") })
	}
	c.shares = p.shares
	p.conns = append(p.conns, c)
	p.retryAt, p.failure, p.failed = time.Time{}, 0, nil
	if c.inbound {
		p.seen = c.RemoteAddr().String()
	}
	t.conns++
	return nil
}

// accept takes an inbound connection.
func (t *Transport) accept(ctx context.Context, q *quic.Conn) {
	if q.ConnectionState().TLS.NegotiatedProtocol == protocolJoin {
		t.acceptJoin(ctx, q)
		return
	}
	if c := t.greet(ctx, q); c != nil {
		t.stats.accepted.Add(1)
		t.serve(c)
	}
}

// greet finds out who calls; nil for one that was turned away.
func (t *Transport) greet(ctx context.Context, q *quic.Conn) *conn {
	ctx, cancel := context.WithTimeout(ctx, helloWait)
	defer cancel()
	id := identity.IDOf(peerKey(q))
	if id == t.ID() {
		_ = q.CloseWithError(codeProtocol, "this is you") // an address that leads back here
		return nil
	}
	if t.cfg.Trust.Admitted(id) != nil { // strangers keep out no peer
		select {
		case t.greetings <- struct{}{}:
			defer func() { <-t.greetings }()
		default:
			t.stats.refused.Add(1)
			_ = q.CloseWithError(codeRefused, "too many strangers at once: try again in a moment")
			return nil
		}
	}
	if err := t.hello(ctx, q); err != nil {
		_ = q.CloseWithError(codeProtocol, "no hello") // it is gone already
		return nil
	}
	c, err := t.admit(ctx, q, id, true)
	if err != nil {
		return nil // it was refused, logged and counted
	}
	return c
}
