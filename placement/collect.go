package placement

import "slices"

// Ended reports whether the ledger knows that an allocation is over: its claim
// was granted in this life of the store, and is gone. Whoever deletes what is
// left of it goes by that. What an earlier life granted, what another peer did,
// and what the ledger never heard of may be anybody's, so it is not over.
func (p *Peer) Ended(id AllocationID) bool { return p.ledger.ended(id.Claim) }

func (l *Ledger) ended(id ClaimID) bool {
	if id.Owner != l.self || l.claims[id] != nil {
		return false
	}
	if _, owed := l.owed[id]; owed {
		return false // the disk may still have it
	}
	key := askerKey{id.Ask.Asker, id.Ask.Incarnation}
	if key.inc < l.newest[key.peer] {
		return true // what that life of the asker has not now, it never has again
	}
	a := l.askers[key]
	return a != nil && (id.Ask.Counter < a.Floor || slices.Contains(a.Spent, id.Ask.Counter))
}
