package placement

import (
	"slices"
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

// An edit that comes again where a keeper holds it for another peer is answered once the
// mesh lists it: before that who made it may take it back, as when its files do not come.
func TestEditThatComesAgainIsListed(t *testing.T) {
	p, now, shop := newShop(t)
	for _, id := range []PeerID{"b", "c"} {
		step(p, now, MemberChanged{Peer: id, Site: SiteID("s" + id), State: MemberDead})
	}
	before := shop.versions
	step(p, now, Submit{Ticket: 2, App: scaled(3)}) // alone: it waits for copies that do not come
	made := editOf("m", now.Wall.UnixMilli()+5, before, scaled(4), true)
	made.intent.UID, made.intent.Request = shop.uid, "k"
	say(p, now, "m", message{Store: &storeMsg{UID: shop.uid, Intents: []Signed{{Body: Encode(made.intent), By: "m"}}, Keepers: shop.keepers.signed}})
	if len(shop.versions) != 2 || p.lists(shop.uid, made.intent.Version) {
		t.Fatalf("%d versions stand: the test shows nothing", len(shop.versions))
	}
	answered := false
	for _, e := range p.Step(*now, Submit{Ticket: 3, App: scaled(4), IdempotencyKey: "k"}) {
		if r, ok := e.(Answer); ok && r.Ticket == 3 {
			answered = r.Result.Err == nil && r.Result.Version == made.intent.Version
		}
	}
	say(p, now, "m", message{Drop: &dropMsg{UID: shop.uid, Version: made.intent.Version}})
	stands := slices.ContainsFunc(shop.versions, func(v version) bool { return v.intent.Version == made.intent.Version })
	if !answered || !stands {
		t.Errorf("answered %t, and it stands: %t", answered, stands)
	}
}
