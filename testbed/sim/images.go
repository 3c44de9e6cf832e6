package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

// treeMax is how long an image takes from peer to peer.
const treeMax = 4 * time.Second

// requestImage is a person who pushes to a registry: names that are new, move,
// are compared with what was seen, and go.
func (w *world) requestImage(p *peer, rng *rand.Rand) {
	o := w.oracle
	repository, tag := fmt.Sprintf("shop/r%d", rng.IntN(2)), fmt.Sprint("v", rng.IntN(2))
	key := placement.ImageKey(repository, tag)
	o.rivals(key)
	if rng.Float64() < 0.15 {
		w.remove(p, key)
		return
	}
	digest := fmt.Sprintf("sha256:%064x", 0xa0+rng.IntN(6))
	i := placement.Image{
		Repository: repository, Reference: tag, Digest: digest,
		MediaType: "application/vnd.oci.image.manifest.v1+json", Size: 400,
	}
	ev := placement.Submit{
		App: i.App(), Artifacts: []placement.Artifact{{Digest: digest, Size: 20 << 20, Tree: true}}, Copies: rng.IntN(4),
	}
	switch rng.IntN(6) {
	case 0:
		ev.IfNoneMatch = true
	case 1, 2:
		if v, ok := p.core.Image(key); ok {
			ev.IfMatch = v.ETag
		}
	case 3:
		ev.MinCopies = 1 + rng.IntN(copiesMax+1)
	}
	w.submit(p, ev)
}

// rivals looks for names that were made on two sides of a cut: a push is over all
// that it finds, and what one of them was acknowledged with may end.
func (o *oracle) rivals(key placement.AppKey) {
	for _, p := range o.w.up() {
		for _, i := range p.core.Siblings(key) {
			o.rival(key, i.UID)
		}
	}
}

func (o *oracle) rival(key placement.AppKey, uid placement.UID) {
	if !key.Recorded() {
		return
	}
	all := o.names[key]
	if !slices.Contains(all, uid) {
		all = append(all, uid)
		o.names[key] = all
	}
	if len(all) > 1 {
		for _, uid := range all {
			o.removed[uid] = true
		}
	}
}

// named: a push is acknowledged by peers that hold all of the image.
func (o *oracle) named(p *peer, req *request, r placement.Result) {
	o.rival(req.key, r.UID)
	if req.edit.App.Image == nil {
		return
	}
	digest := req.edit.App.Image.Digest
	for _, id := range r.Peers {
		holder := o.w.byID[id]
		if holder.born > req.since { // it lost its store, and perhaps after it answered
			continue
		}
		if k, ok := o.kept(holder, r.UID); ok && slices.Contains(k.Versions, r.Version) && !holder.blobs[digest] {
			o.w.fail("%s: %s is acknowledged, and %s has not all of %s", p.id, req.key, id, digest)
		}
	}
}

// imagesStand: after healing every peer knows what names were acknowledged, and
// their keepers hold the images.
func (w *world) imagesStand(note func(string, ...any)) {
	for _, p := range w.in() {
		for uid, a := range w.oracle.acked {
			if !a.key.Recorded() || w.oracle.removed[uid] || a.lost || w.oracle.lost(a) {
				continue
			}
			v, ok := p.core.Image(a.key)
			if !ok || v.UID == uid && v.Version.Compare(a.version) < 0 && !v.Conflict {
				note("%s does not know %s version %s, which was acknowledged", p.id, a.key, a.version)
			}
		}
		for _, v := range p.core.Images() {
			if v.Conflict || !slices.Contains(v.Keepers, p.id) || w.oracle.orphaned(v.UID) {
				continue
			}
			if !p.blobs[v.Image.Digest] && w.anyHolds(v.Image.Digest) {
				note("%s keeps %s and does not hold %s", p.id, v.Image.Key().App, v.Image.Digest)
			}
		}
	}
}

func (w *world) anyHolds(digest string) bool {
	return slices.ContainsFunc(w.in(), func(p *peer) bool { return p.blobs[digest] })
}

// tellHolds tells others, those in reach, what a peer holds.
func (p *peer) tellHolds() {
	if !p.w.plan.Images && !p.w.plan.Pins {
		return
	}
	blobs := p.holds()
	for _, to := range p.w.peers {
		tell := func() { to.step(placement.Holds{Peer: p.id, Blobs: blobs}) }
		if to == p {
			tell()
		} else {
			p.w.carry(p, to, tell)
		}
	}
}

// holds is what a peer says that it holds.
func (p *peer) holds() []uint32 {
	var blobs []uint32
	for digest := range p.blobs {
		if n, ok := placement.BlobPrefix(digest); ok {
			blobs = append(blobs, n)
		}
	}
	slices.Sort(blobs)
	return blobs
}

// namesInConflict says whether a person has to choose between images.
func (w *world) namesInConflict() bool {
	return slices.ContainsFunc(w.in()[0].core.Images(), func(v placement.ImageView) bool { return v.Conflict })
}

func isName(open string) bool { return strings.HasPrefix(open, placement.NamespaceImages+"/") }
