package placement

import (
	"strings"
	"testing"
	"time"
)

// restartOn starts a core anew on what one wrote, and what the mesh lists of an
// app, after a time.
func restartOn(disk map[string]map[string][]byte, a *app, now *Now, after time.Duration) *Peer {
	p := New(Config{Self: PeerRef{Peer: "a", Incarnation: 1}, Name: "a", Site: "s", Seed: 2})
	p.LoadTable(TableIntents, a.key.String(), [][]byte{Encode(a.win.signed)})
	p.LoadTable(TableKeepers, string(a.uid), [][]byte{Encode(a.keepers.signed)})
	for _, t := range p.Tables() {
		for _, key := range sortedKeys(disk[t]) {
			_ = p.Load(t, key, disk[t][key])
		}
	}
	now.Mono, now.Wall = 0, now.Wall.Add(after) // another boot: only the wall clock went on
	drive(p, now, p.Begin(*now))
	return p
}

// record keeps what a core writes from now on, beside what it wrote before.
func record(p *Peer, disk map[string]map[string][]byte, effects []Effect) {
	for _, e := range effects {
		if w, ok := e.(Persist); ok {
			for _, w := range w.Writes {
				if disk[w.Table] == nil {
					disk[w.Table] = map[string][]byte{}
				}
				if disk[w.Table][w.Key] = w.Value; w.Value == nil {
					delete(disk[w.Table], w.Key)
				}
			}
		}
	}
}

// A peer that reaches no majority for stop_after stops its slots, takes none, and
// gets them back when the cut is over.
func TestStopAfter(t *testing.T) {
	p, now, shop := cutShop(t, Disconnect{StopAfter: OrNever(time.Minute)})
	pass(p, now, 12*time.Second)
	die(p, now, "b", "c")
	at := now.Wall.Add(time.Minute).UnixMilli()
	pass(p, now, 30*time.Second)
	view, _ := p.App(shop.key)
	for _, row := range view.Components[0].Sites {
		if row.Peer == "a" && (row.Next.StopsAt < at-1000 || row.Next.StopsAt > at+1000) {
			t.Errorf("it is said to stop at %d, not at %d", row.Next.StopsAt, at)
		}
	}
	if n := heldHere(p).Len(); n != 1 {
		t.Fatalf("%d slots here after half the time, want 1", n)
	}
	pass(p, now, 32*time.Second)
	if n := heldHere(p).Len(); n != 0 {
		t.Errorf("%d slots here after stop_after", n)
	}
	pass(p, now, time.Minute)
	if n := heldHere(p).Len(); n != 0 {
		t.Errorf("%d slots were placed again while it is cut off", n)
	}
	step(p, now, MemberChanged{Peer: "b", Site: "sb", State: MemberAlive})
	raise(p, now, shop, "b")
	if n := heldHere(p).Len(); n == 0 {
		t.Errorf("nothing came back after healing: %v", p.Open())
	}
}

// raise grants a steward its term, and lets it work.
func raise(p *Peer, now *Now, a *app, by PeerID) {
	for range 60 {
		pass(p, now, 500*time.Millisecond)
		if s := a.steward; s != nil && s.phase == phaseRaising {
			say(p, now, by, message{Raised: &raisedMsg{UID: a.uid, Term: s.term, Granted: true, Known: true}})
		}
	}
}

// A cut that was noticed counts on over a restart, and while the peer was down.
func TestStopAfterCountsOn(t *testing.T) {
	for name, c := range map[string]struct {
		down  time.Duration
		stops bool // at once
	}{"a short restart": {5 * time.Second, false}, "down for long": {time.Hour, true}, "a clock that went back": {-time.Hour, false}} {
		t.Run(name, func(t *testing.T) {
			p, now, shop := cutShop(t, Disconnect{StopAfter: OrNever(time.Minute)})
			pass(p, now, 12*time.Second)
			disk := map[string]map[string][]byte{
				tableKeep:   {string(shop.uid): Encode(p.keeper.records[shop.uid])},
				tableClaims: {onlyClaim(t, p).ID.String(): Encode(onlyClaim(t, p))},
			}
			die(p, now, "b", "c")
			for range 450 { // 45 s of the minute
				now.Mono, now.Wall = now.Mono+100*time.Millisecond, now.Wall.Add(100*time.Millisecond)
				effects := p.Step(*now, TimerFired{Key: wakeTimer})
				record(p, disk, effects)
				drive(p, now, effects)
			}
			if len(disk[tableCuts]) != 1 {
				t.Fatalf("%d cuts are on disk", len(disk[tableCuts]))
			}
			p = restartOn(disk, shop, now, c.down)
			if n := heldHere(p).Len(); (n == 0) != c.stops {
				t.Fatalf("%d slots here at once", n)
			}
			step(p, now, HostChanged{Host: Host{ID: "h", Arch: "amd64", Drivers: []string{DriverProcess}, Capacity: Resources{CPU: 4000, Memory: 4 << 30}}})
			step(p, now, WorkListed{Driver: DriverProcess})
			pass(p, now, 25*time.Second) // of a count of 15 s, and what was not written
			if n := heldHere(p).Len(); n != 0 {
				t.Errorf("%d slots here after the rest of stop_after: it began to count anew", n)
			}
		})
	}
}

// An edit that was accepted on a side without a majority rolls that side; one of
// the majority pauses there.
func TestSideRollsItsOwnEdit(t *testing.T) {
	p, now, shop := cutShop(t, Disconnect{})
	pass(p, now, 12*time.Second)
	old := onlyClaim(t, p)
	step(p, now, WorkChanged{ID: AllocationID{old.ID, old.Slots.Slice()[0]}, State: WorkState{State: AllocRunning}})
	die(p, now, "b", "c")
	pass(p, now, 5*time.Second)
	app := shop.win.intent.App
	c := app.Components["c"]
	c.Env = map[string]string{"V": "2"}
	app.Components = map[string]Component{"c": c}
	step(p, now, Submit{Ticket: 2, App: app})
	for range 100 {
		pass(p, now, 200*time.Millisecond)
		for _, cl := range p.ledger.sorted() {
			for n := range cl.Slots.All() {
				step(p, now, WorkChanged{ID: AllocationID{cl.ID, n}, State: WorkState{State: AllocRunning}})
			}
			for n := range cl.Stopping.All() {
				step(p, now, WorkChanged{ID: AllocationID{cl.ID, n}, State: WorkState{State: AllocStopped}})
			}
		}
	}
	claims := p.ledger.sorted()
	if len(claims) != 1 || claims[0].SpecHash != SpecHash(c) || !claims[0].Slots.Equal(old.Granted) {
		t.Errorf("%d claims here, of slots %s: %v", len(claims), heldHere(p), p.Open())
	}
	if open := strings.Join(p.Open(), "; "); strings.Contains(open, "older version") {
		t.Errorf("open: %s", open)
	}
}

// On a deputy's word a peer gives back only what it knows to be replaced.
func TestDeputyIsNotBelieved(t *testing.T) {
	p, now, shop := cutShop(t, Disconnect{})
	pass(p, now, 12*time.Second)
	c := onlyClaim(t, p)
	obeys := func(from PeerID, v Version) bool {
		return p.rolledHere(from, &releaseMsg{UID: shop.uid, Version: v, Claim: c.ID, Deputy: true}, c)
	}
	accepted := *shop.win
	accepted.intent.Alone, accepted.intent.Version.Millis = true, accepted.intent.Version.Millis+1
	accepted.intent.App.Components = map[string]Component{"c": {Server: &Server{Process: &Process{Command: []string{"other"}}}}}
	edited := func() { shop.versions, shop.win = []version{accepted}, &accepted }
	if edited(); obeys("a", accepted.intent.Version) {
		t.Error("a deputy was obeyed where the majority is in reach")
	}
	p.refresh(shop.uid)
	die(p, now, "b", "c")
	if obeys("a", shop.win.intent.Version) {
		t.Error("a deputy was obeyed although nothing was accepted on this side")
	}
	edited()
	if obeys("m", accepted.intent.Version) || obeys("a", Version{Millis: millisMax, Peer: "a"}) {
		t.Error("another peer was obeyed, or for another version")
	}
	if !obeys("a", accepted.intent.Version) {
		t.Error("the deputy was not obeyed: the test shows nothing")
	}
}
