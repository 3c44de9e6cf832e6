package trust

import (
	"bytes"
	"fmt"
	"iter"
	"slices"
)

// A Set only grows, but for what the same maker replaced; a table that carries
// its records may lose some, since whoever writes a table may remove from it.
// So the table is held against the set, and not only the set fed from it.

// Check says what is wrong with a record under a key of a table: its form, or
// its signature if its maker is known.
func (s *Set) Check(key string, raw []byte) error {
	r, err := parse(raw)
	if err != nil {
		return err
	}
	if own := r.key(); own != key {
		return fmt.Errorf("%w: %s under the key %s", ErrInvalid, own, key)
	}
	if maker, known := s.KeyOf(r.by); known && !s.verifies(r, maker) {
		return fmt.Errorf("%w: %s: the signature is wrong", ErrInvalid, key)
	}
	return nil
}

// ByKey are the records that count, by their key in a table. One key has
// several where several peers let one peer in.
func (s *Set) ByKey() map[string][][]byte {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make(map[string][][]byte, s.count)
	for r := range s.all() {
		key := r.key()
		out[key] = append(out[key], r.raw)
	}
	return out
}

// all are the records that count. The caller holds mu.
func (s *Set) all() iter.Seq[*record] {
	return func(yield func(*record) bool) {
		for _, of := range []map[string]byMaker{s.admitted, s.revoked, s.spent} {
			for _, m := range of {
				for _, r := range m {
					if !yield(r) {
						return
					}
				}
			}
		}
	}
}

// Replaced are the places in a list of records under one key of those that
// stand for nothing: another one by the same maker counts instead, or the same
// one is there twice.
func (s *Set) Replaced(records [][]byte) (places []int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for i, raw := range records {
		twice := slices.ContainsFunc(records[:i], func(o []byte) bool { return bytes.Equal(o, raw) })
		r, err := parse(raw)
		if err != nil {
			continue
		}
		held := s.held(r)
		if twice || held != nil && !bytes.Equal(held.raw, raw) {
			places = append(places, i)
		}
	}
	return places
}

// Chains are the records that prove the admissions of some peers, each once.
func (s *Set) Chains(peers []string) (records [][]byte) {
	seen := map[string]bool{}
	for _, id := range peers {
		for _, raw := range s.Chain(id) {
			if !seen[string(raw)] {
				seen[string(raw)] = true
				records = append(records, raw)
			}
		}
	}
	return records
}
