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
	if !v.Key.Recorded() {
		return false
	}
	for k := range r.versions { // which are large, and there are many records
		if o := &r.versions[k].intent; o.Removed && o.supersedes(v) {
			return true
		}
	}
	return false
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
func (p *Peer) Referenced() []Reference { return p.Needs().References() }

// Needs is what Referenced is made of. A peer knows many names, and has other things
// to do: it only notes where to look, and the rest can be done beside it.
type Needs []need

type need struct {
	artifacts []Artifact // of an intent or a claim: they are never changed
	here      bool
}

// Needs notes what needs artifacts.
func (p *Peer) Needs() Needs {
	all := make(Needs, 0, len(p.catalog.byKey)+len(p.keeper.records)+len(p.ledger.claims)+len(p.edits.open))
	add := func(here bool, artifacts []Artifact) {
		if len(artifacts) > 0 {
			all = append(all, need{artifacts, here})
		}
	}
	intent := func(here bool, i *Intent) {
		if !i.Removed {
			add(here, i.Artifacts)
		}
	}
	for _, versions := range p.catalog.byKey {
		for i := range versions {
			if !p.nameGone(&versions[i].intent) {
				intent(false, &versions[i].intent)
			}
		}
	}
	read := map[UID]pastNeeds{}
	for uid, r := range p.keeper.records {
		here := p.keeper.votesIn(r)
		for i := range r.versions {
			if !r.gone(i) {
				intent(here, &r.versions[i].intent)
			}
		}
		if past := p.keeper.pasts[uid]; past != nil && len(r.versions) > 0 && !r.versions[0].intent.Key.Recorded() {
			read[uid] = p.needsOf(uid, past)
			add(here, read[uid].artifacts)
		}
	}
	p.keeper.pastNeeds = read
	for _, c := range p.ledger.claims {
		add(true, c.artifacts())
	}
	for _, e := range p.edits.open {
		add(true, e.req.artifacts)
	}
	return all
}

// pastNeeds are the artifacts of a chronicle's revisions.
type pastNeeds struct {
	of        *chronicle
	artifacts []Artifact
}

// needsOf reads revisions, unless they are those of the last time: each is signed.
func (p *Peer) needsOf(uid UID, past *chronicle) pastNeeds {
	if known := p.keeper.pastNeeds[uid]; known.of == past {
		return known
	}
	out := pastNeeds{of: past}
	for _, rev := range past.Past {
		v, err := p.catalog.readIntent(rev.Intent)
		if err != nil {
			out.of = nil // who made it may not be known yet
			continue
		}
		if v.intent.Removed {
			continue
		}
		for _, a := range v.intent.Artifacts {
			if !slices.Contains(out.artifacts, a) {
				out.artifacts = append(out.artifacts, a)
			}
		}
	}
	return out
}

// References are the artifacts that are needed, each once, sorted by digest.
func (n Needs) References() []Reference {
	all := make(map[Artifact]Reference, len(n)) // without sizes: one of which two are said is still one
	for _, need := range n {
		for _, a := range need.artifacts {
			key := Artifact{Digest: a.Digest, Tree: a.Tree, Arch: a.Arch}
			old := all[key]
			a.Size = max(a.Size, old.Size)
			all[key] = Reference{a, need.here || old.Here}
		}
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
