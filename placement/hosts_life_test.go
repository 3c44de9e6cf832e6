package placement

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// hostsPeer is a core with two hosts, and what it asks its runner for.
type hostsPeer struct {
	*Peer
	now    *Now
	starts map[AllocationID]string // host of the last one
	stops  map[AllocationID]bool
	drops  []DropVolume
	full   bool // its disk takes nothing
	failed int
}

func newHostsPeer(hosts ...Host) *hostsPeer {
	h := &hostsPeer{
		Peer: New(Config{Self: PeerRef{Peer: "a", Incarnation: 1}, Name: "a", Site: "s", Seed: 1}), now: &Now{Wall: time.Unix(1_800_000_000, 0)},
		starts: map[AllocationID]string{}, stops: map[AllocationID]bool{},
	}
	h.carry(h.Begin(*h.now))
	for _, x := range hosts {
		h.do(HostChanged{Host: x})
	}
	h.do(WorkListed{Driver: DriverProcess})
	return h
}

func (h *hostsPeer) do(ev Event) {
	h.now.Mono += time.Millisecond
	h.now.Wall = h.now.Wall.Add(time.Millisecond)
	h.carry(h.Step(*h.now, ev))
}

func (h *hostsPeer) carry(effects []Effect) {
	for _, e := range effects {
		switch e := e.(type) {
		case Persist:
			if h.full {
				h.failed++
				h.carry(h.Step(*h.now, PersistFailed{Token: e.Token, Err: "no space", Full: true}))
			} else {
				h.carry(h.Step(*h.now, Persisted{Token: e.Token}))
			}
		case Start:
			h.starts[e.ID] = e.Spec.Host
			h.do(WorkChanged{ID: e.ID, State: WorkState{State: AllocRunning}})
		case Stop:
			h.stops[e.ID] = true
			h.do(WorkChanged{ID: e.ID, State: WorkState{State: AllocStopped}})
		case DropVolume:
			h.drops = append(h.drops, e)
		}
	}
}

func (h *hostsPeer) pass(d time.Duration) {
	for until := h.now.Mono + d; h.now.Mono < until; {
		h.now.Mono += 100 * time.Millisecond
		h.now.Wall = h.now.Wall.Add(100 * time.Millisecond)
		h.carry(h.Step(*h.now, TimerFired{}))
	}
}

func hostOfSize(id string, cpu CPU) Host {
	return Host{ID: id, Arch: "amd64", Drivers: []string{DriverProcess}, Fences: []string{DriverProcess}, Capacity: Resources{CPU: cpu, Memory: 4 << 30, Disk: 8 << 30}}
}

func appOf(name string, c Component) App {
	return App{Name: name, Namespace: DefaultNamespace, Components: map[string]Component{"c": c}}
}

// running is the slots that run on each host.
func (h *hostsPeer) running() map[string]Slots {
	out := map[string]Slots{}
	for _, a := range h.Allocations() {
		if a.State.State == AllocRunning {
			out[a.Host] = out[a.Host].Add(a.ID.Slot)
		}
	}
	return out
}

// What was on a host that is gone begins anew on others of the peer, under its
// claim; what they have no room for is given back.
func TestSlotsLeaveAHostThatIsGone(t *testing.T) {
	for name, x := range map[string]struct {
		others []CPU // of hosts
		left   int   // slots that run in the end
	}{
		"room for all": {[]CPU{600, 600}, 6}, "room for some": {[]CPU{400}, 4}, "no room": {[]CPU{200}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			hosts := []Host{hostOfSize("own", 200), hostOfSize("dies", 400)}
			h := newHostsPeer(hosts...)
			h.do(Submit{Ticket: 1, App: appOf("shop", plain(100, 6))})
			if on := h.running(); on["own"].Len() != 2 || on["dies"].Len() != 4 {
				t.Fatalf("running: %v", on)
			}
			for i, cpu := range x.others[min(1, len(x.others)):] {
				h.do(HostChanged{Host: hostOfSize(fmt.Sprint("more", i), cpu)})
			}
			if x.others[0] > 200 {
				h.do(HostChanged{Host: hostOfSize("own", x.others[0])})
			}
			h.do(HostGone{ID: "dies"})
			h.pass(5 * time.Second)
			on := h.running()
			sum := 0
			for host, slots := range on {
				if sum += slots.Len(); host == "dies" {
					t.Errorf("slots %s run on a host that is gone", slots)
				}
			}
			if sum != x.left {
				t.Errorf("%d slots run, want %d: %v", sum, x.left, on)
			}
			if used, capacity := h.Used(); used.CPU != CPU(100*x.left) || capacity.CPU < used.CPU {
				t.Errorf("%v of %v is used", used, capacity)
			}
			if h.ledger.hosts["dies"] != nil {
				t.Error("the host is remembered, with nothing on it")
			}
			for id, host := range h.starts {
				if host == "dies" && h.ledger.claims[id.Claim] != nil && h.ledger.claims[id.Claim].Slots.Contains(id.Slot) {
					t.Errorf("slot %s was started last on the host that is gone", id)
				}
			}
		})
	}
}

// A move counts once it is on disk: nothing starts on the new host before.
func TestMovesAreOnDiskFirst(t *testing.T) {
	h := newHostsPeer(hostOfSize("own", 200), hostOfSize("dies", 200))
	h.do(Submit{Ticket: 1, App: appOf("shop", plain(100, 4))})
	h.do(HostChanged{Host: hostOfSize("new", 400)})
	on := func(host string) (n int) { // slots that were started there last
		for _, at := range h.starts {
			if at == host {
				n++
			}
		}
		return n
	}
	h.full = true
	h.do(HostGone{ID: "dies"})
	h.pass(3 * time.Second)
	if h.failed == 0 || on("dies") != 2 || on("new") != 0 {
		t.Fatalf("%d writes failed, started %v", h.failed, h.starts)
	}
	h.full = false
	h.pass(20 * time.Second)
	if on("new") != 2 || h.running()["new"].Len() != 2 {
		t.Errorf("started once the disk takes it: %v", h.starts)
	}
}

// Exclusive slots, and those with volumes, are given back with their host, for
// their steward to place: the volumes are gone.
func TestVolumesAreLostWithTheirHost(t *testing.T) {
	h := newHostsPeer(hostOfSize("own", 100), hostOfSize("dies", 100))
	h.do(Submit{Ticket: 1, App: appOf("db", withVolume(2))})
	if on := h.running(); on["dies"].Len() != 1 {
		t.Fatalf("running: %v", on)
	}
	h.do(HostChanged{Host: hostOfSize("new", 400)})
	h.do(HostGone{ID: "dies"})
	h.pass(5 * time.Second)
	on := h.running()
	if on["own"].Len() != 1 || on["new"].Len() != 1 {
		t.Errorf("running: %v", on)
	}
	var where []string
	for _, v := range h.Volumes() {
		where = append(where, v.Host)
	}
	if got := strings.Join(where, " "); got != "new own" && got != "own new" {
		t.Errorf("volumes are on %s", got)
	}
}

// A peer that is over one host's bounds is not over those of many; the bound of one
// holds for each.
func TestBoundsOfHosts(t *testing.T) {
	l := manyHosts(3, nil)
	comp := plain(0, SlotsMax)
	comp.Resources = Resources{}
	got := 0
	for range 10 {
		if c, _ := admitAs(l, "u", comp, FirstSlots(SlotsMax)); c != nil {
			got += c.Slots.Len()
		}
	}
	if got != 3*slotsHeldMax || l.slots != got {
		t.Errorf("%d slots are granted, %d held", got, l.slots)
	}
	for id, b := range l.hosts {
		if b.slots != slotsHeldMax {
			t.Errorf("host %s has %d", id, b.slots)
		}
	}
	for i := range hostsMax + 10 {
		l.hostChanged(Host{ID: fmt.Sprint("x", i), Drivers: []string{DriverProcess}})
	}
	if l.knownHosts != hostsMax || l.slotsMax() != peerSlotsMax {
		t.Errorf("%d hosts, %d slots at most", l.knownHosts, l.slotsMax())
	}
}
