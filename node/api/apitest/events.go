package apitest

import (
	"cmp"
	"context"
	"strconv"

	"github.com/hansa-mesh/hansa/node/api"
)

// Events are the past.
func (b *Backend) Events(_ context.Context, q api.EventQuery) (api.Listing[api.Event], error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	found := b.after(q)
	l := api.Listing[api.Event]{Items: found, AsOf: b.asOf()}
	switch {
	case len(found) <= q.Limit:
	case q.Newest:
		l.Items = found[len(found)-q.Limit:]
	default:
		l.Items = found[:q.Limit]
		l.Next = l.Items[q.Limit-1].ID
	}
	return l, nil
}

// after are the events that q selects; b.mu is held.
func (b *Backend) after(q api.EventQuery) []api.Event {
	after, _ := strconv.Atoi(cmp.Or(q.After, "0"))
	var found []api.Event
	for i, e := range b.events {
		if i+1 > after && q.Matches(e) {
			found = append(found, e)
		}
	}
	return found
}

// Happen records an event.
func (b *Backend) Happen(e api.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tell(e)
}

// WatchEvents sends what happens.
func (b *Backend) WatchEvents(ctx context.Context, q api.EventQuery, send func(api.Event) error) error {
	b.mu.Lock()
	if q.After == "" {
		q.After = strconv.Itoa(len(b.events))
	}
	b.mu.Unlock()
	for {
		b.mu.Lock()
		found, changed := b.after(q), b.changed
		b.mu.Unlock()
		for _, e := range found {
			if err := send(e); err != nil {
				return err
			}
			q.After = e.ID
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}
