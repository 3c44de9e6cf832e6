package placement

import "slices"

// lists is the keepers of an app: those that decide now and, while the list is
// being changed, those that are to follow them. What needs a majority needs one
// of each then (joint consensus: Ongaro and Ousterhout, 2014, section 6).
type lists struct {
	now, next keeperList // next has no peers unless a change is under way
}

// decided says whether those that have says yes of are enough to decide.
func (l lists) decided(have func(PeerRef) bool) bool {
	for _, k := range []Keepers{l.now.list, l.next.list} {
		n := 0
		for _, ref := range k.Peers {
			n += btoi(have(ref))
		}
		if n < k.Majority() && len(k.Peers) > 0 {
			return false
		}
	}
	return len(l.now.list.Peers) > 0
}

// has says whether a peer is in one of them.
func (l lists) has(id PeerID) bool { return l.now.list.has(id) || l.next.list.has(id) }

// refs is the members of both, each once, in order.
func (l lists) refs() []PeerRef {
	out := slices.Clone(l.now.list.Peers)
	for _, ref := range l.next.list.Peers {
		if !slices.Contains(out, ref) {
			out = append(out, ref)
		}
	}
	return out
}
