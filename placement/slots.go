package placement

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
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

// Slots is a set of slot numbers. It is a value: every operation returns a new
// set and changes none, so a Slots may be shared freely. The zero Slots is
// empty.
type Slots struct {
	b *roaring.Bitmap // nil when empty; never changed once it is in a Slots
}

var noSlots = roaring.New()

func wrapSlots(b *roaring.Bitmap) Slots {
	if b.IsEmpty() {
		return Slots{}
	}
	return Slots{b}
}

func (s Slots) bitmap() *roaring.Bitmap {
	if s.b == nil {
		return noSlots
	}
	return s.b
}

// SlotsOf is the set of the slots given.
func SlotsOf(slots ...Slot) Slots {
	b := roaring.New()
	for _, n := range slots {
		b.Add(uint32(n))
	}
	return wrapSlots(b)
}

// SlotRange is the slots from lo up to, and without, hi.
func SlotRange(lo, hi Slot) Slots {
	if hi <= lo {
		return Slots{}
	}
	b := roaring.New()
	b.AddRange(uint64(lo), uint64(hi))
	return wrapSlots(b)
}

// FirstSlots is the slots 0..n-1: what a component with n replicas wants.
func FirstSlots(n int) Slots { return SlotRange(0, Slot(max(0, min(n, SlotsMax)))) }

// Len is the number of slots in the set.
func (s Slots) Len() int { return int(s.bitmap().GetCardinality()) }

// IsEmpty says whether the set has no slot.
func (s Slots) IsEmpty() bool { return s.b == nil }

// Contains says whether n is in the set.
func (s Slots) Contains(n Slot) bool { return s.b != nil && s.b.Contains(uint32(n)) }

// Equal says whether both sets have the same slots.
func (s Slots) Equal(o Slots) bool { return s.bitmap().Equals(o.bitmap()) }

// Add is the set with n.
func (s Slots) Add(n Slot) Slots {
	b := s.bitmap().Clone()
	b.Add(uint32(n))
	return Slots{b}
}

// Remove is the set without n.
func (s Slots) Remove(n Slot) Slots {
	if !s.Contains(n) {
		return s
	}
	b := s.b.Clone()
	b.Remove(uint32(n))
	return wrapSlots(b)
}

// Union is the slots in either set.
func (s Slots) Union(o Slots) Slots {
	switch {
	case s.b == nil:
		return o
	case o.b == nil:
		return s
	}
	return Slots{roaring.Or(s.b, o.b)}
}

// Minus is the slots of s that are not in o.
func (s Slots) Minus(o Slots) Slots {
	if s.b == nil || o.b == nil {
		return s
	}
	return wrapSlots(roaring.AndNot(s.b, o.b))
}

// Intersects says whether some slot is in both sets.
func (s Slots) Intersects(o Slots) bool { return s.b != nil && o.b != nil && s.b.Intersects(o.b) }

// Intersect is the slots in both sets.
func (s Slots) Intersect(o Slots) Slots {
	if s.b == nil || o.b == nil {
		return Slots{}
	}
	return wrapSlots(roaring.And(s.b, o.b))
}

// Min is the n lowest slots of the set, or all of it.
func (s Slots) Min(n int) Slots {
	if n <= 0 || s.b == nil {
		return Slots{}
	}
	if n >= s.Len() {
		return s
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
	return func(yield func(Slot) bool) {
		for it := s.bitmap().Iterator(); it.HasNext(); {
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
	if s.b == nil {
		return ""
	}
	var out []byte
	for n := s.b.NextValue(0); n >= 0; {
		end := runEnd(s.b, n)
		if len(out) > 0 {
			out = append(out, ',')
		}
		out = strconv.AppendInt(out, n, 10)
		if end > n+1 {
			out = append(out, '-')
			out = strconv.AppendInt(out, end-1, 10)
		}
		n = s.b.NextValue(uint32(end))
	}
	return string(out)
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
	if s.b == nil {
		return []byte{}, nil
	}
	b := roaring.New()
	b.Or(s.b) // a rebuilt copy: clones keep their container types
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

// runEnd is what comes after the run of slots that n is in. The library knows no
// absent value past a last container that is full, and stops at those between.
func runEnd(b *roaring.Bitmap, n int64) int64 {
	for {
		end := b.NextAbsentValue(uint32(n))
		if end < 0 {
			return int64(b.Maximum()) + 1
		}
		if end <= n || !b.Contains(uint32(end)) {
			return end
		}
		n = end
	}
}

// wellFormed says whether walking through the runs of a set ends: the library
// lets containers pass that are empty, and then finds slots in them that they do
// not have, again and again.
func wellFormed(b *roaring.Bitmap) bool {
	count := uint64(0)
	for n := b.NextValue(0); n >= 0; {
		end := runEnd(b, n)
		next := b.NextValue(uint32(end))
		if end <= n || next >= 0 && next <= end { // a run begins past the end of the last
			return false
		}
		count += uint64(end - n)
		n = next
	}
	return count == b.GetCardinality()
}
