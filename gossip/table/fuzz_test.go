package table

import (
	"errors"
	"testing"
)

func FuzzApply(f *testing.F) {
	a := newTable(f, "a", 1)
	f.Add(put(f, a, "k", "1"))
	f.Add(put(f, a, "k", "2"))
	f.Add(remove(f, a, "k"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		b := newTable(t, "b", 1)
		put(t, b, "k", "mine")
		batch, err := b.Apply(raw)
		if err != nil {
			if !errors.Is(err, ErrRefused) || !batch.Empty() || len(b.live) != 1 {
				t.Fatalf("refused with effect: %v", err)
			}
			return
		}
		for d := range b.live {
			if !b.context.Covers(d) {
				t.Fatalf("%v is alive and not covered", d)
			}
		}
		// What was taken can be told on, loaded and undone.
		c := newTable(t, "c", 1)
		converse(t, b, c, allFrames)
		if b.Hash() != c.Hash() {
			t.Fatal("an operation was taken that cannot be told on")
		}
		d := newTable(t, "b", 1)
		entries := func(yield func(string, []byte) bool) {
			for _, w := range batch.Writes {
				if w.Value != nil && !yield(w.Key, w.Value) {
					return
				}
			}
		}
		if err := d.Load(entries); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzStep feeds arbitrary frames to both sides of an exchange: they may end
// it, nothing else.
func FuzzStep(f *testing.F) {
	a, b := newTable(f, "a", 1), newTable(f, "b", 1)
	apply(f, b, put(f, a, "1", "x"), put(f, a, "2", "x"))
	remove(f, a, "1")
	put(f, b, "3", "x")
	sa, sb := a.Initiate(), b.Respond()
	speaker, listener := sa, sb
	for !sa.Done() || !sb.Done() {
		for raw, ok := speaker.Next(); ok; raw, ok = speaker.Next() {
			f.Add(raw, raw)
			if _, err := listener.Step(raw); err != nil {
				f.Fatal(err)
			}
		}
		speaker, listener = listener, speaker
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		for _, begin := range []func(*Table) *Session{(*Table).Initiate, (*Table).Respond} {
			tab := newTable(t, "a", 1)
			put(t, tab, "1", "x")
			s := begin(tab)
			for _, raw := range [][]byte{first, second, first} {
				if _, err := s.Step(raw); err != nil {
					break
				}
				for _, ok := s.Next(); ok; _, ok = s.Next() {
				}
			}
			for d := range tab.live {
				if !tab.context.Covers(d) {
					t.Fatalf("%v is alive and not covered", d)
				}
			}
		}
	})
}

func FuzzContext(f *testing.F) {
	c := NewContext()
	for i := range uint64(5) {
		c.Add(Dot{"a", 1, 1 + 2*i})
		c.Add(Dot{"b", i, i + 1})
	}
	raw, _ := c.MarshalBinary()
	f.Add(raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		c := NewContext()
		if c.UnmarshalBinary(raw) != nil {
			return
		}
		again, err := c.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		d := NewContext()
		if err := d.UnmarshalBinary(again); err != nil || !d.Equal(c) || d.Hash() != c.Hash() {
			t.Fatalf("does not survive a round trip: %v", err)
		}
	})
}
