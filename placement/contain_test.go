package placement

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// A bug that shows in one app ends neither the peer nor another app: what
// panics is reported, and the rest of the step goes on.
func TestPanicOfOneAppIsContained(t *testing.T) {
	cursed := "sha256:" + strings.Repeat("e", 64)
	var reported []string
	p := New(Config{
		Self: PeerRef{Peer: "a", Incarnation: 1}, Name: "a", Site: "s", Seed: 1,
		Has: func(a Artifact) bool {
			if a.Digest == cursed {
				panic("the disk is haunted")
			}
			return true
		},
		Panicked: func(what, subject string, _ any) { reported = append(reported, what+" "+subject) },
	})
	now := &Now{Wall: time.Unix(1_800_000_000, 0)}
	drive(p, now, p.Begin(*now))
	step(p, now, HostChanged{Host: Host{ID: "h", Arch: "amd64", Drivers: []string{DriverProcess, DriverWasm}, Capacity: Resources{CPU: 4000, Memory: 4 << 30}}})
	step(p, now, WorkListed{Driver: DriverProcess})
	step(p, now, WorkListed{Driver: DriverWasm})

	one := 1
	step(p, now, Submit{Ticket: 1, App: App{Name: "bad", Components: map[string]Component{"c": {
		Function: &Function{Module: cursed}, Replicas: &one, Resources: Resources{Memory: 1 << 20},
	}}}, Artifacts: []Artifact{{Digest: cursed, Size: 1}}})
	if len(reported) == 0 {
		t.Fatal("nothing panicked: the test shows nothing")
	}
	step(p, now, Submit{Ticket: 2, App: testApp("good")})
	for range 20 { // rounds of the stewards, the bad one's among them
		now.Mono += time.Second
		step(p, now, TimerFired{Key: wakeTimer})
	}
	var running int
	for _, v := range p.Allocations() {
		if v.Key.App == "good" {
			running++
		}
	}
	if running != 2 {
		t.Errorf("%d of 2 slots of the other app were granted", running)
	}
	if len(reported) > 200 {
		t.Errorf("%d panics in 20 s: it does not give up for a round, it spins", len(reported))
	}
	if slices.Contains(reported, "steward good") {
		t.Error("the other app's steward was taken along")
	}
}
