package sweep

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestChoose(t *testing.T) {
	rules := Rules{Grace: 24 * time.Hour, GraceMin: time.Hour}
	kept := Blob{Digest: "kept", Size: 1, Idle: 99 * time.Hour, Kept: true, Needed: true}
	cached := Blob{Digest: "cached", Size: 10, Idle: 2 * time.Hour, Needed: true}
	older := Blob{Digest: "older", Size: 10, Idle: 3 * time.Hour, Needed: true}
	garbage := Blob{Digest: "garbage", Size: 5, Idle: 25 * time.Hour}
	pushed := Blob{Digest: "pushed", Size: 5, Idle: time.Minute}
	given := Blob{Digest: "given up", Size: 5, Idle: 2 * time.Hour}
	all := []Blob{pushed, kept, cached, garbage, given, older}
	names := func(list []Blob) (out []string) {
		for _, b := range list {
			out = append(out, b.Digest)
		}
		return out
	}
	for name, tt := range map[string]struct {
		change            func(*Rules)
		drop, offer, then []string
	}{
		"room":          {func(r *Rules) {}, []string{"garbage"}, nil, nil},
		"little":        {func(r *Rules) { r.Excess = 5 }, []string{"garbage"}, nil, nil},
		"much":          {func(r *Rules) { r.Excess = 6 }, []string{"garbage"}, []string{"older", "cached"}, []string{"given up"}},
		"blind":         {func(r *Rules) { r.Blind = true }, nil, nil, nil},
		"blind, little": {func(r *Rules) { r.Blind, r.Excess = true, 1 }, nil, []string{"older", "cached"}, nil},
	} {
		r := rules
		tt.change(&r)
		c := Choose(all, r)
		if !slices.Equal(names(c.Drop), tt.drop) || !slices.Equal(names(c.Offer), tt.offer) || !slices.Equal(names(c.Then), tt.then) {
			t.Errorf("%s: drop %v, offer %v, then %v; want %v, %v, %v", name, names(c.Drop), names(c.Offer), names(c.Then), tt.drop, tt.offer, tt.then)
		}
	}
}

// Whatever is known: what this peer has to hold stays, what is needed goes only if
// there is too little room, and only on offer; nothing is chosen twice.
func TestChooseKeepsWhatMustStay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := Rules{Grace: 24 * time.Hour, GraceMin: time.Hour, Excess: rapid.Int64Range(-100, 100).Draw(t, "excess"), Blind: rapid.Bool().Draw(t, "blind")}
		byName := map[string]Blob{}
		var blobs []Blob
		for i := range rapid.IntRange(0, 30).Draw(t, "blobs") {
			b := Blob{
				Digest: fmt.Sprint(i), Size: rapid.Int64Range(0, 20).Draw(t, "size"), Idle: time.Duration(rapid.IntRange(0, 48*60).Draw(t, "idle")) * time.Minute,
				Needed: rapid.Bool().Draw(t, "needed"), Kept: rapid.Bool().Draw(t, "kept"),
			}
			blobs, byName[b.Digest] = append(blobs, b), b
		}
		c := Choose(blobs, r)
		seen := map[string]bool{}
		for _, list := range [][]Blob{c.Drop, c.Offer, c.Then} {
			for i, b := range list {
				if seen[b.Digest] || b.Kept || byName[b.Digest] != b {
					t.Fatalf("%+v was chosen twice, or has to stay", b)
				}
				seen[b.Digest] = true
				if i > 0 && list[i-1].Idle < b.Idle {
					t.Fatalf("%+v goes after %+v", b, list[i-1])
				}
			}
		}
		for _, b := range append(slices.Clone(c.Drop), c.Then...) {
			if b.Needed || b.Idle < r.GraceMin || r.Blind {
				t.Fatalf("%+v would go unasked", b)
			}
		}
		if r.Excess <= 0 && len(c.Offer)+len(c.Then) > 0 {
			t.Fatal("there is room, and something is let go for want of it")
		}
	})
}

func TestGuard(t *testing.T) {
	now := time.Hour
	g := NewGuard("b", func() time.Duration { return now })
	has := func(string) bool { return true }
	var removed []string
	remove := func(d string) error { removed = append(removed, d); return nil }

	if g.Offer("x") {
		t.Error("a peer that has just started may have promised it before")
	}
	now += PromiseFor
	if !g.Offer("x") || g.Promise("x", "c", has) {
		t.Error("it is on offer: a later peer can't have the promise")
	}
	if !g.Promise("x", "a", has) {
		t.Error("an earlier peer can")
	}
	if gone, _ := g.LetGo("x", remove); gone || g.Offer("x") {
		t.Error("it was promised, and is let go")
	}
	if gone, _ := g.Delete("x", now, remove); gone {
		t.Error("it was promised, and is deleted")
	}
	now += PromiseFor
	if !g.Offer("x") {
		t.Error("the promise is over")
	}
	now += LetGoWithin + 1
	if gone, _ := g.LetGo("x", remove); gone {
		t.Error("what others promised is too old")
	}
	g.Offer("x")
	g.Use("x")
	if gone, _ := g.LetGo("x", remove); gone {
		t.Error("it was used meanwhile")
	}
	now++
	if g.Offer("x"); g.Promise("x", "a", func(string) bool { return false }) {
		t.Error("what is not here was promised")
	}
	if gone, err := g.LetGo("x", remove); !gone || err != nil || !slices.Equal(removed, []string{"x"}) {
		t.Errorf("removed %v, %v", removed, err)
	}
	if gone, _ := g.LetGo("x", remove); gone {
		t.Error("it was not offered")
	}

	looked := g.Begin()
	if gone, err := g.Delete("y", looked, func(string) error { return errors.New("no") }); gone || err == nil {
		t.Error("an error is told")
	}
	if g.Use("y"); g.usedSince("y", looked) == false {
		t.Error("the use is forgotten")
	}
	if gone, _ := g.Delete("y", looked, remove); gone {
		t.Error("it was used since it was looked at")
	}
	g.Rest(func() []string { return []string{"rested on"} })
	if gone, _ := g.Delete("rested on", looked, remove); gone {
		t.Error("something rests on it since it was looked at")
	}
	g.End()
	if g.Rest(func() []string { t.Error("nothing is swept"); return nil }); g.Sweeping() {
		t.Error("the sweep has ended")
	}
	for i := range usesMax + 1 {
		g.Use(fmt.Sprint(i))
	}
	if gone, _ := g.Delete("z", looked, remove); gone {
		t.Error("some uses were forgotten, and this may be one")
	}
}

// Peers that all want to be rid of one file, that ask each other in any order, with
// answers that are late or lost, and restarts in between: one copy stays.
func TestLastCopyStays(t *testing.T) {
	gone := 0
	for seed := range uint64(3000) {
		gone += letGo(t, seed)
	}
	if t.Logf("%d copies were let go in 3000 runs", gone); gone < 1000 {
		t.Error("next to nothing is ever let go")
	}
}

// asking is one peer's wish to be rid of the file.
type asking struct {
	*Guard
	holds    bool
	answered bool // somebody's promise came since it offered
	calls    []int
}

func letGo(t *testing.T, seed uint64) (gone int) {
	r := rand.New(rand.NewPCG(seed, 0))
	now := PromiseFor
	peers := make([]*asking, 2+r.IntN(2))
	start := func(i int) *Guard { return NewGuard(string(rune('a'+i)), func() time.Duration { return now }) }
	for i := range peers {
		peers[i] = &asking{Guard: start(i), holds: true}
	}
	now += PromiseFor
	for range 150 {
		i := r.IntN(len(peers))
		p := peers[i]
		switch what := r.IntN(100); {
		case what < 8:
			now += time.Duration(r.IntN(30)) * time.Second
		case what < 10:
			now += PromiseFor / 2
		case what < 11:
			p.Guard, p.answered, p.calls = start(i), false, nil
		case what < 40:
			if p.holds && p.Offer("x") {
				p.answered, p.calls = false, nil
				for j := range peers {
					if j != i {
						p.calls = append(p.calls, j)
					}
				}
			}
		case what < 75: // a call arrives, and perhaps its answer
			if len(p.calls) == 0 {
				continue
			}
			j := p.calls[0]
			p.calls = p.calls[1:]
			if peers[j].Promise("x", p.self, func(string) bool { return peers[j].holds }) && r.IntN(4) > 0 {
				p.answered = true
			}
		case p.answered:
			p.answered = false
			if done, _ := p.LetGo("x", func(string) error { p.holds = false; return nil }); done {
				gone++
			}
		}
		if !slices.ContainsFunc(peers, func(p *asking) bool { return p.holds }) {
			t.Fatalf("seed %d: no copy is left after %v", seed, now)
		}
	}
	return gone
}
