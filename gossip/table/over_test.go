package table

import (
	"fmt"
	"slices"
	"testing"
)

// A removal by somebody who has not seen a sibling leaves that sibling.
func TestRemoveOver(t *testing.T) {
	a, b := open(t, "a", newLog()), open(t, "b", newLog())
	if err := a.Put(t.Context(), "k", []byte("mine")); err != nil {
		t.Fatal(err)
	}
	seen := a.Siblings("k")
	var rumours [][]byte
	b.SetPublish(func(rumour []byte) { rumours = append(rumours, rumour) })
	if err := b.Put(t.Context(), "k", []byte("theirs")); err != nil {
		t.Fatal(err)
	}
	if err := a.Apply(t.Context(), rumours...); err != nil {
		t.Fatal(err)
	}
	if err := a.RemoveOver(t.Context(), "k", []Dot{seen[0].Dot}); err != nil {
		t.Fatal(err)
	}
	left := a.Siblings("k")
	if len(left) != 1 || !slices.Equal(left[0].Value, []byte("theirs")) {
		t.Fatalf("left %v", left)
	}
}

// TestChangeDuringExchange: a record that is replaced at one side while the two exchange
// is at no moment missing at the other.
func TestChangeDuringExchange(t *testing.T) {
	for side := range 2 {
		frames := 1
		for at := 0; at < frames; at++ {
			t.Run(fmt.Sprintf("side %d before frame %d", side, at), func(t *testing.T) {
				tables := [2]*Table{newTable(t, "a", 1), newTable(t, "b", 1)}
				editor := newTable(t, "c", 1)
				both := func(rumours ...[]byte) {
					for _, tab := range tables {
						apply(t, tab, rumours...)
					}
				}
				both(put(t, editor, "k", "1"))
				for i := range 300 { // so that they look at everything
					gone := fmt.Sprint("gone ", i)
					both(put(t, editor, gone, "x"))
					remove(t, tables[i%2], gone)
				}
				edit := put(t, editor, "k", "2")
				sessions := [2]*Session{tables[0].Initiate(), tables[1].Respond()}
				carried, speaker := 0, 0
				for !sessions[0].Done() || !sessions[1].Done() {
					f, ok := sessions[speaker].Next()
					if !ok {
						speaker = 1 - speaker
						continue
					}
					if carried == at {
						apply(t, tables[side], edit)
					}
					carried++
					if _, err := sessions[1-speaker].Step(f); err != nil {
						t.Fatal(err)
					}
					for _, tab := range tables {
						if _, ok := tab.Get("k"); !ok {
							t.Fatalf("after frame %d %s has no record", carried-1, tab.cfg.Self)
						}
					}
				}
				frames = max(frames, carried)
				if v := values(tables[side])["k"]; v != "2 " && at < carried {
					t.Errorf("its side has %q", v)
				}
			})
		}
	}
}
