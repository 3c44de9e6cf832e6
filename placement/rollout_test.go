package placement

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func percent(n int) Amount { return Amount{N: n, Percent: true, Set: true} }
func number(n int) Amount  { return Amount{N: n, Set: true} }

func TestUpdatePolicy(t *testing.T) {
	one := 1
	for _, c := range []struct {
		slots              int
		update             *Update
		surge, unavailable int
	}{
		{1, nil, 1, 1}, {3, nil, 1, 1}, {8, nil, 2, 2}, {10, nil, 3, 2},
		{8, &Update{MaxSurge: number(0)}, 0, 2},
		{8, &Update{MaxUnavailable: number(0)}, 2, 0},
		{8, &Update{MaxUnavailable: percent(50), MaxSurge: number(1)}, 1, 4},
		{3, &Update{MaxUnavailable: percent(10), MaxSurge: number(0)}, 0, 1}, // a share that comes to nothing would replace nothing
	} {
		comp := size(c.slots)
		comp.Update = c.update
		p := comp.UpdatePolicy()
		if p.Surge != c.surge || p.Unavailable != c.unavailable {
			t.Errorf("%d slots, %+v: surge %d, unavailable %d; want %d, %d", c.slots, c.update, p.Surge, p.Unavailable, c.surge, c.unavailable)
		}
	}
	disk := size(4)
	disk.Volumes = map[string]Volume{"data": {Path: "/data", Size: 1 << 30}}
	if p := disk.UpdatePolicy(); p.Surge != 0 || p.Unavailable != 1 || !p.StopFirst {
		t.Errorf("what has a disk of its own is held twice: %+v", p)
	}
	if p := (Component{Replicas: &one}).UpdatePolicy(); p.MinHealthy != 10*time.Second || p.Deadline != 5*time.Minute || !p.AutoRevert {
		t.Errorf("%+v", p)
	}
}

// copies is a component while it is rolled out: of each slot the copies that it
// has. It stands for the mesh in a test of the budget.
type copies struct {
	slots  int
	update UpdatePolicy
	old    Slots // held at version 1
	worksO Slots // of old, healthy
	fresh  Slots // held at version 2
	works  Slots // of fresh, healthy for min_healthy
}

func (c *copies) situation() situation {
	claim := func(peer string, n, spec uint64, held, works Slots) fact {
		return fact{peer: PeerID(peer), live: true, claimStatus: claimStatus{
			ID: claimOf(PeerID(peer), n), Component: "c", Spec: spec, Slots: held, Running: held, Fresh: held.Minus(works),
		}}
	}
	s := situation{wanted: FirstSlots(c.slots), spec: 2, mayStop: true, mayMove: true, update: c.update}
	if !c.old.IsEmpty() {
		s.claims = append(s.claims, claim("a", 1, 1, c.old, c.worksO))
	}
	if !c.fresh.IsEmpty() {
		s.claims = append(s.claims, claim("b", 2, 2, c.fresh, c.works))
	}
	return s
}

// apply does what a round wants. Where there is no room for a second copy a move
// becomes a stop, as far as the round allows.
func (c *copies) apply(r course, room bool) {
	for _, m := range r.moves {
		slots := m.slots
		if room {
			c.fresh = c.fresh.Union(slots)
			continue
		}
		broken := slots.Minus(c.worksO)
		slots = broken.Union(slots.Minus(broken).Min(r.stops))
		r.stops -= slots.Minus(broken).Len()
		c.old = c.old.Minus(slots)
	}
	for _, d := range r.done {
		if d.claim.Spec == 1 {
			c.old = c.old.Minus(d.slots)
		} else {
			c.fresh, c.works = c.fresh.Minus(d.slots), c.works.Minus(d.slots)
		}
	}
	c.fresh = c.fresh.Union(r.missing)
	c.worksO, c.works = c.worksO.Intersect(c.old), c.works.Intersect(c.fresh)
}

func (c *copies) healthy() int { return c.worksO.Union(c.works).Len() }

// A roll-out takes no more than max_unavailable from people, whatever crashes
// meanwhile and whoever drives it in each round; it holds no more than max_surge
// twice; and once nothing crashes any more it comes to its end.
func TestRollOutKeepsWhatIsPromised(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 12).Draw(t, "slots")
		comp := size(n)
		comp.Update = &Update{}
		amounts := []Amount{{}, number(0), number(1), number(3), percent(30), percent(100)}
		comp.Update.MaxSurge = rapid.SampledFrom(amounts).Draw(t, "surge")
		comp.Update.MaxUnavailable = rapid.SampledFrom(amounts).Draw(t, "unavailable")
		room := rapid.Bool().Draw(t, "room")
		c := &copies{slots: n, update: comp.UpdatePolicy(), old: FirstSlots(n), worksO: FirstSlots(n)}
		if !room && c.update.Unavailable == 0 {
			return // nothing can be replaced, as was asked for
		}
		crashes := rapid.IntRange(0, 10).Draw(t, "crashes")
		for round := 0; c.works.Len() < n || !c.old.IsEmpty(); round++ {
			if round > 100 {
				t.Fatalf("no end: %+v", c)
			}
			before := c.healthy()
			c.apply(reconcile(c.situation()), room)
			least := n - c.update.Unavailable
			if after := c.healthy(); after < min(before, least) {
				t.Fatalf("round %d: %d of %d are healthy, %d before; %d are promised: %+v", round, after, n, before, least, c)
			}
			if twice := c.old.Intersect(c.fresh).Len(); twice > c.update.Surge {
				t.Fatalf("round %d: %d are held twice, at most %d may be", round, twice, c.update.Surge)
			}
			pick := func(of Slots, what string) Slots {
				out := Slots{}
				for s := range of.All() {
					if rapid.Bool().Draw(t, fmt.Sprint(what, s)) {
						out = out.Add(s)
					}
				}
				return out
			}
			if crashes--; crashes < 0 {
				c.works = c.fresh
				continue
			}
			c.works = c.works.Union(pick(c.fresh, "settles"))
			c.works = c.works.Minus(pick(c.works.Min(1), "crashes"))
			c.worksO = c.worksO.Minus(pick(c.worksO.Min(1), "old crashes"))
		}
	})
}

// A steward that takes over counts as the one before it did: from the claims.
func TestNewStewardSpendsNothingTwice(t *testing.T) {
	c := &copies{slots: 8, update: size(8).UpdatePolicy(), old: FirstSlots(8), worksO: FirstSlots(8)}
	c.apply(reconcile(c.situation()), true)
	if c.fresh.Len() != 2 {
		t.Fatalf("%d of 8 are replaced at once, not 2", c.fresh.Len())
	}
	if r := reconcile(c.situation()); len(r.moves)+len(r.done) > 0 {
		t.Errorf("the next one takes more: %+v", r)
	}
	s := c.situation()
	s.fault = FaultSpendTwice
	if r := reconcile(s); len(r.moves)+len(r.done) == 0 {
		t.Error("the test shows nothing")
	}
}

// What an older copy of its own kind was on its way to replace stays, when a
// version comes that is newer than both.
func TestOvertakenMoveIsGivenUp(t *testing.T) {
	old, between := running("a", 10, 1, 0), running("b", 20, 2, 0)
	between.Replaces, between.Fresh = &old.ID, between.Slots
	s := situation{wanted: FirstSlots(1), spec: 3, mayStop: true, mayMove: true, update: size(1).UpdatePolicy(), claims: []fact{old, between}}
	if c := reconcile(s); len(c.done) != 1 || c.done[0].claim.peer != "b" || len(c.moves) != 0 {
		t.Errorf("the one that is not healthy yet: %+v", c)
	}
	s.claims[1].Fresh = Slots{}
	if c := reconcile(s); len(c.done) != 1 || c.done[0].claim.peer != "a" {
		t.Errorf("it is healthy: %+v", c)
	}
}

// What was ordered to stop is missed, also when what it ran is wanted again before
// its peer has said anything; a report from well after the order says otherwise.
func TestOrderedStopsCountWhateverIsWanted(t *testing.T) {
	p, now, shop := keepShop(t, Disconnect{})
	s := shop.steward
	f := fact{peer: "b", live: true, claimStatus: claimStatus{ID: claimOf("b", 9), Component: "c", Spec: 1, Slots: FirstSlots(2), Running: FirstSlots(2)}}
	shop.rows["b"] = &row{at: now.Mono}
	s.stopFirst(f, SlotsOf(1))
	for _, spec := range []uint64{2, 1} {
		sit := situation{spec: spec, claims: []fact{f}}
		if s.countStops(&sit); !sit.claims[0].settled().Equal(SlotsOf(0)) {
			t.Errorf("version %d is wanted: slots %s count as healthy", spec, sit.claims[0].settled())
		}
	}
	shop.rows["b"].at += p.tune.AskGiveUp
	sit := situation{spec: 1, claims: []fact{f}}
	if s.countStops(&sit); !sit.claims[0].settled().Equal(FirstSlots(2)) || len(s.leaves) != 0 {
		t.Errorf("slots %s count as healthy, though the order was lost", sit.claims[0].settled())
	}
}

// What a peer had before it was out of reach it may have ended meanwhile: until it
// has said what is left nothing else is stopped on the strength of it, and nothing
// of it either; it is asked.
func TestRollOutWaitsForWordOfAPeerThatIsBack(t *testing.T) {
	p, now, shop := newShop(t)
	s, spec := shop.steward, SpecHash(shop.win.intent.App.Components["c"])
	report := func(from PeerID, seq uint64, slots Slots) []Send {
		return say(p, now, from, message{Report: &reportMsg{UID: shop.uid, Peer: PeerRef{from, 1}, Order: order{1, 1, seq}, Claims: []claimStatus{
			{ID: claimOf(from, 9), Component: "c", Spec: spec + 1, Slots: slots, Running: slots},
		}}})
	}
	stopped := func() Slots {
		claims, _ := s.facts("c", Policy{})
		claims = slices.DeleteFunc(claims, func(f fact) bool { return f.peer == "a" }) // what this peer has is another matter
		sit := situation{wanted: FirstSlots(2), spec: spec, mayStop: true, mayMove: true, update: UpdatePolicy{Unavailable: 1}, claims: claims}
		out := Slots{}
		for _, d := range reconcile(sit).done {
			out = out.Union(d.slots)
		}
		return out
	}
	report("b", 1, SlotsOf(0))
	report("c", 1, SlotsOf(1))
	if n := stopped().Len(); n != 1 {
		t.Fatalf("%d slots are stopped, not 1: the test shows nothing", n)
	}
	step(p, now, MemberChanged{Peer: "c", Site: "sc", State: MemberDead})
	now.Mono += time.Second
	step(p, now, MemberChanged{Peer: "c", Site: "sc", State: MemberAlive})
	if got := stopped(); !got.IsEmpty() {
		t.Errorf("slots %s are stopped, though the other may be nowhere", got)
	}
	asked := 0
	for range 30 { // the first question may be lost
		now.Mono += 100 * time.Millisecond
		for _, e := range step(p, now, TimerFired{Key: wakeTimer}) {
			if in, err := Inspect(e.Body); err == nil && e.To == "c" && in.Kind == "census" {
				asked++
			}
		}
	}
	if asked == 0 {
		t.Error("the peer that is back is not asked again")
	}
	report("c", 2, SlotsOf(1))
	if n := stopped().Len(); n != 1 {
		t.Errorf("%d slots are stopped once the peer has said what it has, not 1", n)
	}
}

// What a peer that is back was to run at the wanted version is on its way, as far
// as anybody knows: no more is begun beside it.
func TestSlotsOfAPeerThatIsBackAreOnTheirWay(t *testing.T) {
	old, next := running("a", 10, 1, 0), running("b", 20, 2, 1)
	s := situation{wanted: FirstSlots(2), spec: 2, mayStop: true, mayMove: true, update: UpdatePolicy{Surge: 1, Unavailable: 1}, claims: []fact{old, next}}
	if c := reconcile(s); len(c.moves) != 1 {
		t.Fatalf("%+v: the test shows nothing", c)
	}
	s.claims[1].live, s.claims[1].back = false, true
	if c := reconcile(s); len(c.moves)+len(c.done) != 0 {
		t.Errorf("more is begun: %+v", c)
	}
}

// What was ordered to stop is on its way until its peer says that it does, also when
// it was not healthy and so cost nobody anything: what a report says of another slot
// that is about to be healthy may be old by the time that an order arrives.
func TestOrderedStopsAreOnTheirWay(t *testing.T) {
	_, _, shop := keepShop(t, Disconnect{})
	s := shop.steward
	young := func(peer PeerID, slot Slot) fact {
		return fact{peer: peer, live: true, claimStatus: claimStatus{
			ID: claimOf(peer, 9), Component: "c", Spec: 1, Slots: SlotsOf(slot), Running: SlotsOf(slot), Fresh: SlotsOf(slot),
		}}
	}
	a, b, c, d := young("a", 3), young("b", 0), young("c", 2), young("d", 1)
	b.Fresh, c.Fresh = Slots{}, Slots{}
	round := func() (stopped Slots) {
		sit := situation{
			wanted: FirstSlots(4), spec: 2, mayStop: true, mayMove: true, update: UpdatePolicy{Unavailable: 2},
			claims: []fact{a, b, c, d},
		}
		s.countStops(&sit)
		for _, o := range reconcile(sit).done {
			s.stopFirst(o.claim, o.slots)
			stopped = stopped.Union(o.slots)
		}
		return stopped
	}
	if first := round(); !first.Equal(SlotsOf(1, 3)) {
		t.Fatalf("slots %s are stopped at first, not the young ones", first)
	}
	c.Fresh = c.Slots // as it was restarted, or min_healthy is longer now
	if next := round(); !next.Equal(SlotsOf(1, 3)) {
		t.Errorf("slots %s are ordered to stop, while 1 and 3 are on their way; 2 may be", next)
	}
}
