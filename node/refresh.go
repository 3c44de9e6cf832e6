package node

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// refreshersMax bounds the digests that are pulled at once.
	refreshersMax = 4
	// refreshRetry is the first pause after one that could not be pulled, which doubles
	// up to refreshRetryMax: it may be long until the peer is heard of again.
	refreshRetry    = 250 * time.Millisecond
	refreshRetryMax = 10 * time.Second
)

// refresher does something for peers, each once for any number of requests that came in
// meanwhile, and again where it failed.
type refresher struct {
	do    func(ctx context.Context, peer string) error
	still func(peer string) bool // whether it is worth another try

	mu      sync.Mutex // guards what follows
	waiting []string
	queued  map[string]bool
	failed  map[string]*failure
	wake    chan struct{}
}

// failure is a peer for which it failed last time.
type failure struct {
	tries int
	later bool // another is to come by itself
}

func newRefresher(do func(context.Context, string) error, still func(string) bool) *refresher {
	return &refresher{do: do, still: still, queued: map[string]bool{}, failed: map[string]*failure{}, wake: make(chan struct{}, 1)}
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

// did takes what came of a try. However often it failed meanwhile, one other comes by
// itself: a peer that tells of what nobody can get from it is asked no more often for
// that.
func (r *refresher) did(peer string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		delete(r.failed, peer)
		return
	}
	f := r.failed[peer]
	if f == nil {
		f = &failure{}
		r.failed[peer] = f
	}
	if f.later {
		return
	}
	pause := refreshRetryMax
	if f.tries < 6 {
		pause = min(pause, refreshRetry<<f.tries)
	}
	f.tries, f.later = f.tries+1, true
	time.AfterFunc(pause/2+rand.N(pause/2), func() { r.again(peer, f) })
}

func (r *refresher) again(peer string, f *failure) {
	still := r.still(peer)
	r.mu.Lock()
	if f.later = false; !still && r.failed[peer] == f {
		delete(r.failed, peer)
	}
	still = still && r.failed[peer] == f // or it succeeded meanwhile
	r.mu.Unlock()
	if still {
		r.ask(peer)
	}
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
				r.did(peer, r.do(ctx, peer))
			})
		}
	}
}
