package placement

import (
	"testing"
	"time"
)

// TestNothingIsGrantedBeforeAllIsBooked: a peer whose store was lost does not
// grant what the work of a driver has that it has not heard yet; one whose ledger
// is whole waits for no other driver.
func TestNothingIsGrantedBeforeAllIsBooked(t *testing.T) {
	host := HostChanged{Host: Host{ID: "h", Drivers: []string{DriverProcess, DriverWasm}, Capacity: Resources{CPU: 100, Memory: 4 << 30}}}
	asks := func(p *Peer, now *Now) int {
		t.Helper()
		step(p, now, Submit{Ticket: 1, App: testApp("shop")})
		return len(p.ledger.claims)
	}
	born := func(inc Incarnation, disk []Write) (*Peer, *Now) {
		p, now := New(Config{Self: PeerRef{Peer: "a", Incarnation: inc}, Name: "a", Site: "s", Seed: 1}), &Now{Wall: time.Unix(1_800_000_000, 0)}
		for _, w := range disk {
			if err := p.Load(w.Table, w.Key, w.Value); err != nil {
				t.Fatal(err)
			}
		}
		drive(p, now, p.Begin(*now))
		step(p, now, host)
		return p, now
	}
	p, now := born(1, nil)
	var disk []Write
	for _, driver := range []string{DriverProcess, DriverWasm} {
		effects := p.Step(*now, WorkListed{Driver: driver})
		for _, e := range effects {
			if w, ok := e.(Persist); ok {
				disk = append(disk, w.Writes...)
			}
		}
		drive(p, now, effects)
	}
	if asks(p, now) == 0 {
		t.Fatal("nothing is granted when both drivers have said what they run")
	}
	for name, test := range map[string]struct {
		inc    Incarnation
		disk   []Write
		grants bool
	}{
		"an empty store":        {2, nil, false},
		"the same store":        {1, disk, true},
		"one that was restored": {2, disk, false},
	} {
		p, now := born(test.inc, test.disk)
		step(p, now, WorkListed{Driver: DriverProcess})
		if granted := asks(p, now) > 0; granted != test.grants {
			t.Errorf("%s: granted %t before the other driver has said what it runs", name, granted)
		}
	}
}

// TestBookedAgainIsStopped: what was booked again from labels, and was being given
// back when the daemon went down, is stopped by the next one.
func TestBookedAgainIsStopped(t *testing.T) {
	id := AllocationID{claimOf("a", 1), 0}
	begin := func(disk []Write) (*Peer, *Now) {
		p, now := New(Config{Self: PeerRef{Peer: "a", Incarnation: 2}, Name: "a", Site: "s", Seed: 1}), &Now{Wall: time.Unix(1_800_000_000, 0)}
		for _, w := range disk {
			if w.Value != nil {
				if err := p.Load(w.Table, w.Key, w.Value); err != nil {
					t.Fatal(err)
				}
			}
		}
		drive(p, now, p.Begin(*now))
		step(p, now, HostChanged{Host: Host{ID: "h", Drivers: []string{DriverProcess}, Capacity: Resources{CPU: 4000, Memory: 4 << 30}}})
		return p, now
	}
	app := testApp("shop")
	runs := WorkListed{Driver: DriverProcess, Work: []Found{{ID: id, State: WorkState{State: AllocRunning}, Labels: Labels(id, WorkSpec{
		UID: "u", Key: app.Key(), Component: "c", Spec: app.Components["c"]})}}}
	p, now := begin(nil)
	step(p, now, runs)
	c := p.ledger.claims[id.Claim]
	if c == nil {
		t.Fatal("it is not booked again")
	}
	p.ledger.release(c, c.Slots)
	p, now = begin([]Write{p.ledger.writeClaim(c)})
	for _, e := range p.Step(*now, runs) {
		if s, ok := e.(Stop); ok && s.ID == id {
			return
		}
	}
	t.Error("nobody stops it")
}
