package placement

import (
	"testing"
	"time"
)

// scaled is the app shop with so many replicas.
func scaled(replicas int) App {
	app := testApp("shop")
	c := app.Components["c"]
	c.Replicas = &replicas
	app.Components["c"] = c
	return app
}

// listed is the version of shop that the table of a village has.
func (v *village) listed() Version {
	v.t.Helper()
	var s Signed
	var i Intent
	if err := Decode(v.table[TableIntents+"/default/shop"], &s); err != nil {
		v.t.Fatal(err)
	}
	if err := Decode(s.Body, &i); err != nil {
		v.t.Fatal(err)
	}
	return i.Version
}

// dead lets a peer take another for dead.
func (v *village) dead(at, who PeerID) {
	v.step(v.peers[at], MemberChanged{Peer: who, Site: SiteID("s" + who), State: MemberDead})
}

// overtaken has b raise a term of shop that a does not hear of, and c grant it; then a
// hears so from c.
func (v *village) overtaken() {
	v.t.Helper()
	v.cut[[2]PeerID{"b", "a"}] = true
	v.dead("c", "a")
	v.dead("b", "a")
	if !v.acting("a") || !v.acting("b") {
		v.t.Fatalf("a acts %t, b acts %t: the test shows nothing", v.acting("a"), v.acting("b"))
	}
	v.cut[[2]PeerID{"a", "c"}] = false
	v.pass(time.Second)
	clear(v.cut)
	v.see()
	v.pass(30 * time.Second)
}

// An edit that a majority holds, and that waits for more copies, was made: a keeper
// that follows a higher term by now does not have it made once more.
func TestMadeEditIsNotSentOn(t *testing.T) {
	v := newVillage(t, FaultNone, "a", "b", "c")
	v.deploy("a")
	refused := false
	v.peers["a"].tune.Reached = func(m Mark) { refused = refused || m == MarkStoreRefused }
	v.cut[[2]PeerID{"a", "c"}] = true // not yet seen
	v.step(v.peers["a"], Submit{Ticket: 2, App: scaled(3), Copies: 3})
	made := v.listed()
	if r, done := v.answers[2]; done || made == v.answers[1].Version {
		t.Fatalf("answered %t %+v, version %s is listed: the test shows nothing", done, r, made)
	}
	v.overtaken()
	if !refused {
		t.Fatal("no keeper refused it: the test shows nothing")
	}
	if r := v.answers[2]; r.Err != nil || r.Version != made || v.listed() != made {
		t.Errorf("%s was made, the answer is %s %v, and %s is listed", made, r.Version, r.Err, v.listed())
	}
}

// An edit that names neither version nor key, and that is taken back for a higher
// term, is made once: whoever drives the app now had learned it, and showed it.
func TestSentOnEditIsMadeOnce(t *testing.T) {
	v := newVillage(t, FaultNone, "a", "b", "c")
	v.deploy("a")
	sentOn := false
	v.peers["a"].tune.Reached = func(m Mark) { sentOn = sentOn || m == MarkEditSentOn }
	v.cut[[2]PeerID{"a", "c"}], v.cut[[2]PeerID{"b", "a"}] = true, true
	v.step(v.peers["a"], Submit{Ticket: 2, App: scaled(3)})
	made := v.peers["a"].find(AppKey{"default", "shop"}).win.intent.Version
	v.overtaken()
	if !sentOn {
		t.Fatal("it was not sent on: the test shows nothing")
	}
	if r := v.answers[2]; r.Err != nil || r.Version != made || v.listed() != made {
		t.Errorf("%s was made, the answer is %s %v, and %s is listed", made, r.Version, r.Err, v.listed())
	}
}
