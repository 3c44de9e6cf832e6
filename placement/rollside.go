package placement

// This file is how an edit that was accepted on a side of a cut that has no
// majority of the app's keepers rolls that side, and nothing else. Nobody there
// has a term, so that no order binds anyone: each peer gives back itself what
// the one version that it knows to stand replaces, and the deputy tells it when
// the replacement runs.

// rollsSide says whether this deputy may move what is on its side: one version
// stands, and it was accepted here. What the majority had begun to roll out
// before the cut pauses.
func (s *Steward) rollsSide() bool {
	return s.deputy && s.p.acceptedHere(s.a)
}

// acceptedHere says whether the only version of an app that stands was accepted
// on this side, below a majority.
func (p *Peer) acceptedHere(a *app) bool {
	i := &a.win.intent
	return len(a.versions) == 1 && i.Alone && p.members.live(i.Version.Peer) && !p.majority(a)
}

// rolledHere says whether a claim of this peer may be given back on the word of
// a deputy: this peer sees no majority either, takes the sender for the deputy of
// its side, and knows itself that the claim is of an older version, with another
// spec, than the one that was accepted here.
func (p *Peer) rolledHere(from PeerID, m *releaseMsg, c *claim) bool {
	a := p.apps[m.UID]
	if !m.Deputy || c == nil || a == nil || !p.acceptedHere(a) || p.deputyOf(m.UID) != from {
		return false
	}
	i := &a.win.intent
	comp, exists := i.App.Components[c.Component]
	return exists && m.Version == i.Version && c.Version.Compare(i.Version) < 0 && SpecHash(comp) != c.SpecHash
}
