package placement

import (
	"testing"
	"time"
)

// An edit that its driver wrote under its term, and that no majority is known to have,
// is sent again below a majority: whoever drives the app under a later term may never
// have heard of it, and what it is answered with must stand all the same.
func TestEditThatComesAgainStandsAlone(t *testing.T) {
	v := newVillage(t, FaultNone, "a", "b", "c")
	shop := AppKey{"default", "shop"}
	v.deploy("a")
	v.cut[[2]PeerID{"a", "c"}], v.cut[[2]PeerID{"b", "a"}] = true, true // b gets it, and a does not hear so
	v.step(v.peers["a"], Submit{Ticket: 2, App: scaled(5), IdempotencyKey: "k"})
	made := v.peers["b"].find(shop).win.intent
	if made.App.Components["c"].Wanted() != 5 || made.Alone || len(v.answers) != 1 {
		t.Fatalf("b holds %+v: the test shows nothing", made)
	}
	v.peers["a"] = nil
	v.apart("b")
	v.pass(time.Second)
	v.step(v.peers["b"], Submit{Ticket: 3, App: scaled(5), IdempotencyKey: "k"})
	v.pass(5 * time.Second)
	if r := v.answers[3]; r.Err != nil || r.Quorum || r.Version != made.Version {
		t.Errorf("answered with %+v, not with version %s", r, made.Version)
	}
	i := v.peers["b"].find(shop).win.intent
	if !i.Alone || i.App.Components["c"].Wanted() != 5 || i.Before["c"] != 2 || !i.over(&made) {
		t.Errorf("what stands is version %s, alone %t, over %v, before %v", i.Version, i.Alone, i.Over, i.Before)
	}
	if !v.peers["b"].lists(i.UID, i.Version) {
		t.Error("the mesh does not list it")
	}
	v.step(v.peers["b"], Submit{Ticket: 4, App: scaled(5), IdempotencyKey: "k"})
	if r := v.answers[4]; r.Version != made.Version || v.peers["b"].find(shop).win.intent.Version != i.Version {
		t.Errorf("sent once more it was made once more, as %s", r.Version)
	}
}
