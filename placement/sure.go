package placement

import "time"

// This file is how a steward makes sure of its majority before it places anew
// what was lost. Verdicts on peers come one after another: a side that is being
// cut off calls one keeper dead while it still takes the next for alive, and in
// between would do what only the other side may. So keepers are asked once more,
// as a leader asks its followers before it answers a read (Ongaro: Consensus,
// 2014, section 6.4): the answers must be to what was sent after the loss.

// sureFor is how long an answer counts.
const sureFor = 5 * time.Second

// sureOf says whether a majority of the keepers, this peer among them, has
// confirmed this steward's term lately, asked after a time. If not it asks them.
func (s *Steward) sureOf(at time.Duration) bool {
	now := s.p.out.now.Mono
	if s.p.decided(s.a, func(ref PeerRef) bool {
		asked, ok := s.confirmed[ref]
		return ref == s.p.cfg.Self || ok && asked >= at && now-asked < sureFor
	}) {
		return true
	}
	if s.mayRepeat("sure") {
		s.asked = now
		for _, ref := range s.a.lists().refs() {
			if ref != s.p.cfg.Self && s.p.keeperLives(ref) {
				s.p.out.send(ref.Peer, message{Raise: &raiseMsg{UID: s.a.uid, Term: s.term, Asked: int64(now)}})
			}
		}
	}
	return false
}

// holdUnsure leaves what is lost where it was until this steward is sure of its
// majority, if any of it would be placed anew.
func (s *Steward) holdUnsure(sit *situation) {
	standing, at, any := Slots{}, time.Duration(0), false
	for _, f := range sit.claims {
		if !f.lost {
			standing = standing.Union(f.Slots)
		}
	}
	for _, f := range sit.claims {
		if f.lost && !f.Slots.Intersect(sit.wanted).Minus(standing).IsEmpty() {
			at, any = max(at, sit.fates[f.peer].at), true
		}
	}
	if !any || s.deputy || s.sureOf(at) {
		return
	}
	s.unsure = true
	for i := range sit.claims {
		if f := &sit.claims[i]; f.lost {
			f.lost = false
			fate := sit.fates[f.peer]
			fate.lost = false
			sit.fates[f.peer] = fate
		}
	}
}

// confirmedBy notes a keeper's answer. One of an older release does not say to
// what: then it is to the last.
func (s *Steward) confirmedBy(from PeerRef, asked int64) {
	at := time.Duration(asked)
	if asked == 0 {
		at = s.asked
	}
	if at <= s.p.out.now.Mono && at > s.confirmed[from] {
		s.confirmed[from] = at
		s.p.dirty[s.a.uid] = true
	}
}
