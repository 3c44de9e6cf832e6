package node

import (
	"context"
	"io"
	"slices"
	"sync"

	"github.com/hansa-mesh/hansa/gossip/table"
	"github.com/hansa-mesh/hansa/node/holdings"
	"github.com/hansa-mesh/hansa/node/image"
	"github.com/hansa-mesh/hansa/node/sweep"
	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/store"
)

// images is what this peer knows of files by digest: the trees that they make, who
// holds which, and what must not go just now.
type images struct {
	trees     *image.Trees
	guard     *sweep.Guard
	holdings  *holdings.Holdings
	sweeps    chan struct{} // has one when it is to be looked at once what may go
	recent    recent
	forgotten forgotten
	claims    claims

	mu      sync.Mutex // guards what follows
	staged  map[stageKey]*staging
	rotten  map[string]bool // put aside, and not here again
	counted imageCounts
}

// imageCounts are totals since this peer started.
type imageCounts struct {
	Rotten, Healed      int64
	Swept, SweptBytes   int64 // let go
	Checked             int64 // read through, to find what has rotted
	Pruned              int64 // images that an engine let go
	Searches, SearchHit int64 // of files whose holders were not known
}

// openImages makes what looks after files by digest; the core comes later.
func (n *Node) openImages(open func(table.Config) error) error {
	n.images = &images{
		trees: image.NewTrees(treeStore{n.store.Blobs()}), guard: sweep.NewGuard(n.id.ID(), n.clock.mono),
		sweeps: make(chan struct{}, 1), staged: map[stageKey]*staging{}, rotten: map[string]bool{},
	}
	n.images.holdings = holdings.New(holdings.Config{
		Self: n.id.ID(),
		Sign: func(body []byte) []byte { return n.id.SignFor(holdings.Context, body) },
		Verify: func(s placement.Signed) error {
			return n.verifySigned(holdings.Context, s)
		},
		List: n.listed,
		Changed: func(peer string, prefixes []uint32) {
			n.loop.post(placement.Holds{Peer: placement.PeerID(peer), Blobs: prefixes})
		},
		Log: n.log.With("part", "holdings"),
	})
	if err := open(n.images.holdings.TableConfig()); err != nil {
		return err
	}
	n.images.holdings.Open(n.tables[holdings.Table])
	return nil
}

// treeStore is the store's files as package image wants them.
type treeStore struct{ *store.Blobs }

func (s treeStore) Open(digest string) (io.ReadSeekCloser, int64, error) { return s.Blobs.Open(digest) }

func (m *images) count(f func(*imageCounts)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(&m.counted)
}

func (m *images) counts() imageCounts {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.counted
}

// holds says whether this peer has an artifact: of a tree, all of it. Whoever asks
// rests something on the answer: while it is being looked what may go, that stays.
func (n *Node) holds(a placement.Artifact) bool {
	if !a.Tree {
		if !n.store.Blobs().Has(a.Digest) {
			return false
		}
		n.images.guard.Rest(func() []string { return []string{a.Digest} })
		return n.store.Blobs().Has(a.Digest)
	}
	if !n.images.trees.Whole(a.Digest, a.Arch) {
		return false
	}
	if !n.images.guard.Sweeping() {
		return true
	}
	n.images.guard.Rest(func() []string {
		tree, err := n.images.trees.Tree(a.Digest, a.Arch)
		if err != nil {
			return nil
		}
		return digestsOf(tree.Parts)
	})
	return n.images.trees.Whole(a.Digest, a.Arch)
}

func digestsOf(parts []image.Part) []string {
	out := make([]string, len(parts))
	for i, p := range parts {
		out[i] = p.Digest
	}
	return out
}

// come says that a file is here that was not.
func (n *Node) come(digest string) {
	n.images.guard.Use(digest)
	n.images.holdings.Poke()
	n.images.mu.Lock()
	healed := n.images.rotten[digest]
	delete(n.images.rotten, digest)
	if healed {
		n.images.counted.Healed++
	}
	n.images.mu.Unlock()
	n.cameTooLate(digest)
	if healed {
		n.log.Info("a file that had rotted is whole again, from another peer", "digest", digest)
		n.happened("image-healed", digest+" had rotted on the disk, and is whole again, from another peer")
	}
}

// gone says that a file is not here any more.
func (n *Node) gone(digest string) {
	n.images.trees.Gone(digest)
	n.images.holdings.Poke()
}

// listed is what this peer says it holds, the most important first: manifests of which
// all is here, and then what is large. A manifest of which something is missing is
// not listed, so that who is said to hold the root of an image has all that this
// peer's machine can use of it.
func (n *Node) listed() ([]string, error) {
	blobs, err := n.store.Blobs().List()
	if err != nil {
		return nil, err
	}
	refs, err := n.referenced(n.ctx)
	if err != nil {
		return nil, err
	}
	roots, hidden := map[string]bool{}, map[string]bool{}
	for _, r := range refs {
		if !r.Tree {
			continue
		}
		tree, err := n.images.trees.Tree(r.Digest, ownArch)
		if err != nil || !tree.Whole() {
			hidden[r.Digest] = true
		} else {
			roots[r.Digest] = true
		}
	}
	slices.SortStableFunc(blobs, func(a, b store.Blob) int {
		switch {
		case roots[a.Digest] != roots[b.Digest]:
			return btoi(roots[b.Digest]) - btoi(roots[a.Digest])
		case a.Size != b.Size:
			return int(min(max(b.Size-a.Size, -1), 1))
		}
		return 0
	})
	digests := make([]string, 0, len(blobs))
	for _, b := range blobs {
		if !hidden[b.Digest] {
			digests = append(digests, b.Digest)
		}
	}
	return digests, nil
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// referenced asks the core which artifacts anything in the mesh needs.
func (n *Node) referenced(ctx context.Context) (refs []placement.Reference, err error) {
	var needs placement.Needs
	if err := n.loop.look(ctx, func(core *placement.Peer) { needs = core.Needs() }); err != nil {
		return nil, err
	}
	return needs.References(), nil
}
