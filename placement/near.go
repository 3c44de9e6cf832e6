package placement

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// nearTimes is the round trips from what a component should be near: from a site,
// or from the peers where another component is.
func (p *Peer) nearTimes(near *Near, hosts map[PeerID]bool) map[PeerID]Distance {
	there := p.there(near, hosts)
	out := map[PeerID]Distance{}
	for other := range p.members.peers {
		// From each site what was measured, else the least that is estimated; of all
		// sites the least.
		sites := map[SiteID]Distance{}
		for id := range there {
			d, ok := p.rttBetween(id, other)
			site := p.siteOf(id)
			if have, known := sites[site]; ok && (!known || d.Measured && !have.Measured || d.Measured == have.Measured && d.RTT < have.RTT) {
				sites[site] = d
			}
		}
		for _, d := range sites {
			if have, known := out[other]; !known || d.RTT < have.RTT || d.RTT == have.RTT && d.Measured {
				out[other] = d
			}
		}
	}
	return out
}

// there is the peers that a component should be near.
func (p *Peer) there(near *Near, hosts map[PeerID]bool) map[PeerID]bool {
	there := map[PeerID]bool{}
	for id := range hosts {
		there[id] = true
	}
	for id, m := range p.members.peers {
		if near.Site != "" && m.site == SiteID(near.Site) {
			there[id] = true
		}
	}
	return there
}

func (p *Peer) siteOf(id PeerID) SiteID {
	if m := p.members.peers[id]; m != nil {
		return m.site
	}
	return ""
}

// hostsOf is the peers that hold slots of a component.
func (a *app) hostsOf(component string) map[PeerID]bool {
	hosts := map[PeerID]bool{}
	for id, r := range a.rows {
		for _, c := range r.claims() {
			if c.Component == component {
				hosts[id] = true
			}
		}
	}
	return hosts
}

// hosts is the same with those that are asked for slots of it now.
func (s *Steward) hosts(component string) map[PeerID]bool {
	hosts := s.a.hostsOf(component)
	for _, o := range s.asks {
		if o.component == component {
			hosts[o.to] = true
		}
	}
	return hosts
}

// rttBetween is what is known of the round trip between two peers: of those of one
// site it is nothing, of others what was measured lately, else what this peer found
// itself, or coordinates tell.
func (p *Peer) rttBetween(x, y PeerID) (Distance, bool) {
	if x == y {
		return Distance{0, true}, true
	}
	a, b := p.members.peers[x], p.members.peers[y]
	if a == nil || b == nil { // it reported before failure detection spoke of it
		return Distance{}, false
	}
	if a.site == b.site {
		return Distance{0, true}, true
	}
	if rtt, ok := p.distances.measured(a.site, b.site, p.out.now.Mono); ok {
		return Distance{rtt, true}, true
	}
	switch {
	case x == p.cfg.Self.Peer && b.rtt >= 0:
		return Distance{RTT: b.rtt.Microseconds()}, true
	case y == p.cfg.Self.Peer && a.rtt >= 0:
		return Distance{RTT: a.rtt.Microseconds()}, true
	case p.cfg.RTT != nil:
		if d, ok := p.cfg.RTT(x, y); ok {
			return Distance{RTT: d.Microseconds()}, true
		}
	}
	return Distance{}, false
}

// ToMeasure is the candidates whose distance a plan turns on, the nearest first as
// far as is known, one for each site. It is none when there is nothing to choose:
// what is near for certain has room for all, or there is one site only, and no limit.
func ToMeasure(in PlanInput) []PeerID {
	comp := in.App.Components[in.Component]
	near := comp.Place.Near
	if near == nil || in.Slots.IsEmpty() {
		return nil
	}
	// How far is too far is what is to be found out.
	comp.Place.Near = &Near{Component: near.Component, Site: near.Site}
	in.App = in.App.with(in.Component, comp)
	here, best := 0, map[SiteID]*option{}
	all := eligible(in)
	for i := range all {
		o := &all[i]
		if o.near.Measured && o.near.RTT == 0 {
			here += o.view.Fits
			continue
		}
		if have := best[o.view.Site]; have == nil || o.nearer(have) {
			best[o.view.Site] = o
		}
	}
	enough := here >= in.Slots.Len() && comp.Place.Spread == ""
	if enough || near.RTT == 0 && (len(best) == 0 || here == 0 && len(best) == 1) {
		return nil
	}
	order := make([]*option, 0, len(best))
	for _, site := range sortedKeys(best) {
		order = append(order, best[site])
	}
	slices.SortFunc(order, func(a, b *option) int {
		if a.nearer(b) {
			return -1
		}
		return 1
	})
	out := make([]PeerID, 0, min(len(order), MeasureMax))
	for _, o := range order[:min(len(order), MeasureMax)] {
		out = append(out, o.view.Peer)
	}
	return out
}

// toMeasure is who should be asked what before a plan is made, and until when an
// answer is waited for that is under way already; 0 is not at all.
func (p *Peer) toMeasure(in PlanInput, there map[PeerID]bool) (asks []Measure, until time.Duration) {
	order := ToMeasure(in)
	if len(order) == 0 {
		return nil, 0
	}
	now := p.out.now.Mono
	measurers := p.measurers(there, order)
	for _, from := range measurers {
		to := slices.DeleteFunc(slices.Clone(order), func(id PeerID) bool { return p.siteOf(id) == p.siteOf(from) })
		slices.SortStableFunc(to, func(a, b PeerID) int { return p.compareFrom(from, a, b) })
		m := Measure{From: from, To: to, Probe: (MeasureProbes + len(measurers) - 1) / len(measurers)}
		wanted := false
		for _, id := range to[:min(len(to), m.Probe)] {
			wanted = wanted || p.distances.wanted(p.siteOf(from), p.siteOf(id), now)
			until = max(until, p.distances.awaited(p.siteOf(from), p.siteOf(id), now, p.tune.MeasureWait))
		}
		if wanted {
			asks = append(asks, m)
		}
	}
	return asks, until
}

// compareFrom orders two peers by how far they are from a third: what is not known
// is far.
func (p *Peer) compareFrom(from, a, b PeerID) int {
	x, knownX := p.rttBetween(from, a)
	y, knownY := p.rttBetween(from, b)
	if knownX != knownY {
		return cmp.Compare(btoi(knownY), btoi(knownX))
	}
	return cmp.Compare(x.RTT, y.RTT)
}

// measurers is who measures: one live peer of each site that is to be near, and of
// many sites those that most of the nearest candidates are nearest to.
func (p *Peer) measurers(there map[PeerID]bool, order []PeerID) []PeerID {
	bySite := map[SiteID]PeerID{}
	for _, id := range sortedKeys(there) {
		if site := p.siteOf(id); p.members.live(id) && bySite[site] == "" {
			bySite[site] = id
		}
	}
	votes := map[PeerID]int{}
	for _, id := range order[:min(len(order), MeasureProbes)] {
		var nearest PeerID
		least := int64(0)
		for _, site := range sortedKeys(bySite) {
			if d, ok := p.rttBetween(bySite[site], id); ok && (nearest == "" || d.RTT < least) {
				nearest, least = bySite[site], d.RTT
			}
		}
		if nearest != "" {
			votes[nearest]++
		}
	}
	var out []PeerID
	for _, site := range sortedKeys(bySite) {
		out = append(out, bySite[site])
	}
	slices.SortStableFunc(out, func(a, b PeerID) int { return cmp.Compare(votes[b], votes[a]) })
	return out[:min(len(out), measurersMax)]
}

// waitsForDistances asks for the distances that a plan turns on, if they were not
// measured lately, and says whether their answers are waited for: for a while, then
// coordinates decide. A component that is near nothing costs nothing.
func (s *Steward) waitsForDistances(name string, comp Component, slots Slots) bool {
	near := comp.Place.Near
	if near == nil {
		return false
	}
	p, now := s.p, s.p.out.now.Mono
	asks, until := p.toMeasure(s.planInput(name, comp, slots), p.there(near, s.hosts(near.Component)))
	for _, m := range asks {
		for _, id := range m.To {
			p.distances.ask(p.siteOf(m.From), p.siteOf(id), now)
		}
		p.out.emit(m)
		until = now + p.tune.MeasureWait
	}
	if until == 0 {
		return false
	}
	p.distances.waiting[s.a.uid] = true
	s.dueBy(until)
	s.short[name] = "how far they would be from " + cmp.Or(near.Component, near.Site) + " is being measured"
	return true
}

// nearText says of a plan what its distances are from.
func nearText(in PlanInput) string {
	if in.App.Components[in.Component].Place.Near == nil {
		return ""
	}
	measured, estimated := 0, 0
	for _, c := range in.Candidates {
		if d, ok := in.Near[c.Digest.Peer.Peer]; ok && d.Measured {
			measured++
		} else if ok {
			estimated++
		}
	}
	return fmt.Sprintf("; distances: %d measured, %d estimated", measured, estimated)
}
