package placement

import (
	"maps"
	"slices"
	"time"
)

// fate is what becomes of the slots of a component at a peer, in the eyes of
// whoever drives the app. It is decided here for those that act on it and for
// those that show it.
type fate struct {
	kind FateKind
	lost bool          // they are to be placed anew now
	at   time.Duration // Now.Mono from when on they are; 0: never
}

// FateKind says why slots at a peer that is not in reach are left, or not.
type FateKind string

// The kinds of fate.
const (
	FateNone      FateKind = ""          // the peer is in reach
	FateReplaced  FateKind = "replace"   // placed anew, at once or when lost_after is over
	FateNever     FateKind = "never"     // replace: never, so they wait for their peer
	FateMass      FateKind = "mass-loss" // too many sites were lost at once
	FateAnnounced FateKind = "announced" // the peer said that it will be back
	FateForgotten FateKind = "forgotten" // the peer was shut out: placed anew at once
	FateElsewhere FateKind = "elsewhere" // on the other side of a cut, which is not this side's to decide
	FateUnknown   FateKind = "unknown"   // nobody who decides is in reach
)

// fateOf is what becomes of what a peer has of a component under a policy, on
// the side that has a majority of the keepers or, for a deputy, on one without.
func (p *Peer) fateOf(pol Policy, id PeerID, deputy bool) fate {
	now, m := p.out.now.Mono, p.members
	switch {
	case m.live(id):
		return fate{}
	case m.forgotten(id): // it never comes back, and nothing can wait for it
		return fate{kind: FateForgotten, lost: true, at: m.peers[id].since}
	case pol.Replace == ReplaceNever:
		return fate{kind: FateNever}
	}
	since, announced, known := p.deadSince(id)
	if !known {
		return fate{kind: FateUnknown}
	}
	f := fate{kind: FateReplaced, at: since + time.Duration(pol.LostAfter)}
	if announced {
		f.kind = FateAnnounced
		m.tune.mark(MarkBackWithin)
	}
	// A side that is cut off from most sites sees a mass loss: replace: always
	// is for that.
	if m.massLoss(now) && m.massUntil > f.at && !(deputy && pol.Replace == ReplaceAlways) {
		f.kind, f.at = FateMass, m.massUntil
		m.tune.mark(MarkMassLossWaits)
	}
	f.lost = now >= f.at
	return f
}

// deadSince is when a peer that is not in reach was called dead, or will be if
// it does not come back as announced. One that this peer has not heard of since
// it started counts from when its own side of the mesh must have been found.
func (p *Peer) deadSince(id PeerID) (since time.Duration, announced, known bool) {
	m := p.members.peers[id]
	if m == nil || m.state == "" {
		since = p.started + p.tune.Grace
		// What it says itself in the meantime is no sign of death.
		return since, false, p.out.now.Mono >= since && !p.heardSince(id)
	}
	return max(m.since, m.backBy), m.backBy > p.out.now.Mono, !m.live
}

// heardSince says whether a peer has reported anything since this one started.
func (p *Peer) heardSince(id PeerID) bool {
	for _, a := range p.apps {
		if a.rows[id] != nil {
			return true
		}
	}
	return false
}

// held is the slots of a component that a peer which is not in reach had when
// it was last heard, as its summary in the table says: for whoever began to
// drive the app, or started, after that.
func (p *Peer) held(uid UID, id PeerID, component string) Slots {
	sum, ok := p.catalog.status[uid][id]
	if !ok || p.members.live(id) || p.members.reborn(sum.Peer) {
		return Slots{}
	}
	return sum.Slots[component]
}

// facts is what is known of the claims of one component, in order of their
// peers. What a peer that is out of reach and was never heard here has is one
// fact without an id: nobody can order anything of it.
func (s *Steward) facts(name string, pol Policy) (facts []fact, fates map[PeerID]fate) {
	p, a := s.p, s.a
	fates = map[PeerID]fate{}
	facts = make([]fact, 0, len(a.rows)) // most have one claim of it
	for _, id := range p.holdersKnown(a) {
		f := p.fateOf(pol, id, s.deputy)
		r := a.rows[id]
		if r == nil {
			if slots := p.held(a.uid, id, name); !slots.IsEmpty() {
				_, spec, _ := p.wants(a, name)
				facts = append(facts, fact{peer: id, lost: f.lost, claimStatus: claimStatus{
					Component: name, Spec: spec, Slots: slots, Running: slots,
				}})
				fates[id] = f
			}
			continue
		}
		for _, c := range r.claims() {
			if c.Component == name && !c.Slots.IsEmpty() {
				live, back := p.members.live(id), p.members.backSince(id, r.at)
				back = back || live && c.Unsure
				facts = append(facts, fact{claimStatus: c, peer: id, lost: f.lost, live: live && !back, back: back})
				fates[id] = f
			}
		}
	}
	return facts, fates
}

// holdersKnown is the peers that have something of an app, as far as is known
// here, sorted.
func (p *Peer) holdersKnown(a *app) []PeerID {
	all := slices.AppendSeq(slices.Collect(maps.Keys(a.rows)), maps.Keys(p.catalog.status[a.uid]))
	slices.Sort(all)
	return slices.Compact(all)
}

// wantedHere is the part of what is wanted of a component that this steward may
// place. A deputy has what was on its side at the cut and what edits accepted
// there add; with replace: always all of it, once lost_after is over since the
// majority was lost.
func (s *Steward) wantedHere(name string, pol Policy, wanted Slots) Slots {
	if !s.deputy {
		return wanted
	}
	c := s.p.cuts.open[s.a.uid]
	if c != nil && c.over(pol, s.p.out.now.Mono) {
		return Slots{} // stop_after: nobody here runs it any more
	}
	if pol.Replace == ReplaceAlways && c != nil && s.p.out.now.Mono-c.since >= time.Duration(pol.LostAfter) {
		return wanted
	}
	return wanted.Intersect(s.side[name].Union(s.added(name)))
}

// onMassLoss says when what is lost begins to wait because so much of it was
// lost at once, and until when.
func (p *Peer) onMassLoss(before time.Duration) {
	m, now := p.members, p.out.now
	was, is := now.Mono < before, m.massLoss(now.Mono)
	switch {
	case is && !was:
		p.out.happened(Happened{Type: "mass-loss", Peer: p.cfg.Self.Peer, Message: massText(len(m.massSites), len(m.sites()), p.wallAt(m.massUntil))})
	case was && !is:
		p.out.happened(Happened{Type: "mass-loss-over", Peer: p.cfg.Self.Peer, Message: "enough of the sites that were lost at once are back"})
	}
}

// wallAt is a time of this peer's own clock, in UTC.
func (p *Peer) wallAt(mono time.Duration) time.Time {
	return p.out.now.Wall.Add(mono - p.out.now.Mono).UTC()
}
