package node

import (
	"context"
	"sync"
	"time"
)

// refreshersMax bounds the digests that are pulled at once.
const refreshersMax = 4

// refresher does something for peers, each once for any number of requests
// that came in meanwhile.
type refresher struct {
	do func(ctx context.Context, peer string)

	mu      sync.Mutex // guards what follows
	waiting []string
	queued  map[string]bool
	delayed map[string]bool // to be asked for once more, after a pause
	wake    chan struct{}
}

func newRefresher(do func(context.Context, string)) *refresher {
	return &refresher{do: do, queued: map[string]bool{}, delayed: map[string]bool{}, wake: make(chan struct{}, 1)}
}

// ask puts a peer on the list. It never blocks.
func (r *refresher) ask(peer string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.queued[peer] {
		return
	}
	r.queued[peer] = true
	r.waiting = append(r.waiting, peer)
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// askLater puts a peer on the list after a pause, if it is still wanted then. However
// often it is called meanwhile, that is once: a peer that tells of what nobody can get
// from it is asked no more often for that.
func (r *refresher) askLater(peer string, pause time.Duration, still func() bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.delayed[peer] {
		return
	}
	r.delayed[peer] = true
	time.AfterFunc(pause, func() {
		r.mu.Lock()
		delete(r.delayed, peer)
		r.mu.Unlock()
		if still() {
			r.ask(peer)
		}
	})
}

func (r *refresher) next() (string, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.waiting) == 0 {
		return "", false
	}
	peer := r.waiting[0]
	r.waiting = r.waiting[1:]
	delete(r.queued, peer)
	return peer, true
}

// run works through the list until ctx ends.
func (r *refresher) run(ctx context.Context) error {
	var work sync.WaitGroup
	defer work.Wait()
	room := make(chan struct{}, refreshersMax)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.wake:
		}
		for peer, ok := r.next(); ok && ctx.Err() == nil; peer, ok = r.next() {
			room <- struct{}{}
			work.Go(func() {
				defer func() { <-room }()
				r.do(ctx, peer)
			})
		}
	}
}
