package node

import (
	"context"
	"slices"
	"time"

	"github.com/hansa-mesh/hansa/gossip"
	"github.com/hansa-mesh/hansa/node/registry"
	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/transport"
)

const (
	// methodShown waits until a peer knows a version of a name, and says whether it
	// holds all of it.
	methodShown = "images/shown/1"
	// shownMax is how long a peer waits for a version that it has not heard of yet.
	shownMax = time.Second
	// shownEvery is how often it looks.
	shownEvery = 10 * time.Millisecond
	// shownPeersMax bounds the peers that are waited for.
	shownPeersMax = 64
	// copiesEvery is how often keepers are asked whether they hold an image yet.
	copiesEvery = 500 * time.Millisecond
)

type shownQuery struct {
	Key     placement.AppKey  `json:"key"`
	Version placement.Version `json:"version"`
	Removed bool              `json:"removed"`
	Digest  string            `json:"digest"` // of the manifest
}

type shownAnswer struct {
	Seen bool `json:"seen"`
	Held bool `json:"held"` // all that the manifest is made of
}

// registryNames are the mesh's names as package registry wants them.
type registryNames struct{ n *Node }

func (r registryNames) Get(ctx context.Context, repository, reference string) (placement.Image, error) {
	var view placement.ImageView
	var ok bool
	if err := r.n.loop.look(ctx, func(core *placement.Peer) {
		view, ok = core.Image(placement.ImageKey(repository, reference))
	}); err != nil {
		return placement.Image{}, err
	}
	if !ok {
		return placement.Image{}, registry.ErrNotFound
	}
	return view.Image, nil
}

func (r registryNames) List(ctx context.Context, repository string) ([]placement.Image, error) {
	var views []placement.ImageView
	if err := r.n.loop.look(ctx, func(core *placement.Peer) { views = core.ImagesOf(repository) }); err != nil {
		return nil, err
	}
	images := make([]placement.Image, len(views))
	for i, v := range views {
		images[i] = v.Image
	}
	return images, nil
}

func (r registryNames) Repositories(ctx context.Context) ([]string, error) {
	var views []placement.ImageView
	if err := r.n.loop.look(ctx, func(core *placement.Peer) { views = core.Images() }); err != nil {
		return nil, err
	}
	names := make([]string, len(views))
	for i, v := range views {
		names[i] = v.Image.Repository
	}
	return slices.Compact(names), nil
}

// Put submits a name, and waits for its copies.
func (r registryNames) Put(ctx context.Context, image placement.Image, tree int64) (int, error) {
	n := r.n
	now, err := r.Get(ctx, image.Repository, image.Reference)
	if err == nil && now == image { // it is pushed again: what matters is that the copies are there
		return n.copiesOf(ctx, image, placement.Version{})
	}
	if put, err := n.putSignatures(ctx, image); err != nil {
		return 0, registryError(err)
	} else if put {
		if now, err = r.Get(ctx, image.Repository, image.Reference); err != nil {
			return 0, err
		}
		return n.copiesOf(ctx, now, placement.Version{})
	}
	result, err := n.submit(ctx, func(ticket uint64) placement.Event {
		return placement.Submit{Ticket: ticket, App: image.App(), Copies: copiesDefault,
			Artifacts: []placement.Artifact{{Digest: image.Digest, Size: tree, Tree: true}}}
	})
	if err != nil {
		return 0, registryError(err)
	}
	n.shown(ctx, shownQuery{Key: image.Key(), Version: result.Version, Digest: image.Digest})
	if result.Copies >= copiesDefault {
		return result.Copies, nil
	}
	return n.copiesOf(ctx, image, result.Version)
}

// Delete removes a name.
func (r registryNames) Delete(ctx context.Context, repository, reference string) error {
	key := placement.ImageKey(repository, reference)
	if _, err := r.Get(ctx, repository, reference); err != nil {
		return err
	}
	result, err := r.n.submit(ctx, func(ticket uint64) placement.Event { return placement.Remove{Ticket: ticket, Key: key} })
	if err != nil {
		return registryError(err)
	}
	r.n.shown(ctx, shownQuery{Key: key, Version: result.Version, Removed: true})
	return nil
}

// copiesOf waits until as many keepers hold an image as should, of those that are
// in reach, and is how many.
func (n *Node) copiesOf(ctx context.Context, image placement.Image, version placement.Version) (int, error) {
	q := shownQuery{Key: image.Key(), Version: version, Digest: image.Digest}
	for {
		copies, live, err := n.heldBy(ctx, q)
		if err != nil || copies >= min(copiesDefault, live) {
			return copies, err
		}
		select {
		case <-time.After(copiesEvery):
		case <-ctx.Done():
			return copies, registry.ErrCopies
		}
	}
}

// heldBy counts the keepers of a name that hold all of it, and those that are in
// reach.
func (n *Node) heldBy(ctx context.Context, q shownQuery) (copies, live int, err error) {
	var view placement.ImageView
	if err := n.loop.look(ctx, func(core *placement.Peer) { view, _ = core.Image(q.Key) }); err != nil {
		return 0, 0, err
	}
	var peers []string
	for _, id := range view.Keepers {
		if id == n.self().Peer {
			live++
			copies += btoi(n.holds(placement.Artifact{Digest: q.Digest, Tree: true}))
		} else if m, _ := n.memberOf(string(id)); m.State == gossip.StateAlive {
			live++
			peers = append(peers, string(id))
		}
	}
	for _, a := range ask[shownQuery, shownAnswer](ctx, n, peers, methodShown, q) {
		copies += btoi(a.err == nil && a.answer.Held)
	}
	return copies, live, nil
}

// shown waits until the peers in reach know of an edit, for a second or two: who
// pushes to one and pulls from another finds there what was pushed. What a peer
// does not hear in time it learns as it learns everything.
func (n *Node) shown(ctx context.Context, q shownQuery) {
	peers := n.nearestFirst(n.others())
	ask[shownQuery, shownAnswer](ctx, n, peers[:min(len(peers), shownPeersMax)], methodShown, q)
}

func (n *Node) serveRegistry() {
	transport.HandleTyped(n.link, methodShown, func(ctx context.Context, _ string, q shownQuery) (shownAnswer, error) {
		seen, err := n.waitShown(ctx, q)
		return shownAnswer{seen, seen && !q.Removed && n.holds(placement.Artifact{Digest: q.Digest, Tree: true})}, err
	})
}

// waitShown waits until this peer knows a version of a name, or a later one.
func (n *Node) waitShown(ctx context.Context, q shownQuery) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, shownMax)
	defer cancel()
	look := time.NewTicker(shownEvery)
	defer look.Stop()
	for {
		seen := false
		if err := n.loop.look(ctx, func(core *placement.Peer) { seen = knows(core.Siblings(q.Key), q) }); err != nil {
			return false, err
		}
		if seen {
			if q.Removed { // what it needed is asked for next
				n.images.recent.spoil()
			}
			return true, nil
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return false, nil
		}
	}
}

// knows says whether the versions of a name that stand come after an edit.
func knows(standing []placement.Intent, q shownQuery) bool {
	live := slices.DeleteFunc(slices.Clone(standing), func(i placement.Intent) bool { return i.Removed })
	later := slices.ContainsFunc(standing, func(i placement.Intent) bool { return i.Version.Compare(q.Version) >= 0 })
	return later || q.Removed && len(live) == 0
}
