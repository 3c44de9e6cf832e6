package node

import (
	"context"
	"sync"
	"time"

	"github.com/hansa-mesh/hansa/gossip"
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
	methodVolumes     = "query/volumes/1"

	// queryMax is how long a person waits for a peer that does not answer.
	queryMax = 2 * time.Second
	// listMax is how long a list of what runs waits for one: as last heard will do.
	listMax = time.Second
	// askedMax bounds the peers that are asked at once.
	askedMax = 64
	// queryEventsMax bounds the events of one answer.
	queryEventsMax = 1000
)

type allocationsQuery struct{}

type allocationsAnswer struct {
	Allocations []placement.AllocationView `json:"allocations"`
	Pending     []placement.PendingView    `json:"pending,omitempty"`
	Usage       map[string]UsageRow        `json:"usage"` // by allocation
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
		err := n.loop.look(ctx, func(core *placement.Peer) { a.Allocations, a.Pending = core.Allocations(), pendingOf(core) })
		n.tellStarts(a.Allocations)
		a.Usage = n.usage.rows()
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
	n.serveVolumes()
	n.serveSides()
	n.serveHistory()
	n.serveForgotten()
	n.serveSecrets()
	n.serveRestart()
	n.serveDrivers()
	n.serveHosts()
	n.serveRegistry()
	n.serveFiles()
	n.serveRTTs()
	n.link.HandleStream(kindLogs, n.serveLogs)
	n.link.HandleStream(kindExec, n.serveExec)
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
