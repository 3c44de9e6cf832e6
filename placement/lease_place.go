package placement

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"slices"
	"time"
)

// This file is what leases mean for placing: who keeps an exclusive app, and
// how its slots move.

// chooseFor is the keepers of a new app. Of an exclusive one they follow from
// its name: the same for whoever creates it, on either side of a cut, dead or
// alive, so that two majorities of two apps of one name share a keeper. The peer
// that accepts it keeps it too, as one more: with it a majority still needs a
// majority of the others.
func (p *Peer) chooseFor(a App, copies int) ([]PeerRef, error) {
	if !a.exclusive() {
		return p.members.chooseKeepers(p.cfg.Self, max(keepersWant, copies)), nil
	}
	selector := a.voters()
	where, err := ParseSelector(selector)
	if err != nil {
		return nil, fmt.Errorf("create %s: %w: exclusive.keepers: %w", a.Key(), ErrInvalid, err)
	}
	list := []PeerRef{p.cfg.Self}
	chosen := p.members.chooseByName(a.Key(), where, keepersWant)
	if len(chosen) == 0 {
		return nil, fmt.Errorf("create %s: %w: exclusive.keepers %q: no peer of the mesh has such labels", a.Key(), ErrInvalid, selector)
	}
	for _, ref := range chosen {
		if ref.Peer != p.cfg.Self.Peer {
			list = append(list, ref)
		}
	}
	return list, nil
}

// chooseByName is up to n peers of those that match, of distinct sites first,
// by rendezvous hashing (Thaler and Ravishankar, 1998): whoever knows the same
// peers chooses the same ones.
func (m *members) chooseByName(key AppKey, where Selector, n int) []PeerRef {
	type ranked struct {
		*member
		rank uint64
	}
	var all []ranked
	for _, q := range m.peers {
		if q.digest == nil || q.state == MemberForgotten || !where.Matches(q.digest.Labels) {
			continue
		}
		h := fnv.New64a()
		fmt.Fprintf(h, "%s\x00%s", key, q.id)
		all = append(all, ranked{q, h.Sum64()})
	}
	slices.SortFunc(all, func(a, b ranked) int { return cmp.Or(cmp.Compare(b.rank, a.rank), cmp.Compare(a.id, b.id)) })
	var list []PeerRef
	used, taken := map[SiteID]bool{}, map[PeerID]bool{}
	for _, sameSite := range []bool{false, true} {
		for _, q := range all {
			if len(list) < n && !taken[q.id] && (sameSite || !used[q.site]) {
				list = append(list, q.digest.Peer)
				taken[q.id], used[q.site] = true, true
			}
		}
	}
	return list
}

// betterVoters brings the keepers of an exclusive app nearer to those that its
// name chooses, as for an app of that name that is created now. Who is merely dead
// stays: on the other side of a cut it may vote for an app of the same name.
func (p *Peer) betterVoters(a *app) (better []PeerRef, why string) {
	list := a.keepers.list.Peers
	where, err := ParseSelector(a.win.intent.App.voters())
	if err != nil {
		return nil, ""
	}
	named := p.members.chooseByName(a.key, where, keepersWant)
	next := slices.IndexFunc(named, func(ref PeerRef) bool {
		lasts := p.members.calm(ref.Peer, p.out.now.Mono) || ref == p.cfg.Self
		return lasts && !slices.ContainsFunc(list, func(o PeerRef) bool { return o == ref })
	})
	without := func(i int) []PeerRef { return slices.Delete(slices.Clone(list), i, i+1) }
	for i, ref := range list {
		why, forever := p.members.keeperGone(ref, p.out.now.Mono)
		switch {
		case !forever:
		case next >= 0 && !slices.ContainsFunc(without(i), func(o PeerRef) bool { return o.Peer == named[next].Peer }):
			return append(without(i), named[next]), why
		case len(list) > 1:
			return without(i), why
		}
	}
	if next < 0 || slices.ContainsFunc(list, func(o PeerRef) bool { return o.Peer == named[next].Peer }) {
		return nil, ""
	}
	why = fmt.Sprintf("the app's name chooses %s", named[next].Peer)
	for i := len(list) - 1; i >= 0 && len(list) >= keepersWant; i-- {
		if !slices.Contains(named, list[i]) && list[i].Peer != p.cfg.Self.Peer {
			return append(without(i), named[next]), why
		}
	}
	if len(list) > keepersWant {
		return nil, ""
	}
	return append(slices.Clone(list), named[next]), why
}

// handOver ends an older copy of an exclusive slot, once the newer one waits for
// nothing but the lease: its claim is granted and its artifact there, so that the
// gap between the two is short. Neither waits for the other while that is not so.
//
// An older copy that itself waits for the lease of another one makes way: a
// version came after it, and nothing would be moved to that while both are there.
// So does any that waits for a lease when what is wanted is exclusive no more:
// nobody grants it one.
func (c *course) handOver(s situation, claims []fact) {
	if !s.exclusive {
		for _, f := range claims {
			if f.live && f.Exclusive && !s.conflict && f.Spec != s.spec && !f.Ready.IsEmpty() {
				c.ends(f, f.Ready, "waits for a lease, and a version came that needs none")
			}
		}
		return
	}
	ready, held := Slots{}, Slots{}
	for _, f := range claims {
		switch {
		case !f.live:
		case f.Spec == s.spec:
			ready = ready.Union(f.Ready)
		case !s.conflict:
			held = held.Union(f.Running)
		}
	}
	for _, f := range claims {
		if !f.live || f.Spec == s.spec {
			continue
		}
		c.ends(f, f.Slots.Intersect(ready), "a newer version waits for its lease")
		c.ends(f, f.Ready.Intersect(held).Minus(ready), "a newer version came while it waited for its lease")
	}
}

// noteLeases says what exclusive slots wait for.
func (s *Steward) noteLeases(name string, sit situation) {
	ready, running := Slots{}, Slots{}
	for _, f := range sit.claims {
		if !f.lost {
			ready, running = ready.Union(f.Ready), running.Union(f.Running)
		}
	}
	for n := range ready.Minus(running).Min(notesMax).All() {
		s.note("%s: slot %d waits for its lease: %s", name, n, s.p.leaseWaits(s.a.uid, name, n))
	}
}

// leaseWaits says why nobody has the lease of a slot, as far as this peer knows:
// it voted for another, or its own claim waits for the votes of others.
func (p *Peer) leaseWaits(uid UID, component string, n Slot) string {
	l := p.votes.apps[uid]
	if l == nil {
		return leaseUnanswered
	}
	v := l.slots[slotName{component, n}]
	if v == nil || v.Claim == (ClaimID{}) {
		return leaseUnanswered
	}
	if v.Claim.Owner.Peer != p.cfg.Self.Peer {
		return heldBy(v.Claim.Owner.Peer, v.until-p.out.now.Mono)
	}
	if mine := p.leases.of[AllocationID{v.Claim, n}]; mine != nil {
		return cmp.Or(mine.why, leaseUnanswered)
	}
	return leaseUnanswered
}

func heldBy(id PeerID, left time.Duration) string {
	if left <= 0 {
		return fmt.Sprintf("the last one, of %s, is over", id)
	}
	return fmt.Sprintf("held by %s for %s more", id, left.Round(time.Second))
}
