package placement

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"github.com/RoaringBitmap/roaring/v2"
)

// SlotsMax bounds the slots of one component, and with them every number in a
// Slots.
const SlotsMax = 1 << 20

// slotsBytesMax bounds the encoded form: sixteen full containers and their
// headers.
const slotsBytesMax = (SlotsMax/65536)*(8192+16) + 64

// slotsTextMax bounds the text that ParseSlots reads.
const slotsTextMax = 1 << 20

// smallSlots is how many slots a small set may be of: most components have no
// more, and such a set costs no memory.
const smallSlots = 64

// Slots is a set of slot numbers. It is a value: every operation returns a new
// set and changes none, so a Slots may be shared freely. The zero Slots is
// empty.
type Slots struct {
	small uint64          // slot n as bit n; 0 when some slot is not below smallSlots
	b     *roaring.Bitmap // nil when small; never changed once it is in a Slots
}

func wrapSlots(b *roaring.Bitmap) Slots {
	if b.IsEmpty() {
		return Slots{}
	}
	if b.Maximum() >= smallSlots {
		return Slots{b: b}
	}
	s := Slots{}
	for it := b.Iterator(); it.HasNext(); {
		s.small |= 1 << it.Next()
	}
	return s
}

// bitmap is the set for the library, which must not change it.
func (s Slots) bitmap() *roaring.Bitmap {
	if s.b != nil {
		return s.b
	}
	b := roaring.New()
	for left := s.small; left != 0; left &= left - 1 {
		b.Add(uint32(bits.TrailingZeros64(left)))
	}
	return b
}

// bothSmall says whether two sets can be worked on as bits.
func bothSmall(s, o Slots) bool { return s.b == nil && o.b == nil }

// SlotsOf is the set of the slots given.
func SlotsOf(slots ...Slot) Slots {
	s := Slots{}
	for i, n := range slots {
		if n >= smallSlots {
			b := s.bitmap()
			for _, n := range slots[i:] {
				b.Add(uint32(n))
			}
			return Slots{b: b}
		}
		s.small |= 1 << n
	}
	return s
}

// SlotRange is the slots from lo up to, and without, hi.
func SlotRange(lo, hi Slot) Slots {
	if hi <= lo {
		return Slots{}
	}
	if hi <= smallSlots {
		return Slots{small: (^uint64(0) >> (smallSlots - (hi - lo))) << lo}
	}
	b := roaring.New()
	b.AddRange(uint64(lo), uint64(hi))
	return Slots{b: b}
}

// FirstSlots is the slots 0..n-1: what a component with n replicas wants.
func FirstSlots(n int) Slots { return SlotRange(0, Slot(max(0, min(n, SlotsMax)))) }

// Len is the number of slots in the set.
func (s Slots) Len() int {
	if s.b == nil {
		return bits.OnesCount64(s.small)
	}
	return int(s.b.GetCardinality())
}

// IsEmpty says whether the set has no slot.
func (s Slots) IsEmpty() bool { return s == Slots{} }

// Contains says whether n is in the set.
func (s Slots) Contains(n Slot) bool {
	if s.b == nil {
		return n < smallSlots && s.small&(1<<n) != 0
	}
	return s.b.Contains(uint32(n))
}

// Equal says whether both sets have the same slots.
func (s Slots) Equal(o Slots) bool {
	if s.b == nil || o.b == nil {
		return s == o
	}
	return s.b.Equals(o.b)
}

// Add is the set with n.
func (s Slots) Add(n Slot) Slots {
	if s.b == nil && n < smallSlots {
		return Slots{small: s.small | 1<<n}
	}
	b := s.bitmap().Clone()
	b.Add(uint32(n))
	return Slots{b: b}
}

// Remove is the set without n.
func (s Slots) Remove(n Slot) Slots {
	if !s.Contains(n) {
		return s
	}
	if s.b == nil {
		return Slots{small: s.small &^ (1 << n)}
	}
	b := s.b.Clone()
	b.Remove(uint32(n))
	return wrapSlots(b)
}

// Union is the slots in either set.
func (s Slots) Union(o Slots) Slots {
	switch {
	case bothSmall(s, o):
		return Slots{small: s.small | o.small}
	case s.IsEmpty():
		return o
	case o.IsEmpty():
		return s
	}
	return Slots{b: roaring.Or(s.bitmap(), o.bitmap())}
}

// Minus is the slots of s that are not in o.
func (s Slots) Minus(o Slots) Slots {
	switch {
	case bothSmall(s, o):
		return Slots{small: s.small &^ o.small}
	case s.IsEmpty() || o.IsEmpty():
		return s
	}
	return wrapSlots(roaring.AndNot(s.bitmap(), o.bitmap()))
}

// Intersects says whether some slot is in both sets.
func (s Slots) Intersects(o Slots) bool {
	if bothSmall(s, o) {
		return s.small&o.small != 0
	}
	return s.bitmap().Intersects(o.bitmap())
}

// Intersect is the slots in both sets.
func (s Slots) Intersect(o Slots) Slots {
	switch {
	case bothSmall(s, o):
		return Slots{small: s.small & o.small}
	case s.IsEmpty() || o.IsEmpty():
		return Slots{}
	}
	return wrapSlots(roaring.And(s.bitmap(), o.bitmap()))
}

// Min is the n lowest slots of the set, or all of it.
func (s Slots) Min(n int) Slots {
	switch {
	case n <= 0:
		return Slots{}
	case n >= s.Len():
		return s
	case s.b == nil:
		out := s
		for range s.Len() - n {
			out.small &^= 1 << (bits.Len64(out.small) - 1)
		}
		return out
	}
	last, err := s.b.Select(uint32(n - 1))
	if err != nil {
		return s // not reached: n-1 is below the cardinality
	}
	b := s.b.Clone()
	b.RemoveRange(uint64(last)+1, SlotsMax+1)
	return wrapSlots(b)
}

// All iterates over the slots, lowest first.
func (s Slots) All() iter.Seq[Slot] {
	if s.b == nil {
		return func(yield func(Slot) bool) {
			for left := s.small; left != 0; left &= left - 1 {
				if !yield(Slot(bits.TrailingZeros64(left))) {
					return
				}
			}
		}
	}
	return func(yield func(Slot) bool) {
		for it := s.b.Iterator(); it.HasNext(); {
			if !yield(Slot(it.Next())) {
				return
			}
		}
	}
}

// Slice is the slots, lowest first.
func (s Slots) Slice() []Slot { return slices.Collect(s.All()) }

// String is the text form: runs, lowest first, "0-5,8". Empty is "".
func (s Slots) String() string {
	var out []byte
	for n, end := range s.runs() {
		if len(out) > 0 {
			out = append(out, ',')
		}
		out = strconv.AppendInt(out, n, 10)
		if end > n+1 {
			out = append(out, '-')
			out = strconv.AppendInt(out, end-1, 10)
		}
	}
	return string(out)
}

// runs iterates over the runs of the set, lowest first: the first slot of each,
// and the one after its last.
func (s Slots) runs() iter.Seq2[int64, int64] {
	return func(yield func(n, end int64) bool) {
		if s.b == nil {
			for left := s.small; left != 0; {
				n := bits.TrailingZeros64(left)
				end := n + bits.TrailingZeros64(^(left >> n))
				if !yield(int64(n), int64(end)) {
					return
				}
				left &^= SlotRange(Slot(n), Slot(end)).small
			}
			return
		}
		for n := s.b.NextValue(0); n >= 0; {
			end := runEnd(s.b, n)
			if !yield(n, end) {
				return
			}
			n = s.b.NextValue(uint32(end))
		}
	}
}

// ParseSlots reads what String wrote.
func ParseSlots(text string) (Slots, error) {
	if text == "" {
		return Slots{}, nil
	}
	if len(text) > slotsTextMax {
		return Slots{}, fmt.Errorf("slots: text of %d bytes: at most %d", len(text), slotsTextMax)
	}
	b := roaring.New()
	for part := range strings.SplitSeq(text, ",") {
		first, last, isRun := strings.Cut(part, "-")
		if !isRun {
			last = first
		}
		lo, err1 := strconv.ParseUint(first, 10, 32)
		hi, err2 := strconv.ParseUint(last, 10, 32)
		if err := errors.Join(err1, err2); err != nil || hi < lo || hi >= SlotsMax {
			return Slots{}, fmt.Errorf("slots: %.32q is not a slot or a run of them below %d", part, SlotsMax)
		}
		b.AddRange(lo, hi+1)
	}
	return wrapSlots(b), nil
}

// MarshalText writes the text form, for JSON.
func (s Slots) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the text form.
func (s *Slots) UnmarshalText(text []byte) error {
	v, err := ParseSlots(string(text))
	if err != nil {
		return err
	}
	*s = v
	return nil
}

// MarshalBinary writes the portable roaring format, compressed, so that equal
// sets give equal bytes; it is what CBOR carries. Empty is no bytes.
func (s Slots) MarshalBinary() ([]byte, error) {
	if s.IsEmpty() {
		return []byte{}, nil
	}
	b := roaring.New()
	b.Or(s.bitmap()) // a rebuilt copy: clones keep their container types
	b.RunOptimize()
	return b.ToBytes()
}

// UnmarshalBinary reads what MarshalBinary wrote. It holds against hostile
// bytes: size, structure and the highest slot are checked.
func (s *Slots) UnmarshalBinary(data []byte) (err error) {
	if len(data) == 0 {
		*s = Slots{}
		return nil
	}
	if len(data) > slotsBytesMax {
		return fmt.Errorf("slots: %d bytes: at most %d", len(data), slotsBytesMax)
	}
	// The library checks lengths, but its containers are read by offset: a
	// panic on crafted bytes must not leave this function.
	defer func() {
		if recover() != nil {
			err = errors.New("slots: broken set")
		}
	}()
	b := roaring.New()
	if _, err := b.ReadFrom(bytes.NewReader(data)); err != nil {
		return fmt.Errorf("slots: %w", err)
	}
	if err := b.Validate(); err != nil {
		return fmt.Errorf("slots: %w", err)
	}
	if !b.IsEmpty() && b.Maximum() >= SlotsMax {
		return fmt.Errorf("slots: slot %d: must be below %d", b.Maximum(), SlotsMax)
	}
	if !wellFormed(b) {
		return errors.New("slots: broken set")
	}
	*s = wrapSlots(b)
	return nil
}

// runEnd is what comes after the run of slots that n, one of them, is in: as long as
// it goes on, it counts a slot for each number. (The library's own search for an absent
// value is wrong at the ends of containers.) Counting takes long, and a hostile set has
// half a million runs: short ones are walked through.
func runEnd(b *roaring.Bitmap, n int64) int64 {
	for range 64 {
		if n++; !b.Contains(uint32(n)) {
			return n
		}
	}
	before := b.Rank(uint32(n))
	goesOn := func(k int64) bool { return int64(b.Rank(uint32(n+k))-before) == k }
	far := int64(1)
	for far <= SlotsMax && goesOn(far) {
		far *= 2
	}
	near := far / 2
	for near+1 < far {
		if middle := (near + far) / 2; goesOn(middle) {
			near = middle
		} else {
			far = middle
		}
	}
	return n + near + 1
}

// wellFormed says whether walking through the runs of a set ends: the library
// lets containers pass that are empty, and then finds slots in them that they do
// not have, again and again.
func wellFormed(b *roaring.Bitmap) bool {
	count := uint64(0)
	for n := b.NextValue(0); n >= 0; {
		end := runEnd(b, n)
		next := b.NextValue(uint32(end))
		if !b.Contains(uint32(n)) || next >= 0 && next <= end { // a run begins past the end of the last
			return false
		}
		count += uint64(end - n)
		n = next
	}
	return count == b.GetCardinality()
}
