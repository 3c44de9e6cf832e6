package placement

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestSlotsText(t *testing.T) {
	for _, c := range []struct {
		text string
		want []Slot
	}{
		{"", nil},
		{"0", []Slot{0}},
		{"0-5,8", []Slot{0, 1, 2, 3, 4, 5, 8}},
		{"7,9-10", []Slot{7, 9, 10}},
	} {
		s, err := ParseSlots(c.text)
		if err != nil || !slices.Equal(s.Slice(), c.want) || s.String() != c.text || s.Len() != len(c.want) {
			t.Errorf("%q: %v (%v), text %q", c.text, s.Slice(), err, s.String())
		}
	}
	for _, bad := range []string{"x", "1-", "-1", "5-2", "1,,2", "1048576", "0-99999999999", " 1"} {
		if s, err := ParseSlots(bad); err == nil {
			t.Errorf("%q was read as %v", bad, s)
		}
	}
}

// TestSlotsAlgebra holds the set operations against plain maps, and every
// operand against change.
func TestSlotsAlgebra(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		gen := rapid.SliceOfN(rapid.Uint32Range(0, 70), 0, 30)
		draw := func(name string) (Slots, map[Slot]bool, string) {
			m := map[Slot]bool{}
			s := Slots{}
			for _, n := range gen.Draw(t, name) {
				m[Slot(n)] = true
				s = s.Add(Slot(n))
			}
			return s, m, s.String()
		}
		a, am, at := draw("a")
		b, bm, bt := draw("b")
		check := func(name string, got Slots, in func(Slot) bool) {
			var want []Slot
			for n := Slot(0); n <= 80; n++ {
				if in(n) {
					want = append(want, n)
				}
			}
			if !slices.Equal(got.Slice(), want) || got.Len() != len(want) || got.IsEmpty() != (len(want) == 0) {
				t.Fatalf("%s of %v and %v: %v, want %v", name, a, b, got, want)
			}
			data, err := got.MarshalBinary()
			var back Slots
			if err == nil {
				err = back.UnmarshalBinary(data)
			}
			if err != nil || !back.Equal(got) {
				t.Fatalf("%s: %v came back as %v (%v)", name, got, back, err)
			}
		}
		check("union", a.Union(b), func(n Slot) bool { return am[n] || bm[n] })
		check("minus", a.Minus(b), func(n Slot) bool { return am[n] && !bm[n] })
		check("intersect", a.Intersect(b), func(n Slot) bool { return am[n] && bm[n] })
		check("remove", a.Remove(3), func(n Slot) bool { return am[n] && n != 3 })
		lo, hi := Slot(rapid.IntRange(0, 70).Draw(t, "lo")), Slot(rapid.IntRange(0, 70).Draw(t, "hi"))
		check("range", a.Union(SlotRange(lo, hi)), func(n Slot) bool { return am[n] || n >= lo && n < hi })
		check("of", SlotsOf(a.Slice()...), func(n Slot) bool { return am[n] })
		if back, err := ParseSlots(at); err != nil || !back.Equal(a) {
			t.Fatalf("%q is read as %v (%v)", at, back, err)
		}
		if a.Intersects(b) == a.Intersect(b).IsEmpty() {
			t.Fatalf("%v and %v intersect: %t", a, b, a.Intersects(b))
		}
		k := rapid.IntRange(0, 40).Draw(t, "k")
		low := a.Slice()
		low = low[:min(k, len(low))]
		check("min", a.Min(k), func(n Slot) bool { return slices.Contains(low, n) })
		if a.String() != at || b.String() != bt {
			t.Fatal("an operand changed")
		}
	})
}

func FuzzSlotsDecode(f *testing.F) {
	for _, s := range []Slots{{}, SlotsOf(1, 5, 9), FirstSlots(100000), SlotsOf(SlotsMax - 1)} {
		data, _ := s.MarshalBinary()
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var s Slots
		if s.UnmarshalBinary(data) != nil {
			return
		}
		again, err := s.MarshalBinary()
		var back Slots
		if err == nil {
			err = back.UnmarshalBinary(again)
		}
		if err != nil || !back.Equal(s) || s.Len() > SlotsMax || len(s.Slice()) != s.Len() {
			t.Fatalf("%v came back as %v (%v)", s, back, err)
		}
	})
}

// A run that fills its last container ends there, not at the largest slot.
func TestRunToTheEndOfAContainer(t *testing.T) {
	for n, want := range map[int]string{1 << 16: "0-65535", 2 << 16: "0-131071", SlotsMax: "0-1048575"} {
		s := FirstSlots(n)
		data, err := s.MarshalBinary()
		if err == nil {
			err = new(Slots).UnmarshalBinary(data)
		}
		if s.String() != want || err != nil {
			t.Errorf("%d slots are %s, and read again %v", n, s, err)
		}
	}
}

// A slot that is the last of its container ends a run like any other, however few there
// are beside it: walking through them once never ended.
func TestLastSlotOfAContainer(t *testing.T) {
	for want, s := range map[string]Slots{
		"65535": SlotsOf(65535), "65534-65535": SlotsOf(65534, 65535), "65535-65536": SlotsOf(65535, 65536),
		"5,65535,131071": SlotsOf(5, 65535, 131071), "48-12384,131071": FirstSlots(12385).Minus(FirstSlots(48)).Add(131071),
	} {
		steps := 0
		for range s.runs() {
			if steps++; steps > 3 {
				t.Fatalf("walking through %s does not end", want)
			}
		}
		data, err := s.MarshalBinary()
		var back Slots
		if err == nil {
			err = back.UnmarshalBinary(data)
		}
		if s.String() != want || err != nil || !back.Equal(s) {
			t.Errorf("%s is %s, and read again %s, %v", want, s, back, err)
		}
	}
}
