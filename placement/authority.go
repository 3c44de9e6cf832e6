package placement

import (
	"slices"
)

// This file is who may say what. The transport vouches for the sender of a
// message, and a record for its writer; what a sender claims to be beyond that
// is held here against the app's keeper list.
//
//	forward            any peer, for a person
//	store, raise, hold, whoever has, or wants, the term: one of the keepers
//	  chronicle
//	  without a term   any peer: an edit accepted below a majority, a deputy
//	raised, stored,    one of the keepers
//	  chronicled
//	ask, commit,       whoever has the term; an ask also a deputy, which
//	  release, pin       raises no ledger's term, and a release a deputy whose
//	                     word the claim's peer can check (rollside.go)
//	lease              the peer whose claim it is
//	leased             a keeper, in this life of its store
//	offer, report,     the peer that owns the claims in it
//	  pinned, committed
//
// A keeper that lies can still take the term of its apps, or keep others from
// it: votes are not signed. A peer that is none cannot.

// has says whether a peer is in the list.
func (k Keepers) has(id PeerID) bool {
	return slices.ContainsFunc(k.Peers, func(ref PeerRef) bool { return ref.Peer == id })
}

// mayHave says whether a peer may have a term of an app whose highest known
// number is seen: it is a keeper, and the number is within reach. Of an app
// whose list is not known yet anyone may.
func (p *Peer) mayHave(uid UID, t Term, seen uint64) bool {
	return p.listsOf(uid).mayHave(t, seen)
}

func (l lists) mayHave(t Term, seen uint64) bool {
	return t.within(seen) && (l.now.list.Peers == nil || l.has(t.Peer))
}

// within says whether a number is within reach of the highest that is known.
func (t Term) within(seen uint64) bool { return t.Number > 0 && t.Number <= seen+termJumpMax }

// highest is the highest number of a term of an app that this peer knows of.
func (p *Peer) highest(uid UID) uint64 {
	n := p.ledger.terms[uid].Number
	if r := p.keeper.records[uid]; r != nil {
		n = max(n, r.Term.Number, r.heard.Number, r.refused)
	}
	return n
}

// term is the highest number that lists were proposed under.
func (l lists) term() uint64 { return max(l.now.list.Term.Number, l.next.list.Term.Number) }

// mayOrder says whether an order under a term is its sender's to give.
func (p *Peer) mayOrder(from PeerID, uid UID, t Term) bool {
	return t.Peer == from && p.mayHave(uid, t, p.highest(uid))
}

// isKeeper says whether a peer is one of an app's keepers.
func (p *Peer) isKeeper(uid UID, id PeerID) bool { return p.listsOf(uid).has(id) }
