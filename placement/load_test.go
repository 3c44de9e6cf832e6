package placement

import (
	"testing"
	"time"
)

// What a core loads is looked at with the time at which it begins, not with
// none: no version is then from a clock far ahead, each is followed, and a
// conflict has the winner that it has everywhere.
func TestLoadedVersionsMeetTheClock(t *testing.T) {
	wall := time.Unix(1_800_000_000, 0)
	mine := intentBy("a", "u", testApp("shop"), func(i *Intent) { i.Alone, i.Version.Millis = true, wall.UnixMilli()-2000 })
	ahead := intentBy("m", "u", testApp("shop"), func(i *Intent) { i.Alone, i.Version.Millis = true, wall.Add(10*time.Minute).UnixMilli() })
	p := New(Config{Self: PeerRef{Peer: "q", Incarnation: 1}, Name: "q", Site: "s", Seed: 1})
	p.LoadTable(TableIntents, "default/shop", [][]byte{Encode(mine), Encode(ahead)})
	var flagged []PeerID
	for _, e := range p.Begin(Now{Wall: wall}) {
		if r, ok := e.(Record); ok && r.Event != nil && r.Event.Type == "clock-ahead" {
			flagged = append(flagged, r.Event.Peer)
		}
	}
	if len(flagged) != 1 || flagged[0] != "m" {
		t.Errorf("flagged %q as ahead, want m alone", flagged)
	}
	if p.clock.millis != wall.UnixMilli()-2000 {
		t.Errorf("the clock stands at %d, want that of the loaded version", p.clock.millis)
	}
	if won := p.apps["u"].win.intent.Version.Peer; won != "a" {
		t.Errorf("%s won, whose clock is ten minutes ahead", won)
	}
}

// Work that ran on while the daemon was away has run since it began, the lost
// ledger's included: beside a copy that was placed elsewhere meanwhile it is
// the original.
func TestAdoptedWorkRanOn(t *testing.T) {
	p, now := newTestPeer("a")
	say(p, now, "m", message{Ask: &askMsg{ID: AskID{"m", 1, 1}, UID: "u", Term: Term{1, "m"},
		Intent: intentBy("m", "u", testApp("x"), nil), Component: "c", Slots: SlotsOf(0)}})
	c := onlyClaim(t, p)
	id, began := AllocationID{c.ID, 0}, now.Wall.UnixMilli()
	labels := Labels(id, WorkSpec{UID: c.UID, Key: c.Key, Component: c.Component, Spec: c.Spec, Version: c.Version})

	q := New(Config{Self: PeerRef{"a", 2}, Name: "a", Site: "s", Seed: 2})
	later := &Now{Wall: now.Wall.Add(time.Hour)}
	drive(q, later, q.Begin(*later))
	said := ""
	for _, e := range q.Step(*later, WorkListed{Driver: DriverProcess, Work: []Found{
		{ID: id, Labels: labels, State: WorkState{State: AllocRunning, Driver: DriverProcess}, Since: began}}}) {
		if r, ok := e.(Record); ok && r.Event != nil && r.Event.Type == "running" {
			said = r.Event.Message
		}
	}
	if got := onlyClaim(t, q).FirstRunning; got != began {
		t.Errorf("it ran first at %d, want %d", got, began)
	}
	if v := q.Allocations(); len(v) != 1 || v[0].Since != began {
		t.Errorf("allocations %+v, want one since %d", v, began)
	}
	if said == "" {
		t.Error("nobody is told that it was adopted and not started")
	}
}
