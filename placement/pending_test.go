package placement

import (
	"strings"
	"testing"
	"time"
)

// A slot that found no room is told of with the reason, until it has a place;
// and a decision that is made again to no other end is one, however often.
func TestPendingSlots(t *testing.T) {
	p, now := newTestPeer("a")
	app := testApp("shop")
	n := 3
	c := app.Components["c"]
	c.Replicas, c.Resources = &n, Resources{CPU: 1500, Memory: 1 << 20} // two of them fit
	app.Components["c"] = c
	step(p, now, Submit{Ticket: 1, App: app})
	for range 20 {
		now.Mono, now.Wall = now.Mono+time.Second, now.Wall.Add(time.Second)
		step(p, now, TimerFired{Key: wakeTimer})
	}
	list := p.Pending()
	if len(list) != 1 || list[0].Slots != "2" || list[0].Kind != "server" || !strings.Contains(list[0].Reason, "no room") {
		t.Fatalf("pending: %+v", list)
	}
	if waited := now.Wall.UnixMilli() - list[0].Since; waited < 15_000 {
		t.Errorf("it is pending for %d ms only, after 20 s", waited)
	}
	seen := map[string]Decision{}
	for _, d := range p.Decisions(AppKey{"default", "shop"}, "c") {
		if o, twice := seen[d.Slots+d.Outcome]; twice {
			t.Errorf("one decision is told twice:\n%+v\n%+v", o, d)
		}
		seen[d.Slots+d.Outcome] = d
	}
	var again Decision
	for _, d := range seen {
		if d.Slots == "2" {
			again = d
		}
	}
	if again.Times < 3 || again.At-again.Since < 5_000 {
		t.Errorf("the decision was made %d times, since %d until %d", again.Times, again.Since, again.At)
	}

	step(p, now, HostChanged{Host: Host{ID: "h", Arch: "amd64", Drivers: []string{DriverProcess}, Capacity: Resources{CPU: 8000, Memory: 4 << 30}}})
	for range 20 {
		now.Mono, now.Wall = now.Mono+time.Second, now.Wall.Add(time.Second)
		step(p, now, TimerFired{Key: wakeTimer})
	}
	if list := p.Pending(); len(list) != 0 {
		t.Errorf("pending with room for all: %+v", list)
	}
}
