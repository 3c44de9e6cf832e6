package trust

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/hansa-mesh/hansa/transport/identity"
)

// Limits of a Set.
const (
	recordsMax      = 100_000
	bytesMax        = 128 << 20
	waitingMax      = 4096 // records whose signer is not known yet
	waitingBytesMax = 8 << 20
	chainMax        = 64 // admissions from the root to a peer
	admittersMax    = 8  // peers whose admission of one peer is held
)

// ErrUnknown says that a key was never let into the mesh.
var ErrUnknown = errors.New("not in the mesh")

// ErrRevoked says that a peer was shut out.
var ErrRevoked = errors.New("revoked")

// byMaker are records about one thing, by the peer that made them.
type byMaker map[string]*record

// Set is what a peer knows of who belongs to its mesh.
type Set struct {
	root   ed25519.PublicKey
	rootID string

	verified verified

	mu       sync.RWMutex // guards what follows
	count    int
	bytes    int
	keys     map[string]ed25519.PublicKey // of everyone ever let in
	admitted map[string]byMaker           // by id
	children map[string]map[string]*record
	revoked  map[string]byMaker  // by id
	spent    map[string]byMaker  // by invitation, then by who came in with it
	standing map[string]standing // by id: see resolve
	waiting  waiting
	changed  []func(id string)
}

// NewSet makes an empty set for the mesh of a root key.
func NewSet(root ed25519.PublicKey) *Set {
	s := &Set{
		root: root, rootID: identity.IDOf(root),
		keys:     map[string]ed25519.PublicKey{},
		admitted: map[string]byMaker{}, children: map[string]map[string]*record{},
		revoked: map[string]byMaker{}, spent: map[string]byMaker{},
		standing: map[string]standing{}, waiting: waiting{bySigner: map[string][]*record{}},
	}
	s.keys[s.rootID] = root
	s.standing[s.rootID] = standing{linked: true}
	return s
}

// Mesh is the id of the mesh: that of its root key.
func (s *Set) Mesh() string { return s.rootID }

// Root is the mesh's root key.
func (s *Set) Root() ed25519.PublicKey { return s.root }

// OnChange calls f, after each Add that changed what is said of a peer, with
// the peer's id. f may ask the set, and is not called under its lock.
func (s *Set) OnChange(f func(id string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed = append(s.changed, f)
}

// Add takes a record; changed says that it was new and counts. One whose
// signer is not known waits, without an error, for the rest of its chain.
func (s *Set) Add(raw []byte) (changed bool, err error) {
	r, err := parse(raw)
	if err != nil {
		return false, err
	}
	s.mu.Lock()
	about, changed, err := s.add(r)
	listeners := slices.Clone(s.changed)
	s.mu.Unlock()
	for _, id := range about {
		for _, f := range listeners {
			f(id)
		}
	}
	return changed, err
}

// AddChain takes the admissions that lead to a peer, as a stranger shows them:
// all of them or none, and nothing that is not part of such a chain.
func (s *Set) AddChain(id string, raws [][]byte) error {
	if len(raws) == 0 || len(raws) > chainMax {
		return fmt.Errorf("%w: a chain of %d admissions", ErrInvalid, len(raws))
	}
	next := ""
	var key ed25519.PublicKey
	for i, raw := range raws {
		r, err := parse(raw)
		if err != nil {
			return err
		}
		if i == 0 {
			key, _ = s.KeyOf(r.by)
		} else if r.by != next {
			return fmt.Errorf("%w: its maker %s is not the one before it", ErrInvalid, r.by)
		}
		if r.kind != kindAdmission || key == nil || !s.verifies(r, key) {
			return fmt.Errorf("%w: %s does not lead from the root", ErrInvalid, r.key())
		}
		next, key = r.about(), r.admit.Key
	}
	if next != id {
		return fmt.Errorf("%w: the chain of another, %s", ErrInvalid, next)
	}
	for _, raw := range raws {
		if _, err := s.Add(raw); err != nil {
			return err
		}
	}
	return nil
}

// verifies is whether a record is signed with the key of its maker. What comes in a table
// is checked before it is held and added after it; the second time it is known.
func (s *Set) verifies(r *record, key ed25519.PublicKey) bool {
	id := sha256.Sum256(slices.Concat(key, r.raw))
	if s.verified.has(id) {
		return true
	}
	ok := identity.VerifyFor(key, signContext+" "+r.kind, r.body, r.sig)
	if ok {
		s.verified.add(id)
	}
	return ok
}

// verified is the signatures that were found right last, by key and record.
type verified struct {
	mu  sync.Mutex // guards what follows
	ids map[[sha256.Size]byte]struct{}
}

const verifiedMax = 256

func (v *verified) has(id [sha256.Size]byte) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	_, ok := v.ids[id]
	return ok
}

func (v *verified) add(id [sha256.Size]byte) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.ids == nil || len(v.ids) >= verifiedMax {
		v.ids = map[[sha256.Size]byte]struct{}{}
	}
	v.ids[id] = struct{}{}
}

// add takes a record, and then those that waited for it. The caller holds mu.
func (s *Set) add(r *record) (about []string, changed bool, err error) {
	old := s.held(r)
	if old != nil && (bytes.Equal(old.raw, r.raw) || !r.replaces(old)) {
		return nil, false, nil
	}
	if r.kind != kindSpent && r.about() == s.rootID && r.by != s.rootID || r.kind == kindRevocation && r.about() == s.rootID {
		return nil, false, fmt.Errorf("%w: %s: nobody admits or revokes the root", ErrInvalid, r.key())
	}
	key, known := s.keys[r.by]
	if !known {
		s.waiting.add(r)
		return nil, false, nil
	}
	if !s.verifies(r, key) {
		return nil, false, fmt.Errorf("%w: %s: the signature is wrong", ErrInvalid, r.key())
	}
	if old == nil && (s.count >= recordsMax || s.bytes+len(r.raw) > bytesMax) {
		return nil, false, fmt.Errorf("trust: %d records of %d bytes are held; %s is not taken", s.count, s.bytes, r.key())
	}
	switch r.kind {
	case kindAdmission:
		about, changed = s.addAdmission(r, old)
	case kindRevocation:
		put(s.revoked, r.about(), r.by, r)
		about, changed = s.resolveRevoked(r.about()), true
	case kindSpent:
		put(s.spent, r.spent.Token, r.about(), r)
		changed = true
	}
	if changed {
		s.bytes += len(r.raw)
		if old != nil {
			s.bytes -= len(old.raw)
		} else {
			s.count++
		}
	}
	return about, changed, nil
}

// held is the record that r would replace. The caller holds mu.
func (s *Set) held(r *record) *record {
	switch r.kind {
	case kindAdmission:
		return s.admitted[r.about()][r.by]
	case kindRevocation:
		return s.revoked[r.about()][r.by]
	default:
		return s.spent[r.spent.Token][r.about()]
	}
}

func put[M ~map[string]*record](to map[string]M, outer, inner string, r *record) {
	if to[outer] == nil {
		to[outer] = M{}
	}
	to[outer][inner] = r
}

// addAdmission takes an admission, and what waited for that peer's key. The
// caller holds mu.
func (s *Set) addAdmission(r, old *record) (about []string, changed bool) {
	id := r.about()
	if old == nil && len(s.admitted[id]) >= admittersMax && !s.makeRoom(id, r) {
		return nil, false
	}
	first := len(s.admitted[id]) == 0 && id != s.rootID
	put(s.admitted, id, r.by, r)
	put(s.children, r.by, id, r)
	s.keys[id] = r.admit.Key
	if first {
		s.standing[id] = s.standingOf(id, r) // nobody hangs on it yet
		about = []string{id}
	} else {
		about = s.resolve()
	}
	for _, w := range s.waiting.take(id) {
		more, _, _ := s.add(w) // what is wrong with one that waited is nobody's error now
		about = append(about, more...)
	}
	return about, true
}

// makeRoom drops one of too many admissions of a peer, the same everywhere.
// The caller holds mu.
func (s *Set) makeRoom(id string, r *record) bool {
	last := r
	for _, o := range s.admitted[id] {
		if earlier(last, o) {
			last = o
		}
	}
	if last == r {
		return false
	}
	delete(s.admitted[id], last.by)
	delete(s.children[last.by], id)
	s.count--
	s.bytes -= len(last.raw)
	return true
}

// waiting holds records whose signer is not known, the oldest giving way.
type waiting struct {
	bySigner map[string][]*record
	order    []*record
	bytes    int
}

func (w *waiting) add(r *record) {
	for _, o := range w.bySigner[r.by] {
		if bytes.Equal(o.raw, r.raw) {
			return
		}
	}
	w.bySigner[r.by] = append(w.bySigner[r.by], r)
	w.order = append(w.order, r)
	w.bytes += len(r.raw)
	for len(w.order) > waitingMax || w.bytes > waitingBytesMax {
		w.remove(w.order[0])
	}
}

func (w *waiting) remove(r *record) {
	w.order = slices.DeleteFunc(w.order, func(o *record) bool { return o == r })
	left := slices.DeleteFunc(w.bySigner[r.by], func(o *record) bool { return o == r })
	w.bySigner[r.by] = left
	if len(left) == 0 {
		delete(w.bySigner, r.by)
	}
	w.bytes -= len(r.raw)
}

// take removes and returns what waited for a signer.
func (w *waiting) take(id string) []*record {
	ready := slices.Clone(w.bySigner[id])
	for _, r := range ready {
		w.remove(r)
	}
	return ready
}

// Records are all records, sorted by key: what a newcomer is given.
func (s *Set) Records() [][]byte {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := slices.Collect(s.all())
	slices.SortFunc(all, func(a, b *record) int {
		if c := strings.Compare(a.key(), b.key()); c != 0 {
			return c
		}
		return bytes.Compare(a.raw, b.raw)
	})
	out := make([][]byte, len(all))
	for i, r := range all {
		out[i] = r.raw
	}
	return out
}
