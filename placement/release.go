package placement

import (
	"fmt"
	"slices"
	"strings"
)

// This file is how a steward ends things: slots that are double or replaced, and
// apps that were removed.

// release orders a part of a claim to be given back, not more often than it
// takes to answer.
func (s *Steward) release(f fact, slots Slots, why string) { s.giveBack(f, slots, why, false) }

// giveBack is release; with behind the slots have their volumes elsewhere.
func (s *Steward) giveBack(f fact, slots Slots, why string, behind bool) {
	if !s.mayRepeat(fmt.Sprintf("release/%s/%x", f.ID, fnvOf(slots))) {
		return
	}
	as := s.a.versions[0].intent.Version // all that stands was looked at, in a conflict too
	if s.outlast && !s.deputy && f.Version.Compare(as) > 0 {
		as = f.Version // of a version that came to nothing
	}
	if s.deputy {
		why += ", on a side without a majority"
	}
	delete(s.pins, f.ID) // should it survive after all, it must be pinned anew
	s.order++
	s.p.out.send(f.peer, message{Release: &releaseMsg{
		UID: s.a.uid, Term: s.term, Version: as, Claim: f.ID, Slots: slots, Reason: why, Order: s.order, Deputy: s.deputy, Behind: behind,
	}})
}

func (s *Steward) mayRepeat(key string) bool {
	now := s.p.out.now.Mono
	if at, ok := s.sent[key]; ok && now-at < s.p.members.patience.resend(&s.p.tune, 0) {
		return false
	}
	s.sent[key] = now
	return true
}

// resolve ends duplicates: a survivor's peer confirms that it runs and pins it;
// only then are the others released, so that two reconcilers can never end both.
func (s *Steward) resolve(duplicates []duplicate) {
	now := s.p.out.now.Mono
	unsafe := map[ClaimID]Slots{} // of survivors, what is not pinned
	for _, d := range duplicates {
		id := d.survivor.ID
		pin := s.pins[id]
		if now-pin.at >= s.p.tune.PinExpiry/2 {
			pin.slots = Slots{}
		}
		if safe := pin.slots.Intersect(d.slots); !safe.IsEmpty() {
			s.p.tune.mark(MarkDuplicateEnded)
			s.giveBack(d.loser, safe, fmt.Sprintf("runs at %s too, and %s", d.survivor.peer, stays(d.keep)), true)
		}
		if left := d.slots.Minus(pin.slots); !left.IsEmpty() {
			unsafe[id] = unsafe[id].Union(d.slots) // a pin is for all of them, or it would end the last
		}
	}
	for _, d := range duplicates {
		id := d.survivor.ID
		slots, open := unsafe[id]
		if delete(unsafe, id); open && s.mayRepeat("pin/"+id.String()) {
			s.order++
			s.p.out.send(d.survivor.peer, message{Pin: &pinMsg{
				UID: s.a.uid, Term: s.term, Claim: id, Slots: slots.Union(s.pins[id].slots), Order: s.order,
			}})
		}
	}
}

func (p *Peer) onPinned(from PeerID, m *pinnedMsg) {
	a := p.apps[m.UID]
	if a == nil || a.steward == nil || a.steward.term != m.Term || m.Claim.Owner.Peer != from {
		return
	}
	if r := a.rows[from]; r == nil || !slices.ContainsFunc(r.claims(), func(c claimStatus) bool { return c.ID == m.Claim }) {
		return
	}
	a.steward.pins[m.Claim] = pinnedSlots{slots: m.Slots, at: p.out.now.Mono}
	p.dirty[m.UID] = true
}

// tidy brings the table in line: what stands is published, and versions that
// are superseded leave.
func (s *Steward) tidy() {
	p, a := s.p, s.a
	if s.deputy {
		return
	}
	raw := p.catalog.versions(a.uid)
	if len(a.versions) == 1 && len(raw) == 1 && raw[0].intent.Version == a.win.intent.Version {
		return
	}
	for _, e := range p.edits.open {
		if e.uid == a.uid && e.phase == editStoring {
			return // its answer publishes it; until then it may be taken back
		}
	}
	if !s.mayRepeat("publish/" + etag(a.versions)) {
		return
	}
	if len(a.versions) == 1 {
		p.publishApp(a)
	} else {
		p.publishSides(a)
	}
}

// releaseAll orders what a peer still holds of a removed app to be given back.
// Most do it by themselves, from the catalog; a peer whose catalog has another
// app under this name, or none yet, waits for this.
func (s *Steward) releaseAll(id PeerID) {
	r := s.a.rows[id]
	if r == nil || !s.p.members.live(id) {
		return
	}
	for _, c := range r.claims() {
		s.release(fact{claimStatus: c, peer: id}, c.Slots, "the app was removed")
	}
}

// finishRemoval removes the records of an app once nobody holds anything of
// it, and every keeper knows.
func (s *Steward) finishRemoval() {
	p, a := s.p, s.a
	now := p.out.now.Mono
	s.next = now + s.wait
	s.wait = min(s.wait*2, p.tune.RoundMax)
	if s.deputy {
		return
	}
	s.tidy() // the mesh lists the removal first
	var holding []string
	for _, id := range s.holders {
		if p.members.forgotten(id) {
			continue
		}
		if r := a.rows[id]; r == nil || len(r.claims()) > 0 {
			holding = append(holding, string(id))
			s.releaseAll(id)
			if p.members.live(id) && s.mayRepeat("census/"+string(id)) {
				p.out.send(id, message{Census: &censusMsg{UID: a.uid, Term: s.term, Nonce: s.nonce}})
			}
		}
	}
	if len(holding) > 0 {
		s.note("removed; waits for %s to say that nothing is left", strings.Join(holding, ", "))
		return
	}
	if !p.allStored(a) {
		s.note("removed; waits for its keepers")
		p.ensureStored(a.uid)
		return
	}
	if p.catalog.has(a.uid) && s.mayRepeat("unpublish") {
		p.unpublishApp(a)
	}
}
