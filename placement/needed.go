package placement

import (
	"cmp"
	"hash/fnv"
	"slices"
	"strings"
)

// Reference is an artifact that something needs.
type Reference struct {
	Artifact
	// Here says that this peer has to hold it: it keeps what needs it, runs it, or
	// an edit that it took is on its way to an answer.
	Here bool
}

// Referenced are the artifacts that intents, revisions, claims and open edits
// need, anywhere in the mesh as far as this peer knows, sorted by digest. What is
// not among them, nobody needs.
func (p *Peer) Referenced() []Reference { return p.Needs().References() }

// Needs is what Referenced is made of. A peer knows many names, and has other things
// to do: it only notes where to look, and the rest can be done beside it.
type Needs [][]need

type need struct {
	artifacts []Artifact // of an intent or a claim: they are never changed
	here      bool
}

// Needs notes what needs artifacts. Of apps and names it looks only at those that
// changed since it was asked last.
func (p *Peer) Needs() Needs {
	p.needs.settle(p.needsOf)
	own := make([]need, 0, len(p.ledger.claims)+len(p.edits.open))
	for _, c := range p.ledger.claims {
		if artifacts := c.artifacts(); len(artifacts) > 0 {
			own = append(own, need{artifacts, true})
		}
	}
	for _, e := range p.edits.open {
		if len(e.req.artifacts) > 0 {
			own = append(own, need{e.req.artifacts, true})
		}
	}
	return append(p.needs.all(), own)
}

// needsOf is what the intents and revisions of one app or name need. The revisions
// of a chronicle that was read already are not read again: each is signed.
func (p *Peer) needsOf(uid UID, read pastNeeds) (needs []need, past pastNeeds) {
	add := func(here bool, i *Intent) {
		if !i.Removed && len(i.Artifacts) > 0 {
			needs = append(needs, need{i.Artifacts, here})
		}
	}
	listed := p.catalog.byKey[p.catalog.keyOf[uid]]
	for n := range listed {
		if i := &listed[n].intent; i.UID == uid && !p.nameGone(i) {
			add(false, i)
		}
	}
	r := p.keeper.records[uid]
	if r == nil {
		return needs, pastNeeds{}
	}
	here := p.keeper.votesIn(r)
	for n := range r.versions {
		if !r.gone(n) {
			add(here, &r.versions[n].intent)
		}
	}
	if c := p.keeper.pasts[uid]; c != nil && len(r.versions) > 0 && !r.versions[0].intent.Key.Recorded() {
		if past = read; past.of != c || past.unread {
			past = p.readPast(c)
		}
		if len(past.artifacts) > 0 {
			needs = append(needs, need{past.artifacts, here})
		}
	}
	return needs, past
}

// nameGone says whether a version that the catalog lists is one of a name of which
// this peer knows better: it was removed.
func (p *Peer) nameGone(i *Intent) bool {
	a := p.apps[i.UID]
	return i.Key.Recorded() && (p.ended.set[i.UID] || a != nil && a.win.intent.Removed)
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

// pastNeeds are the artifacts of a chronicle's revisions.
type pastNeeds struct {
	of        *chronicle
	artifacts []Artifact
	unread    bool // who made one of them may not be known yet
}

func (p *Peer) readPast(c *chronicle) pastNeeds {
	out := pastNeeds{of: c}
	for _, rev := range c.Past {
		v, err := p.catalog.readIntent(rev.Intent)
		if err != nil {
			out.unread = true
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
	all := map[Artifact]Reference{} // without sizes: one of which two are said is still one
	for _, needs := range n {
		for _, need := range needs {
			for _, a := range need.artifacts {
				key := Artifact{Digest: a.Digest, Tree: a.Tree, Arch: a.Arch}
				old := all[key]
				a.Size = max(a.Size, old.Size)
				all[key] = Reference{a, need.here || old.Here}
			}
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

// needShards is how many parts the index has: after a change one of them is put
// together anew.
const needShards = 256

// needIndex remembers what each app and name needs, as needsOf found it. Whoever
// changes something that needsOf looks at says so by stale, in the same step.
type needIndex struct {
	shards  [needShards]needShard
	pasts   map[UID]pastNeeds
	changed map[UID]bool
}

// needShard is a part of it. A list that was given out is never changed.
type needShard struct {
	of   map[UID][]need // of those that need something
	list []need
}

func newNeedIndex() *needIndex {
	return &needIndex{pasts: map[UID]pastNeeds{}, changed: map[UID]bool{}}
}

func (x *needIndex) stale(uid UID) { x.changed[uid] = true }

// settle finds out about those that changed. One with revisions that can't be read
// is asked about every time.
func (x *needIndex) settle(needsOf func(UID, pastNeeds) ([]need, pastNeeds)) {
	touched := map[*needShard]bool{}
	again := map[UID]bool{}
	for uid := range x.changed {
		needs, past := needsOf(uid, x.pasts[uid])
		if delete(x.pasts, uid); past.of != nil {
			x.pasts[uid] = past
		}
		if past.unread {
			again[uid] = true
		}
		s := x.shard(uid)
		if delete(s.of, uid); len(needs) > 0 {
			if s.of == nil {
				s.of = map[UID][]need{}
			}
			s.of[uid] = needs
		}
		touched[s] = true
	}
	x.changed = again
	for s := range touched {
		s.list = make([]need, 0, len(s.of)) // most need one thing
		for _, needs := range s.of {
			s.list = append(s.list, needs...)
		}
	}
}

func (x *needIndex) shard(uid UID) *needShard {
	h := fnv.New32a()
	h.Write([]byte(uid))
	return &x.shards[h.Sum32()%needShards]
}

// all is what everything needs, in no order.
func (x *needIndex) all() Needs {
	out := make(Needs, 0, needShards+1)
	for i := range x.shards {
		if list := x.shards[i].list; len(list) > 0 {
			out = append(out, list)
		}
	}
	return out
}
