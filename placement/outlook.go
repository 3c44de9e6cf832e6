package placement

import (
	"fmt"
	"time"
)

// This file is what a person is told of slots that are not in reach, or that
// stop by themselves: what will be done about them, and when.

// Outlook is what will be done about the slots of a component at a peer.
type Outlook struct {
	Kind    FateKind
	At      int64 // Unix milliseconds: from when on they are placed anew; 0: never, or not known
	StopsAt int64 // Unix milliseconds: when its peer stops them itself; 0: never
	Here    bool  // placed anew on this side of a cut, for replace: always
}

// outlook is what will become of what a peer has of a component, as far as this
// peer knows: whoever drives the app may see another state.
func (p *Peer) outlook(a *app, pol Policy, id PeerID) Outlook {
	deputy := !p.majority(a)
	f := p.fateOf(pol, id, deputy)
	o := Outlook{Kind: f.kind, StopsAt: p.stopsAt(a, pol, id)}
	if f.at > 0 {
		o.At = p.wallAt(f.at).UnixMilli()
	}
	switch {
	case f.kind == FateNone || f.kind == FateNever:
	case len(a.keepers.list.Peers) == 0:
		o.Kind, o.At = FateUnknown, 0
	case deputy && pol.Replace == ReplaceAlways:
		o.Here = true
	case deputy && !p.onSide(a, id):
		o.Kind, o.At = FateElsewhere, 0
	}
	return o
}

// onSide says whether what a peer has is this side's to place anew, although it
// is not in reach: it died after the cut.
func (p *Peer) onSide(a *app, id PeerID) bool {
	c, m := p.cuts.open[a.uid], p.members.peers[id]
	return c != nil && m != nil && m.state != "" && m.since > c.since+p.tune.Grace
}

// stopsAt is when a peer stops what it has by itself: this one for certain,
// another that is not in reach by about then, if it is cut off and not dead.
func (p *Peer) stopsAt(a *app, pol Policy, id PeerID) int64 {
	if pol.StopAfter == 0 {
		return 0
	}
	after := time.Duration(pol.StopAfter)
	c := p.cuts.open[a.uid]
	switch {
	case c != nil && (id == p.cfg.Self.Peer || p.members.live(id)):
		return p.wallAt(p.out.now.Mono + after - c.length(p.out.now.Mono)).UnixMilli()
	case c == nil && !p.members.live(id):
		if since, _, known := p.deadSince(id); known {
			return p.wallAt(since + after).UnixMilli()
		}
	}
	return 0
}

// noteWaits says what of a component is lost and not placed anew, or not yet.
// What runs elsewhere too is not missed; a peer that is waited for is out of
// reach, so that none of that is its own.
func (s *Steward) noteWaits(name string, sit situation) {
	waits := map[PeerID]Slots{}
	for _, f := range sit.claims {
		if fate := sit.fates[f.peer]; fate.kind != FateNone && !fate.lost {
			waits[f.peer] = waits[f.peer].Union(f.Slots.Intersect(sit.wanted))
		}
	}
	if len(waits) == 0 {
		return // as in most rounds
	}
	elsewhere := Slots{}
	for _, f := range sit.claims {
		if f.live {
			elsewhere = elsewhere.Union(f.Slots)
		}
	}
	for _, id := range sortedKeys(waits) {
		if slots := waits[id].Minus(elsewhere); !slots.IsEmpty() {
			s.note("%s: slots %s at %s %s", name, slots, id, s.p.fateText(sit.fates[id]))
		}
	}
}

// fateText is a fate in words, with times of day in UTC.
func (p *Peer) fateText(f fate) string {
	at := p.wallAt(f.at).Format(time.TimeOnly)
	switch f.kind {
	case FateNever:
		return "wait for it (replace: never)"
	case FateMass:
		return "wait, because more than a third of the sites were lost at once: until " + at
	case FateAnnounced:
		return "wait for it, as it announced: until " + at
	case FateReplaced:
		return "are placed anew at " + at + ", unless it comes back"
	}
	return "wait for it to be heard of"
}

func massText(lost, of int, until time.Time) string {
	return fmt.Sprintf("%d of %d sites were lost at once: what ran there is not placed anew before %s, unless they come back",
		lost, of, until.Format(time.TimeOnly))
}
