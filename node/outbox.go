package node

import (
	"context"
	"sync"
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

const (
	// methodCore carries batches of the cores' messages.
	methodCore = "core/1"
	// outboxMax bounds the messages that wait for one peer; past it they are
	// undelivered at once.
	outboxMax = 4096
	// outboxBytesMax bounds their bytes.
	outboxBytesMax = 32 << 20
	// batchMax and batchBytesMax bound one call.
	batchMax      = 256
	batchBytesMax = 512 << 10
	// inFlightMax bounds the calls to one peer at once: more than one, so that
	// a message need not wait a round trip for the batch before it.
	inFlightMax = 8
	// sendMax is how long a batch may take to be acknowledged.
	sendMax = 5 * time.Second
	// outboxIdle is how long a quiet outbox keeps its goroutine.
	outboxIdle = 30 * time.Second
)

// coreBatch is the request of methodCore; the empty answer says that the
// messages wait for the other core.
type coreBatch struct {
	Messages [][]byte `json:"messages"`
}

// outboxes sends the core's messages, one goroutine for each peer that has
// any, so that a slow or dead peer delays nobody else. What waits is sent
// together.
type outboxes struct {
	call   func(ctx context.Context, to string, batch coreBatch) error
	failed func(to placement.PeerID, body []byte)
	ctx    context.Context
	work   *sync.WaitGroup

	mu    sync.Mutex // guards what follows
	each  map[placement.PeerID]*outbox
	later []*outbox // to be woken by flush
}

type outbox struct {
	queue  [][]byte
	bytes  int  // of queue
	held   bool // it is to be woken by flush
	wake   chan struct{}
	flight chan struct{} // one for each call under way
}

func newOutboxes(ctx context.Context, work *sync.WaitGroup, call func(context.Context, string, coreBatch) error, failed func(placement.PeerID, []byte)) *outboxes {
	return &outboxes{call: call, failed: failed, ctx: ctx, work: work, each: map[placement.PeerID]*outbox{}}
}

// send queues a message, which leaves with the next flush: what one step of the
// core sends to a peer goes together. It never blocks.
func (o *outboxes) send(to placement.PeerID, body []byte) {
	o.mu.Lock()
	box := o.each[to]
	if box == nil {
		box = &outbox{wake: make(chan struct{}, 1), flight: make(chan struct{}, inFlightMax)}
		o.each[to] = box
		o.work.Go(func() { o.drain(to, box) })
	}
	full := len(box.queue) >= outboxMax || box.bytes+len(body) > outboxBytesMax
	if !full {
		box.queue, box.bytes = append(box.queue, body), box.bytes+len(body)
	}
	if !box.held {
		box.held = true
		o.later = append(o.later, box)
	}
	o.mu.Unlock()
	if full {
		o.failed(to, body)
	}
}

// flush has what was queued sent.
func (o *outboxes) flush() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, box := range o.later {
		box.held = false
		select {
		case box.wake <- struct{}{}:
		default:
		}
	}
	o.later = o.later[:0]
}

func (o *outboxes) drain(to placement.PeerID, box *outbox) {
	quiet := time.NewTimer(outboxIdle)
	defer quiet.Stop()
	for {
		select {
		case box.flight <- struct{}{}:
		case <-o.ctx.Done():
			return
		}
		batch := o.take(box)
		if len(batch) == 0 {
			<-box.flight
			quiet.Reset(outboxIdle)
			select {
			case <-o.ctx.Done():
				return
			case <-box.wake:
			case <-quiet.C:
				if o.retire(to, box) {
					return
				}
			}
			continue
		}
		o.work.Go(func() {
			defer func() { <-box.flight }()
			ctx, cancel := context.WithTimeout(o.ctx, sendMax)
			defer cancel()
			if err := o.call(ctx, string(to), coreBatch{Messages: batch}); err != nil {
				for _, body := range batch {
					o.failed(to, body)
				}
			}
		})
	}
}

// take removes the next batch from the queue.
func (o *outboxes) take(box *outbox) [][]byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, size := 0, 0
	for n < len(box.queue) && n < batchMax && (n == 0 || size+len(box.queue[n]) <= batchBytesMax) {
		size += len(box.queue[n])
		n++
	}
	box.bytes -= size
	batch := box.queue[:n:n]
	if box.queue = box.queue[n:]; len(box.queue) == 0 {
		box.queue = nil
	}
	return batch
}

// retire ends a quiet outbox, unless something came in meanwhile.
func (o *outboxes) retire(to placement.PeerID, box *outbox) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(box.queue) > 0 {
		return false
	}
	delete(o.each, to)
	return true
}

// waiting is how many messages wait, for metrics.
func (o *outboxes) waiting() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := 0
	for _, box := range o.each {
		n += len(box.queue)
	}
	return n
}
