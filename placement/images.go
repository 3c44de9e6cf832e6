package placement

import (
	"cmp"
	"slices"
	"strings"
)

// ImageView is a name in the registry as a peer knows it.
type ImageView struct {
	Image    Image // the side that is followed, in a conflict
	UID      UID
	Version  Version
	ETag     string
	Created  int64    // Unix milliseconds of the first version
	Size     int64    // of the whole tree, in bytes
	Keepers  []PeerID // that hold the tree, or are to
	Conflict bool
	Sides    []Image // in a conflict all that stand, the one that is followed first
}

// Image is what a name in the registry stands for: a key from ImageKey. One that
// was removed is not there.
func (p *Peer) Image(key AppKey) (ImageView, bool) {
	a := p.find(key)
	if a == nil || a.win.intent.Removed || a.win.intent.App.Image == nil {
		return ImageView{}, false
	}
	return p.imageView(a), true
}

// Images are all names in the registry, sorted by repository and reference.
func (p *Peer) Images() []ImageView { return p.images(func(Image) bool { return true }) }

// ImagesOf are the names of one repository, sorted by reference.
func (p *Peer) ImagesOf(repository string) []ImageView {
	return p.images(func(i Image) bool { return i.Repository == repository })
}

// ImagesWhere are the names that are wanted, sorted by repository and reference; in
// a conflict the side that is followed is asked about.
func (p *Peer) ImagesWhere(want func(Image) bool) []ImageView { return p.images(want) }

func (p *Peer) images(want func(Image) bool) []ImageView {
	var out []ImageView
	for key := range p.byKey {
		if key.Namespace != NamespaceImages {
			continue
		}
		if a := p.find(key); !a.win.intent.Removed && a.win.intent.App.Image != nil && want(*a.win.intent.App.Image) {
			out = append(out, p.imageView(a))
		}
	}
	slices.SortFunc(out, func(a, b ImageView) int {
		return cmp.Or(strings.Compare(a.Image.Repository, b.Image.Repository), strings.Compare(a.Image.Reference, b.Image.Reference))
	})
	return out
}

func (p *Peer) imageView(a *app) ImageView {
	win := &a.win.intent
	v := ImageView{
		Image: *win.App.Image, UID: a.uid, Version: win.Version, ETag: p.etag(a.key), Created: win.Created,
		Keepers: a.keepers.list.ids(), Conflict: p.conflict(a),
	}
	for _, art := range win.Artifacts {
		v.Size += art.Size
	}
	if v.Conflict {
		for _, i := range p.Siblings(a.key) {
			if !i.Removed && i.App.Image != nil {
				v.Sides = append(v.Sides, *i.App.Image)
			}
		}
	}
	return v
}

// Policy is what holds in a namespace, of all that stand side by side together;
// nothing, when nobody set any. The tag names what stands, "" for nothing.
func (p *Peer) Policy(namespace string) (policy NamespacePolicy, etag string) {
	var stand []NamespacePolicy
	for _, i := range p.Siblings(PolicyKey(namespace)) {
		if !i.Removed && i.App.Policy != nil {
			stand = append(stand, *i.App.Policy)
		}
	}
	if len(stand) > 0 {
		etag = p.etag(PolicyKey(namespace))
	}
	return strictest(namespace, stand), etag
}
