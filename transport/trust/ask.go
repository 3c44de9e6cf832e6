package trust

import (
	"crypto/ed25519"
	"fmt"
	"maps"
	"slices"
)

// KeyOf is the key of a peer that was ever let in. What it signed stands, even
// when it was shut out later.
func (s *Set) KeyOf(id string) (ed25519.PublicKey, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	key, ok := s.keys[id]
	return key, ok
}

// Admitted is nil for a peer that belongs to the mesh now; else ErrUnknown or
// ErrRevoked, with the reason.
func (s *Set) Admitted(id string) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	st, ok := s.standing[id]
	if !ok {
		if err := s.out(id); err != nil {
			return err
		}
		return fmt.Errorf("peer %.64s is %w %s", id, ErrUnknown, s.rootID)
	}
	return st.err
}

// Chain are the records that prove a peer's admission, from the root's first
// to its own; nil for the root and for one that does not belong to the mesh.
func (s *Set) Chain(id string) [][]byte {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if st, ok := s.standing[id]; !ok || st.err != nil {
		return nil
	}
	var chain [][]byte
	for at := id; at != s.rootID; {
		r := s.standing[at].record
		chain = append(chain, r.raw)
		at = r.by
	}
	slices.Reverse(chain)
	return chain
}

// Admission is the record of a peer that was ever let in.
func (s *Set) Admission(id string) (Admission, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if r := s.standing[id].record; r != nil {
		return r.admit, true
	}
	return Admission{}, false
}

// Peers are all that were ever let in, by id; Admitted says who belongs now.
func (s *Set) Peers() []Admission {
	s.mu.RLock()
	defer s.mu.RUnlock()
	ids := make([]string, 0, len(s.standing))
	for id, st := range s.standing {
		if st.record != nil {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	peers := make([]Admission, len(ids))
	for i, id := range ids {
		peers[i] = s.standing[id].record.admit
	}
	return peers
}

// NameConflicts are the names that more than one peer of the mesh has, with
// the peers' ids, the one that was let in first at the front.
func (s *Set) NameConflicts() map[string][]string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	byName := map[string][]*record{}
	for _, st := range s.standing {
		if st.err == nil && st.record != nil && st.record.admit.Name != "" {
			byName[st.record.admit.Name] = append(byName[st.record.admit.Name], st.record)
		}
	}
	conflicts := map[string][]string{}
	for name, records := range byName {
		if len(records) < 2 {
			continue
		}
		slices.SortFunc(records, func(a, b *record) int {
			if earlier(a, b) {
				return -1
			}
			return 1
		})
		for _, r := range records {
			conflicts[name] = append(conflicts[name], r.about())
		}
	}
	return conflicts
}

// SpentTwice are the invitations that more than one peer came in with, as can
// happen on both sides of a cut, with the peers' ids.
func (s *Set) SpentTwice() map[string][]string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	twice := map[string][]string{}
	for token, peers := range s.spent {
		if len(peers) > 1 {
			twice[token] = sortedKeys(peers)
		}
	}
	return twice
}

// AdmittedBy are the peers that a peer let in, by id: what a revocation of it
// must know.
func (s *Set) AdmittedBy(id string) []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return sortedKeys(s.children[id])
}

func sortedKeys(m byMaker) []string { return slices.Sorted(maps.Keys(m)) }
