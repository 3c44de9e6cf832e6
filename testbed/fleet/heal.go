package fleet

import (
	"context"
	"fmt"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/testbed/load"
)

// HealFigure is how long a mesh took from the end of a cut until it was settled.
type HealFigure struct {
	Peers      int     `json:"peers"`
	Apps       int     `json:"apps"`            // half of them deployed during the cut
	Slots      int     `json:"slots"`           // of all apps
	Duplicates int     `json:"duplicates"`      // slots that ran on both sides at the end of the cut
	Settled    float64 `json:"settled_seconds"` // all peers say so, every slot runs once
}

const (
	// healSlots is how many slots each app of the measurement has.
	healSlots = 4
	// healWait bounds each wait of it.
	healWait = 5 * time.Minute
	// cutRest is how long the cut lasts when both sides know of it: enough to
	// place anew what is placed anew after the loss of half the sites.
	cutRest = 20 * time.Second
)

// MeasureHeal deploys apps, cuts the mesh in halves until each side has placed
// anew what it lost and taken apps of its own, heals, and measures.
func MeasureHeal(ctx context.Context, cfg Config) (figure HealFigure, err error) {
	f, err := Start(ctx, cfg)
	if err != nil {
		return figure, err
	}
	defer func() {
		if closed := f.Close(); err == nil {
			err = closed
		}
	}()
	figure.Peers = len(f.peers)
	book := load.NewBook()
	put := func(name string, peer int) error {
		figure.Apps++
		figure.Slots += healSlots
		return deploy(ctx, f.peers[peer%len(f.peers)], book, name)
	}
	each := max(1, len(f.peers)/4) // apps before the cut, and during it
	for i := range each {
		if err := put(fmt.Sprintf("before%d", i), i); err != nil {
			return figure, err
		}
	}
	if err := f.await(ctx, func() error { return f.runs(figure.Slots) }); err != nil {
		return figure, err
	}
	f.Partition(func(p *Peer) bool { return f.side(p) == 0 })
	if err := f.await(ctx, f.cutIsKnown); err != nil {
		return figure, err
	}
	for i := range each {
		if err := put(fmt.Sprintf("during%d", i), 3*i+1); err != nil { // on either side
			return figure, err
		}
	}
	if err := rest(ctx, cutRest); err != nil {
		return figure, err
	}
	work, err := f.Work()
	if err != nil {
		return figure, err
	}
	figure.Duplicates = len(work) - figure.Slots
	f.net.Heal()
	waitCtx, cancel := context.WithTimeout(ctx, healWait)
	defer cancel()
	v, err := load.Finish(waitCtx, f.Doors(), book, f.Work)
	figure.Settled = (v.Settled + v.Resolved).Seconds()
	return figure, err
}

// side is which half of the sites a peer is in.
func (f *Fleet) side(p *Peer) int {
	for i, other := range f.peers {
		if other == p {
			return i / f.cfg.PerSite % 2
		}
	}
	return 0
}

func (f *Fleet) await(ctx context.Context, condition func() error) error {
	ctx, cancel := context.WithTimeout(ctx, healWait)
	defer cancel()
	return load.Await(ctx, condition)
}

// cutIsKnown says whether every peer counts on its own side alone.
func (f *Fleet) cutIsKnown() error {
	count := [2]int{}
	for _, p := range f.peers {
		count[f.side(p)]++
	}
	for _, p := range f.peers {
		if n := p.Node().PeersReady(context.Background()); n != count[f.side(p)] {
			return fmt.Errorf("%s counts on %d peers, and %d are on its side", p.Name, n, count[f.side(p)])
		}
	}
	return nil
}

func (f *Fleet) runs(want int) error {
	work, err := f.Work()
	if err == nil && len(work) != want {
		err = fmt.Errorf("%d of %d slots run", len(work), want)
	}
	return err
}

// rest lets time go by.
func rest(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// deploy deploys an app of the measurement at a peer.
func deploy(ctx context.Context, p *Peer, book *load.Book, name string) error {
	replicas := healSlots
	op := load.Op{Name: name, Replicas: replicas, Begin: time.Now(), Outcome: load.Acked, Attempts: 1}
	r, err := p.Door().PutApp(ctx, placement.App{
		Name: name, Namespace: placement.DefaultNamespace,
		Components: map[string]placement.Component{"web": {
			Server:   &placement.Server{Process: &placement.Process{Command: []string{"run"}}},
			Replicas: &replicas, Resources: placement.Resources{CPU: 10, Memory: 1 << 20}, Place: placement.Place{Spread: "site"},
		}},
	}, api.PutOptions{})
	if err != nil {
		return fmt.Errorf("deploy %s at %s: %w", name, p.Name, err)
	}
	op.End, op.Revision, op.Copies, op.Quorum = time.Now(), r.Revision, r.Durability.Copies, r.Durability.Quorum
	book.Add(op)
	return nil
}
