// Package coords is network coordinates: where a peer is, told by how far it is
// from others, so that the round trip between any two can be estimated. It is
// serf's Vivaldi (Dabek et al., 2004; Ledlie et al., 2007), guarded, since
// everybody believes what a peer says of its own coordinate.
//
// It has no clock and no network: whoever measured a round trip gives it to
// Observe with what the other said (its Own), and tells others by Own.
//
// # Usage
//
//	c := coords.New()
//	c.Observe(peer, payload, rtt)
//	rtt, confidence, ok := c.Distance("a", "b")
//
// # Invariants
//
//   - A sample that contradicts what is known moves the own coordinate little,
//     unless most do.
//   - What others say is bounded in size and value before it is taken.
package coords
