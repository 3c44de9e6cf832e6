package table

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// what a backlog holds, and what comes of it, in one line.
func (b Backlog) text() string {
	var values []string
	for _, w := range b {
		values = append(values, string(w.Value))
	}
	return fmt.Sprint(values)
}

func wanted(value string, beside ...string) *Wanted {
	w := &Wanted{}
	if value != "" {
		w.Value = []byte(value)
	}
	for _, v := range beside {
		w.Beside = append(w.Beside, []byte(v))
	}
	return w
}

// Of what waits the last is written, and what it wants beside it.
func TestBacklog(t *testing.T) {
	a, b, c, none := wanted("a"), wanted("b", "a"), wanted("c", "a"), wanted("", "c")
	for _, try := range []struct {
		got  Backlog
		want string
	}{
		{Backlog{}.Add(a).Add(b), "[a b]"},
		{Backlog{}.Add(a).Add(b).Add(c), "[a c]"},
		{Backlog{}.Add(a).Add(b).Add(c).Add(wanted("d")), "[d]"},
		{Backlog{}.Add(a).Add(c).Add(none), "[c ]"},
		{Backlog{}.Add(none).Add(a), "[a]"},
		{Backlog{}.Again(a), "[a]"},
		{Backlog{}.Add(c).Again(a), "[a c]"},
		{Backlog{}.Add(c).Again(b), "[c]"},
		{Backlog{}.Add(c).Again(none), "[c]"},
		{Backlog{}.Again(none), "[]"},
	} {
		if got := try.got.text(); got != try.want {
			t.Errorf("%s waits, want %s", got, try.want)
		}
	}
}

// What a key holds already is not written again: of one's own, and that alone.
func TestMade(t *testing.T) {
	self := Dot{Peer: "us", Incarnation: 2}
	own := func(value string) Record { return Record{Dot: Dot{"us", 2, 7}, Value: []byte(value)} }
	earlier, theirs := Record{Dot: Dot{"us", 1, 9}, Value: []byte("a")}, Record{Dot: Dot{"them", 1, 3}, Value: []byte("b")}
	seen := func(w *Wanted, dots ...Dot) *Wanted { w.Seen = dots; return w }
	for _, try := range []struct {
		name    string
		wants   *Wanted
		records []Record
		want    bool
	}{
		{"nothing there", wanted("a"), nil, false},
		{"its own", wanted("a"), []Record{own("a")}, true},
		{"another value", wanted("c"), []Record{own("a")}, false},
		{"of an earlier life", seen(wanted("a"), earlier.Dot), []Record{earlier}, false},
		{"beside what nobody has seen", wanted("a"), []Record{theirs, own("a")}, true},
		{"beside what is to go", seen(wanted("a"), theirs.Dot), []Record{theirs, own("a")}, false},
		{"beside what is to go, the other way round", seen(wanted("a"), theirs.Dot), []Record{own("a"), theirs}, false},
		{"beside what is to stay", seen(wanted("a", "b"), theirs.Dot), []Record{theirs, own("a")}, true},
		{"a removal", wanted(""), []Record{own("a")}, false},
	} {
		if got := try.wants.Made(self, try.records); got != try.want {
			t.Errorf("%s: made %t", try.name, got)
		}
	}
}

// However late writes are made, and whatever others write meanwhile, the key comes
// to hold what whoever wanted them was told.
func TestBacklogKeepsItsWord(t *testing.T) {
	for seed := range uint64(2000) {
		rng := rand.New(rand.NewPCG(seed, 1))
		us, err := New(Config{Name: "t", Self: "us", Incarnation: 1})
		if err != nil {
			t.Fatal(err)
		}
		them, _ := New(Config{Name: "t", Self: "them", Incarnation: 1})
		self := Dot{Peer: "us", Incarnation: 1}
		var waits Backlog
		var seen []Dot
		var told []string // by the last look or what was wanted since
		look := func() {
			seen, told = nil, nil
			for _, r := range us.Siblings("k") {
				seen = append(seen, r.Dot)
			}
			for _, r := range waits.After(self, us.Siblings("k")) {
				told = append(told, string(r.Value))
			}
		}
		write := func() {
			if len(waits) == 0 {
				return
			}
			w := waits[0]
			waits = waits[1:]
			over := w.Over(self, us.Siblings("k"))
			if w.Value == nil {
				_, err = us.RemoveOver("k", over)
			} else {
				_, err = us.PutOver("k", w.Value, over)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		for n := range 12 {
			switch rng.IntN(5) {
			case 0: // another writes, over what it sees, and we hear of it
				for _, r := range us.Siblings("k") {
					if _, err := them.Apply(r.raw); err != nil {
						t.Fatal(err)
					}
				}
				b, err := them.Put("k", fmt.Appendf(nil, "them%d", n))
				if err != nil {
					t.Fatal(err)
				}
				for _, rumour := range b.Rumours {
					if _, err := us.Apply(rumour); err != nil {
						t.Fatal(err)
					}
				}
				look()
			case 1:
				write()
			default:
				w := &Wanted{Value: fmt.Appendf(nil, "us%d", n), Seen: seen}
				next := []string{string(w.Value)}
				for _, v := range told {
					if rng.IntN(2) == 0 {
						w.Beside = append(w.Beside, []byte(v))
						next = append(next, v)
					}
				}
				told, waits = next, waits.Add(w)
			}
		}
		for len(waits) > 0 {
			write()
		}
		var holds []string
		for _, r := range us.Siblings("k") {
			holds = append(holds, string(r.Value))
		}
		slices.Sort(told)
		if slices.Sort(holds); !slices.Equal(holds, told) {
			t.Fatalf("seed %d: it holds %s, and whoever wrote it was told %s", seed, holds, told)
		}
	}
}
