package node

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/hansa-mesh/hansa/gossip"
	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/transport"
)

// What peers ask each other on behalf of people. Everything here is asked for
// when somebody wants to see it, and bounded; nothing is decided from it.
const (
	methodAllocations = "query/allocations/1"
	methodDecisions   = "query/decisions/1"
	methodApp         = "query/app/1"
	methodEvents      = "query/events/1"
	kindLogs          = "logs/1"

	// queryMax is how long a person waits for a peer that does not answer.
	queryMax = 2 * time.Second
	// askedMax bounds the peers that are asked at once.
	askedMax = 64
	// queryEventsMax bounds the events of one answer.
	queryEventsMax = 1000
	logRequestMax  = 4 << 10
)

type allocationsQuery struct{}

type allocationsAnswer struct {
	Allocations []placement.AllocationView `json:"allocations"`
}

type decisionsQuery struct {
	Key       placement.AppKey `json:"key"`
	Component string           `json:"component"`
}

type decisionsAnswer struct {
	Decisions []placement.Decision `json:"decisions"`
}

type appQuery struct {
	Key placement.AppKey `json:"key"`
}

type appAnswer struct {
	App   placement.AppView `json:"app"`
	Found bool              `json:"found"`
}

type eventsQuery struct {
	After int64 `json:"after"` // Unix nanoseconds
}

type wireEvent struct {
	Seq  uint64             `json:"seq"`
	At   int64              `json:"at"` // Unix nanoseconds
	What placement.Happened `json:"what"`
}

type eventsAnswer struct {
	Events []wireEvent `json:"events"`
}

// serveQueries answers what other peers ask.
func (n *Node) serveQueries() {
	transport.HandleTyped(n.link, methodAllocations, func(ctx context.Context, _ string, _ allocationsQuery) (allocationsAnswer, error) {
		var a allocationsAnswer
		err := n.loop.look(ctx, func(core *placement.Peer) { a.Allocations = core.Allocations() })
		return a, err
	})
	transport.HandleTyped(n.link, methodDecisions, func(ctx context.Context, _ string, q decisionsQuery) (decisionsAnswer, error) {
		var a decisionsAnswer
		err := n.loop.look(ctx, func(core *placement.Peer) { a.Decisions = core.Decisions(q.Key, q.Component) })
		return a, err
	})
	transport.HandleTyped(n.link, methodApp, func(ctx context.Context, _ string, q appQuery) (appAnswer, error) {
		var a appAnswer
		err := n.loop.look(ctx, func(core *placement.Peer) { a.App, a.Found = core.App(q.Key) })
		return a, err
	})
	transport.HandleTyped(n.link, methodEvents, func(_ context.Context, _ string, q eventsQuery) (eventsAnswer, error) {
		var a eventsAnswer
		for _, e := range n.events.all() {
			if at := e.At.UnixNano(); at > q.After {
				a.Events = append(a.Events, wireEvent{Seq: e.Seq, At: at, What: e.What})
			}
		}
		a.Events = a.Events[max(0, len(a.Events)-queryEventsMax):]
		return a, nil
	})
	n.link.HandleStream(kindLogs, n.serveLogs)
}

// reply is what one peer answered.
type reply[T any] struct {
	peer   string
	answer T
	err    error
}

// ask asks peers the same thing at once. Those that do not answer in time
// answer with an error.
func ask[Q, A any](ctx context.Context, n *Node, peers []string, method string, q Q) []reply[A] {
	ctx, cancel := context.WithTimeout(ctx, queryMax)
	defer cancel()
	answers := make([]reply[A], len(peers))
	room := make(chan struct{}, askedMax)
	var wg sync.WaitGroup
	for i, peer := range peers {
		wg.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			a, err := transport.CallTyped[Q, A](ctx, n.link, peer, method, q)
			answers[i] = reply[A]{peer, a, err}
		})
	}
	wg.Wait()
	return answers
}

// others are the other peers that are alive, as gossip sees it.
func (n *Node) others() []string {
	var peers []string
	for _, m := range n.members() {
		if m.Peer != n.id.ID() && m.State == gossip.StateAlive {
			peers = append(peers, m.Peer)
		}
	}
	return peers
}

// logsRequest opens a stream of kindLogs: a 4-byte big-endian length and CBOR.
// What follows from the server is a byte 0 and the log, or a byte 1 and why
// not.
type logsRequest struct {
	ID     string `json:"id"`
	Follow bool   `json:"follow"`
	Tail   int    `json:"tail"`
	Since  int64  `json:"since"` // Unix nanoseconds; 0 is from the start
}

func (n *Node) serveLogs(ctx context.Context, _ string, s *transport.Stream) error {
	var head [4]byte
	if err := s.SetReadDeadline(time.Now().Add(queryMax)); err != nil {
		return err
	}
	if _, err := io.ReadFull(s, head[:]); err != nil {
		return fmt.Errorf("logs: %w", err)
	}
	length := binary.BigEndian.Uint32(head[:])
	if length > logRequestMax {
		return fmt.Errorf("logs: a request of %d bytes", length)
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(s, body); err != nil {
		return fmt.Errorf("logs: %w", err)
	}
	var q logsRequest
	if err := cbor.Unmarshal(body, &q); err != nil {
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
		_, writeErr := s.Write(append([]byte{1}, err.Error()...))
		return errors.Join(writeErr, s.CloseWrite())
	}
	defer logs.Close()
	if _, err := s.Write([]byte{0}); err != nil {
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
	body, err := cbor.Marshal(q)
	if err == nil {
		_, err = s.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...))
	}
	var status [1]byte
	if err == nil {
		_, err = io.ReadFull(s, status[:])
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("logs of %s: %w", id, err), s.Close())
	}
	if status[0] != 0 {
		why, err := io.ReadAll(io.LimitReader(s, 4<<10))
		return nil, errors.Join(fmt.Errorf("logs of %s: %w: %s", id, placement.ErrNotFound, why), err, s.Close())
	}
	stop := context.AfterFunc(ctx, func() { s.Close() })
	return &remoteLog{s, stop}, nil
}

type remoteLog struct {
	*transport.Stream
	stop func() bool
}

func (r *remoteLog) Close() error {
	r.stop()
	return r.Stream.Close()
}
