package trust

import (
	"bytes"
	"fmt"
	"slices"
)

// standing is what the records together say of one peer.
type standing struct {
	record *record // the admission that counts; nil for the root
	depth  int     // admissions from the root
	linked bool    // an unbroken chain leads to it, whether or not it is out itself
	err    error   // nil while it belongs to the mesh
}

func (a standing) same(b standing) bool {
	return a.record == b.record && a.linked == b.linked && (a.err == nil) == (b.err == nil)
}

// earlier orders the admissions of one peer by different makers.
func earlier(a, b *record) bool {
	if a.admit.At != b.admit.At {
		return a.admit.At < b.admit.At
	}
	return bytes.Compare(a.raw, b.raw) < 0
}

// holds says why a peer's admission by one that was shut out later does not
// count; nil if it does. The caller holds mu.
func (s *Set) holds(r *record) error {
	id := r.about()
	for _, v := range s.revoked[r.by] {
		if v.revok.WithAdmitted || !slices.Contains(v.revok.Knew, id) {
			return fmt.Errorf("peer %s is %w: it was let in by %s, which was shut out by %s", id, ErrRevoked, r.by, v.by)
		}
	}
	return nil
}

// standingOf is what one admission makes of a peer, given the standing of who
// let it in. The caller holds mu.
func (s *Set) standingOf(id string, r *record) standing {
	parent := s.standing[r.by]
	st := standing{record: r, depth: parent.depth + 1}
	switch st.err = s.holds(r); {
	case st.err != nil:
	case !parent.linked:
		st.err = fmt.Errorf("peer %s is %w: it was let in by %s, which is out", id, ErrRevoked, r.by)
	case st.depth > chainMax:
		st.err = fmt.Errorf("peer %s is %w: it is over %d admissions away from the root", id, ErrUnknown, chainMax)
	default:
		st.linked = true
	}
	if err := s.out(id); err != nil {
		st.err = err
	}
	return st
}

// out says by whom a peer itself was shut out. The caller holds mu.
func (s *Set) out(id string) error {
	first := ""
	for by := range s.revoked[id] {
		if first == "" || by < first {
			first = by
		}
	}
	if first == "" {
		return nil
	}
	return fmt.Errorf("peer %s is %w by %s", id, ErrRevoked, first)
}

// resolve works out every peer's standing from all records: level by level
// from the root, so that the shortest chain counts, and no peer can take the
// ground from under those that let it in by admitting them again. It returns
// the peers whose standing changed. The caller holds mu.
func (s *Set) resolve() (about []string) {
	before := s.standing
	s.standing = map[string]standing{s.rootID: {linked: true, record: s.admitted[s.rootID][s.rootID]}}
	for level := []string{s.rootID}; len(level) > 0; {
		best := map[string]*record{}
		for _, parent := range level {
			for id, r := range s.children[parent] {
				if _, done := s.standing[id]; done || s.holds(r) != nil {
					continue
				}
				if old := best[id]; old == nil || earlier(r, old) {
					best[id] = r
				}
			}
		}
		level = level[:0]
		for id, r := range best {
			st := s.standingOf(id, r)
			s.standing[id] = st
			if st.linked {
				level = append(level, id)
			}
		}
	}
	for id, makers := range s.admitted {
		if _, done := s.standing[id]; !done {
			s.standing[id] = s.standingOf(id, first(makers))
		}
	}
	for id, st := range s.standing {
		if old, ok := before[id]; !ok || !old.same(st) {
			about = append(about, id)
		}
	}
	slices.Sort(about)
	return about
}

func first(makers byMaker) (r *record) {
	for _, o := range makers {
		if r == nil || earlier(o, r) {
			r = o
		}
	}
	return r
}

// resolveRevoked is resolve after a revocation, cheap for one that let nobody
// in. The caller holds mu.
func (s *Set) resolveRevoked(id string) []string {
	if len(s.children[id]) > 0 {
		return s.resolve()
	}
	st, ok := s.standing[id]
	if !ok {
		return nil // it is refused when it is first heard of
	}
	st.err = s.out(id)
	s.standing[id] = st
	return []string{id}
}
