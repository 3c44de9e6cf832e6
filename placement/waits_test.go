package placement

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestWaitsAreWhatRunsNowhereElse holds what a steward says of lost slots against
// its definition, spelled out peer by peer.
func TestWaitsAreWhatRunsNowhereElse(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	said := 0
	for range 300 {
		p := New(Config{Self: PeerRef{"a", 1}})
		s := &Steward{p: p, a: &app{key: AppKey{"default", "shop"}}}
		sit := situation{wanted: FirstSlots(1 + rng.IntN(100)), fates: map[PeerID]fate{}}
		for n := range rng.IntN(8) {
			id := PeerID(fmt.Sprintf("p%d", n))
			fate := fate{kind: []FateKind{FateNone, FateNone, FateNever, FateMass, FateUnknown}[rng.IntN(5)]}
			fate.lost = fate.kind != FateNone && rng.IntN(3) == 0
			sit.fates[id] = fate
			live := fate.kind == FateNone && rng.IntN(3) > 0
			for range 1 + rng.IntN(3) {
				lo := Slot(rng.IntN(110))
				sit.claims = append(sit.claims, fact{peer: id, live: live, lost: fate.lost, claimStatus: claimStatus{Slots: SlotRange(lo, lo+Slot(rng.IntN(40)))}})
			}
		}
		var want []string
		for _, id := range sortedKeys(sit.fates) {
			own, elsewhere := Slots{}, Slots{}
			for _, f := range sit.claims {
				if f.peer == id {
					own = own.Union(f.Slots.Intersect(sit.wanted))
				} else if f.live {
					elsewhere = elsewhere.Union(f.Slots)
				}
			}
			if f := sit.fates[id]; f.kind != FateNone && !f.lost && !own.Minus(elsewhere).IsEmpty() {
				want = append(want, fmt.Sprintf("default/shop: web: slots %s at %s %s", own.Minus(elsewhere), id, p.fateText(f)))
			}
		}
		if s.noteWaits("web", sit); !slices.Equal(s.open, want) {
			t.Fatalf("says %q, not %q", s.open, want)
		}
		said += len(want)
	}
	if said == 0 {
		t.Fatal("nothing was waited for")
	}
}
