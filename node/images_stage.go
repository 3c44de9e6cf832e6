package node

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hansa-mesh/hansa/gossip"
	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/transport"
)

const (
	// methodStage has a peer fetch an image that it may need, and says how far it is.
	methodStage = "files/stage/1"
	// stagedMax bounds the stagings that a peer remembers.
	stagedMax = 256
)

type stageQuery struct {
	Digest string   `json:"digest"` // of the root
	From   []string `json:"from"`   // who holds it, as whoever asks knows
}

type stageAnswer struct {
	State  string `json:"state"`
	Bytes  int64  `json:"bytes"`
	Total  int64  `json:"total"`
	Reason string `json:"reason,omitempty"`
}

// stageKey is an image, by its root, and the architecture that it is fetched for.
type stageKey struct{ root, arch string }

// staging is an image that this peer was asked to fetch ahead.
type staging struct {
	busy   bool
	reason string // why the last try failed
}

func (n *Node) serveStages() {
	transport.HandleTyped(n.link, methodStage, func(ctx context.Context, _ string, q stageQuery) (stageAnswer, error) {
		if len(q.From) > searchPeersMax {
			q.From = q.From[:searchPeersMax]
		}
		return n.stageHere(ctx, q), nil
	})
}

// stageHere begins to fetch an image unless it is here or under way, and says how far
// it is. Only what a name in the mesh stands for is fetched: nobody fills this disk with
// anything else.
func (n *Node) stageHere(ctx context.Context, q stageQuery) stageAnswer {
	if n.images.trees.Whole(q.Digest, ownArch) {
		n.images.guard.Use(q.Digest)
		return n.stageProgress(q.Digest, api.StageHere, "")
	}
	refs, err := n.referenced(ctx)
	if err != nil {
		return stageAnswer{State: api.StageFailed, Reason: err.Error()}
	}
	if !slices.ContainsFunc(refs, func(r placement.Reference) bool { return r.Tree && r.Digest == q.Digest }) {
		return stageAnswer{State: api.StageFailed, Reason: "this peer has not heard of a name for it yet"}
	}
	state, reason := n.beginStage(q)
	return n.stageProgress(q.Digest, state, reason)
}

func (n *Node) beginStage(q stageQuery) (state, reason string) {
	m, key := n.images, stageKey{q.Digest, ownArch}
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.staged[key]
	if s == nil {
		for k, old := range m.staged {
			if len(m.staged) >= stagedMax && !old.busy {
				delete(m.staged, k)
			}
		}
		if len(m.staged) >= stagedMax {
			return api.StageFailed, fmt.Sprintf("%d images are being fetched already: ask again later", stagedMax)
		}
		s = &staging{}
		m.staged[key] = s
	}
	if s.busy {
		return api.StageFetching, ""
	}
	s.busy, reason = true, s.reason
	n.work.Go(func() { n.fetchStaged(key, q.From) })
	if reason != "" {
		return api.StageFailed, reason + "; it is tried again"
	}
	return api.StageFetching, ""
}

func (n *Node) fetchStaged(key stageKey, from []string) {
	ctx, cancel := context.WithTimeout(n.ctx, fetchMax)
	defer cancel()
	err := n.fetchArtifact(ctx, placement.Artifact{Digest: key.root, Tree: true, Arch: key.arch}, from)
	n.images.mu.Lock()
	if err == nil {
		delete(n.images.staged, key)
	} else {
		n.images.staged[key] = &staging{reason: short(err.Error())}
	}
	n.images.mu.Unlock()
	switch {
	case err == nil:
		n.happened("image-staged", key.root+" is here, ahead of its work")
		n.loop.post(placement.BlobArrived{Digest: key.root})
	case n.ctx.Err() == nil:
		n.log.Warn("an image was not fetched ahead", "digest", key.root, "err", err)
	}
}

// stageProgress counts what of an image is here.
func (n *Node) stageProgress(root, state, reason string) stageAnswer {
	a := stageAnswer{State: state, Reason: reason}
	tree, err := n.images.trees.Tree(root, ownArch)
	if err != nil {
		a.State, a.Reason = api.StageFailed, err.Error()
		return a
	}
	a.Total = tree.Size()
	a.Bytes = a.Total
	for _, p := range tree.Missing {
		a.Bytes -= p.Size
	}
	return a
}

// Images are the names in the registry, and who says that it holds what they stand for.
func (n backend) Images(ctx context.Context, q api.ImageQuery) (api.Listing[api.Image], error) {
	var views []placement.ImageView
	if err := n.loop.look(ctx, func(core *placement.Peer) { views = core.Images() }); err != nil {
		return api.Listing[api.Image]{}, err
	}
	states := map[string]string{}
	for _, m := range n.members() {
		states[m.Peer] = m.State.String()
	}
	now := time.Now().UTC()
	var out []api.Image
	for _, v := range views {
		i := api.Image{
			Name: imageName(v.Image), Repository: v.Image.Repository, Reference: v.Image.Reference, Digest: v.Image.Digest, MediaType: v.Image.MediaType,
			Subject: v.Image.Subject, Size: v.Size, Created: time.UnixMilli(v.Created).UTC(), Keepers: n.refs(v.Keepers), Holders: []api.Holder{}, AsOf: now,
		}
		if !q.Matches(i) {
			continue
		}
		held, _ := n.images.holdings.Holders(v.Image.Digest)
		for _, peer := range n.selfFirst(held) {
			i.Holders = append(i.Holders, api.Holder{PeerRef: n.ref(peer), State: states[peer]})
		}
		for _, side := range v.Sides {
			i.Conflict = append(i.Conflict, side.Digest)
		}
		out = append(out, i)
	}
	return api.NewListing(out, api.ImageKey, q.Page, map[string]time.Time{n.id.ID(): now}), nil
}

// imageName is a name as people write it.
func imageName(i placement.Image) string {
	if i.Tagged() {
		return i.Repository + ":" + i.Reference
	}
	return i.Repository + "@" + i.Reference
}

// selfFirst are peers, this one first if it is among them, and then the nearest.
func (n *Node) selfFirst(peers []string) []string {
	others := n.nearestFirst(peers)
	if slices.Contains(peers, n.id.ID()) {
		return append([]string{n.id.ID()}, others...)
	}
	return others
}

// findImage is what a name as people write it stands for.
func (n *Node) findImage(ctx context.Context, name string) (placement.Image, error) {
	repository, reference, pinned := strings.Cut(name, "@")
	if tagged, tag, ok := cutTag(repository); ok {
		repository = tagged
		if !pinned {
			reference = tag
		}
	} else if !pinned {
		reference = "latest"
	}
	var found []placement.ImageView
	if err := n.loop.look(ctx, func(core *placement.Peer) { found = core.ImagesOf(repository) }); err != nil {
		return placement.Image{}, err
	}
	for _, v := range found {
		if v.Image.Reference == reference || pinned && v.Image.Digest == reference {
			return v.Image, nil
		}
	}
	return placement.Image{}, fmt.Errorf("image %.200s: %w: 'hansa images' lists them", name, placement.ErrNotFound)
}

// cutTag parts a tag from a repository.
func cutTag(name string) (repository, tag string, ok bool) {
	at := strings.LastIndexByte(name, ':')
	if at <= strings.LastIndexByte(name, '/') {
		return name, "", false
	}
	return name[:at], name[at+1:], true
}

// Stage has peers fetch an image ahead, and says how far they are.
func (n backend) Stage(ctx context.Context, req api.StageRequest) (api.StageResult, error) {
	image, err := n.findImage(ctx, req.Image)
	if err != nil {
		return api.StageResult{}, err
	}
	peers, err := n.peersWhere(ctx, req.Where)
	if err != nil {
		return api.StageResult{}, err
	}
	held, _ := n.images.holdings.Holders(image.Digest)
	q := stageQuery{Digest: image.Digest, From: held[:min(len(held), searchPeersMax)]}
	answers := ask[stageQuery, stageAnswer](ctx, n.Node, slices.DeleteFunc(slices.Clone(peers), func(p string) bool { return p == n.id.ID() }), methodStage, q)
	if slices.Contains(peers, n.id.ID()) {
		answers = append(answers, reply[stageAnswer]{peer: n.id.ID(), answer: n.stageHere(ctx, q)})
	}
	out := api.StageResult{Image: req.Image, Digest: image.Digest, Done: true, Peers: []api.StagePeer{}, AsOf: time.Now().UTC()}
	for _, a := range answers {
		p := api.StagePeer{PeerRef: n.ref(a.peer), State: a.answer.State, Bytes: a.answer.Bytes, Total: a.answer.Total, Reason: n.named(short(a.answer.Reason))}
		switch {
		case a.err != nil:
			p.State, p.Reason = api.StageUnreachable, n.named(short(a.err.Error()))
		case !slices.Contains([]string{api.StageHere, api.StageFetching, api.StageFailed}, p.State):
			p.State, p.Reason = api.StageFailed, "it answers in a way that this release does not know"
		}
		out.Done = out.Done && p.State == api.StageHere
		out.Peers = append(out.Peers, p)
	}
	slices.SortFunc(out.Peers, func(a, b api.StagePeer) int { return strings.Compare(a.Site+"/"+a.Name, b.Site+"/"+b.Name) })
	return out, nil
}

// peersWhere are the peers of the mesh with the labels that a selector wants.
func (n *Node) peersWhere(ctx context.Context, where string) ([]string, error) {
	selector, err := placement.ParseSelector(where)
	if err != nil {
		return nil, fmt.Errorf("where %.200q: %w: %w", where, placement.ErrInvalid, err)
	}
	digests, err := n.digests(ctx)
	if err != nil {
		return nil, err
	}
	var peers []string
	for _, m := range n.members() {
		c, known := digests[placement.PeerID(m.Peer)]
		if n.trust.Admitted(m.Peer) == nil && m.State != gossip.StateLeft && known && selector.Matches(c.Digest.Labels) {
			peers = append(peers, m.Peer)
		}
	}
	if len(peers) == 0 {
		return nil, fmt.Errorf("where %.200q: %w: no peer has such labels: 'hansa hosts -o wide' shows them", where, placement.ErrInvalid)
	}
	return peers, nil
}
