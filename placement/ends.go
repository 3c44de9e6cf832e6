package placement

import "slices"

// This file is how a person's choice between two apps of one name, made on two
// sides of a cut, stands. The app that was taken says which versions of the
// other its maker saw. That alone is not enough: whoever drives the other may be
// writing it once more just now, as a version that nobody has seen yet, and does
// not know of the choice. Such a version names the edits of people that it
// writes again, and ends with them. An edit that a person made and that the
// choice did not know of stands, beside what was taken, as a conflict.

// End is the versions of another app, under the same name, that a person saw and
// decided against: those that an edit over them all would be over.
type End struct {
	UID  UID        `json:"uid"`
	Over []Ancestor `json:"over"`
	Base Version    `json:"base,omitzero"`
	Term uint64     `json:"term,omitempty"` // that Base was made under, as Intent.Term
}

const (
	// endsMax is how many apps a record says to have ended: those that were ended
	// last.
	endsMax = 8
	// editsOfMax bounds the edits that a version names as written again. One of
	// more counts as an edit of its own, which nobody's choice has seen.
	editsOfMax = 64
)

// edits is the edits of people that a version is made of.
func (i *Intent) edits() []Change {
	if len(i.Restates) > 0 {
		return i.Restates
	}
	return []Change{i.change()}
}

// editsOf is those of several versions, each once.
func editsOf(versions []version) []Change {
	var out []Change
	for i := range versions {
		for _, c := range versions[i].intent.edits() {
			if !slices.Contains(out, c) {
				out = append(out, c)
			}
		}
	}
	if len(out) > editsOfMax {
		return nil
	}
	return out
}

// baseOf is the last version under a term that is among these or that their writers
// knew, and that term: whoever names the one with another's term claims to have known
// what nobody there had seen.
func baseOf(versions []version) (base Version, term uint64) {
	for i := range versions {
		v, t := versions[i].intent.Version, versions[i].intent.Term
		if versions[i].intent.Alone {
			v = versions[i].intent.Base
		}
		if compareUnder(t, v, term, base) > 0 {
			base, term = v, t
		}
	}
	return base, term
}

// ends says whether whoever made this version decided against o.
func (i *Intent) ends(o *Intent) bool {
	return i.UID != o.UID && slices.ContainsFunc(i.Ends, func(e End) bool { return e.covers(o) })
}

// covers says whether all edits of a version were seen.
func (e End) covers(o *Intent) bool {
	seen := Intent{UID: e.UID, Over: e.Over, Base: e.Base, Term: e.Term, Alone: true}
	return e.UID == o.UID && !slices.ContainsFunc(o.edits(), func(c Change) bool { return !seen.knows(c) })
}

// decided is versions under one name without those that another of them ends.
// Two that end each other were made by somebody who lies, and both stay.
func decided(versions []version) []version {
	return slices.DeleteFunc(slices.Clone(versions), func(v version) bool {
		return slices.ContainsFunc(versions, func(o version) bool {
			return o.intent.ends(&v.intent) && !v.intent.ends(&o.intent)
		})
	})
}

// ends says whether a version that is listed under its name ends it.
func (c *Catalog) ends(i *Intent) bool {
	return slices.ContainsFunc(c.byKey[i.Key], func(v version) bool { return v.intent.ends(i) && !i.ends(&v.intent) })
}

// endsOf is what an edit of an app ends: what the versions that it is over ended,
// and, if it decides between apps of one name, the others with what they ended.
func (p *Peer) endsOf(e *edit, a *app) []End {
	var all []End
	enter := func(add ...End) {
		for _, n := range add {
			at := slices.IndexFunc(all, func(o End) bool { return o.UID == n.UID })
			switch {
			case n.UID == a.uid:
			case at < 0:
				all = append(all, n)
			default:
				all[at] = all[at].with(n)
			}
		}
	}
	for _, v := range a.versions {
		enter(v.intent.Ends...)
	}
	if e.resolves {
		for _, uid := range sortedKeys(p.byKey[a.key]) {
			o := p.apps[uid]
			base, term := baseOf(o.versions)
			enter(End{UID: uid, Over: ancestors(o.versions), Base: base, Term: term})
			for _, v := range o.versions {
				enter(v.intent.Ends...)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b End) int { return b.newest().Compare(a.newest()) })
	return all[:min(len(all), endsMax)]
}

// with is what either has seen.
func (e End) with(o End) End {
	both := func(x End) version { return version{intent: Intent{Over: x.Over}} }
	e.Over = slices.DeleteFunc(ancestors([]version{both(e), both(o)}), func(a Ancestor) bool { return a.Version.IsZero() })
	if compareUnder(o.Term, o.Base, e.Term, e.Base) > 0 {
		e.Base, e.Term = o.Base, o.Term
	}
	return e
}

func (e End) newest() Version {
	if len(e.Over) == 0 {
		return e.Base
	}
	return e.Over[0].Version // the newest first
}
