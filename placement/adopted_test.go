package placement

import (
	"testing"
	"time"
)

// What a daemon had granted before it restarted runs, as far as anybody knows, until
// its driver has said what runs: whoever drives the app takes it neither for broken,
// which costs nobody anything to stop, nor for healthy.
func TestWorkThatIsYetToBeListedIsNotBroken(t *testing.T) {
	p, now, shop := newShop(t)
	s := shop.steward
	for _, unsure := range []bool{false, true} {
		say(p, now, "b", message{Report: &reportMsg{UID: shop.uid, Peer: PeerRef{"b", 1}, Order: order{Incarnation: 1, Boot: 1}, Claims: []claimStatus{{
			ID: ClaimID{AskID{"a", 1, 99}, PeerRef{"b", 1}}, Component: "c", Version: shop.win.intent.Version, Spec: 1, Slots: SlotsOf(0, 1), Unsure: unsure,
		}}}})
		delete(shop.rows, "a") // b alone has it, at an older version
		sit := s.situation("c")
		sit.mayMove, sit.update = true, UpdatePolicy{Unavailable: 1}
		c := reconcile(sit)
		stops := 0
		for _, d := range c.done {
			stops += d.slots.Len()
		}
		if want := btoi(!unsure); stops != want || !c.missing.IsEmpty() {
			t.Errorf("unsure %t: %d slots are stopped, want %d; %s missing", unsure, stops, want, c.missing)
		}
	}
}

// A peer says of a claim that it is unsure from its restart until its driver has said
// what runs, but not for ever.
func TestUnsureUntilListed(t *testing.T) {
	p, now, shop := newShop(t)
	c := onlyClaim(t, p)
	unsure := func() bool { return p.report(shop.uid, 0).Claims[0].Unsure }
	if unsure() {
		t.Error("its driver has listed")
	}
	p.started, p.ledger.listed = now.Mono, map[string]bool{}
	if !unsure() {
		t.Errorf("it says nothing of %s that waits for its driver's list", c.ID)
	}
	if now.Mono += p.tune.RestartWindow + time.Second; true {
		step(p, now, TimerFired{})
	}
	if unsure() {
		t.Error("a driver that never lists is waited for")
	}
}
