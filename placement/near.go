package placement

// nearTimes is the round-trip times in microseconds from what a component
// should be near: from a site, or from the peers where another component is.
func (p *Peer) nearTimes(near *Near, hosts map[PeerID]bool) map[PeerID]int64 {
	there := map[PeerID]bool{}
	for id := range hosts {
		there[id] = true
	}
	for id, m := range p.members.peers {
		if near.Site != "" && m.site == SiteID(near.Site) {
			there[id] = true
		}
	}
	out := map[PeerID]int64{}
	for id := range there {
		for other := range p.members.peers {
			rtt, ok := p.rttBetween(id, other)
			if have, known := out[other]; ok && (!known || rtt < have) {
				out[other] = rtt
			}
		}
	}
	return out
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

// rttBetween is what is known of the round trip between two peers: from this
// peer it was measured; of two others only "the same site" is certain.
func (p *Peer) rttBetween(x, y PeerID) (int64, bool) {
	if x == y {
		return 0, true
	}
	a, b := p.members.peers[x], p.members.peers[y]
	switch {
	case a == nil || b == nil: // it reported before failure detection spoke of it
		return 0, false
	case a.site == b.site:
		return 0, true
	case x == p.cfg.Self.Peer && b.rtt >= 0:
		return b.rtt.Microseconds(), true
	case y == p.cfg.Self.Peer && a.rtt >= 0:
		return a.rtt.Microseconds(), true
	case p.cfg.RTT != nil:
		if d, ok := p.cfg.RTT(x, y); ok {
			return d.Microseconds(), true
		}
	}
	return 0, false
}
