package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/transport"
)

const (
	// kindLogs are streams of one log: a frame with a logsRequest one way, and
	// the other way a byte that says what follows, and that.
	kindLogs      = "logs/1"
	logsFollow    = 0 // the log
	logsRefused   = 1 // why there is none, as text
	logRequestMax = 4 << 10
	logRefusalMax = 4 << 10
)

// logsRequest says which log is wanted, and how much of it.
type logsRequest struct {
	ID     string `json:"id"`
	Follow bool   `json:"follow"`
	Tail   int    `json:"tail"`
	Since  int64  `json:"since"` // Unix nanoseconds; 0 is from the start
}

// serveLogs gives another peer the log of an allocation that runs here.
func (n *Node) serveLogs(ctx context.Context, _ string, s *transport.Stream) error {
	if err := s.SetReadDeadline(time.Now().Add(queryMax)); err != nil {
		return err
	}
	var q logsRequest
	if err := transport.ReadFrame(s, &q, logRequestMax); err != nil {
		return fmt.Errorf("logs: %w", err)
	}
	o := driver.LogOptions{Follow: q.Follow, Tail: q.Tail}
	if q.Since != 0 {
		o.Since = time.Unix(0, q.Since)
	}
	id, err := placement.ParseAllocationID(q.ID)
	var logs io.ReadCloser
	if err == nil {
		logs, err = n.runner.Logs(ctx, id, o)
	}
	if err != nil {
		_, writeErr := s.Write(append([]byte{logsRefused}, err.Error()...))
		return errors.Join(writeErr, s.CloseWrite())
	}
	defer logs.Close()
	if _, err := s.Write([]byte{logsFollow}); err != nil {
		return err
	}
	if _, err := io.Copy(s, logs); err != nil {
		return err
	}
	return s.CloseWrite()
}

// remoteLogs reads a log where the allocation runs.
func (n *Node) remoteLogs(ctx context.Context, id placement.AllocationID, o api.LogOptions) (io.ReadCloser, error) {
	peer := string(id.Claim.Owner.Peer)
	openCtx, cancel := context.WithTimeout(ctx, queryMax)
	defer cancel()
	s, err := n.link.Open(openCtx, peer, kindLogs)
	if err != nil {
		return nil, fmt.Errorf("logs of %s: %w: %s: %w", id, api.ErrUnreachable, n.nameOf(peer), err)
	}
	q := logsRequest{ID: id.String(), Follow: o.Follow, Tail: o.Tail}
	if !o.Since.IsZero() {
		q.Since = o.Since.UnixNano()
	}
	err = transport.WriteFrame(s, q)
	var status [1]byte
	if err == nil {
		_, err = io.ReadFull(s, status[:])
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("logs of %s: %w", id, err), s.Close())
	}
	if status[0] != logsFollow {
		why, err := io.ReadAll(io.LimitReader(s, logRefusalMax))
		return nil, errors.Join(fmt.Errorf("logs of %s: %w: %s", id, placement.ErrNotFound, why), err, s.Close())
	}
	stop := context.AfterFunc(ctx, func() { s.Close() })
	return &remoteLog{s, stop}, nil
}

// remoteLog is a log that another peer sends.
type remoteLog struct {
	*transport.Stream
	stop func() bool
}

func (r *remoteLog) Close() error {
	r.stop()
	return r.Stream.Close()
}
