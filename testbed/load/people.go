package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
)

const (
	// askMax is how long a person waits for an answer; a peer gives up sooner.
	askMax = 20 * time.Second
	// attemptsMax is how often a person asks for the same thing, each time at
	// another peer, with the same idempotency key.
	attemptsMax = 3
)

// People are a number of persons who edit the same apps.
type People struct {
	Doors       []Door
	Book        *Book
	Seed        uint64
	Persons     int
	Names       int           // apps that they edit
	ReplicasMax int           // of one app
	PauseMax    time.Duration // between two edits of a person
	// App makes the manifest; a change of mark changes what is run.
	App func(name string, replicas int, mark string) placement.App
}

// Run lets them work until ctx ends; what was begun is waited for.
func (p *People) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for n := range p.Persons {
		wg.Go(func() {
			one := &person{People: p, n: n, rng: rand.New(rand.NewPCG(p.Seed, uint64(n)))}
			for ctx.Err() == nil {
				one.act(ctx)
				pause(ctx, time.Duration(one.rng.Int64N(int64(p.PauseMax))))
			}
		})
	}
	wg.Wait()
}

type person struct {
	*People
	n, seq int
	rng    *rand.Rand
	marks  int
}

// act does one thing to one app at one peer.
func (p *person) act(ctx context.Context) {
	name := fmt.Sprintf("app%d", p.rng.IntN(p.Names))
	key := placement.AppKey{Namespace: placement.DefaultNamespace, App: name}
	switch k := p.rng.IntN(20); {
	case k < 7: // deploy over whatever is there
		p.edit(ctx, name, api.PutOptions{})
	case k < 9: // deploy something new
		p.edit(ctx, name, api.PutOptions{IfNoneMatch: true})
	case k < 16: // scale what was seen
		askCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askMax)
		defer cancel()
		if seen, err := p.door().App(askCtx, key); err == nil {
			p.edit(ctx, name, api.PutOptions{IfMatch: seen.ETag})
		}
	case k < 18: // remove whatever is there
		p.remove(ctx, key, "")
	default: // remove what was seen
		askCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askMax)
		defer cancel()
		if seen, err := p.door().App(askCtx, key); err == nil {
			p.remove(ctx, key, seen.ETag)
		}
	}
}

func (p *person) door() Door { return p.Doors[p.rng.IntN(len(p.Doors))] }

// edit asks for a version of an app, again at other peers while it is not known
// whether it was made.
func (p *person) edit(ctx context.Context, name string, o api.PutOptions) {
	p.seq++
	if p.rng.IntN(5) == 0 {
		p.marks++
	}
	o.IdempotencyKey = fmt.Sprintf("%d-%d-%d", p.Seed, p.n, p.seq)
	op := Op{Name: name, Replicas: 1 + p.rng.IntN(p.ReplicasMax), Begin: time.Now()}
	app := p.App(name, op.Replicas, fmt.Sprint(p.marks))
	for op.Attempts < attemptsMax {
		op.Attempts++
		askCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askMax)
		r, err := p.door().PutApp(askCtx, app, o)
		cancel()
		op.answered(err, r.Revision, r.Durability)
		if op.Outcome != Unknown {
			break
		}
	}
	p.Book.Add(op)
}

func (p *person) remove(ctx context.Context, key placement.AppKey, etag string) {
	op := Op{Name: key.App, Removal: true, Begin: time.Now(), Attempts: 1}
	askCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askMax)
	defer cancel()
	r, err := p.door().DeleteApp(askCtx, key, etag)
	op.answered(err, r.Revision, r.Durability)
	p.Book.Add(op)
}

// answered notes the answer of one attempt. A refusal after an attempt without
// an answer leaves it open whether that one was made.
func (o *Op) answered(err error, revision string, d api.Durability) {
	o.End = time.Now()
	switch {
	case err == nil:
		o.Outcome, o.Revision, o.Copies, o.Quorum = Acked, revision, d.Copies, d.Quorum
		for _, p := range d.Peers {
			o.At = append(o.At, p.ID)
		}
	case refusal(err) && o.Attempts == 1:
		o.Outcome = Refused
	default:
		o.Outcome, o.End = Unknown, time.Time{}
	}
}

// refusal says whether an error means that nothing was written.
func refusal(err error) bool {
	for _, kind := range []api.Kind{api.KindConflict, api.KindNotFound, api.KindInvalid, api.KindTooFew, api.KindFull, api.KindLimit} {
		if api.IsKind(err, kind) {
			return true
		}
	}
	for _, kind := range []error{placement.ErrConflict, placement.ErrNotFound, placement.ErrInvalid, placement.ErrTooFew, placement.ErrFull, placement.ErrLimit} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// pause waits, unless ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
