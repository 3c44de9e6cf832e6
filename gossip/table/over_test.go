package table

import (
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
