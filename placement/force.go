package placement

import (
	"fmt"
	"slices"
)

// This file is the list of keepers that a person forces, where the old one has
// no majority any more and never will: nobody is asked, and what the others held
// alone is lost. It is allowed only over keepers that were shut out of the mesh,
// so that those that are wrongly taken for gone cannot go on beside it.

// forceTermJump is how far a forced list's first term is above the highest that
// is known, so that it does not meet one that only those who are gone knew of.
const forceTermJump = 1 << 10

// allGone says whether all that a forced list leaves out were shut out of the
// mesh, as far as this peer knows.
func (p *Peer) allGone(old, list Keepers) bool {
	for _, ref := range old.Peers {
		if !slices.Contains(list.Peers, ref) && !p.members.forgotten(ref.Peer) && !p.members.reborn(ref) {
			return false
		}
	}
	return true
}

// onForce gives new keepers to every app that a peer kept and that has no
// majority of them left.
func (p *Peer) onForce(ev ForceEpoch) {
	res := Forced{Ticket: ev.Ticket, Refused: map[AppKey]string{}}
	for _, uid := range p.uids() {
		a := p.apps[uid]
		if !a.lists().has(ev.Peer) || p.majority(a) {
			continue
		}
		if why := p.mayForce(a); why != "" {
			res.Refused[a.key] = why
			continue
		}
		p.force(a)
		res.Apps = append(res.Apps, a.key)
	}
	p.out.emit(res)
}

// mayForce says why an app's keepers cannot be forced, or "".
func (p *Peer) mayForce(a *app) string {
	for _, ref := range a.lists().refs() {
		if !p.keeperLives(ref) && !p.members.forgotten(ref.Peer) && !p.members.reborn(ref) {
			return fmt.Sprintf("its keeper %s is not in reach and may come back: forget it too, or wait for it", ref.Peer)
		}
	}
	return ""
}

// pastTerm is the highest number of a term that this peer knows of in any way: heard of
// from others, proposed a list of keepers, or wrote what stands.
func (p *Peer) pastTerm(a *app) uint64 {
	_, wrote := baseOf(a.versions)
	return max(p.knownTerm(a).Number, p.highest(a.uid), a.lists().term(), wrote)
}

// force makes the list of those that live, this peer and more, in an epoch of
// its own.
func (p *Peer) force(a *app) {
	old := a.lists()
	k := Keepers{UID: a.uid, Epoch: max(old.now.list.Epoch, old.next.list.Epoch) + 1, Forced: true,
		Term: Term{Number: p.pastTerm(a) + forceTermJump, Peer: p.cfg.Self.Peer}}
	for _, ref := range old.refs() {
		if p.keeperLives(ref) && len(k.Peers) < keepersWant {
			k.Peers = append(k.Peers, ref)
		}
	}
	if !k.has(p.cfg.Self.Peer) && len(k.Peers) < keepersWant {
		k.Peers = append(k.Peers, p.cfg.Self)
	}
	for len(k.Peers) < keepersWant {
		c := p.members.newKeeper(k.Peers, p.out.now.Mono)
		if c == nil {
			break
		}
		k.Peers = append(k.Peers, c.digest.Peer)
	}
	list := keeperList{p.sign(k), k}
	p.out.happened(Happened{Type: "keepers-forced", UID: a.uid, Key: a.key, Peer: p.cfg.Self.Peer,
		Message: fmt.Sprintf("epoch %d: %s, in place of %s, by a person's order", k.Epoch, idsText(k.ids()), idsText(old.now.list.ids()))})
	p.endSteward(a)
	p.publish(Publish{Table: TableKeepers, Key: string(a.uid), Value: Encode(list.signed)})
	p.ensureStored(a.uid)
	p.roles = true
}
