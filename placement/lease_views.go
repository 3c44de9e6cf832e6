package placement

import (
	"cmp"
	"fmt"
	"io"
	"time"
)

// LeaseView is the lease of one exclusive slot, as a keeper or its holder knows
// it.
type LeaseView struct {
	Slot   Slot
	Holder PeerID        // "" when nobody has it
	Number uint64        // of the holder's, or the last holder's right to run
	Left   time.Duration // until it is over unless it is renewed
	Waits  string        // why a slot of this peer has none, or ""
}

// leaseUnanswered is why a slot waits for a lease before anybody refused it.
const leaseUnanswered = "no majority of its keepers has answered yet"

// viewLeases is what this peer knows of the leases of a component: what it holds
// or waits for itself, and what it voted for. Its vote for itself is no lease.
func (p *Peer) viewLeases(a *app, name string) []LeaseView {
	bySlot := map[Slot]LeaseView{}
	if l := p.votes.apps[a.uid]; l != nil {
		for _, s := range l.sorted() {
			if s.Component == name && s.Claim != (ClaimID{}) && p.out.now.Mono < s.until && s.Claim.Owner.Peer != p.cfg.Self.Peer {
				bySlot[s.Slot] = LeaseView{Slot: s.Slot, Holder: s.Claim.Owner.Peer, Number: s.Number, Left: s.until - p.out.now.Mono}
			}
		}
	}
	for _, l := range p.sortedLeases() {
		if l.uid != a.uid || l.component != name || l.over {
			continue
		}
		v := bySlot[l.id.Slot]
		switch left := l.until - p.out.now.Mono; {
		case left > 0:
			v = LeaseView{Slot: l.id.Slot, Holder: p.cfg.Self.Peer, Number: l.number, Left: left}
		case l.wanted && v.Holder != p.cfg.Self.Peer:
			v.Slot, v.Waits = l.id.Slot, cmp.Or(l.why, leaseUnanswered)
		default:
			continue
		}
		bySlot[l.id.Slot] = v
	}
	var out []LeaseView
	for _, n := range sortedKeys(bySlot) {
		out = append(out, bySlot[n])
	}
	return out
}

// dumpLeases writes what this peer promised to others, and what it holds.
func (p *Peer) dumpLeases(w io.Writer) {
	now := p.out.now.Mono
	for _, uid := range sortedKeys(p.votes.apps) {
		a := p.votes.apps[uid]
		fmt.Fprintf(w, "votes %s epoch %d quiet %s floor %d named %t gone %t\n", a.Key, a.by, max(0, a.quiet-now), a.Floor, a.Named, a.Gone)
		for _, s := range a.sorted() {
			fmt.Fprintf(w, "  vote %s[%d] %s number %d highest %d left %s\n", s.Component, s.Slot, s.Claim, s.Number, s.Highest, max(0, s.until-now))
		}
	}
	for _, l := range p.sortedLeases() {
		fmt.Fprintf(w, "lease %s number %d left %s adopted %t ending %t over %t waits %q\n", l.id, l.number, max(0, l.until-now), l.adopted, l.ending, l.over, l.why)
	}
}

// fenceOf is the number under which an allocation of this peer may run, or 0.
func (p *Peer) fenceOf(id AllocationID) uint64 {
	if l := p.leases.of[id]; l != nil && p.out.now.Mono < l.until {
		return l.number
	}
	return 0
}
