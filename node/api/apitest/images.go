package apitest

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
)

// AddImage adds a name to the registry, of an image that the first peers hold.
func (b *Backend) AddImage(i api.Image, holders int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	i.Name = i.Repository + ":" + i.Reference
	if strings.Contains(i.Reference, ":") {
		i.Name = i.Repository + "@" + i.Reference
	}
	i.Keepers, i.Holders, i.AsOf = slices.Clone(refs[:2]), []api.Holder{}, b.now()
	for _, r := range refs[:holders] {
		i.Holders = append(i.Holders, api.Holder{PeerRef: r, State: "alive"})
	}
	b.images = append(b.images, i)
	slices.SortFunc(b.images, func(x, y api.Image) int { return strings.Compare(api.ImageKey(x), api.ImageKey(y)) })
}

// Images are those that were added.
func (b *Backend) Images(_ context.Context, q api.ImageQuery) (api.Listing[api.Image], error) {
	b.mu.Lock()
	all := slices.Clone(b.images)
	b.mu.Unlock()
	all = slices.DeleteFunc(all, func(i api.Image) bool { return !q.Matches(i) })
	return api.NewListing(all, api.ImageKey, q.Page, b.asOf()), nil
}

// Stage has every peer that holds an image at once have all of it, and the next
// that does not half of it each time that it is asked.
func (b *Backend) Stage(_ context.Context, req api.StageRequest) (api.StageResult, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	where, err := placement.ParseSelector(req.Where)
	if err != nil {
		return api.StageResult{}, fmt.Errorf("where: %w: %w", placement.ErrInvalid, err)
	}
	at := slices.IndexFunc(b.images, func(i api.Image) bool { return i.Name == req.Image })
	if at < 0 {
		return api.StageResult{}, fmt.Errorf("image %s: %w: 'hansa images' lists them", req.Image, placement.ErrNotFound)
	}
	image := &b.images[at]
	out := api.StageResult{Image: req.Image, Digest: image.Digest, Done: true, Peers: []api.StagePeer{}, AsOf: b.now()}
	for _, r := range refs {
		if !where.Matches(map[string]string{"site": r.Site}) {
			continue
		}
		p := api.StagePeer{PeerRef: r, State: api.StageHere, Bytes: image.Size, Total: image.Size}
		if !slices.ContainsFunc(image.Holders, func(h api.Holder) bool { return h.ID == r.ID }) {
			p.State, p.Bytes, out.Done = api.StageFetching, image.Size/2, false
			image.Holders = append(image.Holders, api.Holder{PeerRef: r, State: "alive"})
		}
		out.Peers = append(out.Peers, p)
	}
	return out, nil
}
