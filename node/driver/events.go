package driver

import (
	"context"
	"sync"
)

// Outbox delivers a driver's events in order from one goroutine. It is
// level-triggered: while the receiver is slow, later states of one task
// replace earlier ones that were not delivered yet, so that it never holds
// more than one event for each task.
type Outbox struct {
	name string
	to   func(Event)

	mu      sync.Mutex // guards what follows
	order   []string
	pending map[string]Status
	wake    chan struct{}
}

// NewOutbox returns an outbox for the driver of that name; to may be nil.
func NewOutbox(name string, to func(Event)) *Outbox {
	return &Outbox{name: name, to: to, pending: map[string]Status{}, wake: make(chan struct{}, 1)}
}

// Post queues a state; it never blocks.
func (o *Outbox) Post(s Status) {
	if o.to == nil {
		return
	}
	o.mu.Lock()
	if _, queued := o.pending[s.ID]; !queued {
		o.order = append(o.order, s.ID)
	}
	o.pending[s.ID] = s
	o.mu.Unlock()
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

func (o *Outbox) next() (Status, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.order) == 0 {
		return Status{}, false
	}
	id := o.order[0]
	o.order = o.order[1:]
	s := o.pending[id]
	delete(o.pending, id)
	return s, true
}

// Run delivers until ctx is done. What is undelivered then is in the next
// daemon's first List.
func (o *Outbox) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-o.wake:
		}
		for ctx.Err() == nil {
			s, ok := o.next()
			if !ok {
				break
			}
			o.to(Event{Driver: o.name, Status: s})
		}
	}
}
