package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/hansa-mesh/hansa/gossip"
	"github.com/hansa-mesh/hansa/node/artifact"
	"github.com/hansa-mesh/hansa/node/image"
	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/store"
	"github.com/hansa-mesh/hansa/transport"
)

const (
	// methodHas asks a peer which of some files it holds.
	methodHas = "files/has/1"
	// searchMax is how long everybody in reach is asked who has a file.
	searchMax = time.Second
	// searchPeersMax bounds those that are asked, the nearest first.
	searchPeersMax = 256
	// askedFilesMax bounds the files of one question.
	askedFilesMax = 1000
)

// ownArch is what this machine runs.
const ownArch = runtime.GOARCH

type hasQuery struct {
	Digests []string `json:"digests"`
}

// hasAnswer has the length of each file in the order of the question, -1 where it
// is not held.
type hasAnswer struct {
	Sizes []int64 `json:"sizes"`
}

func (n *Node) serveFiles() {
	transport.HandleTyped(n.link, methodHas, func(_ context.Context, _ string, q hasQuery) (hasAnswer, error) {
		if err := fewEnough(q.Digests); err != nil {
			return hasAnswer{}, err
		}
		a := hasAnswer{Sizes: make([]int64, len(q.Digests))}
		for i, d := range q.Digests {
			size, err := n.store.Blobs().Size(d)
			if err != nil {
				size = -1
			}
			a.Sizes[i] = size
		}
		return a, nil
	})
	n.serveSweeps()
	n.serveStages()
}

func fewEnough(digests []string) error {
	if len(digests) > askedFilesMax {
		return &transport.Error{Kind: transport.KindTooLarge, Msg: fmt.Sprintf("%d files in a question, at most %d", len(digests), askedFilesMax)}
	}
	return nil
}

// fetchArtifact brings an artifact here: of a tree the manifest and all under it, and
// before that the signatures that there are of it. hints are peers that may hold it,
// or parts of it.
func (n *Node) fetchArtifact(ctx context.Context, a placement.Artifact, hints []string) error {
	if a.Tree {
		n.fetchSignatures(ctx, a.Digest)
	}
	return n.fetchParts(ctx, a, hints)
}

func (n *Node) fetchParts(ctx context.Context, a placement.Artifact, hints []string) error {
	if !a.Tree {
		return n.fetchFile(ctx, a.Digest, a.Size, hints)
	}
	held, _ := n.images.holdings.Holders(a.Digest)
	hints = append(slices.Clone(hints), held...)
	return image.Fetch(ctx, treeStore{n.store.Blobs()}, a.Digest, a.Arch, func(ctx context.Context, p image.Part) error {
		return n.fetchFile(ctx, p.Digest, p.Size, hints)
	})
}

// fetchFile brings a file here. size may be 0 for not known.
func (n *Node) fetchFile(ctx context.Context, digest string, size int64, hints []string) error {
	if n.store.Blobs().Has(digest) {
		return nil
	}
	err := n.fromHolders(ctx, digest, hints, func(holders []string) error {
		return n.mover.Fetch(ctx, digest, size, holders)
	})
	if err == nil {
		n.come(digest)
	}
	return err
}

// readArriving brings a file here for someone who reads it while it comes.
func (n *Node) readArriving(ctx context.Context, digest string) (r *artifact.Reader, err error) {
	err = n.fromHolders(ctx, digest, nil, func(holders []string) (err error) {
		r, err = n.mover.Read(ctx, digest, 0, holders)
		return err
	})
	return r, err
}

// fromHolders has a file brought by those that are known to hold it, the nearest
// first, or else by whom the peers in reach name.
func (n *Node) fromHolders(ctx context.Context, digest string, hints []string, bring func(holders []string) error) error {
	held, _ := n.images.holdings.Holders(digest)
	holders := n.nearestFirst(slices.Concat(hints, held))
	var err error
	if len(holders) > 0 {
		if err = bring(holders); err == nil {
			return nil
		}
	}
	found := n.search(ctx, digest)
	others := slices.DeleteFunc(slices.Clone(found), func(h holder) bool { return slices.Contains(holders, h.peer) })
	if len(found) == 0 {
		return errors.Join(fmt.Errorf("file %s: %w at any peer in reach", digest, placement.ErrNotFound), err)
	}
	if len(others) == 0 && ctx.Err() != nil {
		return err
	}
	names := make([]string, len(found))
	for i, h := range found {
		names[i] = h.peer
	}
	err = bring(n.nearestFirst(names))
	if errors.Is(err, artifact.ErrNoHolder) && !errors.Is(err, store.ErrFull) {
		n.images.claims.hollow(digest, names, n.clock.mono())
	}
	return err
}

// nearestFirst are peers in the order in which they are best asked, each once: those
// in reach by their distance, then the others; this one and those that were shut out
// are not among them.
func (n *Node) nearestFirst(peers []string) []string {
	alive := map[string]bool{}
	for _, m := range n.members() {
		alive[m.Peer] = m.State == gossip.StateAlive
	}
	far := map[string]time.Duration{}
	for _, p := range peers {
		if p == n.id.ID() || n.trust.Admitted(p) != nil {
			continue
		}
		rtt, _, ok := n.gossip.RTT(n.id.ID(), p)
		switch {
		case !alive[p]:
			rtt = math.MaxInt64
		case !ok:
			rtt = time.Hour
		}
		far[p] = rtt
	}
	out := make([]string, 0, len(far))
	for p := range far {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b string) int { return cmp.Or(cmp.Compare(far[a], far[b]), strings.Compare(a, b)) })
	return out
}

// holder is a peer that said that it holds a file, and how long it is.
type holder struct {
	peer string
	size int64
}

// search asks the peers in reach who holds a file, for a second at most.
func (n *Node) search(ctx context.Context, digest string) []holder {
	ctx, cancel := context.WithTimeout(ctx, searchMax)
	defer cancel()
	_, perhaps := n.images.holdings.Holders(digest)
	peers := n.nearestFirst(n.others())
	slices.SortStableFunc(peers, func(a, b string) int {
		return btoi(slices.Contains(perhaps, b)) - btoi(slices.Contains(perhaps, a))
	})
	var found []holder
	for _, a := range ask[hasQuery, hasAnswer](ctx, n, peers[:min(len(peers), searchPeersMax)], methodHas, hasQuery{[]string{digest}}) {
		if a.err == nil && len(a.answer.Sizes) == 1 && a.answer.Sizes[0] >= 0 {
			found = append(found, holder{a.peer, a.answer.Sizes[0]})
		}
	}
	n.images.count(func(c *imageCounts) {
		c.Searches++
		c.SearchHit += int64(btoi(len(found) > 0))
	})
	return found
}

// findFile is the length of a file that this peer or one in reach holds, or
// ErrNotFound. Who said so before and then did not give it is not believed for a while:
// else it could keep clients from pushing what nobody has.
func (n *Node) findFile(ctx context.Context, digest string) (int64, error) {
	if size, err := n.store.Blobs().Size(digest); err == nil {
		return size, nil
	}
	sizes := map[int64]int{}
	for _, h := range n.search(ctx, digest) {
		if n.images.claims.counts(digest, h.peer, n.clock.mono()) {
			sizes[h.size]++
		}
	}
	best, votes := int64(-1), 0
	for size, v := range sizes { // one that lies does not outvote two that don't
		if v > votes || v == votes && size < best {
			best, votes = size, v
		}
	}
	if votes == 0 {
		return 0, fmt.Errorf("file %s: %w at any peer in reach", digest, placement.ErrNotFound)
	}
	return best, nil
}
