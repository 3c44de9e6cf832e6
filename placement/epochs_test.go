package placement

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// village is a few cores whose messages and tables reach whom they can reach at
// once, so that a test says who knows what, step by step.
type village struct {
	t     *testing.T
	now   *Now
	order []PeerID
	peers map[PeerID]*Peer
	cut   map[[2]PeerID]bool
	table map[string][]byte // intents and keepers, as whoever wrote last left them
	fault Fault
	forced

	answers map[uint64]Result
	lacks   map[PeerID]map[string]bool // digests that a peer does not hold
	fetched map[PeerID][]Fetch
}

type forced = Forced

func newVillage(t *testing.T, fault Fault, ids ...PeerID) *village {
	v := &village{t: t, now: &Now{Wall: time.Unix(1_800_000_000, 0)}, order: ids, peers: map[PeerID]*Peer{},
		cut: map[[2]PeerID]bool{}, table: map[string][]byte{}, fault: fault, answers: map[uint64]Result{}, lacks: map[PeerID]map[string]bool{}, fetched: map[PeerID][]Fetch{}}
	for _, id := range ids {
		v.join(id, 1)
	}
	v.see()
	return v
}

// join begins a core in that life of its store, which is empty.
func (v *village) join(id PeerID, life Incarnation) {
	p := New(Config{Self: PeerRef{id, life}, Name: string(id), Site: SiteID("s" + id), Seed: uint64(id[0]), Tune: Tuning{Break: v.fault},
		Has: func(a Artifact) bool { return !v.lacks[id][a.Digest] }})
	v.peers[id] = p
	v.carry(p, p.Begin(*v.now))
	v.step(p, HostChanged{Host: Host{ID: "h", Arch: "amd64", Drivers: []string{DriverProcess}, Capacity: Resources{CPU: 4000, Memory: 4 << 30}}})
	v.step(p, WorkListed{Driver: DriverProcess})
}

func (v *village) open(a, b PeerID) bool { return !v.cut[[2]PeerID{a, b}] && v.peers[b] != nil }

// see tells everyone who lives, and what they know of each other.
func (v *village) see() {
	for _, a := range v.order {
		for _, b := range v.order {
			p := v.peers[a]
			if p == nil || a == b {
				continue
			}
			if !v.open(a, b) {
				v.step(p, MemberChanged{Peer: b, Site: SiteID("s" + b), State: MemberDead})
				continue
			}
			v.step(p, MemberChanged{Peer: b, Site: SiteID("s" + b), State: MemberAlive})
			v.step(p, DigestChanged{Digest: v.peers[b].Digest()})
			for key, value := range v.table {
				v.tell(p, key, value)
			}
		}
	}
}

// apart cuts the village in two.
func (v *village) apart(side ...PeerID) {
	for _, a := range v.order {
		for _, b := range v.order {
			v.cut[[2]PeerID{a, b}] = slices.Contains(side, a) != slices.Contains(side, b)
		}
	}
	v.see()
}

func (v *village) step(p *Peer, ev Event) {
	v.now.Mono += time.Microsecond
	v.carry(p, p.Step(*v.now, ev))
}

func (v *village) tell(p *Peer, key string, value []byte) {
	table, key, _ := cutTable(key)
	v.step(p, RecordChanged{Table: table, Key: key, Siblings: [][]byte{value}})
}

func cutTable(s string) (table, key string, ok bool) {
	k, ok := parseAppKey(s)
	return k.Namespace, k.App, ok
}

func (v *village) carry(p *Peer, effects []Effect) {
	self := p.cfg.Self.Peer
	for _, e := range effects {
		switch e := e.(type) {
		case Persist:
			v.step(p, Persisted{Token: e.Token})
		case Send:
			if v.open(self, e.To) {
				v.step(v.peers[e.To], Receive{From: self, Body: e.Body})
			}
		case Publish:
			if e.Table == TableStatus {
				continue
			}
			if e.Value == nil {
				v.remove(self, e)
				continue
			}
			v.table[e.Table+"/"+e.Key] = e.Value
			for _, id := range v.order {
				if id != self && v.open(self, id) {
					v.tell(v.peers[id], e.Table+"/"+e.Key, e.Value)
				}
			}
		case Forced:
			v.forced = e
		case Answer:
			v.answers[e.Ticket] = e.Result
		case Fetch:
			v.fetched[self] = append(v.fetched[self], e)
		}
	}
}

// remove ends a key of a table.
func (v *village) remove(by PeerID, e Publish) {
	delete(v.table, e.Table+"/"+e.Key)
	for _, id := range v.order {
		if id != by && v.open(by, id) {
			v.step(v.peers[id], RecordChanged{Table: e.Table, Key: e.Key})
		}
	}
}

// pass lets time pass, a second at a time.
func (v *village) pass(d time.Duration) {
	for end := v.now.Mono + d; v.now.Mono < end; v.now.Mono += time.Second {
		v.now.Wall = v.now.Wall.Add(time.Second)
		for _, id := range v.order {
			if p := v.peers[id]; p != nil {
				v.step(p, TimerFired{Key: wakeTimer})
			}
		}
	}
}

// deploy makes the app shop at a peer.
func (v *village) deploy(at PeerID) { v.step(v.peers[at], Submit{Ticket: 1, App: testApp("shop")}) }

// keepers is the list that counts at a peer, with its epoch.
func (v *village) keepers(at PeerID) string {
	a := v.peers[at].find(AppKey{"default", "shop"})
	return fmt.Sprint(a.keepers.list.Epoch, a.keepers.list.Peers)
}

func (v *village) want(at PeerID, list string) {
	v.t.Helper()
	if got := v.keepers(at); got != list {
		v.t.Fatalf("the keepers at %s are %s, want %s", at, got, list)
	}
}

// acting says whether a peer acts as the steward of shop.
func (v *village) acting(id PeerID) bool { return v.drives(id, AppKey{"default", "shop"}) }

func (v *village) drives(id PeerID, key AppKey) bool {
	s := v.peers[id].find(key).steward
	return s != nil && !s.deputy && s.phase == phaseActing
}

// A mesh that grows gets keepers up to their number; those that are lost for
// good are replaced, one after another.
func TestKeepersGrowAndAreReplaced(t *testing.T) {
	v := newVillage(t, FaultNone, "a")
	v.deploy("a")
	v.want("a", "1 [{a 1}]")
	v.order = []PeerID{"a", "b", "c", "d"}
	for _, id := range v.order[1:] {
		v.join(id, 1)
	}
	v.see()
	v.pass(30 * time.Second)
	v.want("a", "1 [{a 1}]") // not at once: who comes may go again
	v.pass(2 * time.Minute)
	for _, id := range v.order {
		v.want(id, "3 [{a 1} {b 1} {c 1}]")
	}
	v.join("b", 2) // its disk was lost
	v.see()
	v.pass(2 * time.Minute)
	v.want("a", "4 [{a 1} {c 1} {b 2}]")
	for _, id := range v.order {
		v.step(v.peers[id], MemberChanged{Peer: "c", Site: "sc", State: MemberForgotten})
	}
	v.peers["c"] = nil
	v.pass(2 * time.Minute)
	for _, id := range []PeerID{"a", "b", "d"} {
		v.want(id, "5 [{a 1} {b 2} {d 1}]")
	}
}

// One peer alone has begun to grow, and the second is lost before it answered:
// the first goes on by itself, and takes another.
func TestGrowthIsWithdrawn(t *testing.T) {
	v := newVillage(t, FaultNone, "a")
	v.deploy("a")
	v.order = []PeerID{"a", "b", "c"}
	v.join("b", 1)
	v.see()
	v.pass(59 * time.Second)
	v.cut[[2]PeerID{"a", "b"}] = true // it seems to live, and hears nothing
	v.pass(10 * time.Second)
	if a := v.peers["a"].find(AppKey{"default", "shop"}); len(a.next.list.Peers) != 2 || !v.acting("a") {
		t.Fatalf("it changes to %v, acting %t: the test shows nothing", a.next.list.Peers, v.acting("a"))
	}
	v.join("b", 2)
	v.join("c", 1)
	clear(v.cut)
	v.see()
	v.pass(3 * time.Minute)
	v.want("a", "3 [{a 1} {b 2} {c 1}]")
}

// Whoever has accepted another list of keepers decides nothing without it.
func TestNoTwoMajoritiesOfKeepers(t *testing.T) {
	for _, fault := range []Fault{FaultNone, FaultOldMajority} {
		t.Run(string(fault), func(t *testing.T) {
			v := newVillage(t, fault, "a", "b", "c", "d")
			v.deploy("a")
			uid := v.peers["a"].find(AppKey{"default", "shop"}).uid
			// b has accepted, and a and d have gone on to the new list.
			a, b := v.peers["a"], v.peers["b"]
			next := Keepers{UID: uid, Epoch: 2, Peers: []PeerRef{{"a", 1}, {"b", 1}, {"d", 1}}, Term: Term{1, "a"}, Free: true}
			signed := a.sign(next)
			b.keeper.records[uid].accept(keeperList{signed, next})
			b.refresh(uid)
			v.apart("a", "d")
			for _, id := range []PeerID{"a", "d"} {
				v.tell(v.peers[id], TableKeepers+"/"+string(uid), Encode(signed))
			}
			v.want("a", "2 [{a 1} {b 1} {d 1}]")
			v.want("b", "1 [{a 1} {b 1} {c 1}]")
			v.pass(time.Minute)
			if alone := v.acting("b") || v.acting("c"); alone != (fault != FaultNone) || !v.acting("a") {
				t.Fatalf("a acts %t; b, which has accepted the list of a, acts %t, c %t", v.acting("a"), v.acting("b"), v.acting("c"))
			}
			if fault != FaultNone {
				return
			}
			// b and c reach d, and not a: a majority of both lists. The list stays.
			v.apart("a")
			v.pass(2 * time.Minute)
			v.want("b", "2 [{a 1} {b 1} {d 1}]")
		})
	}
}

// What may have been decided is gone on with, by whoever raises the next term.
func TestAcceptedKeepersAreProposedAgain(t *testing.T) {
	for _, fault := range []Fault{FaultNone, FaultNewProposal} {
		v := newVillage(t, fault, "a", "b", "c", "d")
		v.deploy("a")
		uid := v.peers["a"].find(AppKey{"default", "shop"}).uid
		next := Keepers{UID: uid, Epoch: 2, Peers: []PeerRef{{"a", 1}, {"b", 1}, {"d", 1}}, Term: Term{1, "a"}, Free: true}
		signed := v.peers["a"].sign(next)
		for _, id := range []PeerID{"b", "d"} { // which makes it decided, with a
			p := v.peers[id]
			if id == "d" {
				p.keeper.open(uid, AppKey{"default", "shop"}).adopt(v.peers["a"].find(AppKey{"default", "shop"}).keepers)
			}
			p.keeper.records[uid].accept(keeperList{signed, next})
			p.refresh(uid)
		}
		v.apart("a")
		v.pass(time.Minute)
		if kept := v.keepers("b") == "2 [{a 1} {b 1} {d 1}]"; kept != (fault == FaultNone) {
			t.Errorf("with fault %q the keepers are %s, and %v were decided", fault, v.keepers("b"), next.Peers)
		}
	}
}

// A person forces new keepers where no majority is left, over those alone that
// were shut out; who has not heard of that does not follow yet.
func TestForcedKeepers(t *testing.T) {
	v := newVillage(t, FaultNone, "a", "b", "c", "d")
	v.deploy("b")
	v.want("b", "1 [{b 1} {a 1} {c 1}]")
	shop := AppKey{"default", "shop"}
	v.peers["b"], v.peers["c"] = nil, nil
	v.see()
	v.pass(10 * time.Minute)
	v.want("a", "1 [{b 1} {a 1} {c 1}]")
	forget := func(id PeerID, at ...PeerID) {
		for _, o := range at {
			v.step(v.peers[o], MemberChanged{Peer: id, Site: SiteID("s" + id), State: MemberForgotten})
		}
	}
	forget("b", "a", "d")
	v.step(v.peers["a"], ForceEpoch{Ticket: 7, Peer: "b"})
	if why := v.Refused[shop]; v.Ticket != 7 || len(v.Apps) > 0 || why == "" {
		t.Fatalf("c may come back, and the answer is %+v", v.forced)
	}
	forget("c", "a")
	v.step(v.peers["a"], ForceEpoch{Ticket: 8, Peer: "b"})
	if v.Ticket != 8 || len(v.Apps) != 1 || len(v.Refused) > 0 {
		t.Fatalf("the answer is %+v", v.forced)
	}
	v.want("a", "2 [{a 1} {d 1}]")
	v.want("d", "1 [{b 1} {a 1} {c 1}]") // it does not know that c is gone
	forget("c", "d")
	v.want("d", "2 [{a 1} {d 1}]")
	v.pass(time.Minute)
	if term := v.peers["a"].find(shop).steward.term; !v.acting("a") || term.Number < forceTermJump {
		t.Errorf("a acts %t, under term %d", v.acting("a"), term.Number)
	}
}

// Lists that do not follow are not followed, whoever sends them.
func TestListsThatDoNotFollow(t *testing.T) {
	refs := func(ids ...PeerID) (out []PeerRef) {
		for _, id := range ids {
			out = append(out, PeerRef{id, 1})
		}
		return out
	}
	for name, k := range map[string]struct {
		by   PeerID
		list Keepers
	}{
		"by a stranger":          {"m", Keepers{Epoch: 2, Peers: refs("a", "b", "m"), Term: Term{2, "m"}}},
		"under another's term":   {"m", Keepers{Epoch: 2, Peers: refs("a", "b", "m"), Term: Term{2, "b"}}},
		"two at once":            {"b", Keepers{Epoch: 2, Peers: refs("b", "m", "n"), Term: Term{2, "b"}}},
		"far ahead":              {"b", Keepers{Epoch: epochJumpMax + 9, Peers: refs("a", "b", "c"), Term: Term{2, "b"}}},
		"forced over the living": {"m", Keepers{Epoch: 2, Peers: refs("a", "m"), Forced: true}},
		"some epochs on":         {"m", Keepers{Epoch: 5, Peers: refs("a", "m"), Term: Term{2, "m"}}},
	} {
		p, now, shop := newShop(t)
		k.list.UID = shop.uid
		s := Signed{Body: Encode(k.list), By: k.by}
		step(p, now, RecordChanged{Table: TableKeepers, Key: string(shop.uid), Siblings: [][]byte{Encode(s)}})
		say(p, now, k.by, message{Store: &storeMsg{UID: shop.uid, Term: k.list.Term, Intents: []Signed{shop.win.signed}, Keepers: s}})
		say(p, now, k.by, message{Store: &storeMsg{UID: shop.uid, Term: k.list.Term, Intents: []Signed{shop.win.signed}, Keepers: shop.keepers.signed, Next: s}})
		say(p, now, "m", message{Stored: &storedMsg{UID: shop.uid, Lists: &listsMsg{Now: s}}})
		if r := p.keeper.records[shop.uid]; fmt.Sprint(shop.keeperIDs()) != "[a b c]" || r.list.Epoch != 1 || r.next.Peers != nil {
			t.Errorf("%s: the keepers are %v, in epoch %d", name, shop.keeperIDs(), r.list.Epoch)
		}
	}
}

// An app whose list was lost with its maker, once the intent had spread, is kept
// by the others of the list that it was made with, as soon as nobody can bring
// another.
func TestKeepersComeWithTheApp(t *testing.T) {
	v := newVillage(t, FaultNone, "a", "b", "c", "d")
	for _, id := range []PeerID{"b", "c", "d"} { // which a does not know yet
		v.cut[[2]PeerID{"a", id}] = true
	}
	v.deploy("a")
	for key, value := range v.table {
		if table, _, _ := cutTable(key); table == TableIntents {
			for _, id := range []PeerID{"b", "c", "d"} {
				v.tell(v.peers[id], key, value)
			}
		}
	}
	v.want("b", "0 []")
	for _, id := range []PeerID{"b", "c", "d"} {
		v.step(v.peers[id], MemberChanged{Peer: "a", Site: "sa", State: MemberForgotten})
	}
	v.want("d", "1 [{a 1} {b 1} {c 1}]")
	v.pass(30 * time.Second)
	if !v.acting("b") {
		t.Fatal("nobody drives it")
	}
	for _, id := range []PeerID{"b", "c"} {
		if n := len(v.peers[id].find(AppKey{"default", "shop"}).rows); n == 0 {
			t.Errorf("%s hears of nothing that runs", id)
		}
	}
}
