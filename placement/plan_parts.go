package placement

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

// This file is how a plan that nobody carries out follows the volumes that slots
// have, as the one of a deploy does.

// planParts plans the slots of a component part by part, each where its volumes
// are, takes what they need off the candidates, and says in words what was bound
// by volumes.
func (p *Peer) planParts(have *app, in PlanInput) (all PlanResult, why string) {
	comp := in.App.Components[in.Component]
	parts := []part{{slots: in.Slots}}
	if have != nil && !have.win.intent.Removed && !in.Slots.IsEmpty() {
		parts = p.parts(have, in.Component, comp, in.Slots, false, func(time.Duration) bool { return true })
	}
	placed, open := 0, ""
	if beside := comp.beside(); beside != "" {
		why = "; " + beside
	}
	for i, g := range parts {
		one := in
		one.Slots, one.Refused = g.slots, maps.Clone(in.Refused)
		one.Candidates, one.Placed = p.withoutOlder(have, in, g), maps.Clone(in.Placed)
		for id, slots := range all.Assign {
			one.Placed[id] += slots.Len()
		}
		p.atHome(&one, g)
		res := Plan(one)
		need := comp.Need()
		if one.Kept {
			need = comp.Takes()
			why += fmt.Sprintf("; the volumes of slots %s are at %s", g.slots, p.nameOf(g.home))
		} else if g.left != "" {
			why += "; " + g.left
		}
		take(in.Candidates, comp, need, res.Assign)
		if placed += g.slots.Len() - res.Unplaced.Len(); !res.Unplaced.IsEmpty() {
			res.Outcome = p.atHomeText(g, res.Outcome)
			open += fmt.Sprintf("; of slots %s %s", g.slots, res.Outcome)
		}
		if i == 0 {
			all = res
		} else {
			all.join(res)
			all.Outcome = fmt.Sprintf("%d placed%s", placed, open)
		}
	}
	return all, why
}

// withoutOlder is the candidates as they will be once the older copies of slots
// that have volumes have stopped, which they do before the newer ones start.
func (p *Peer) withoutOlder(have *app, in PlanInput, g part) []Candidate {
	if g.home == "" || have.rows[g.home] == nil {
		return in.Candidates
	}
	older := Slots{}
	for _, c := range have.rows[g.home].claims() {
		if c.Component == in.Component && c.Spec != SpecHash(in.App.Components[in.Component]) {
			older = older.Union(c.Slots.Intersect(g.slots))
		}
	}
	if older.IsEmpty() {
		return in.Candidates
	}
	out := slices.Clone(in.Candidates)
	back := have.win.intent.App.Components[in.Component].Takes().Times(older.Len())
	for i := range out {
		if d := &out[i].Digest; d.Peer.Peer == g.home {
			d.putBack(back)
		}
	}
	return out
}

// join enters the plan of another part: of a candidate what was said where it
// took slots, or else what was said first.
func (r *PlanResult) join(o PlanResult) {
	for id, slots := range o.Assign {
		r.Assign[id] = r.Assign[id].Union(slots)
	}
	r.Unplaced = r.Unplaced.Union(o.Unplaced)
	for _, c := range o.Considered {
		at := slices.IndexFunc(r.Considered, func(x Considered) bool { return x.Peer == c.Peer })
		if at < 0 {
			r.Considered = append(r.Considered, c)
			continue
		}
		x := &r.Considered[at]
		if taken := x.Taken; taken == 0 && c.Taken > 0 {
			*x = c
		} else {
			x.Taken += c.Taken
		}
	}
	slices.SortStableFunc(r.Considered, func(a, b Considered) int {
		return cmp.Or(cmp.Compare(b.Taken, a.Taken), cmp.Compare(b.Score, a.Score), cmp.Compare(a.Peer, b.Peer))
	})
}
