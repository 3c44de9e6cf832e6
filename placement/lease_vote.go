package placement

import "slices"

// This file is a keeper's side of the messages about leases.

// onLease votes on what a holder asks for. What is only renewed is answered at
// once; what must be on disk first is answered when it is.
func (p *Peer) onLease(from PeerID, m *leaseMsg) {
	now := leasedMsg{Request: m.Request, By: p.voterRef()}
	later := now
	var writes []Write
	var onDisk []func()
	for i := range m.Items {
		it := &m.Items[i]
		if it.Claim.Owner.Peer != from {
			continue // a holder speaks for itself
		}
		answer, s, wrote := p.leaseVote(it)
		if len(wrote) == 0 {
			now.Items = append(now.Items, answer)
			continue
		}
		later.Items, writes = append(later.Items, answer), append(writes, wrote...)
		if n := s.writes; n > 0 {
			onDisk = append(onDisk, func() { s.onDisk = max(s.onDisk, n) })
		}
	}
	if len(now.Items) > 0 {
		p.out.send(from, message{Leased: &now})
	}
	if len(later.Items) == 0 {
		return
	}
	p.out.persist(writes, func(failed *PersistFailed) {
		if failed != nil {
			return // nothing was promised; what is in memory is only stricter
		}
		for _, done := range onDisk {
			done()
		}
		p.out.send(from, message{Leased: &later})
	})
}

// leaseVote decides on one item, and returns what must be on disk before it is
// answered.
func (p *Peer) leaseVote(it *leaseItem) (answer leasedItem, s *leaseSlot, writes []Write) {
	k, now := p.votes, p.out.now
	answer = leasedItem{Claim: it.Claim, Slot: it.Slot, Number: it.Number, Lists: it.Lists}
	if it.Over {
		answer.Over = true
		if a := k.apps[it.UID]; a != nil {
			if s, changed := k.free(a, it); changed {
				return answer, s, []Write{s.write()}
			}
		}
		return answer, &leaseSlot{}, nil
	}
	a := p.apps[it.UID]
	if a == nil || !p.votesOn(a, it) {
		answer.Not = leaseUnknown
		return answer, &leaseSlot{}, nil
	}
	by := a.lists().id()
	if by != it.Lists {
		p.tellLists(it.Claim.Owner.Peer, it.UID)
		answer.Not = leaseOther
		return answer, &leaseSlot{}, nil
	}
	l := k.votesBy(a.uid, a.key, by.Now, p.keeper.listed(a.keepers.list), now)
	if l == nil {
		answer.Not = leaseUnknown
		return answer, &leaseSlot{}, nil
	}
	name, ok := k.takeName(l, func(uid UID) bool { o := p.apps[uid]; return o != nil && !o.win.intent.Removed }, now)
	if !ok {
		answer.Not = leaseName
		return answer, &leaseSlot{}, nil
	}
	writes = append(name, k.settled(l, now)...)
	answer, s, changed := k.vote(l, it, now)
	if changed {
		writes = append(writes, s.write())
	}
	return answer, s, writes
}

// votesOn says whether this peer is a keeper of such a slot: in this life of its
// store, and of an app whose intent it holds.
func (p *Peer) votesOn(a *app, it *leaseItem) bool {
	broken := p.tune.Break == FaultNewVotes
	if !slices.ContainsFunc(a.lists().refs(), func(ref PeerRef) bool { return ref == p.cfg.Self || broken && ref.Peer == p.cfg.Self.Peer }) {
		return false
	}
	held := a.versions
	if r := p.keeper.records[a.uid]; r != nil {
		held = r.versions
	} else if !broken {
		return false
	}
	if l := p.votes.apps[a.uid]; l != nil {
		if s := l.slots[slotName{it.Component, it.Slot}]; s != nil && s.Claim == it.Claim {
			return true // of a version that is gone, perhaps
		}
	}
	return slices.ContainsFunc(held, func(v version) bool {
		c, ok := v.intent.App.Components[it.Component]
		return ok && c.Exclusive.On && !v.intent.Removed && int(it.Slot) < c.Wanted()
	})
}

// voterRef is as whom this peer votes.
func (p *Peer) voterRef() PeerRef {
	if p.tune.Break == FaultNewVotes {
		return PeerRef{Peer: p.cfg.Self.Peer, Incarnation: 1} // as in its first life
	}
	return p.cfg.Self
}

// followLists notes by which list this peer votes on an app's leases, as soon as
// it knows: what it waits for then is over sooner.
func (p *Peer) followLists(a *app) {
	if p.votes.apps[a.uid] == nil && !a.win.intent.App.exclusive() || !slices.Contains(a.lists().refs(), p.cfg.Self) {
		return
	}
	p.votes.votesBy(a.uid, a.key, a.lists().id().Now, p.keeper.listed(a.keepers.list), p.out.now)
}
