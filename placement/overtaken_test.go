package placement

import (
	"testing"
	"time"
)

// An edit that one keeper alone wrote, under a term that was overtaken, does not
// come before what a majority took under the later one, whatever the clock of its
// writer said.
func TestLeftOverOfAnEarlierTerm(t *testing.T) {
	v := newVillage(t, FaultNone, "a", "b", "c")
	v.deploy("a")
	shop := AppKey{"default", "shop"}
	v.cut[[2]PeerID{"a", "b"}], v.cut[[2]PeerID{"a", "c"}] = true, true // not yet seen
	v.now.Wall = v.now.Wall.Add(20 * time.Second)                       // a's clock is so far ahead
	v.step(v.peers["a"], Submit{Ticket: 2, App: scaled(1)})
	v.now.Wall = v.now.Wall.Add(-20 * time.Second)
	a := v.peers["a"].find(shop)
	left, list := a.win.signed, a.keepers.signed
	v.peers["a"] = nil // it is killed
	v.dead("b", "a")
	v.dead("c", "a")
	v.pass(2 * time.Second)
	if !v.acting("b") {
		t.Fatal("b does not act: the test shows nothing")
	}
	v.step(v.peers["b"], Submit{Ticket: 3, App: scaled(3)})
	r := v.answers[3]
	if r.Err != nil || !r.Quorum || a.win.intent.Version.Compare(r.Version) < 0 {
		t.Fatalf("%+v, and %s was left: the test shows nothing", r, a.win.intent.Version)
	}
	// It is back, and tells the others what it keeps.
	v.step(v.peers["b"], Receive{From: "a", Body: Encode(message{Store: &storeMsg{UID: a.uid, Intents: []Signed{left}, Keepers: list}})})
	v.pass(10 * time.Second)
	for _, id := range []PeerID{"b", "c"} {
		stands := v.peers[id].find(shop).versions
		if len(stands) != 1 || stands[0].intent.Version != r.Version {
			t.Errorf("at %s %d versions stand, %s among them; %s was acknowledged", id, len(stands), stands[0].intent.Version, r.Version)
		}
	}
}
