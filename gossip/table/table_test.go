package table

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"testing"
)

func newTable(t testing.TB, self string, incarnation uint64) *Table {
	t.Helper()
	tab, err := New(Config{Name: "test", Self: self, Incarnation: incarnation})
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

func put(t testing.TB, tab *Table, key, value string) []byte {
	t.Helper()
	b, err := tab.Put(key, []byte(value))
	if err != nil {
		t.Fatal(err)
	}
	return b.Rumours[0]
}

func remove(t testing.TB, tab *Table, key string) []byte {
	t.Helper()
	b, ok, err := tab.Remove(key)
	if err != nil || !ok {
		t.Fatalf("remove %s: %v %v", key, ok, err)
	}
	return b.Rumours[0]
}

func apply(t testing.TB, tab *Table, rumours ...[]byte) {
	t.Helper()
	for _, r := range rumours {
		if _, err := tab.Apply(r); err != nil {
			t.Fatal(err)
		}
	}
}

// converse runs an exchange to its end, or until the given number of frames
// was carried.
func converse(t testing.TB, a, b *Table, frames int) (SyncStats, SyncStats) {
	t.Helper()
	sa, sb := a.Initiate(), b.Respond()
	speaker, listener := sa, sb
	for !sa.Done() || !sb.Done() {
		spoke := false
		for {
			f, ok := speaker.Next()
			if !ok {
				break
			}
			spoke = true
			if frames--; frames < 0 {
				return sa.Stats(), sb.Stats()
			}
			if _, err := listener.Step(f); err != nil {
				t.Fatal(err)
			}
		}
		if !spoke {
			t.Fatal("neither side has anything to say")
		}
		speaker, listener = listener, speaker
	}
	return sa.Stats(), sb.Stats()
}

const allFrames = 1 << 30

func values(tab *Table) map[string]string {
	out := map[string]string{}
	for key := range tab.keys {
		for _, r := range tab.Siblings(key) {
			out[key] += string(r.Value) + " "
		}
	}
	return out
}

func TestEditBeatsConcurrentRemoval(t *testing.T) {
	a, b := newTable(t, "a", 1), newTable(t, "b", 1)
	apply(t, b, put(t, a, "k", "1"))
	removal, edit := remove(t, a, "k"), put(t, b, "k", "2")
	apply(t, a, edit)
	apply(t, b, removal)
	for _, tab := range []*Table{a, b} {
		if v, ok := tab.Get("k"); !ok || string(v) != "2" {
			t.Errorf("%s: %q %v, want the edit", tab.cfg.Self, v, ok)
		}
	}
	if a.Hash() != b.Hash() {
		t.Error("tables differ")
	}
}

func TestConcurrentEditsAreSiblings(t *testing.T) {
	a, b := newTable(t, "a", 1), newTable(t, "b", 1)
	ra, rb := put(t, a, "k", "1"), put(t, b, "k", "2")
	apply(t, a, rb)
	apply(t, b, ra)
	if n := len(a.Siblings("k")); n != 2 || a.Hash() != b.Hash() {
		t.Fatalf("%d siblings, hashes equal: %v", n, a.Hash() == b.Hash())
	}
	apply(t, b, put(t, a, "k", "both"))
	if v := values(b)["k"]; v != "both " {
		t.Errorf("after a write over both: %q", v)
	}
}

func TestPutOverLeavesWhatItDoesNotList(t *testing.T) {
	a, b := newTable(t, "a", 1), newTable(t, "b", 1)
	apply(t, a, put(t, b, "k", "b"))
	if _, err := a.PutOver("k", []byte("a"), nil); err != nil {
		t.Fatal(err)
	}
	if got := values(a)["k"]; got != "a b " {
		t.Errorf("%q, want both", got)
	}
}

func TestRemovalOutrunsItsRecord(t *testing.T) {
	a, b := newTable(t, "a", 1), newTable(t, "b", 1)
	add := put(t, a, "k", "1")
	apply(t, b, remove(t, a, "k"), add)
	if b.Len() != 0 || a.Hash() != b.Hash() {
		t.Errorf("a late rumour resurrected a removed record: %v", values(b))
	}
}

func TestLostRumourIsNoConflict(t *testing.T) {
	a, b := newTable(t, "a", 1), newTable(t, "b", 1)
	apply(t, b, put(t, a, "k", "1"))
	put(t, a, "k", "2") // lost
	apply(t, b, put(t, a, "k", "3"))
	if got := values(b)["k"]; got != "3 " {
		t.Errorf("%q, want only the last write", got)
	}
}

func TestMergeFoldsSiblings(t *testing.T) {
	a, b := newTable(t, "a", 1), newTable(t, "b", 1)
	a.cfg.Merge = func(x, y []byte) ([]byte, error) { return []byte(max(string(x), string(y))), nil }
	put(t, a, "k", "zzz")
	apply(t, a, put(t, b, "k", "aaa"))
	if v, _ := a.Get("k"); string(v) != "zzz" {
		t.Errorf("folded to %q", v)
	}
	a.cfg.Merge = func(x, y []byte) ([]byte, error) { return nil, errors.New("no") }
	if v, _ := a.Get("k"); string(v) != "aaa" || a.Counts().MergeErrors != 1 {
		t.Errorf("a failed fold reads %q, want the greatest dot's", v)
	}
}

func TestRangeIsSortedUnderChange(t *testing.T) {
	a := newTable(t, "a", 1)
	list := func(prefix string) (out string) {
		a.Range(prefix, func(k string, v []byte) bool { out += k + "=" + string(v) + " "; return true })
		return out
	}
	for _, k := range []string{"b/2", "a", "b/1", "c"} {
		put(t, a, k, k)
	}
	remove(t, a, "b/1")
	if got := list("b/"); got != "b/2=b/2 " {
		t.Errorf("prefix: %q", got)
	}
	put(t, a, "b/1", "x")
	remove(t, a, "a")
	if got := list(""); got != "b/1=x b/2=b/2 c=c " {
		t.Errorf("all: %q", got)
	}
}

func TestRefusedIsOfferedAgain(t *testing.T) {
	a, b := newTable(t, "a", 1), newTable(t, "b", 1)
	apply(t, b, put(t, a, "k", "old"))
	bad := errors.New("bad signature")
	b.cfg.Check = func(_ string, v []byte) error {
		if bytes.HasPrefix(v, []byte("new")) {
			return bad
		}
		return nil
	}
	rumour := put(t, a, "k", "new")
	put(t, a, "other", "fine")
	if _, err := b.Apply(rumour); !errors.Is(err, ErrRefused) || !errors.Is(err, bad) {
		t.Fatalf("error %v", err)
	}
	// An exchange must take the rest, keep what stands, and not cover it.
	for range 2 {
		for _, pair := range [][2]*Table{{a, b}, {b, a}} {
			converse(t, pair[0], pair[1], allFrames)
		}
		if got := values(b); got["k"] != "old " || got["other"] != "fine " {
			t.Fatalf("b holds %v", got)
		}
		if a.Len() != 2 {
			t.Fatalf("a lost something: %v", values(a))
		}
	}
	b.cfg.Check = nil
	converse(t, b, a, allFrames)
	if got := values(b)["k"]; got != "new " || a.Hash() != b.Hash() {
		t.Errorf("after the check passes: %q", got)
	}
}

func TestLimits(t *testing.T) {
	a, err := New(Config{Name: "test", Self: "a", Incarnation: 1, KeysMax: 2, SiblingsMax: 2, ValueMax: 8})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Put("k", make([]byte, 9)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("large value: %v", err)
	}
	put(t, a, "1", "x")
	put(t, a, "2", "x")
	if _, err := a.Put("3", nil); !errors.Is(err, ErrFull) {
		t.Errorf("full: %v", err)
	}
	b := newTable(t, "b", 1)
	if _, err := a.Apply(put(t, b, "3", "x")); !errors.Is(err, ErrRefused) {
		t.Errorf("full from elsewhere: %v", err)
	}
	for i, want := range []bool{true, false} {
		other := newTable(t, fmt.Sprint("o", i), 1)
		if _, err := a.Apply(put(t, other, "1", "y")); (err == nil) != want {
			t.Errorf("sibling %d: %v", i+2, err)
		}
	}
}

// TestAwayForAYear: a peer that missed everything neither resurrects what was
// removed nor loses what it wrote alone, with a new incarnation or the old.
func TestAwayForAYear(t *testing.T) {
	a, b := newTable(t, "a", 1), newTable(t, "b", 1)
	for i := range 500 {
		apply(t, b, put(t, a, fmt.Sprint("k", i), "1"))
	}
	put(t, b, "alone", "b")
	put(t, b, "k7", "edited alone")
	for i := range 500 {
		if i%2 == 1 {
			remove(t, a, fmt.Sprint("k", i))
		} else {
			put(t, a, fmt.Sprint("k", i), "2")
		}
	}
	sa, sb := converse(t, b, a, allFrames)
	if a.Hash() != b.Hash() {
		t.Fatalf("not equal after one exchange: %+v %+v", sa, sb)
	}
	if got := values(a); len(got) != 252 || got["alone"] != "b " || got["k7"] != "edited alone " || got["k8"] != "2 " {
		t.Errorf("%d keys, alone %q, k7 %q, k8 %q", len(got), got["alone"], got["k7"], got["k8"])
	}
}

func TestEmptiedStoreComesBack(t *testing.T) {
	a, b := newTable(t, "a", 1), newTable(t, "b", 1)
	for i := range 10 {
		apply(t, b, put(t, a, fmt.Sprint("k", i), "1"))
	}
	a = newTable(t, "a", 2)
	put(t, a, "k3", "again")
	converse(t, a, b, allFrames)
	if a.Len() != 10 || a.Hash() != b.Hash() || values(a)["k3"] != "again 1 " {
		t.Errorf("%v", values(a))
	}
	// Without a new incarnation nothing of the mesh is lost either: the
	// counter goes on above what others have seen.
	a = newTable(t, "a", 2)
	converse(t, b, a, allFrames)
	before := len(a.live)
	apply(t, b, put(t, a, "new", "x"))
	if len(a.live) != before+1 || a.Hash() != b.Hash() {
		t.Error("a reused counter was taken for a duplicate")
	}
}

func TestOversizedSiblingsTravelInParts(t *testing.T) {
	a := newTable(t, "a", 1)
	for i := range 20 {
		apply(t, a, put(t, newTable(t, fmt.Sprint("w", i), 1), "k", string(bytes.Repeat([]byte{'x'}, 20_000))))
	}
	b := newTable(t, "b", 1)
	_, sb := converse(t, a, b, allFrames)
	if a.Hash() != b.Hash() || sb.Received != 20 || sb.FramesIn < 6 {
		t.Errorf("equal %v, %+v", a.Hash() == b.Hash(), sb)
	}
}

func TestUndo(t *testing.T) {
	a := newTable(t, "a", 1)
	log := map[string][]byte{}
	write := func(ws []Write) {
		for _, w := range ws {
			if log[w.Key] = w.Value; w.Value == nil {
				delete(log, w.Key)
			}
		}
	}
	b, _ := a.Put("k", []byte("1"))
	write(b.Writes)
	before := a.Hash()
	for _, reached := range []bool{false, true} {
		refused, _ := a.Put("k", []byte("2"))
		if reached {
			write(refused.Writes)
		}
		write(a.Undo(refused))
		if a.Hash() != before || values(a)["k"] != "1 " {
			t.Fatalf("undone: %v", values(a))
		}
		again := newTable(t, "a", 1)
		if err := again.Load(maps.All(log)); err != nil || again.Hash() != before {
			t.Fatalf("the log differs (reached %v): %v", reached, err)
		}
	}
	b, _ = a.Put("k", []byte("3"))
	if d := a.Siblings("k")[0].Dot; d.Counter != 4 {
		t.Errorf("counter %d, want one that no undone write had", d.Counter)
	}
	put(t, a, "k", "4")
	if n := len(a.context.spans(writer{"a", 1})); n != 1 {
		t.Errorf("undone writes left %d runs", n)
	}
}

func TestSyncMovesOnlyWhatDiffers(t *testing.T) {
	a, b := newTable(t, "a", 1), newTable(t, "b", 1)
	for i := range 10_000 {
		apply(t, b, put(t, a, fmt.Sprint("key/", i), string(make([]byte, 300))))
	}
	idle, _ := converse(t, a, b, allFrames)
	for i := range 10 {
		put(t, a, fmt.Sprint("key/", i*37), string(make([]byte, 300)))
	}
	edits, _ := converse(t, b, a, allFrames)
	for i := range 10 {
		remove(t, a, fmt.Sprint("key/", i*41+1))
	}
	removals, _ := converse(t, b, a, allFrames)
	sum := func(s SyncStats) int64 { return s.BytesIn + s.BytesOut }
	t.Logf("10,000 records: idle %d B, 10 edits %d B, 10 removals %d B", sum(idle), sum(edits), sum(removals))
	if !idle.Equal || sum(idle) > 100 || sum(edits) > 8_000 || sum(removals) > 16_000 || a.Hash() != b.Hash() {
		t.Errorf("too much moved, or not equal")
	}
}
