package placement

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"
)

// peersFor is so many peers with room for ten slots of 100m each, three to a
// site.
func peersFor(n int) []Candidate {
	var out []Candidate
	for i := range n {
		site := fmt.Sprintf("s%d", i/3)
		tier := []string{"core", "edge"}[i%2]
		out = append(out, Candidate{Alive: true, RTT: -1, Digest: Digest{
			Peer: PeerRef{Peer: PeerID(fmt.Sprintf("p%03d", i))}, Name: fmt.Sprintf("%s-%d", site, i%3), Site: SiteID(site),
			Labels:  map[string]string{"site": site, "tier": tier, "region": fmt.Sprintf("r%d", i/6)},
			Drivers: []string{DriverProcess}, Capacity: Resources{CPU: 1000, Memory: 1 << 30}, Free: Resources{CPU: 1000, Memory: 1 << 30},
		}})
	}
	return out
}

func planFor(replicas int, place Place, peers []Candidate) PlanInput {
	return PlanInput{
		App: App{Name: "a", Components: map[string]Component{"c": {
			Server:    &Server{Process: &Process{Command: []string{"run"}}},
			Resources: Resources{CPU: 100, Memory: 64 << 20}, Place: place,
		}}},
		Component: "c", Slots: FirstSlots(replicas), Placed: map[PeerID]int{}, Candidates: peers,
		Rand: rand.New(rand.NewPCG(1, 2)),
	}
}

func considered(t *testing.T, r PlanResult, peer PeerID) Considered {
	t.Helper()
	for _, c := range r.Considered {
		if c.Peer == peer {
			return c
		}
	}
	t.Fatalf("%s was not considered", peer)
	return Considered{}
}

func TestPlanSpreads(t *testing.T) {
	for _, label := range []string{"site", "region", "tier"} {
		in := planFor(20, Place{Spread: label}, peersFor(9))
		r := Plan(in)
		count := map[string]int{}
		values := map[string]bool{}
		for _, c := range in.Candidates {
			values[c.Digest.Labels[label]] = true
			count[c.Digest.Labels[label]] += r.Assign[c.Digest.Peer.Peer].Len()
		}
		least, most := 1000, 0
		for v := range values {
			least, most = min(least, count[v]), max(most, count[v])
		}
		if !r.Unplaced.IsEmpty() || most-least > 1 {
			t.Errorf("over %s: %v", label, count)
		}
	}
}

func TestPlanCountsWhatIsPlaced(t *testing.T) {
	in := planFor(2, Place{Spread: "site"}, peersFor(9))
	in.Placed["p000"], in.Placed["p003"] = 3, 1
	r := Plan(in)
	for id := range r.Assign {
		if id < "p006" && id != "p003" && id != "p004" && id != "p005" {
			t.Errorf("a slot at %s, whose site has three", id)
		}
	}
}

func TestPlanObeysWhere(t *testing.T) {
	r := Plan(planFor(200, Place{Where: "tier=edge,region in (r0, r1)"}, peersFor(18)))
	for id, slots := range r.Assign {
		c := considered(t, r, id)
		if strings.HasPrefix(c.Reason, "where") || c.Taken != slots.Len() {
			t.Errorf("%s took %d: %s", id, c.Taken, c.Reason)
		}
		if id >= "p012" || (id[3]-'0')%2 != 1 {
			t.Errorf("%s is not edge in r0 or r1", id)
		}
	}
	if placed := 200 - r.Unplaced.Len(); placed != 60 {
		t.Errorf("%d placed, six peers hold 60", placed)
	}
	if c := considered(t, r, "p000"); c.Reason != "where tier=edge,region in (r0, r1): it has region=r0, tier=core" {
		t.Errorf("reason %q", c.Reason)
	}
	if !strings.Contains(r.Outcome, "60 placed, no place for 140") {
		t.Errorf("outcome %q", r.Outcome)
	}
}

func TestPlanSaysWhyNot(t *testing.T) {
	peers := peersFor(6)
	peers[0].Alive = false
	peers[1].Digest.Full = "the disk is full"
	peers[2].Digest.Drivers = []string{DriverWasm}
	peers[3].Digest.Free = Resources{CPU: 50, Memory: 1 << 20}
	in := planFor(3, Place{}, peers)
	in.Refused = map[PeerID]string{"p004": "it failed there: exit code 1"}
	r := Plan(in)
	for id, want := range map[PeerID]string{
		"p000": "it does not answer", "p001": "it takes no work: the disk is full", "p002": "it has no driver process",
		"p003": "no room: a slot needs 100m CPU, 50m are free; a slot needs 64Mi of memory, 1Mi are free",
		"p004": "it failed there: exit code 1",
	} {
		if c := considered(t, r, id); c.Reason != want || c.Taken != 0 {
			t.Errorf("%s: %q, took %d", id, c.Reason, c.Taken)
		}
	}
	if r.Assign["p005"].Len() != 3 {
		t.Errorf("assigned %v", r.Assign)
	}
}

func TestPlanPrefersAndKeepsNear(t *testing.T) {
	in := planFor(3, Place{Prefer: map[string]int{"tier=edge": 100, "region=r0": -50}, Near: &Near{Site: "s3"}}, peersFor(12))
	in.Near = map[PeerID]Distance{}
	for i, c := range in.Candidates {
		in.Near[c.Digest.Peer.Peer] = Distance{RTT: int64(100-i*8) * 1000}
	}
	r := Plan(in)
	for id := range r.Assign {
		if (id[3]-'0')%2 != 1 || id < "p006" {
			t.Errorf("a slot at %s: %+v", id, considered(t, r, id))
		}
	}
	in.App.Components["c"] = func(c Component) Component { c.Place.Near = &Near{Site: "s3", RTT: Duration(30e6)}; return c }(in.App.Components["c"])
	r = Plan(in)
	if c := considered(t, r, "p000"); c.Reason != "too far: 100 ms, estimated" {
		t.Errorf("reason %q", c.Reason)
	}
}

// Whatever the input: nothing goes where it does not fit by the planner's own
// view, every slot goes at most once, and the same seed plans the same.
func TestPlanHolds(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 3))
		peers := peersFor(1 + rng.IntN(30))
		for i := range peers {
			peers[i].Digest.Free.CPU = CPU(rng.IntN(1000))
			peers[i].Alive = rng.IntN(10) > 0
			peers[i].Age = int64(rng.IntN(60_000))
		}
		place := Place{Spread: []string{"", "site", "region", "no-such-label"}[rng.IntN(4)]}
		in := planFor(1+rng.IntN(100), place, peers)
		run := func() PlanResult {
			in.Rand = rand.New(rand.NewPCG(seed, 4))
			return Plan(in)
		}
		r, again := run(), run()
		if !reflect.DeepEqual(fmt.Sprint(r.Assign, r.Considered), fmt.Sprint(again.Assign, again.Considered)) {
			t.Fatalf("seed %d plans differently each time", seed)
		}
		all, room := Slots{}, 0
		for _, c := range peers {
			fits := 0
			if c.Alive {
				fits = c.Digest.Free.Fits(in.App.Components["c"].Resources)
			}
			room += fits
			got := r.Assign[c.Digest.Peer.Peer]
			if got.Len() > fits || !all.Intersect(got).IsEmpty() {
				t.Fatalf("seed %d: %d slots at %s, which has room for %d", seed, got.Len(), c.Digest.Peer.Peer, fits)
			}
			all = all.Union(got)
		}
		if want := min(room, in.Slots.Len()); all.Len() != want || r.Unplaced.Len() != in.Slots.Len()-want {
			t.Fatalf("seed %d: %d placed of %d, with room for %d", seed, all.Len(), in.Slots.Len(), room)
		}
	}
}

// Many planners with the same digests do not all choose the same peer.
func TestPlanDoesNotHerd(t *testing.T) {
	first := map[PeerID]int{}
	for seed := range uint64(200) {
		in := planFor(1, Place{}, peersFor(20))
		in.Rand = rand.New(rand.NewPCG(seed, 5))
		for id := range Plan(in).Assign {
			first[id]++
		}
	}
	for id, n := range first {
		if n > 40 {
			t.Errorf("%d of 200 planners chose %s", n, id)
		}
	}
	if len(first) < 15 {
		t.Errorf("only %d of 20 equal peers were chosen", len(first))
	}
}

func BenchmarkPlan(b *testing.B) {
	for _, spread := range []string{"", "site"} {
		b.Run("spread="+spread, func(b *testing.B) {
			in := planFor(1000, Place{Spread: spread, Prefer: map[string]int{"tier=edge": 10}}, peersFor(1000))
			for b.Loop() {
				if r := Plan(in); !r.Unplaced.IsEmpty() {
					b.Fatal(r.Outcome)
				}
			}
		})
	}
}

// Who took all it could is named among the reasons for what has no place.
func TestPlanLargerThanTheMesh(t *testing.T) {
	peers := peersFor(3)
	peers[2].Alive = false
	want := "20 placed, no place for 5 (2 × no room for more; 1 × it does not answer)"
	if r := Plan(planFor(25, Place{}, peers)); r.Outcome != want {
		t.Errorf("got %q, want %q", r.Outcome, want)
	}
}

// What was taken off a digest since it was made counts against its counts by
// shape too.
func TestPlanCountsWhatWasTakenOff(t *testing.T) {
	peers := peersFor(1)
	peers[0].Digest.Fits = []ShapeFit{{Shape: Resources{CPU: 100, Memory: 64 << 20}, Count: 10}}
	peers[0].Digest.Free = Resources{CPU: 300, Memory: 1 << 30}
	if r := Plan(planFor(10, Place{}, peers)); r.Assign["p000"].Len() != 3 {
		t.Errorf("%d placed where three fit", r.Assign["p000"].Len())
	}
}

// A plan is of the whole app: what one component takes the next has not, and
// what is to be near another component is placed after it.
func TestPlanForAnApp(t *testing.T) {
	p, now := newTestPeer("a")
	for _, id := range []PeerID{"b", "c"} {
		step(p, now, MemberChanged{Peer: id, Site: SiteID("s" + id), State: MemberAlive})
		step(p, now, RTTChanged{Peer: id, RTT: 50 * time.Millisecond})
		step(p, now, DigestChanged{Digest: Digest{Peer: PeerRef{id, 1}, Name: string(id), Site: SiteID("s" + id), Drivers: []string{DriverProcess},
			Labels: map[string]string{"site": "s" + string(id)}, Capacity: Resources{CPU: 1000, Memory: 1 << 30}, Free: Resources{CPU: 1000, Memory: 1 << 30}}})
	}
	app := testApp("x")
	db := app.Components["c"]
	db.Resources.CPU, db.Place.Where = 300, "site=sc"
	beside := db
	one := 1 // for which there is room beside db, so that no distance needs to be measured
	beside.Replicas, beside.Place = &one, Place{Near: &Near{Component: "db", RTT: Duration(10 * time.Millisecond)}}
	app.Components = map[string]Component{"db": db, "beside": beside}
	view := p.PlanFor(*now, app)
	for i, want := range []struct {
		name   string
		placed int
		taken  string
	}{{"beside", 1, "0"}, {"db", 2, "0-1"}} {
		c := view.Components[i]
		if c.Component != want.name || c.Placed != want.placed || c.Decision.Taken["c"] != want.taken {
			t.Errorf("%s: %d placed, %v, %s; want %d at c", c.Component, c.Placed, c.Decision.Taken, c.Decision.Outcome, want.placed)
		}
	}

	// A steward asks for both in one step.
	asked := map[string]PeerID{}
	for _, s := range step(p, now, Submit{Ticket: 9, App: app}) {
		if m, err := decodeMessage(s.Body); err == nil && m.Ask != nil {
			asked[m.Ask.Component] = s.To
		}
	}
	if asked["db"] != "c" || asked["beside"] != "c" {
		t.Errorf("asked %v, want both of c at once", asked)
	}
}

func TestPlacingOrder(t *testing.T) {
	app := App{Components: map[string]Component{}}
	for name, near := range map[string]string{"a": "d", "b": "", "c": "a", "d": "e", "e": "d"} {
		c := Component{}
		if near != "" {
			c.Place.Near = &Near{Component: near}
		}
		app.Components[name] = c
	}
	names := map[string]bool{"a": true, "b": true, "c": true, "d": true, "e": true, "gone": true}
	if got := fmt.Sprint(app.placingOrder(names)); got != "[e d a b c gone]" {
		t.Errorf("got %s", got)
	}
}

// A roll-out spreads the new version by what there is of it, and by what is
// asked for: not by what it replaces.
func TestRollOutSpreads(t *testing.T) {
	_, _, shop := newShop(t)
	s := shop.steward
	spec := SpecHash(shop.win.intent.App.Components["c"])
	id := func(n uint64, at PeerID) ClaimID { return ClaimID{AskID{"a", 1, n}, PeerRef{at, 1}} }
	shop.rows = map[PeerID]*row{}
	for at, claims := range map[PeerID][]claimStatus{
		"b": {{ID: id(100, "b"), Component: "c", Slots: SlotsOf(0, 1, 2), Spec: spec + 1}},
		"c": {{ID: id(101, "c"), Component: "c", Slots: SlotsOf(3, 4), Spec: spec}, {ID: id(102, "c"), Component: "other", Slots: SlotsOf(0), Spec: spec}},
	} {
		shop.rows[at] = &row{report: reportMsg{Peer: PeerRef{at, 1}, Claims: claims}}
	}
	s.asks = map[uint64]*openAsk{1: {m: &askMsg{Slots: SlotsOf(5)}, to: "m", component: "c"}}
	if got := fmt.Sprint(s.placed("c")); got != "map[c:2 m:1]" {
		t.Errorf("got %s, want two at c and one at m", got)
	}
}

// A component with many slots lies at as many peers as keep what one of them loses
// small, and not at each of a hundred; where there are few it lies evenly at all.
func TestPlanPlaces(t *testing.T) {
	for _, try := range []struct{ peers, slots, places, most int }{
		{10, 10, 10, 1}, {10, 25, 10, 3}, {10, 1000, 10, 100}, {100, 17, 17, 1}, {100, 1000, 17, 62}, {3, 2, 2, 1},
	} {
		peers := peersFor(try.peers)
		for i := range peers {
			peers[i].Digest.Capacity = Resources{CPU: 1 << 30, Memory: 1 << 50}
			peers[i].Digest.Free = peers[i].Digest.Capacity
		}
		res, most := Plan(planFor(try.slots, Place{}, peers)), 0
		for _, s := range res.Assign {
			most = max(most, s.Len())
		}
		if len(res.Assign) != try.places || most != try.most || !res.Unplaced.IsEmpty() {
			t.Errorf("%d slots over %d peers: at %d, at most %d each, %s nowhere; want %d and %d", try.slots, try.peers, len(res.Assign), most, res.Unplaced, try.places, try.most)
		}
	}
}
