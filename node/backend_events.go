package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
)

// watchEvery is how often the events of other peers are asked for while
// somebody watches.
const watchEvery = time.Second

// An event's id is its time, its peer and its number there: events of all
// peers have one order, and any peer can go on after any of them.
func eventID(at int64, peer string, seq uint64) string {
	return fmt.Sprintf("%016x-%s-%x", at, peer, seq)
}

func eventTime(id string) (int64, error) {
	text, _, ok := strings.Cut(id, "-")
	at, err := strconv.ParseInt(text, 16, 64)
	if !ok || err != nil {
		return 0, fmt.Errorf("event id %.60q: %w: use one that a peer gave", id, placement.ErrInvalid)
	}
	return at, nil
}

func (n *Node) apiEvent(peer string, e wireEvent) api.Event {
	who := n.ref(peer)
	out := api.Event{
		ID: eventID(e.At, peer, e.Seq), At: time.Unix(0, e.At).UTC(), Type: e.What.Type, Peer: peer, PeerName: who.Name, Site: who.Site,
		Namespace: e.What.Key.Namespace, App: e.What.Key.App, UID: string(e.What.UID), Component: e.What.Component,
		Slots: e.What.Slots, Message: e.What.Message,
	}
	if e.What.Peer != "" {
		about := n.ref(string(e.What.Peer))
		out.Peer, out.PeerName, out.Site = about.ID, about.Name, about.Site
	}
	return out
}

// eventsAfter are the events of all peers in reach past a time.
func (n *Node) eventsAfter(ctx context.Context, after int64) ([]api.Event, map[string]time.Time) {
	asOf := map[string]time.Time{n.id.ID(): time.Now().UTC()}
	var out []api.Event
	for _, e := range n.events.all() {
		if at := e.At.UnixNano(); at > after {
			out = append(out, n.apiEvent(n.id.ID(), wireEvent{Seq: e.Seq, At: at, What: e.What}))
		}
	}
	for _, a := range ask[eventsQuery, eventsAnswer](ctx, n, n.others(), methodEvents, eventsQuery{After: after}) {
		if a.err != nil {
			continue
		}
		asOf[a.peer] = time.Now().UTC()
		for _, e := range a.answer.Events {
			out = append(out, n.apiEvent(a.peer, e))
		}
	}
	slices.SortFunc(out, func(a, b api.Event) int { return cmp.Compare(a.ID, b.ID) })
	return out, asOf
}

// Events are the events that the peers in reach remember.
func (n backend) Events(ctx context.Context, q api.EventQuery) (api.Listing[api.Event], error) {
	var after int64
	if q.After != "" {
		var err error
		if after, err = eventTime(q.After); err != nil {
			return api.Listing[api.Event]{}, err
		}
		after-- // others may have the same time; NewListing cuts at the id
	}
	events, asOf := n.eventsAfter(ctx, after)
	events = slices.DeleteFunc(events, func(e api.Event) bool { return !q.Matches(e) })
	if q.Newest && q.Limit > 0 && len(events) > q.Limit {
		events = events[len(events)-q.Limit:]
	}
	return api.NewListing(events, func(e api.Event) string { return e.ID }, q.Page, asOf), nil
}

// WatchEvents gives the events of all peers as they happen: this peer's at
// once, the others' when they are asked.
func (n backend) WatchEvents(ctx context.Context, q api.EventQuery, send func(api.Event) error) error {
	after := time.Now().UnixNano()
	if q.After != "" {
		var err error
		if after, err = eventTime(q.After); err != nil {
			return err
		}
	}
	// Clocks differ and answers are late: events up to a window back are
	// looked at again, and each is sent once.
	const window = int64(10 * time.Second)
	sent := map[string]bool{}
	first := q.After
	start := after
	for {
		events, _ := n.eventsAfter(ctx, max(start-1, after-window))
		for _, e := range events {
			if sent[e.ID] || e.ID <= first || !q.Matches(e) {
				continue
			}
			if err := send(e); err != nil {
				return err
			}
			sent[e.ID] = true
			after = max(after, e.At.UnixNano())
		}
		for id := range sent {
			if at, err := eventTime(id); err != nil || at < after-2*window {
				delete(sent, id)
			}
		}
		changed := n.events.next()
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return nil
			}
			return ctx.Err()
		case <-n.loop.done:
			return errClosing
		case <-changed:
		case <-time.After(watchEvery):
		}
	}
}
