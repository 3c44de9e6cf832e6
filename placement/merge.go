package placement

import (
	"bytes"
	"maps"
	"slices"
	"time"
)

// This file is how edits that were accepted on both sides of a cut become one
// again without a person: where they changed different components, or the same
// to the same, and where one removed the app while the other edited it, which
// keeps it.
//
// An app's components are an observed-remove map (Shapiro et al., "A
// comprehensive study of Convergent and Commutative Replicated Data Types",
// 2011, section 3.3): each names the edit that changed it last, and a version
// knows of an edit or does not, by what it is over. So what a side no longer has
// was removed by it if it knew of it, and is new to it if it did not; no common
// ancestor is needed, which nobody might have any more.

// Change names the edit that changed a component last.
type Change struct {
	Version     Version     `json:"version"`
	Incarnation Incarnation `json:"incarnation"`
	Alone       bool        `json:"alone,omitempty"` // as Intent.Alone
	Term        uint64      `json:"term,omitempty"`  // as Intent.Term
}

// change is this version as an edit that others name.
func (i *Intent) change() Change { return Change{i.Version, i.Incarnation, i.Alone, i.Term} }

// after says whether an edit comes after another.
func (c Change) after(o Change) bool { return compareUnder(c.Term, c.Version, o.Term, o.Version) > 0 }

// changed is the edit that changed a component of this version last: this one,
// unless it says otherwise.
func (i *Intent) changed(name string) Change {
	if c, ok := i.Changes[name]; ok {
		return c
	}
	return i.change()
}

// knows says whether an edit is this version, or one that this was made over.
func (i *Intent) knows(c Change) bool {
	return i.Version == c.Version ||
		i.supersedes(&Intent{UID: i.UID, Version: c.Version, Incarnation: c.Incarnation, Alone: c.Alone, Term: c.Term})
}

// changes is what an edit that makes app of these versions leaves as it was, by
// component: what all of them have so. A choice between them is a change.
func changes(app App, versions []version) map[string]Change {
	out := map[string]Change{}
	for _, name := range app.ComponentNames() {
		want, last := Encode(app.Components[name]), Change{}
		same := true
		for i := range versions {
			v := &versions[i].intent
			c, ok := v.App.Components[name]
			same = same && ok && !v.Removed && bytes.Equal(Encode(c), want)
			if at := v.changed(name); same && at.after(last) {
				last = at
			}
		}
		if same && !last.Version.IsZero() {
			out[name] = last
		}
	}
	return out
}

// notDecided is changes of which those that an edit made are known only to who names
// it: it was written under a term, found no majority, and is made alone now.
func notDecided(changes map[string]Change, edit Version) map[string]Change {
	out := maps.Clone(changes)
	for name, c := range changes {
		if c.Version == edit {
			c.Alone = true
			out[name] = c
		}
	}
	return out
}

// merged is an app made of several versions that stand side by side.
type merged struct {
	app       App
	artifacts []Artifact
	changes   map[string]Change
}

// merge makes one app of versions that stand side by side, or says that a person
// has to: they changed one component to different things. It is a pure function
// of the set of versions; their order, and one that comes twice, change nothing.
// schema is the newest that this peer understands.
func merge(versions []version, schema int) (m merged, ok bool) {
	var sides []*Intent
	for i := range versions {
		switch v := &versions[i].intent; {
		case v.MinSchema > schema:
			return merged{}, false // it may say what this release does not understand
		case !v.Removed:
			sides = append(sides, v)
		}
	}
	if len(sides) == 0 { // all of them removed it
		sides = append(sides, newestOf(versions))
	}
	slices.SortFunc(sides, func(a, b *Intent) int { return b.Version.Compare(a.Version) })
	if sides[0].App.recorded() {
		m.app, ok = joined(sides)
		m.artifacts = artifactsOf(m.app, sides)
		return m, ok
	}
	m = merged{app: sides[0].App, changes: map[string]Change{}}
	m.app.Components = map[string]Component{}
	names := map[string]bool{}
	for _, s := range sides {
		for name := range s.App.Components {
			names[name] = true
		}
	}
	for _, name := range sortedKeys(names) {
		side, ok := survivor(sides, name)
		if !ok {
			return merged{}, false
		}
		if side != nil {
			m.app.Components[name], m.changes[name] = side.App.Components[name], side.changed(name)
		}
	}
	m.artifacts = artifactsOf(m.app, sides)
	return m, m.app.Validate() == nil // a component may have been near one that is gone
}

func newestOf(versions []version) *Intent {
	best := &versions[0].intent
	for i := range versions {
		if v := &versions[i].intent; v.Version.Compare(best.Version) > 0 {
			best = v
		}
	}
	return best
}

// survivor is the side whose component stays: no other side knew of it and has
// another or none. It is nil when none stays, since it was removed, and not ok
// when two different ones would.
func survivor(sides []*Intent, name string) (best *Intent, ok bool) {
	everywhere := true
	for _, s := range sides { // newest first
		c, has := s.App.Components[name]
		everywhere = everywhere && has
		if !has || replaced(sides, name, s.changed(name)) {
			continue
		}
		switch {
		case best == nil:
			best = s
		case !bytes.Equal(Encode(best.App.Components[name]), Encode(c)):
			return nil, false
		case s.changed(name).after(best.changed(name)):
			best = s
		}
	}
	return best, best != nil || !everywhere
}

// replaced says whether a side knew of a change to a component and has something
// else in its place.
func replaced(sides []*Intent, name string, c Change) bool {
	return slices.ContainsFunc(sides, func(s *Intent) bool {
		_, has := s.App.Components[name]
		at := s.changed(name)
		return s.knows(c) && !(has && at.Version == c.Version && at.Incarnation == c.Incarnation)
	})
}

// artifactsOf is the files that an app made of these sides needs, sorted.
func artifactsOf(app App, sides []*Intent) []Artifact {
	var out []Artifact
	digests := slices.Concat(app.Artifacts(), app.ImageDigests())
	if app.Image != nil {
		digests = append(digests, app.Image.Digest)
	}
	for _, digest := range digests {
		for _, s := range sides {
			had := len(out)
			for _, a := range s.Artifacts {
				if a.Digest == digest { // of an image there may be one for each architecture
					out = append(out, a)
				}
			}
			if len(out) > had {
				break
			}
		}
	}
	return out
}

// pasts is what an edit over these versions knows of the edits before it.
func pasts(versions []version) []Made {
	if len(versions) == 1 {
		return versions[0].intent.past()
	}
	var out []Made
	for i := range versions {
		for _, m := range versions[i].intent.past() {
			if !slices.ContainsFunc(out, func(o Made) bool { return o.Request == m.Request }) {
				out = append(out, m)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Made) int { return b.Version.Compare(a.Version) })
	return boundPast(out)
}

// mergeable says whether the versions of an app become one by themselves. What
// was made by a clock far ahead waits until it no longer is.
func (p *Peer) mergeable(a *app) (m merged, ok bool) {
	if slices.ContainsFunc(a.versions, func(v version) bool { return v.intent.Version.ahead(p.out.now.Wall) }) {
		return merged{}, false
	}
	return merge(a.versions, p.tune.Schema)
}

// mergeSides writes what the versions of an app come to under this steward's
// term. Without a majority for it they stand side by side as before.
func (p *Peer) mergeSides(a *app) {
	for _, e := range p.edits.open {
		if e.uid == a.uid {
			return
		}
	}
	m, ok := p.mergeable(a)
	if !ok {
		return
	}
	e := &edit{
		req:   editRequest{app: m.app, artifacts: m.artifacts, key: a.key, remove: a.win.intent.Removed},
		again: true, merges: true, changes: m.changes, before: map[string]int{}, copies: map[PeerRef]bool{},
		deadline: p.out.now.Mono + p.tune.SubmitWait,
	}
	for i := range a.versions {
		if by := a.versions[i].intent.Version.Peer; by != p.cfg.Self.Peer && len(e.writers) < keepersMax {
			e.writers = append(e.writers, by)
		}
	}
	p.edits.next++
	e.id = p.edits.next
	p.edits.open[e.id] = e
	p.write(e, a, a.steward.term)
	p.armEdit(e)
}

// conflictGrace is for how long a conflict that nobody told of is news: past it
// a steward that takes over does not tell of it once more.
const conflictGrace = 30 * time.Second

// noted is what this peer has seen of a conflict.
type noted struct {
	since time.Duration
	told  bool // by this peer, or long ago by another
}

// noteConflict follows whether a name is in conflict, and says when it no longer
// is: the steward does, which saw the versions become one.
func (p *Peer) noteConflict(key AppKey) {
	a := p.find(key)
	stands := a != nil && p.conflict(a)
	was := p.conflicts[key]
	switch {
	case stands && was == nil:
		if p.conflicts == nil {
			p.conflicts = map[AppKey]*noted{}
		}
		// What was there at the start was told of before.
		p.conflicts[key] = &noted{since: p.out.now.Mono, told: p.counters.boot == 0}
	case !stands && was != nil:
		delete(p.conflicts, key)
		if a != nil && was.told && a.steward != nil && !a.steward.deputy {
			p.out.happened(Happened{Type: "conflict-ended", UID: a.uid, Key: key, Peer: p.cfg.Self.Peer,
				Message: "version " + a.win.intent.Version.String() + " stands"})
		}
	}
}

// tellConflict tells of a conflict, once: the steward of the app that its name
// means does.
func (s *Steward) tellConflict() {
	p, a := s.p, s.a
	n := p.conflicts[a.key]
	if n == nil || n.told || s.deputy || p.find(a.key) != a {
		return
	}
	n.told = true
	if p.out.now.Mono-n.since > conflictGrace {
		return
	}
	message := ""
	for _, i := range p.Siblings(a.key) {
		if message != "" {
			message += "; "
		}
		message += "version " + i.Version.String() + " accepted at " + string(i.Version.Peer)
		if i.Removed {
			message += ", a removal"
		}
	}
	p.out.happened(Happened{Type: "conflict", UID: a.uid, Key: a.key, Peer: p.cfg.Self.Peer, Message: clip(message)})
}

// merging says whether versions of an app are about to become one by themselves.
func (p *Peer) merging(a *app) bool {
	if len(a.versions) < 2 {
		return false
	}
	_, ok := p.mergeable(a)
	return ok
}
