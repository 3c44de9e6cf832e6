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

// Reference is an artifact that something needs.
type Reference struct {
	Artifact
	// Here says that this peer has to hold it: it keeps what needs it, runs it, or
	// an edit that it took is on its way to an answer.
	Here bool
}

// gone says whether a version is one of a name that was removed: nobody goes back
// to what it stood for, so that may go.
func (r *keepRecord) gone(i int) bool {
	v := &r.versions[i].intent
	return v.Key.Recorded() && slices.ContainsFunc(r.versions, func(o version) bool { return o.intent.Removed && o.intent.supersedes(v) })
}

// nameGone says whether a version that the catalog lists is one of a name of which
// this peer knows better: it was removed.
func (p *Peer) nameGone(i *Intent) bool {
	a := p.apps[i.UID]
	return i.Key.Recorded() && (p.ended.set[i.UID] || a != nil && a.win.intent.Removed)
}

// Referenced are the artifacts that intents, revisions, claims and open edits
// need, anywhere in the mesh as far as this peer knows, sorted by digest. What is
// not among them, nobody needs.
func (p *Peer) Referenced() []Reference {
	all := map[Artifact]Reference{} // without sizes: one of which two are said is still one
	add := func(here bool, artifacts ...Artifact) {
		for _, a := range artifacts {
			key := Artifact{Digest: a.Digest, Tree: a.Tree, Arch: a.Arch}
			old := all[key]
			a.Size = max(a.Size, old.Size)
			all[key] = Reference{a, here || old.Here}
		}
	}
	intent := func(here bool, i *Intent) {
		if !i.Removed {
			add(here, i.Artifacts...)
		}
	}
	for _, versions := range p.catalog.byKey {
		for i := range versions {
			if !p.nameGone(&versions[i].intent) {
				intent(false, &versions[i].intent)
			}
		}
	}
	for uid, r := range p.keeper.records {
		for i := range r.versions {
			if !r.gone(i) {
				intent(p.keeper.votesIn(r), &r.versions[i].intent)
			}
		}
		if past := p.keeper.pasts[uid]; past != nil && len(r.versions) > 0 && !r.versions[0].intent.Key.Recorded() {
			for _, rev := range past.Past {
				if v, err := p.catalog.readIntent(rev.Intent); err == nil {
					intent(p.keeper.votesIn(r), &v.intent)
				}
			}
		}
	}
	for _, c := range p.ledger.claims {
		add(true, c.artifacts()...)
	}
	for _, e := range p.edits.open {
		add(true, e.req.artifacts...)
	}
	out := make([]Reference, 0, len(all))
	for _, r := range all {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b Reference) int {
		return cmp.Or(strings.Compare(a.Digest, b.Digest), btoi(a.Tree)-btoi(b.Tree), strings.Compare(a.Arch, b.Arch))
	})
	return out
}
