package placement

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// newTestPeer is a core on a host with room, after its start.
func newTestPeer(id PeerID) (*Peer, *Now) {
	p := New(Config{Self: PeerRef{Peer: id, Incarnation: 1}, Name: string(id), Site: "s", Seed: 1})
	now := &Now{Wall: time.Unix(1_800_000_000, 0)}
	drive(p, now, p.Begin(*now))
	step(p, now, HostChanged{Host: Host{ID: "h", Arch: "amd64", Drivers: []string{DriverProcess}, Capacity: Resources{CPU: 4000, Memory: 4 << 30}}})
	step(p, now, WorkListed{Driver: DriverProcess})
	return p, now
}

// step steps a core, and answers what it persists.
func step(p *Peer, now *Now, ev Event) (sent []Send) {
	now.Mono += time.Millisecond
	now.Wall = now.Wall.Add(time.Millisecond)
	return drive(p, now, p.Step(*now, ev))
}

func drive(p *Peer, now *Now, effects []Effect) (sent []Send) {
	for _, e := range effects {
		switch e := e.(type) {
		case Persist:
			sent = append(sent, drive(p, now, p.Step(*now, Persisted{Token: e.Token}))...)
		case Send:
			sent = append(sent, e)
		}
	}
	return sent
}

func testApp(name string) App {
	n := 2
	return App{Name: name, Components: map[string]Component{"c": {
		Server: &Server{Process: &Process{Command: []string{"run"}}}, Replicas: &n, Resources: Resources{CPU: 100, Memory: 1 << 20},
	}}}
}

// corpus is messages as two cores really exchange them.
func corpus(t testing.TB) [][]byte {
	t.Helper()
	a, now := newTestPeer("a")
	b, _ := newTestPeer("b")
	step(a, now, MemberChanged{Peer: "b", Site: "t", State: MemberAlive})
	step(a, now, DigestChanged{Digest: b.Digest()})
	step(b, now, MemberChanged{Peer: "a", Site: "s", State: MemberAlive})
	pending := step(a, now, Submit{Ticket: 1, App: testApp("shop")})
	var all [][]byte
	for range 40 {
		var next []Send
		for _, s := range pending {
			all = append(all, s.Body)
			to, from := b, PeerID("a")
			if s.To == "a" {
				to, from = a, "b"
			}
			next = append(next, step(to, now, Receive{From: from, Body: s.Body})...)
		}
		now.Mono += time.Second
		pending = append(next, step(a, now, TimerFired{})...)
		pending = append(pending, step(b, now, TimerFired{})...)
	}
	if len(all) < 10 {
		t.Fatalf("only %d messages", len(all))
	}
	return all
}

// Nothing that a peer sends makes a core panic, or take more than it has.
func TestHostileMessages(t *testing.T) {
	messages := corpus(t)
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 6))
		p, now := newTestPeer("a")
		step(p, now, MemberChanged{Peer: "b", Site: "t", State: MemberAlive})
		step(p, now, Submit{Ticket: 1, App: testApp("shop")})
		for i := range 400 {
			body := append([]byte(nil), messages[rng.IntN(len(messages))]...)
			for range rng.IntN(4) {
				switch at := rng.IntN(len(body)); rng.IntN(4) {
				case 0:
					body[at] ^= 1 << rng.IntN(8)
				case 1:
					body = body[:at+1]
				case 2:
					body[at] = byte(rng.Uint32())
				case 3:
					body = append(body, body[at:]...)
				}
			}
			from := PeerID([]string{"a", "b", "c", ""}[rng.IntN(4)])
			step(p, now, Receive{From: from, Body: body})
			if i%50 == 0 {
				now.Mono += 10 * time.Second
				step(p, now, TimerFired{})
			}
			if used, capacity := p.Used(); used.CPU > capacity.CPU || used.Memory > capacity.Memory {
				t.Fatalf("seed %d: granted %v of %v", seed, used, capacity)
			}
		}
		p.Apps()
		p.Open()
		p.Digest()
	}
}

func FuzzDecode(f *testing.F) {
	for _, body := range corpus(f) {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := decodeMessage(body)
		if err != nil {
			return
		}
		if _, err := decodeMessage(Encode(m)); err != nil {
			t.Errorf("what was read can't be written: %v", err)
		}
		p, now := newTestPeer("a")
		step(p, now, Receive{From: "b", Body: body})
	})
}

// A wild intent in a table, signed or not, is left out and harms nobody.
func FuzzRecord(f *testing.F) {
	p, now := newTestPeer("a")
	i := Intent{UID: "u", Key: AppKey{"default", "shop"}, App: testApp("shop"), Version: Version{Millis: 1, Peer: "b"}}
	f.Add(TableIntents, "default/shop", Encode(p.sign(i)))
	f.Add(TableKeepers, "u", Encode(p.sign(Keepers{UID: "u", Epoch: 1, Peers: []PeerRef{{"a", 1}}})))
	f.Add(TableStatus, "1.1/b", Encode(p.sign(Summaries{Peer: PeerRef{"b", 1}, Apps: []Summary{{UID: "u"}}})))
	_ = now
	f.Fuzz(func(t *testing.T, table, key string, value []byte) {
		p, now := newTestPeer("a")
		step(p, now, RecordChanged{Table: table, Key: key, Siblings: [][]byte{value, value}})
		now.Mono += time.Minute
		step(p, now, TimerFired{})
		_ = fmt.Sprint(p.Apps())
	})
}

// A digest is counted with, whatever it says.
func TestDigestOfALiar(t *testing.T) {
	labels := map[string]string{"": "x", "big": strings.Repeat("y", 1<<20)}
	for i := range 5000 {
		labels[fmt.Sprint("l", i)] = "v"
	}
	d := Digest{
		Peer: PeerRef{"m", 1}, Price: math.NaN(), Lat: math.Inf(1), Labels: labels,
		Capacity: Resources{CPU: math.MaxInt64, Memory: math.MinInt64}, Free: Resources{CPU: math.MaxInt64, Memory: math.MaxInt64},
		Fits: make([]ShapeFit, 60_000), Name: strings.Repeat("n", 1<<20),
	}
	d.Fits[0] = ShapeFit{Shape: Resources{Memory: 1}, Count: 1 << 40}
	b := d.bounded()
	if b.Price != 0 || math.IsInf(b.Lat, 0) || len(b.Labels) > digestLabelsMax || len(b.Fits) > digestShapesMax || len(b.Name) > 256 ||
		b.Capacity.Memory != 0 || b.Free.Memory != 0 || b.Free.CPU > cpuMax<<10 || b.Fits[0].Count != 0 || b.Labels["big"] != "" {
		t.Errorf("%d labels, %d shapes, capacity %v, free %v, price %v", len(b.Labels), len(b.Fits), b.Capacity, b.Free, b.Price)
	}
	honest := Digest{Peer: PeerRef{"b", 1}, Name: "b", Price: 0.5, Capacity: Resources{CPU: 4000, Memory: 1 << 33}, Free: Resources{CPU: 100, Memory: 1 << 30},
		Fits: []ShapeFit{{commonShapes[0], 1}}, Labels: map[string]string{"site": "x"}, Drivers: []string{"wasm"}, Arch: []string{"amd64"}}
	if h := honest.bounded(); fnvOf(h) != fnvOf(honest) {
		t.Errorf("an honest digest changed: %+v", h)
	}
}

// A holder that reports all that it can makes no round take long.
func TestReportsOfALiarAreCheap(t *testing.T) {
	p, now, shop := newShop(t)
	s := shop.steward
	say(p, now, "b", message{Stored: &storedMsg{UID: shop.uid, Versions: []Version{shop.win.intent.Version}}}) // a majority
	var claims []claimStatus
	for i := range uint64(appClaimsMax) {
		claims = append(claims, claimStatus{ID: ClaimID{AskID{"m", 1, i}, PeerRef{"m", 1}}, Component: "c", Version: Version{Millis: millisMax}, Spec: i % 3,
			Slots: FirstSlots(SlotsMax), Running: FirstSlots(SlotsMax), FirstRunning: 1})
	}
	say(p, now, "m", message{Report: &reportMsg{UID: shop.uid, Peer: PeerRef{"m", 1}, Order: order{Incarnation: 1, Boot: 1}, Claims: claims}})
	if shop.rows["m"] == nil {
		t.Fatal("the report was not taken: the test shows nothing")
	}
	c := reconcile(s.situation("c"))
	if len(c.moves) > movesMax || len(c.duplicates)+len(c.done) > survivorsMax*2*appClaimsMax {
		t.Errorf("%d moves, %d duplicates", len(c.moves), len(c.duplicates))
	}
	version := shop.win.intent.Version
	for range 35 {
		now.Mono += 2 * time.Second
		now.Wall = now.Wall.Add(2 * time.Second)
		step(p, now, TimerFired{})
	}
	if len(s.sent) > 4*appClaimsMax {
		t.Errorf("%d orders are remembered", len(s.sent))
	}
	if shop.win.intent.Version != version {
		t.Error("the app was written again because of a claim from the end of time")
	}
}
