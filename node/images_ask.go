package node

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/hansa-mesh/hansa/node/sweep"
	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/transport"
)

// What peers ask each other before they delete files.
const (
	methodPromise = "files/promise/1" // go on holding these
	methodNeeded  = "files/needed/1"  // does anything need these?
	methodDrop    = "files/drop/1"    // delete this, if nothing needs it
)

type filesQuery struct {
	Digests []string `json:"digests"`
}

// filesAnswer says yes or no to each file, in the order of the question.
type filesAnswer struct {
	Yes []bool `json:"yes"`
}

type dropQuery struct {
	Digest string `json:"digest"`
}

type dropAnswer struct {
	User string `json:"user,omitempty"` // what needs it: it stays
}

func (n *Node) serveSweeps() {
	transport.HandleTyped(n.link, methodPromise, func(_ context.Context, from string, q filesQuery) (filesAnswer, error) {
		if err := fewEnough(q.Digests); err != nil {
			return filesAnswer{}, err
		}
		a := filesAnswer{make([]bool, len(q.Digests))}
		for i, d := range q.Digests {
			a.Yes[i] = n.images.guard.Promise(d, from, n.store.Blobs().Has)
		}
		return a, nil
	})
	transport.HandleTyped(n.link, methodNeeded, func(ctx context.Context, _ string, q filesQuery) (filesAnswer, error) {
		if err := fewEnough(q.Digests); err != nil {
			return filesAnswer{}, err
		}
		needs, err := n.needsNow(ctx)
		if err != nil {
			return filesAnswer{}, err
		}
		a := filesAnswer{make([]bool, len(q.Digests))}
		for i, d := range q.Digests {
			_, a.Yes[i] = needs.files[d]
		}
		return a, nil
	})
	transport.HandleTyped(n.link, methodDrop, func(ctx context.Context, _ string, q dropQuery) (dropAnswer, error) {
		if err := n.tells(ctx); err != nil {
			return dropAnswer{}, err
		}
		user, err := n.drop(ctx, q.Digest)
		return dropAnswer{user}, err
	})
}

// recent is the answer to a question that many may ask at once.
type recent struct {
	mu    sync.Mutex // guards what follows; held while it is worked out
	needs needs
	at    int64 // n.images.guard's time in seconds, 0 never
}

// spoil has it worked out anew the next time.
func (r *recent) spoil() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at = 0
}

// needsNow is what is needed of files, worked out at most once a second.
func (n *Node) needsNow(ctx context.Context) (needs, error) {
	r := &n.images.recent
	r.mu.Lock()
	defer r.mu.Unlock()
	now := int64(n.clock.mono().Seconds()) + 1
	if r.at == now {
		return r.needs, nil
	}
	refs, err := n.referenced(ctx)
	if err != nil {
		return needs{}, err
	}
	r.needs, _ = n.needsOf(refs)
	r.at = now
	return r.needs, nil
}

// neededElsewhere says of each file whether a peer in reach knows something that needs
// it.
func (n *Node) neededElsewhere(ctx context.Context, digests []string) []bool {
	needed := make([]bool, len(digests))
	peers := n.nearestFirst(n.others())
	for _, a := range ask[filesQuery, filesAnswer](ctx, n, peers[:min(len(peers), searchPeersMax)], methodNeeded, filesQuery{digests}) {
		if a.err != nil || len(a.answer.Yes) != len(digests) {
			continue
		}
		for i, yes := range a.answer.Yes {
			needed[i] = needed[i] || yes
		}
	}
	return needed
}

// promises asks the nearest that say they hold files to go on holding them, and counts
// who promised.
func (n *Node) promises(ctx context.Context, files []sweep.Blob) map[string]int {
	byPeer := map[string][]string{}
	for _, b := range files {
		held, _ := n.images.holdings.Holders(b.Digest)
		held = n.nearestFirst(held)
		for _, peer := range held[:min(len(held), holdersAsked)] {
			byPeer[peer] = append(byPeer[peer], b.Digest)
		}
	}
	promised := map[string]int{}
	var mu sync.Mutex // guards promised
	var all sync.WaitGroup
	room := make(chan struct{}, askedMax)
	for _, peer := range slices.Sorted(maps.Keys(byPeer)) {
		all.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			ctx, cancel := context.WithTimeout(ctx, queryMax)
			defer cancel()
			digests := byPeer[peer]
			a, err := transport.CallTyped[filesQuery, filesAnswer](ctx, n.link, peer, methodPromise, filesQuery{digests})
			if err != nil || len(a.Yes) != len(digests) {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			for i, yes := range a.Yes {
				promised[digests[i]] += btoi(yes)
			}
		})
	}
	all.Wait()
	return promised
}

// tells says why this peer can't tell what it needs: of something that it has to hold
// the manifest is not here. Until it is, nobody else has a file deleted here.
func (n *Node) tells(ctx context.Context) error {
	refs, err := n.referenced(ctx)
	if err != nil {
		return err
	}
	if need, _ := n.needsOf(refs); need.blind {
		return fmt.Errorf("%w: a manifest is not here that this peer has to hold, and what it is made of is not known", placement.ErrUnavailable)
	}
	return nil
}

// drop deletes a file here, unless something needs it: then it says what.
func (n *Node) drop(ctx context.Context, digest string) (user string, err error) {
	since := n.images.guard.Begin()
	defer n.images.guard.End()
	if user, err := n.userOf(ctx, digest); user != "" || err != nil {
		return user, err
	}
	n.images.forgotten.add(digest, n.clock.mono())
	if !n.store.Blobs().Has(digest) {
		return "", nil
	}
	_, err = n.images.guard.Delete(digest, since, n.deleteFile)
	return "", err
}

// userOf names what needs a file, as far as this peer knows; "" for nothing.
func (n *Node) userOf(ctx context.Context, digest string) (string, error) {
	refs, err := n.referenced(ctx)
	if err != nil {
		return "", err
	}
	need, _ := n.needsOf(refs)
	if _, needed := need.files[digest]; !needed {
		return "", nil
	}
	var names []placement.ImageView
	if err := n.loop.look(ctx, func(core *placement.Peer) { names = core.Images() }); err != nil {
		return "", err
	}
	for _, v := range names {
		if tree, err := n.images.trees.Tree(v.Image.Digest, ""); v.Image.Digest == digest || err == nil && slices.Contains(digestsOf(tree.Parts), digest) {
			return "image " + v.Image.Key().App, nil
		}
	}
	return "an app, or an earlier revision of one", nil
}

// forgetFile drops a file that nothing needs, here and at the peers in reach. When
// something needs it, that is named and it stays everywhere in reach.
func (n *Node) forgetFile(ctx context.Context, digest string) (user string, err error) {
	if user, err := n.userOf(ctx, digest); user != "" || err != nil {
		return user, err
	}
	if n.neededElsewhere(ctx, []string{digest})[0] {
		return "something that another peer knows", nil
	}
	if user, err := n.drop(ctx, digest); user != "" || err != nil {
		return user, err
	}
	for _, a := range ask[dropQuery, dropAnswer](ctx, n, n.others(), methodDrop, dropQuery{digest}) {
		if a.err == nil && a.answer.User != "" {
			return fmt.Sprintf("%s, at %s", short(a.answer.User), n.nameOf(a.peer)), nil
		}
	}
	return "", nil
}
