package placement

import (
	"testing"
	"time"
)

// An app that was created on a side that loses its majority just then belongs to
// that side whole, however often its steward wrote it anew meanwhile.
func TestDeputyRunsWhatItsSideCreated(t *testing.T) {
	a, now := newTestPeer("a")
	room := func(slots int) {
		step(a, now, HostChanged{Host: Host{ID: "h", Arch: "amd64", Drivers: []string{DriverProcess},
			Capacity: Resources{CPU: CPU(100 * slots), Memory: 4 << 30}}})
	}
	pass := func(d time.Duration) {
		for end := now.Mono + d; now.Mono < end; {
			now.Mono, now.Wall = now.Mono+100*time.Millisecond, now.Wall.Add(100*time.Millisecond)
			step(a, now, TimerFired{Key: wakeTimer})
		}
	}
	room(1)
	for _, id := range []PeerID{"b", "c"} {
		other, _ := newTestPeer(id)
		step(a, now, MemberChanged{Peer: id, Site: SiteID(id), State: MemberAlive})
		step(a, now, DigestChanged{Digest: other.Digest()})
	}
	three := 3
	app := testApp("shop")
	c := app.Components["c"]
	c.Replicas = &three
	app.Components["c"] = c
	step(a, now, Submit{Ticket: 1, App: app})
	pass(30 * time.Second) // nobody answers, but both seem to live: accepted here alone, and written anew
	step(a, now, MemberChanged{Peer: "b", Site: "b", State: MemberDead})
	step(a, now, MemberChanged{Peer: "c", Site: "c", State: MemberDead})
	pass(5 * time.Second)
	room(3) // nothing was placed here before, so all of it is what the edit added
	pass(30 * time.Second)
	var slots Slots
	for _, claim := range a.ledger.sorted() {
		slots = slots.Union(claim.Slots)
	}
	if slots.Len() != 3 {
		t.Errorf("slots %s of 0-2 are held here", slots)
	}
}
