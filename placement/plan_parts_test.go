package placement

import (
	"strings"
	"testing"
)

// What a plan says of slots that have volumes is what a deploy does: they go
// where those are, whatever else has more room, and their older copies make
// room for them.
func TestPlanFollowsVolumes(t *testing.T) {
	p, now, shop := keepShop(t, Disconnect{})
	reportKept(p, now, "b", shop.uid, SlotsOf(5))
	room := func(id PeerID, free Resources) {
		step(p, now, DigestChanged{Digest: Digest{Peer: PeerRef{id, 1}, Name: "fra-" + string(id), Site: SiteID("s" + string(id)), Sequence: 9,
			Drivers: []string{DriverProcess}, Arch: []string{"amd64"}, Capacity: Resources{CPU: 4000, Memory: 4 << 30, Disk: 10 << 30}, Free: free, Largest: free}})
	}
	room("b", Resources{CPU: 200, Memory: 1 << 30, Disk: 1 << 29}) // too little disk for a volume; this one is there
	room("m", Resources{CPU: 4000, Memory: 4 << 30, Disk: 10 << 30})
	plan := func(edit func(*Component)) PlannedComponent {
		comp := withVolume(6)
		edit(&comp)
		return p.PlanFor(*now, App{Name: "shop", Components: map[string]Component{"c": comp}}).Components[0]
	}

	more := plan(func(*Component) {})
	if more.Decision.Slots != "1-5" || more.Decision.Taken["b"] != "5" || more.Placed != 6 {
		t.Errorf("slots %s are planned, at %v", more.Decision.Slots, more.Decision.Taken)
	}
	if want := "the volumes of slots 5 are at fra-b"; !strings.Contains(more.Decision.Reason, want) {
		t.Errorf("the reason is %q, without %q", more.Decision.Reason, want)
	}

	// A new version of slot 0 takes nearly all of the host where its older copy runs.
	large := plan(func(c *Component) {
		n := 1
		c.Replicas, c.Resources.CPU = &n, 3950
	})
	if large.Decision.Taken["a"] != "0" || large.Placed != 1 {
		t.Errorf("the new version is planned at %v: %s", large.Decision.Taken, large.Decision.Outcome)
	}

	die(p, now, "b")
	waits := plan(func(*Component) {})
	if waits.Placed != 5 || len(waits.Decision.Taken["b"]) != 0 || !strings.Contains(waits.Decision.Outcome, "fra-b") {
		t.Errorf("with its peer gone: %d placed, %q", waits.Placed, waits.Decision.Outcome)
	}
}
