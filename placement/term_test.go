package placement

import (
	"testing"
	"time"
)

// A peer that begins before it has heard of all others asks for a term, and is
// refused by those that see the steward live. It stops asking as soon as it sees
// that too: its vote for itself is no win.
func TestOwnVoteIsNoWin(t *testing.T) {
	a := testApp("shop")
	p := New(Config{Self: PeerRef{"b", 1}, Name: "b", Site: "sb", Seed: 1})
	now := &Now{Wall: time.Unix(1_800_000_000, 0)}
	p.LoadTable(TableIntents, "default/shop", [][]byte{Encode(intentBy("a", "u", a, nil))})
	p.LoadTable(TableKeepers, "u", [][]byte{Encode(listBy("a", "u", 1, "a", "b", "c"))})
	drive(p, now, p.Begin(*now))
	p.counters.boot = max(p.counters.boot, 1)
	p.keeper.records["u"].hear(Term{1, "a"})

	live := func(id PeerID) []Send {
		step(p, now, MemberChanged{Peer: id, Site: SiteID("s" + id), State: MemberAlive})
		return step(p, now, DigestChanged{Digest: Digest{Peer: PeerRef{id, 1}, Name: string(id), Site: SiteID("s" + id)}})
	}
	live("c")
	now.Mono += p.tune.Calm
	step(p, now, TimerFired{})
	s := p.apps["u"].steward
	if s == nil || s.phase != phaseRaising {
		t.Fatal("it asks for no term: the test shows nothing")
	}
	if say(p, now, "c", message{Raised: &raisedMsg{UID: "u", Term: s.term, Known: true, Heard: Term{1, "a"}, Highest: Term{1, "a"}}}); p.apps["u"].steward != nil {
		t.Error("it goes on without a majority that could grant it")
	}
	if got := p.keeper.records["u"].heard.Peer; got != "a" {
		t.Errorf("it takes %s for the winner of the last term", got)
	}
	live("a")
	for range 10 {
		now.Mono += p.tune.RoundMax
		step(p, now, TimerFired{})
		if p.apps["u"].steward != nil {
			t.Fatal("it asks for a term again, although the steward lives")
		}
	}
}

// For a while after the first keeper came back another one drives the app: who
// keeps nothing of it takes the first for its driver, and is told better.
func TestEditFindsTheDriver(t *testing.T) {
	v := newVillage(t, FaultNone, "a", "b", "c", "d")
	v.deploy("a")
	v.apart("a")
	v.pass(30 * time.Second)
	v.apart()
	v.pass(time.Second)
	if v.acting("a") || !v.acting("b") {
		t.Fatalf("a acts %t, b %t: the test shows nothing", v.acting("a"), v.acting("b"))
	}
	edited, n := testApp("shop"), 3
	c := edited.Components["c"]
	c.Replicas = &n
	edited.Components["c"] = c
	v.step(v.peers["d"], Submit{Ticket: 2, App: edited})
	if got := v.peers["d"].find(AppKey{"default", "shop"}).win.intent.App.Components["c"].Wanted(); got != n {
		t.Errorf("%d slots are wanted, and 3 were asked for", got)
	}
}
