package placement

import (
	"fmt"
	"time"
)

// This file is how slots find their volumes. A volume lies at one host; the slot
// goes there and nowhere else, for as long as its policy waits for that host.

// part is slots of one plan: all of them may go to the same peers.
type part struct {
	slots Slots
	home  PeerID // where their volumes are; "" when they have none yet
	left  string // what they leave behind, in words; "" for nothing
}

// homes are the peers that have volumes of a component's slots, as far as is
// known: by their reports, or what their summaries say to whoever came later.
func (p *Peer) homes(a *app, name string) map[PeerID]Slots {
	out := map[PeerID]Slots{}
	for _, id := range p.holdersKnown(a) {
		if p.members.forgotten(id) {
			continue
		}
		slots := Slots{}
		if r := a.rows[id]; r != nil && r.report.Order != (order{}) {
			slots = r.report.Kept[name]
		} else if sum, ok := p.catalog.status[a.uid][id]; ok && !p.members.reborn(sum.Peer) {
			slots = sum.Kept[name]
		}
		if r := a.rows[id]; r != nil { // of what was granted just now too
			for _, c := range r.claims() {
				if c.Component == name && !c.Reserved {
					slots = slots.Union(c.Slots).Union(c.Stopping)
				}
			}
		}
		if !slots.IsEmpty() {
			out[id] = slots
		}
	}
	return out
}

// parts splits slots that are to be placed by where their volumes are. What lies
// at a peer that is lost, by the component's policy, is left behind: the slot
// starts anew elsewhere, and says so. Of several places the one that lives goes
// first: it is the copies of the slot that decide between those, not its volumes.
func (s *Steward) parts(name string, comp Component, slots Slots) []part {
	return s.p.parts(s.a, name, comp, slots, s.deputy, func(at time.Duration) bool {
		sure := s.deputy || s.sureOf(at)
		s.unsure = s.unsure || !sure
		return sure
	})
}

// parts does so for whoever drives an app, or would; sure says whether a peer
// that is lost since then may be taken for that.
func (p *Peer) parts(a *app, name string, comp Component, slots Slots, deputy bool, sure func(at time.Duration) bool) []part {
	if len(comp.Volumes) == 0 {
		return []part{{slots: slots}}
	}
	pol, homes := comp.Policy(), p.homes(a, name)
	var out []part
	behind := part{}
	for _, live := range []bool{true, false} {
		for _, id := range sortedKeys(homes) {
			here := homes[id].Intersect(slots)
			if here.IsEmpty() || p.members.live(id) != live {
				continue
			}
			if f := p.fateOf(pol, id, deputy); f.lost && sure(f.at) {
				behind.slots = behind.slots.Union(here)
				behind.left = fmt.Sprintf("what slots %s kept stays behind at %s, which is lost", here, p.nameOf(id))
				continue
			}
			out = append(out, part{slots: here, home: id})
			slots = slots.Minus(here)
			behind.slots = behind.slots.Minus(here)
		}
	}
	if slots = slots.Minus(behind.slots); !slots.IsEmpty() {
		out = append(out, part{slots: slots})
	}
	if !behind.slots.IsEmpty() {
		out = append(out, behind)
	}
	return out
}

// endOlder ends older copies whose newer one waits at the same peer for them: a
// release that a disk did not take left both.
func (c *course) endOlder(s situation, claims []fact) {
	for _, old := range claims {
		if old.Spec == s.spec || !old.live {
			continue
		}
		next := Slots{}
		for _, f := range claims {
			if f.peer == old.peer && f.Spec == s.spec {
				next = next.Union(f.Slots)
			}
		}
		if part := old.Slots.Intersect(next); !part.IsEmpty() {
			c.done = append(c.done, share{old, part, "its newer version waits for the volume", false})
		}
	}
}

// nameOf is how people know a peer.
func (p *Peer) nameOf(id PeerID) string {
	if id == p.cfg.Self.Peer {
		return p.cfg.Name
	}
	if m := p.members.peers[id]; m != nil && m.digest != nil && m.digest.Name != "" {
		return m.digest.Name
	}
	return string(id)
}

// atHome has a plan ask nobody but the peer that has the slots' volumes.
func (p *Peer) atHome(in *PlanInput, g part) {
	if g.home == "" {
		return
	}
	in.Kept = true
	why := fmt.Sprintf("the volume of slot %s is at %s", g.slots, p.nameOf(g.home))
	if g.slots.Len() > 1 {
		why = fmt.Sprintf("the volumes of slots %s are at %s", g.slots, p.nameOf(g.home))
	}
	for _, c := range in.Candidates {
		if id := c.Digest.Peer.Peer; id != g.home {
			in.Refused[id] = why
		}
	}
}

// anywhere is the slots of parts that are bound to no peer.
func anywhere(parts []part) Slots {
	out := Slots{}
	for _, g := range parts {
		if g.home == "" {
			out = out.Union(g.slots)
		}
	}
	return out
}

// atHomeText is why slots wait where their peer is not even known.
func (p *Peer) atHomeText(g part, outcome string) string {
	if g.home == "" || p.members.live(g.home) {
		return outcome
	}
	return fmt.Sprintf("%s; their volumes are at %s, which does not answer", outcome, p.nameOf(g.home))
}

// volumeKeep is how long the volumes of a removed app are kept.
const volumeKeep = 7 * 24 * time.Hour
