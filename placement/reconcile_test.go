package placement

import "testing"

func running(peer string, first int64, spec uint64, slots ...Slot) fact {
	set := SlotsOf(slots...)
	id := ClaimID{Owner: PeerRef{Peer: PeerID(peer), Incarnation: 1}, Ask: AskID{Asker: "s", Incarnation: 1, Counter: uint64(first)}}
	return fact{claimStatus: claimStatus{ID: id, Component: "c", Spec: spec, Slots: set, Running: set, FirstRunning: first}, peer: PeerID(peer), live: true}
}

func TestOfThreeTheFirstSurvives(t *testing.T) {
	s := situation{wanted: FirstSlots(1), spec: 1, mayStop: true, mayMove: true,
		claims: []fact{running("c", 30, 1, 0), running("a", 10, 1, 0), running("b", 20, 1, 0)}}
	c := reconcile(s)
	if len(c.duplicates) != 2 {
		t.Fatalf("%d duplicates", len(c.duplicates))
	}
	for _, d := range c.duplicates {
		if d.survivor.peer != "a" || d.loser.peer == "a" {
			t.Errorf("%s survives %s", d.survivor.peer, d.loser.peer)
		}
	}
}

func TestNewVersionGoesFirst(t *testing.T) {
	old, fresh := running("a", 10, 1, 0), running("b", 20, 2, 0)
	s := situation{wanted: FirstSlots(1), spec: 2, mayStop: true, mayMove: true, claims: []fact{old, fresh}}
	if c := reconcile(s); len(c.done) != 1 || c.done[0].claim.peer != "a" || len(c.duplicates) != 0 {
		t.Errorf("%+v", c)
	}
	fresh.Running = Slots{} // on its way: the old one stays until it runs
	s.claims = []fact{old, fresh}
	if c := reconcile(s); len(c.done) != 0 || len(c.duplicates) != 0 {
		t.Errorf("%+v", c)
	}
}

func TestReconcileIsCareful(t *testing.T) {
	lost, dead := running("a", 10, 1, 0), running("b", 20, 1, 1)
	lost.lost, lost.live, dead.live = true, false, false
	s := situation{wanted: FirstSlots(3), spec: 1, mayStop: true, claims: []fact{lost, dead}, inflight: SlotsOf(2)}
	c := reconcile(s)
	if c.missing.String() != "0" || c.lost.String() != "0" {
		t.Errorf("missing %s, lost %s: only what is lost, and not asked for, is placed anew", c.missing, c.lost)
	}
	twice := running("c", 5, 1, 1)
	s.claims = append(s.claims, twice)
	if c := reconcile(s); len(c.duplicates) != 0 {
		t.Error("a duplicate with a peer that can't be spoken to was resolved")
	}
	s.mayStop = false
	s.claims = []fact{running("a", 1, 1, 0), running("b", 2, 1, 0)}
	if c := reconcile(s); len(c.duplicates)+len(c.done)+len(c.moves) != 0 {
		t.Error("a deputy stops something")
	}
}

// TestNewestExclusiveVersionIsReached: a copy of a version in between waits for
// the lease of the one that it was to replace, which ends for the newest alone.
func TestNewestExclusiveVersionIsReached(t *testing.T) {
	old, between := running("a", 10, 1, 0), running("b", 20, 2, 0)
	between.Ready, between.Running, between.Replaces = between.Slots, Slots{}, &old.ID
	old.Exclusive, between.Exclusive = true, true
	s := situation{wanted: FirstSlots(1), spec: 3, exclusive: true, update: Component{Exclusive: Exclusive{On: true}}.updateOf(1), mayStop: true, mayMove: true, claims: []fact{old, between}}
	if c := reconcile(s); len(c.done) != 1 || c.done[0].claim.peer != "b" {
		t.Fatalf("the one that waits does not make way: %+v", c)
	}
	s.claims = []fact{old}
	if c := reconcile(s); len(c.moves) != 1 {
		t.Fatalf("nothing moves to the newest: %+v", c)
	}
	newest := running("c", 30, 3, 0)
	newest.Ready, newest.Running, newest.Replaces, newest.Exclusive = newest.Slots, Slots{}, &old.ID, true
	s.claims = []fact{old, newest}
	if c := reconcile(s); len(c.done) != 1 || c.done[0].claim.peer != "a" {
		t.Fatalf("the oldest does not make way for the newest: %+v", c)
	}
}

// TestExclusiveNoMore: of two older versions that wait for a lease none gets it
// once what stands is exclusive no more; what still runs under one stays for its
// turn.
func TestExclusiveNoMore(t *testing.T) {
	one, two, runs := running("a", 10, 1, 0, 1), running("b", 20, 2, 0), running("c", 30, 2, 2)
	for _, f := range []*fact{&one, &two} {
		f.Ready, f.Running = f.Slots, Slots{}
	}
	one.Exclusive, two.Exclusive, runs.Exclusive = true, true, true
	s := situation{wanted: FirstSlots(3), spec: 3, update: Component{}.updateOf(3), mayStop: true, mayMove: true, claims: []fact{one, two, runs}}
	c := reconcile(s)
	for _, d := range c.done {
		if d.claim.peer == "c" {
			t.Errorf("%s of what runs stops with them: %s", d.slots, d.why)
		}
	}
	if len(c.done) != 2 || !c.done[0].slots.Equal(one.Slots) || !c.done[1].slots.Equal(two.Slots) {
		t.Errorf("those that wait do not make way: %+v", c.done)
	}
}
