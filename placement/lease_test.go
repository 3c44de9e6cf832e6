package placement

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// claimOf is a claim at a peer, by number.
func claimOf(owner PeerID, n uint64) ClaimID {
	return ClaimID{Ask: AskID{Asker: "s", Incarnation: 1, Counter: n}, Owner: PeerRef{owner, 1}}
}

// A keeper's votes, one after another: seconds after the start, who asks for
// slot 0 and how, and why not.
func TestLeaseVotes(t *testing.T) {
	x, y := claimOf("x", 1), claimOf("y", 2)
	second := floorOf(2) + 1 // the lowest number under the second list
	type ask struct {
		at     int // seconds
		claim  ClaimID
		number uint64
		how    string // "", "stands", "over", "restart", "epoch", "next", "forget"
		not    leaseNot
	}
	for name, asks := range map[string][]ask{
		"the first gets it":                  {{0, x, 1, "", ""}},
		"nobody else while it lasts":         {{0, x, 1, "", ""}, {12, y, 2, "", leaseHeld}},
		"a quarter longer than the holder":   {{0, x, 1, "", ""}, {13, y, 2, "", ""}},
		"renewals count from when they come": {{0, x, 1, "", ""}, {9, x, 1, "stands", ""}, {20, y, 2, "", leaseHeld}, {22, y, 2, "", ""}},
		"numbers rise":                       {{0, x, 5, "", ""}, {13, y, 5, "", leaseLow}, {13, y, 6, "", ""}},
		"one claim, a higher number":         {{0, x, 1, "", ""}, {1, x, 2, "", ""}, {2, x, 1, "", leaseLow}},
		"freed at once, numbers stay":        {{0, x, 3, "", ""}, {1, x, 3, "over", ""}, {1, y, 3, "", leaseLow}, {1, y, 4, "", ""}},
		"freed too late frees nothing":       {{0, x, 1, "", ""}, {1, x, 2, "", ""}, {2, x, 1, "over", ""}, {3, y, 9, "", leaseHeld}},
		"another's is not freed":             {{0, x, 1, "", ""}, {1, y, 9, "over", ""}, {2, y, 9, "", leaseHeld}},
		"a request from before it was freed": {{0, x, 1, "", ""}, {1, x, 2, "over", ""}, {2, x, 2, "", leaseLow}},
		"after a restart as if just granted": {{0, x, 1, "", ""}, {9, x, 1, "restart", ""}, {20, y, 2, "", leaseHeld}, {22, y, 2, "", ""}},
		"after a restart it can be renewed":  {{0, x, 1, "", ""}, {9, x, 1, "restart", ""}, {10, x, 1, "", ""}},
		"a new list waits":                   {{0, x, 1, "", ""}, {1, x, 1, "over", ""}, {1, x, 1, "epoch", ""}, {2, y, second, "", leaseQuiet}, {14, y, second, "", ""}},
		"a new list has numbers of its own":  {{0, x, 9, "epoch", ""}, {14, y, 10, "", leaseLow}, {14, y, second, "", ""}},
		"who is to follow the first waits":   {{0, x, 1, "next", ""}, {1, y, 2, "", leaseQuiet}, {14, y, 2, "", ""}},
		"but what stands goes on":            {{0, x, 1, "epoch", ""}, {1, x, 7, "stands", ""}, {2, x, 7, "", ""}},
		"what stands may be lower":           {{0, x, 5, "", ""}, {13, y, 3, "stands", ""}, {26, x, 5, "", leaseLow}, {26, x, 6, "", ""}},
		"a restart in the wait begins anew":  {{0, x, 1, "epoch", ""}, {6, x, 1, "restart", ""}, {13, y, second, "", leaseQuiet}, {19, y, second, "", ""}},
		"forgotten and back: it waits":       {{0, x, 4, "", ""}, {1, x, 4, "forget", ""}, {2, y, 9, "", leaseQuiet}, {15, y, 4, "", leaseLow}, {15, y, 5, "", ""}},
		"numbers are not used up":            {{0, x, 1 << 40, "", leaseLow}, {0, x, 1, "", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			tune := Tuning{}.withDefaults()
			k, disk, epoch, member := newLeaseKeeper(tune), map[string]Write{}, uint64(1), true
			var back time.Duration // this much of the time was before the last restart
			write := func(ws ...Write) {
				for _, w := range ws {
					disk[w.Table+w.Key] = w
				}
			}
			for i, a := range asks {
				now := Now{Mono: time.Duration(a.at)*time.Second - back}
				switch a.how {
				case "restart":
					back += now.Mono
					now.Mono = 0
					k = newLeaseKeeper(tune)
					for _, w := range disk {
						if w.Value != nil {
							if err := k.load(w.Table, w.Value); err != nil {
								t.Fatal(err)
							}
						}
					}
					k.begin(now)
					k.votesBy("u", AppKey{}, epoch, true, now)
					continue
				case "epoch":
					epoch++
					k.votesBy("u", AppKey{}, epoch, true, now)
					continue
				case "next":
					member = false
					continue
				case "forget":
					write(k.forget("u")...)
					continue
				}
				l := k.votesBy("u", AppKey{}, epoch, member, now)
				write(l.write())
				write(k.settled(l, now)...)
				it := &leaseItem{UID: "u", Component: "c", Claim: a.claim, Number: a.number, Stands: a.how == "stands"}
				if a.how == "over" {
					if s, changed := k.free(l, it); changed {
						write(s.write())
					}
					continue
				}
				answer, s, changed := k.vote(l, it, now)
				if answer.Not != a.not {
					t.Fatalf("%d: at %ds claim %s with number %d is answered %q (left %d ms, highest %d), not %q",
						i, a.at, a.claim, a.number, answer.Not, answer.Left, answer.Highest, a.not)
				}
				if changed {
					write(s.write())
				}
			}
		})
	}
}

// A lease ends by the majority-th newest request that was granted, of each list.
func TestLeaseEnd(t *testing.T) {
	list := func(epoch uint64, ids ...PeerID) keeperList {
		k := keeperList{list: Keepers{Epoch: epoch}}
		for _, id := range ids {
			k.list.Peers = append(k.list.Peers, PeerRef{id, 1})
		}
		return k
	}
	now := list(1, "a", "b", "c")
	for name, test := range map[string]struct {
		lists   lists
		granted map[PeerRef]time.Duration
		end     time.Duration // 0: it does not stand
	}{
		"none":                     {lists{now: now}, nil, 0},
		"one of three":             {lists{now: now}, map[PeerRef]time.Duration{{"a", 1}: 5}, 0},
		"the second newest":        {lists{now: now}, map[PeerRef]time.Duration{{"a", 1}: 5, {"b", 1}: 3, {"c", 1}: 1}, 103},
		"another life":             {lists{now: now}, map[PeerRef]time.Duration{{"a", 1}: 5, {"b", 2}: 3}, 0},
		"a stranger":               {lists{now: now}, map[PeerRef]time.Duration{{"a", 1}: 5, {"x", 1}: 3}, 0},
		"both lists":               {lists{now, list(2, "a", "d", "e")}, map[PeerRef]time.Duration{{"a", 1}: 5, {"b", 1}: 4}, 0},
		"the older of two":         {lists{now, list(2, "a", "d", "e")}, map[PeerRef]time.Duration{{"a", 1}: 5, {"b", 1}: 4, {"d", 1}: 2}, 102},
		"no list, nobody's to say": {lists{}, map[PeerRef]time.Duration{{"a", 1}: 5}, 0},
	} {
		if end, ok := test.lists.end(test.granted, 100); end != test.end || ok != (test.end > 0) {
			t.Errorf("%s: ends at %d (%t), not at %d", name, end, ok, test.end)
		}
	}
}

// exclusiveShop is peer a with a running exclusive slot, granted by b; c is its
// third keeper.
func exclusiveShop(t *testing.T) (p *Peer, now *Now, l *lease) {
	t.Helper()
	p, now = newTestPeer("a")
	step(p, now, HostChanged{Host: Host{ID: "h", Drivers: []string{DriverProcess}, Fences: []string{DriverProcess}, Capacity: Resources{CPU: 4000, Memory: 4 << 30}}})
	for _, id := range []PeerID{"b", "c", "m"} {
		step(p, now, MemberChanged{Peer: id, Site: SiteID("s" + id), State: MemberAlive})
		step(p, now, DigestChanged{Digest: Digest{Peer: PeerRef{id, 1}, Name: string(id), Site: SiteID("s" + id), Full: "full", Labels: map[string]string{"keeps": map[bool]string{true: "no", false: "yes"}[id == "m"]}}})
	}
	app := testApp("shop")
	c := app.Components["c"]
	one := 1
	c.Replicas, c.Exclusive = &one, Exclusive{On: true, Keepers: "keeps=yes"}
	app.Components["c"] = c
	sent := step(p, now, Submit{Ticket: 1, App: app})
	shop := p.find(AppKey{"default", "shop"})
	if ids := shop.keeperIDs(); len(ids) != 3 || ids[0] != "a" || slices.Contains(ids, "m") {
		t.Fatalf("the keepers are %v", ids)
	}
	for _, held := range p.leases.of {
		l = held
	}
	if l == nil || len(p.work.allocs) != 1 || onlyAlloc(p).state.State != AllocPending {
		t.Fatalf("it runs without a lease: %+v", l)
	}
	grantAll(p, now, sent, "b")
	if a := onlyAlloc(p); a.state.State != AllocStarting || l.until == 0 {
		t.Fatalf("with a majority it is %s, until %s", a.state.State, l.until)
	}
	step(p, now, WorkChanged{ID: l.id, State: WorkState{State: AllocRunning}})
	return p, now, l
}

func onlyAlloc(p *Peer) *alloc { return p.work.sorted()[0] }

// grantAll answers the requests to a keeper among what was sent.
func grantAll(p *Peer, now *Now, sent []Send, by PeerID) (n int) {
	for _, s := range sent {
		m, err := decodeMessage(s.Body)
		if err != nil || m.Lease == nil || s.To != by {
			continue
		}
		r := &leasedMsg{Request: m.Lease.Request, By: PeerRef{by, 1}}
		for _, it := range m.Lease.Items {
			r.Items = append(r.Items, leasedItem{Claim: it.Claim, Slot: it.Slot, Number: it.Number, Lists: it.Lists, Over: it.Over})
		}
		say(p, now, by, message{Leased: r})
		n++
	}
	return n
}

// runFor steps a core for a time, and answers the requests to a keeper.
func runFor(p *Peer, now *Now, d time.Duration, by PeerID) {
	for end := now.Mono + d; now.Mono < end; {
		now.Mono += 100 * time.Millisecond
		grantAll(p, now, step(p, now, TimerFired{}), by)
	}
}

// A holder goes on while a majority renews, stops in time when none does, and
// starts again under a higher number.
func TestLeaseHolder(t *testing.T) {
	p, now, l := exclusiveShop(t)
	runFor(p, now, time.Minute, "b")
	if a := onlyAlloc(p); a.state.State != AllocRunning || l.number != 1 {
		t.Fatalf("renewed, it is %s under number %d", a.state.State, l.number)
	}
	until := l.until
	for onlyAlloc(p).state.State == AllocRunning && now.Mono < until {
		runFor(p, now, 100*time.Millisecond, "nobody")
	}
	if left := l.until - now.Mono; l.until < until || left < p.tune.Lease/graceShare || onlyAlloc(p).state.State != AllocStopping {
		t.Fatalf("cut off, it is %s, with %s left", onlyAlloc(p).state.State, left)
	}
	step(p, now, WorkChanged{ID: l.id, State: WorkState{State: AllocStopped}})
	runFor(p, now, 20*time.Second, "nobody")
	if a := onlyAlloc(p); a.state.State != AllocPending || a.restarts != 0 || !strings.Contains(a.state.Reason, "lease") {
		t.Fatalf("without a lease it is %s (%s) after %d restarts", a.state.State, a.state.Reason, a.restarts)
	}
	if v := p.viewLeases(p.apps[l.uid], "c"); len(v) != 1 || v[0].Holder != "" || v[0].Waits == "" {
		t.Errorf("it has its own vote alone, and is said to have %+v", v)
	}
	if why := p.leaseWaits(l.uid, "c", 0); why != leaseUnanswered {
		t.Errorf("it waits for the others, and says: %s", why)
	}
	runFor(p, now, 20*time.Second, "c")
	if a := onlyAlloc(p); a.state.State != AllocStarting || l.number != 2 {
		t.Errorf("with a majority again it is %s under number %d", a.state.State, l.number)
	}
}

// After a restart of the daemon, work that runs is adopted with its number, and
// goes on if that is renewed; if it is not, it has no right to run for longer
// than a lease.
func TestLeaseAdopted(t *testing.T) {
	for _, by := range []PeerID{"b", "nobody"} {
		p, now, l := exclusiveShop(t)
		c := onlyAlloc(p).claim
		l.number = 7
		labels := Labels(l.id, WorkSpec{UID: c.UID, Key: c.Key, Component: c.Component, Spec: c.Spec, Version: c.Version, Fence: 7})
		delete(p.work.allocs, l.id)
		p.leases = newLeases()
		p.votes.apps[c.UID].slots[slotName{"c", 0}].Number = 7
		step(p, now, WorkListed{Driver: DriverProcess, Work: []Found{{ID: l.id, Labels: labels, State: WorkState{State: AllocRunning, Driver: DriverProcess}, Since: now.Wall.UnixMilli()}}})
		began := now.Mono
		if a := onlyAlloc(p); a.state.State != AllocRunning || p.leases.of[l.id] == nil || p.leases.of[l.id].number != 7 {
			t.Fatalf("found running, it is %s, lease %+v", a.state.State, p.leases.of[l.id])
		}
		runFor(p, now, p.tune.Lease, by)
		a, held := onlyAlloc(p), p.leases.of[l.id]
		switch {
		case by == "b" && (a.state.State != AllocRunning || held.adopted || held.until <= began+p.tune.Lease || held.number != 7):
			t.Errorf("renewed by %s it is %s, lease %+v", by, a.state.State, held)
		case by != "b" && a.state.State != AllocStopping:
			t.Errorf("not renewed, it is %s", a.state.State)
		}
	}
}

// What others say of leases counts if it is theirs to say, answers what was
// asked, and was asked for lately.
func TestForgedLeases(t *testing.T) {
	p, now, l := exclusiveShop(t)
	until := l.until
	var request uint64
	for n := range p.leases.asked {
		if p.leases.asked[n].to == "c" {
			request = n
		}
	}
	item := leasedItem{Claim: l.id.Claim, Slot: l.id.Slot, Number: l.number, Lists: l.under}
	low := item
	low.Not, low.Highest = leaseLow, 1<<60
	now.Mono += time.Second
	for name, m := range map[string]struct {
		from PeerID
		by   PeerRef
		m    leasedItem
		r    uint64
	}{
		"a stranger":              {"m", PeerRef{"m", 1}, item, request},
		"a stranger, as a keeper": {"m", PeerRef{"c", 1}, item, request},
		"another life":            {"c", PeerRef{"c", 2}, item, request},
		"never asked":             {"c", PeerRef{"c", 1}, item, request + 1},
		"numbers far ahead":       {"c", PeerRef{"c", 1}, low, request},
	} {
		say(p, now, m.from, message{Leased: &leasedMsg{Request: m.r, By: m.by, Items: []leasedItem{m.m}}})
		if _, counted := l.granted[PeerRef{"c", 1}]; counted || l.until != until || l.heard > l.number {
			t.Errorf("%s: counted: granted %v until %s, heard of number %d", name, l.granted, l.until, l.heard)
		}
	}

	// As a keeper: nobody asks for another's claim, or for slots that there are not.
	ask := leaseItem{UID: l.uid, Component: "c", Claim: l.id.Claim, Number: 9, Lists: l.under}
	forged := func(from PeerID, change func(*leaseItem)) *leasedItem {
		it := ask
		change(&it)
		for _, s := range say(p, now, from, message{Lease: &leaseMsg{Request: 7, Items: []leaseItem{it}}}) {
			if m, err := decodeMessage(s.Body); err == nil && m.Leased != nil {
				return &m.Leased.Items[0]
			}
		}
		return nil
	}
	own := claimOf("m", 3)
	if a := forged("m", func(it *leaseItem) { it.Over = true }); a != nil {
		t.Errorf("a stranger frees another's lease: %+v", a)
	}
	for name, test := range map[string]struct {
		change func(*leaseItem)
		not    leaseNot
	}{
		"held by another": {func(it *leaseItem) { it.Claim = own }, leaseHeld},
		"no such slot":    {func(it *leaseItem) { it.Claim, it.Slot = own, 500 }, leaseUnknown},
		"no such app":     {func(it *leaseItem) { it.Claim, it.UID = own, "none" }, leaseUnknown},
		"no such part":    {func(it *leaseItem) { it.Claim, it.Component = own, "x" }, leaseUnknown},
		"other lists":     {func(it *leaseItem) { it.Claim, it.Lists = own, listsID{Now: 9} }, leaseOther},
	} {
		if a := forged("m", test.change); a == nil || a.Not != test.not {
			t.Errorf("%s: answered %+v, not %q", name, a, test.not)
		}
	}
	if n := len(p.votes.apps); n != 1 || len(p.votes.apps[l.uid].slots) != 1 {
		t.Errorf("a stranger made this keeper remember %d apps", n)
	}
	flood := leaseMsg{Items: make([]leaseItem, leaseItemsMax+1)}
	if _, err := decodeMessage(Encode(message{V: 1, Lease: &flood})); err == nil {
		t.Error("a flood of leases is read")
	}
}

// Two apps of one name share keepers, and one of them has the leases.
func TestLeasesOfAName(t *testing.T) {
	k := newLeaseKeeper(Tuning{}.withDefaults())
	key, standing := AppKey{"default", "shop"}, func(UID) bool { return true }
	now := Now{}
	first, second := k.votesBy("u1", key, 1, true, now), k.votesBy("u2", key, 1, true, now)
	if _, ok := k.takeName(first, standing, now); !ok {
		t.Fatal("the first is refused")
	}
	if _, ok := k.takeName(second, standing, now); ok {
		t.Error("both have the leases")
	}
	k.forget("u1")
	if _, ok := k.takeName(second, standing, now); !ok {
		t.Error("the second waits for one that is gone")
	}

	// Whoever creates it, alive or not, they are the same.
	var lists [][]PeerRef
	for _, self := range []PeerID{"a", "b", "c", "d", "e"} {
		m := newMembers(self, SiteID(self), Tuning{}.withDefaults())
		for _, id := range []PeerID{"a", "b", "c", "d", "e"} {
			if id != self {
				m.change(0, MemberChanged{Peer: id, Site: SiteID(id), State: []MemberState{MemberAlive, MemberDead}[len(lists)%2]})
			}
			m.get(id).digest = &Digest{Peer: PeerRef{id, 1}}
		}
		where, _ := ParseSelector("")
		lists = append(lists, m.chooseByName(key, where, keepersWant))
	}
	for _, l := range lists {
		if len(l) != keepersWant || !slices.Equal(l, lists[0]) {
			t.Errorf("keepers %v and %v", l, lists[0])
		}
	}
}

// A newer version waits for the lease before the older one is ended, and not the
// other way.
func TestExclusiveRollOut(t *testing.T) {
	older := fact{claimStatus: claimStatus{ID: claimOf("x", 1), Spec: 1, Slots: SlotsOf(0), Running: SlotsOf(0), Exclusive: true}, peer: "x", live: true}
	newer := fact{claimStatus: claimStatus{ID: claimOf("y", 2), Spec: 2, Slots: SlotsOf(0), Exclusive: true, Replaces: &older.ID}, peer: "y", live: true}
	sit := situation{wanted: SlotsOf(0), spec: 2, mayStop: true, mayMove: true, exclusive: true, update: Component{Exclusive: Exclusive{On: true}}.updateOf(1), claims: []fact{older, newer}}
	if c := reconcile(sit); len(c.done)+len(c.duplicates)+len(c.moves) > 0 {
		t.Errorf("before its artifact is there: %+v", c)
	}
	sit.claims[1].Ready = SlotsOf(0)
	if c := reconcile(sit); len(c.done) != 1 || c.done[0].claim.ID != older.ID || len(c.duplicates) > 0 {
		t.Errorf("ready: %+v", c)
	}
	sit.claims = []fact{older}
	sit.claims[0].Exclusive = false
	if c := reconcile(sit); len(c.moves) > 0 || len(c.done) != 1 {
		t.Errorf("a copy that was not exclusive is to stop first: %+v", c)
	}
}

// A deploy says so when a cut between keepers and work would stop it.
func TestFarKeepers(t *testing.T) {
	p, _, _ := exclusiveShop(t)
	shop := p.find(AppKey{"default", "shop"})
	if notes := p.farKeepers(shop); len(notes) > 0 {
		t.Errorf("it may run anywhere: %q", notes)
	}
	c := shop.win.intent.App.Components["c"]
	c.Place.Where = "keeps=no"
	shop.win.intent.App.Components["c"] = c
	if notes := p.farKeepers(shop); len(notes) != 1 || !strings.Contains(notes[0], "cut off from them it stops") {
		t.Errorf("its keepers are all elsewhere: %q", notes)
	}
}

// Only a driver that can end work by itself gets exclusive slots, and an app
// that has some is not for older peers.
func TestExclusiveNeedsAFence(t *testing.T) {
	c := Component{Server: &Server{Process: &Process{Command: []string{"run"}}}, Exclusive: Exclusive{On: true}}
	app := App{Name: "a", Components: map[string]Component{"c": c}}
	res := Plan(PlanInput{App: app, Component: "c", Slots: SlotsOf(0), Candidates: []Candidate{{Alive: true, Digest: Digest{Peer: PeerRef{"p", 1}, Drivers: []string{DriverProcess}}}}})
	if res.Unplaced.IsEmpty() || !strings.Contains(res.Considered[0].Reason, "deadline") {
		t.Errorf("placed where it can't be fenced: %s", res.Outcome)
	}
	p, now := newTestPeer("a") // whose host can't fence
	step(p, now, Submit{Ticket: 1, App: app})
	if len(p.ledger.claims) > 0 || p.find(app.Key()).win.intent.MinSchema != schemaExclusive {
		t.Errorf("%d claims, schema %d", len(p.ledger.claims), p.find(app.Key()).win.intent.MinSchema)
	}
}
