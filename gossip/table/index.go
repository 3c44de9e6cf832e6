package table

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"sort"
)

// Live dots fall into topsTotal buckets of subsEach sub-buckets by their hash.
// Two copies that differ by a few removals find them by comparing the tops,
// then the subs of the tops that differ, then the dots of the subs that
// differ: some kilobytes whatever the size of the table.
const (
	topsTotal = 64
	subsEach  = 64
	subsTotal = topsTotal * subsEach
	markBytes = 8
)

// buckets are XOR hashes: a dot is put in and taken out by the same toggle.
type buckets struct {
	subs [subsTotal]uint64
	full Hash
}

func (b *buckets) toggle(h dotHash) {
	b.subs[h.sub] ^= h.mark
	b.full.xor(h.full)
}

func (b *buckets) top(i int) uint64 {
	var x uint64
	for _, s := range b.subs[i*subsEach : (i+1)*subsEach] {
		x ^= s
	}
	return x
}

func (b *buckets) encodeTops() []byte {
	out := make([]byte, 0, topsTotal*markBytes)
	for i := range topsTotal {
		out = binary.BigEndian.AppendUint64(out, b.top(i))
	}
	return out
}

func (b *buckets) encodeSubs(top int) []byte {
	out := make([]byte, 0, subsEach*markBytes)
	for _, s := range b.subs[top*subsEach : (top+1)*subsEach] {
		out = binary.BigEndian.AppendUint64(out, s)
	}
	return out
}

func combine(a, b Hash) Hash {
	sum := sha256.Sum256(append(a[:], b[:]...))
	return Hash(sum[:16])
}

// sortedKeys keeps the order of keys for Range. Additions wait in a second
// slice until somebody reads; removed keys are skipped by the reader and swept
// out when they are many.
type sortedKeys struct {
	keys    []string
	added   []string
	removed int
}

func (s *sortedKeys) add(key string) { s.added = append(s.added, key) }
func (s *sortedKeys) remove()        { s.removed++ }

// from returns the sorted keys at and after start; some may be gone.
func (s *sortedKeys) from(start string, present map[string][]*Record) []string {
	if len(s.added) > 0 || s.removed > len(s.keys)/2 {
		s.keys = slices.DeleteFunc(append(s.keys, s.added...), func(k string) bool { return len(present[k]) == 0 })
		slices.Sort(s.keys)
		s.keys = slices.Compact(s.keys)
		s.added, s.removed = nil, 0
	}
	return s.keys[sort.SearchStrings(s.keys, start):]
}
