package placement

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// alterHost changes what the only host of a ledger has.
func alterHost(l *Ledger, f func(*Host)) {
	h := l.ownHost().Host
	f(&h)
	if h.ID == "" {
		h.ID = "h"
	}
	l.hostChanged(h)
}

// manyHosts is a ledger with hosts a, b, c, …, each of the same size.
func manyHosts(n int, each func(i int, h *Host)) *Ledger {
	l := newLedger(PeerRef{Peer: "p", Incarnation: 1}, Tuning{}.withDefaults(), 0)
	l.labels = map[string]string{"tier": "core", "site": "s"}
	l.listed[DriverProcess], l.booked[DriverProcess] = true, true
	for i := range n {
		h := Host{ID: fmt.Sprintf("%c%03d", 'a'+i%26, i), Arch: "amd64", Drivers: []string{DriverProcess}, Fences: []string{DriverProcess}, Capacity: Resources{CPU: 1000, Memory: 1 << 30, Disk: 10 << 30}}
		if each != nil {
			each(i, &h)
		}
		l.hostChanged(h)
	}
	return l
}

func plain(cpu CPU, replicas int) Component {
	return Component{Server: &Server{Process: &Process{Command: []string{"x"}}}, Replicas: &replicas, Resources: Resources{CPU: cpu, Memory: 1 << 20}}
}

// Slots are granted as far as each host by itself has room: what is left on two
// together is no room for one.
func TestGrantsFitEachHost(t *testing.T) {
	l := manyHosts(3, nil)
	c, reply := admit(l, plain(600, 9), FirstSlots(9), false)
	if reply.Granted.Len() != 3 || len(c.At) != 3 {
		t.Fatalf("granted %s at %v: three hosts have room for one each; %s", reply.Granted, c.At, reply.Reason)
	}
	for _, a := range c.At {
		if a.Slots.Len() != 1 {
			t.Errorf("host %q has %s", a.Host, a.Slots)
		}
	}
	if _, reply = admit(l, plain(500, 9), FirstSlots(9), false); !reply.Granted.IsEmpty() || !strings.Contains(reply.Reason, "400m are free on one of them") {
		t.Errorf("granted %s: %q", reply.Granted, reply.Reason)
	}
	end(l, c)
	if l.used != (Resources{}) || l.slots != 0 {
		t.Errorf("left: %v, %d slots", l.used, l.slots)
	}
	if _, reply = admit(l, plain(500, 9), FirstSlots(9), false); reply.Granted.Len() != 6 {
		t.Errorf("after that %s are granted", reply.Granted)
	}
}

// What a host is decides what it may take: labels (which outrank its peer's),
// architecture, fences, and whether it takes work at all.
func TestHostsThatMayTake(t *testing.T) {
	l := manyHosts(5, func(i int, h *Host) {
		switch i {
		case 1:
			h.Labels, h.Fences = map[string]string{"tier": "edge", "disk": "ssd"}, nil
		case 2:
			h.Arch = "arm64"
		case 3:
			h.Cordoned = true
		case 4:
			h.Labels = map[string]string{"zone": "z"}
			h.Full = "its disk is full"
		}
	})
	for name, x := range map[string]struct {
		change func(c *Component)
		on     []string
		why    string
	}{
		"anything":            {func(*Component) {}, []string{"a000", "b001"}, ""},
		"a label of its own":  {func(c *Component) { c.Place.Where = "tier=edge" }, []string{"b001"}, ""},
		"a label of its peer": {func(c *Component) { c.Place.Where = "tier=core" }, []string{"a000"}, ""},
		"no host":             {func(c *Component) { c.Place.Where = "tier=none" }, nil, "where tier=none: no such host"},
		"arm64":               {func(c *Component) { c.Architecture = []string{"arm64"} }, []string{"c002"}, ""},
		"riscv64":             {func(c *Component) { c.Architecture = []string{"riscv64"} }, nil, "this runs on riscv64 alone"},
		"exclusive":           {func(c *Component) { c.Exclusive.On, c.Architecture = true, []string{"amd64"} }, []string{"a000"}, ""},
		"a host that is full": {func(c *Component) { c.Place.Where = "zone=z" }, nil, "0 hosts that may take them"},
		"preferred":           {func(c *Component) { n := 1; c.Replicas, c.Place.Prefer = &n, map[string]int{"disk=ssd": 10} }, []string{"b001"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			comp := plain(500, 4)
			x.change(&comp)
			c, reply := admit(l, comp, FirstSlots(comp.Wanted()), false)
			var on []string
			if c != nil {
				for _, a := range c.At {
					on = append(on, l.book(a.Host).ID)
				}
				slices.Sort(on)
				end(l, c)
			}
			if !slices.Equal(on, x.on) || !strings.Contains(reply.Reason, x.why) {
				t.Errorf("%s are on %v, want %v; %q", reply.Granted, on, x.on, reply.Reason)
			}
		})
	}
}

// A component's slots are on three hosts at least while those have room, and what
// one host is left is used too.
func TestSlotsAreApart(t *testing.T) {
	l := manyHosts(4, nil)
	c, _ := admit(l, plain(100, 3), FirstSlots(3), false)
	if len(c.At) != 3 {
		t.Errorf("three slots are on %v", c.At)
	}
	end(l, c)
	for i := range 3 {
		l.hostChanged(Host{ID: []string{"b001", "c002", "d003"}[i], Arch: "amd64", Drivers: []string{DriverProcess}, Cordoned: true})
	}
	if c, _ = admit(l, plain(100, 3), FirstSlots(3), false); c == nil || c.Slots.Len() != 3 {
		t.Errorf("with one host left: %+v", c)
	}
}

// A slot goes back to the host where its volume is, and waits for that.
func TestVolumesBindToHosts(t *testing.T) {
	l := manyHosts(3, nil)
	c, _ := admit(l, withVolume(3), FirstSlots(3), false)
	at := map[Slot]string{}
	for n := range c.Slots.All() {
		at[n] = c.hostOf(n)
	}
	end(l, c)
	for id, v := range l.volumes.all {
		if v.Host != at[id.Slot] {
			t.Errorf("the volume of slot %d is on %q, and the slot was on %q", id.Slot, v.Host, at[id.Slot])
		}
	}
	busy, _ := admitAs(l, "other", plain(1000, 1), FirstSlots(1)) // fills one
	full := busy.hostOf(0)
	c, reply := admit(l, withVolume(3), FirstSlots(3), false)
	for n, was := range at {
		if was == full {
			if c.Slots.Contains(n) {
				t.Errorf("slot %d left its volume on %q", n, was)
			}
		} else if !c.Slots.Contains(n) || c.hostOf(n) != was {
			t.Errorf("slot %d is on %q, its volume on %q", n, c.hostOf(n), was)
		}
	}
	if reply.Granted.Len() != 2 {
		t.Errorf("granted %s: %s", reply.Granted, reply.Reason)
	}
}

// Slots whose volumes lie on hosts of two architectures are all granted again, those
// of one with each ask, wherever there is most room.
func TestVolumesOnTwoArchitectures(t *testing.T) {
	l := manyHosts(6, func(i int, h *Host) {
		if i == 0 {
			h.Arch = "arm64"
		}
	})
	old := withVolume(2)
	old.Architecture = []string{"arm64"}
	first, _ := admit(l, old, SlotsOf(0), false)
	old.Architecture = []string{"amd64"}
	second, _ := admit(l, old, SlotsOf(1), false)
	end(l, first)
	end(l, second)
	one, _ := admit(l, withVolume(4), FirstSlots(4), false)
	if one == nil || !one.Slots.Contains(0) || one.Slots.Contains(1) || one.hostOf(0) != first.hostOf(0) {
		t.Fatalf("the first ask has %+v", one)
	}
	other, reply := admit(l, withVolume(4), FirstSlots(4).Minus(one.Slots), false)
	if other == nil || !other.Slots.Contains(1) || other.hostOf(1) != second.hostOf(1) {
		t.Errorf("the next ask has %s, %s", reply.Granted, reply.Reason)
	}
	end(l, one)
	busy, _ := admitAs(l, "other", func() Component { c := plain(1000, 1); c.Architecture = []string{"arm64"}; return c }(), FirstSlots(1))
	if _, reply = admit(l, withVolume(6), SlotsOf(0, 4, 5), false); busy == nil || reply.Granted.Len() != 2 {
		t.Errorf("with no room at the volume of slot 0 are granted %s, %s", reply.Granted, reply.Reason)
	}
}

// admitAs asks for slots of a component of an app.
func admitAs(l *Ledger, uid UID, comp Component, slots Slots) (*claim, offerMsg) {
	asked++
	i := &Intent{UID: uid, Key: AppKey{"default", string(uid)}, App: App{Name: string(uid), Components: map[string]Component{"c": comp}}}
	adm := l.Admit(Now{Wall: time.UnixMilli(1000)}, &askMsg{
		ID: AskID{Asker: "s", Incarnation: 1, Counter: asked}, UID: uid, Term: Term{1, "s"}, Component: "c", Slots: slots,
	}, i, i)
	if adm.claim != nil {
		l.Committed(adm.claim)
	}
	return adm.claim, adm.reply
}

// A claim of a peer with one host says nothing of hosts: it is read by those
// before, and theirs by this one. It stays where it is when more hosts come.
func TestClaimsOfOneHost(t *testing.T) {
	l := manyHosts(1, nil)
	c, _ := admit(l, plain(300, 3), FirstSlots(3), false)
	if c.At != nil || Labels(AllocationID{c.ID, 0}, WorkSpec{Spec: c.Spec, Host: c.hostOf(0)})[labelHost] != "" {
		t.Errorf("it names its host: %v", c.At)
	}
	next := newLedger(l.self, l.tune, 0)
	next.listed[DriverProcess], next.booked[DriverProcess] = true, true
	if err := next.load(tableClaims, c.ID.String(), Encode(c)); err != nil {
		t.Fatal(err)
	}
	next.hostChanged(l.ownHost().Host)
	next.hostChanged(Host{ID: "more", Arch: "amd64", Drivers: []string{DriverProcess}, Capacity: Resources{CPU: 300, Memory: 1 << 30}})
	if own := next.ownHost(); own.ID != "a000" || own.slots != 3 || next.hosts["more"].slots != 0 {
		t.Errorf("own host %+v", own)
	}
	if two, reply := admitAs(next, "two", plain(300, 3), FirstSlots(3)); reply.Granted.Len() != 1 || two.hostOf(reply.Granted.Slice()[0]) != "more" {
		t.Errorf("granted %s: the first host has 100m left, the other is for one: %s", reply.Granted, reply.Reason)
	}
}

// What a store had granted is on its host again after a restart, and what is found
// without its claim where its label says.
func TestRestartKeepsHosts(t *testing.T) {
	l := manyHosts(4, func(i int, h *Host) { h.GPUs = []Device{{ID: "g0", Model: "a100"}} })
	comp := plain(200, 6)
	a, _ := admitAs(l, "a", comp, FirstSlots(6))
	comp.Resources.GPU = GPU{Count: 500}
	b, _ := admitAs(l, "b", comp, FirstSlots(5))
	next := newLedger(l.self, l.tune, 0)
	for i, c := range []*claim{a, b} {
		writes := l.writePlaced(c)
		if i == 0 { // in whatever order they are read
			slices.Reverse(writes)
		}
		for _, w := range writes {
			if err := next.load(w.Table, w.Key, w.Value); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, id := range sortedKeys(l.hosts) {
		next.hostChanged(l.hosts[id].Host)
	}
	sameBooks(t, l, next)

	p := New(Config{Self: PeerRef{Peer: "p", Incarnation: 2}})
	now := &Now{Wall: time.UnixMilli(1000)}
	step(p, now, HostChanged{Host: l.hosts["a000"].Host})
	var found []Found
	for _, c := range []*claim{a, b} {
		for n := range c.Slots.All() {
			id := AllocationID{c.ID, n}
			spec := WorkSpec{UID: c.UID, Key: c.Key, Component: c.Component, Spec: c.Spec, Version: c.Version, Devices: c.Devices[n], Host: c.hostOf(n)}
			found = append(found, Found{ID: id, Labels: Labels(id, spec), State: WorkState{State: AllocRunning}})
		}
	}
	step(p, now, WorkListed{Driver: DriverProcess, Work: found})
	for _, id := range sortedKeys(l.hosts) {
		step(p, now, HostChanged{Host: l.hosts[id].Host})
	}
	sameBooks(t, l, p.ledger)
}

// sameBooks holds two ledgers against each other, host by host.
func sameBooks(t *testing.T, a, b *Ledger) {
	t.Helper()
	for _, id := range sortedKeys(a.hosts) {
		x, y := a.hosts[id], b.book(id)
		if x.used != y.used || x.slots != y.slots || fmt.Sprint(x.gpus) != fmt.Sprint(y.gpus) {
			t.Errorf("host %s: %v, %d slots, %v, and then %v, %d slots, %v", id, x.used, x.slots, x.gpus, y.used, y.slots, y.gpus)
		}
	}
}

// Whatever is asked for, given back, found gone or read again, no host has more
// granted than it has, and all sums are those of the claims.
func TestHostsNeverOvercommit(t *testing.T) {
	seeds := uint64(60)
	if testing.Short() {
		seeds = 15
	}
	for seed := range seeds {
		rng := rand.New(rand.NewPCG(seed, 7))
		w := &hostsWalk{t: t, rng: rng, l: newLedger(PeerRef{Peer: "p", Incarnation: 1}, Tuning{}.withDefaults(), 0), claims: map[ClaimID]*claim{}}
		w.l.labels = map[string]string{"tier": "core"}
		w.l.listed[DriverProcess], w.l.booked[DriverProcess] = true, true
		for i := range 2 + rng.IntN(12) {
			w.hosts = append(w.hosts, w.host(i))
			w.l.hostChanged(w.hosts[i])
		}
		for n := range 80 {
			w.step(n)
			w.check(fmt.Sprintf("seed %d, step %d", seed, n))
			if t.Failed() {
				return
			}
		}
	}
}

// hostsWalk is one run of that test.
type hostsWalk struct {
	t      *testing.T
	rng    *rand.Rand
	l      *Ledger
	hosts  []Host
	claims map[ClaimID]*claim
}

func (w *hostsWalk) host(i int) Host {
	h := Host{ID: fmt.Sprintf("h%02d", i), Arch: []string{"amd64", "arm64"}[w.rng.IntN(2)], Drivers: []string{DriverProcess},
		Capacity: Resources{CPU: CPU(w.rng.IntN(4000)), Memory: Bytes(w.rng.IntN(4 << 30)), Disk: Bytes(w.rng.IntN(8 << 30))},
		Labels:   map[string]string{"name": fmt.Sprint(i)}}
	for d := range w.rng.IntN(3) {
		h.GPUs = append(h.GPUs, Device{ID: fmt.Sprint("g", d), Model: []string{"a100", "t4"}[w.rng.IntN(2)]})
	}
	if w.rng.IntN(2) == 0 {
		h.Labels["tier"] = "edge"
	}
	return h
}

func (w *hostsWalk) step(n int) {
	rng, l := w.rng, w.l
	switch k := rng.IntN(12); {
	case k < 6:
		comp := plain(CPU(rng.IntN(800)), 1+rng.IntN(12))
		switch rng.IntN(5) {
		case 0:
			comp.Resources.GPU = GPU{Count: []GPUShare{250, 500, 1000}[rng.IntN(3)]}
		case 1:
			comp.Volumes = map[string]Volume{"data": {Path: "/d", Size: Bytes(rng.IntN(1 << 30))}}
		case 2:
			comp.Place.Where = []string{"tier=edge", "tier=core", "name in (1,2)"}[rng.IntN(3)]
		case 3:
			comp.Architecture = []string{"arm64"}
		}
		planned := comp.Wanted() - planAt(comp, comp.Wanted(), digestOfMany(l)).Unplaced.Len()
		if c, reply := admitAs(l, UID(fmt.Sprint("u", rng.IntN(6))), comp, FirstSlots(comp.Wanted())); c != nil {
			w.claims[c.ID] = c
			if granted := reply.Granted.Len(); granted > planned && len(comp.Volumes) == 0 {
				w.t.Errorf("step %d: %d slots of %+v are granted, and by the digest %d fit", n, granted, comp, planned)
			}
		}
	case k < 9:
		for _, id := range sortedClaims(w.claims) {
			c := w.claims[id]
			for n := range c.Slots.All() {
				if rng.IntN(2) == 0 {
					l.release(c, SlotsOf(n))
					l.stopped(c, n)
				}
			}
			if c.holds().IsEmpty() {
				delete(w.claims, id)
			}
			if rng.IntN(2) == 0 {
				break
			}
		}
	case k == 9:
		i := rng.IntN(len(w.hosts))
		w.hosts[i].Cordoned = rng.IntN(2) == 0
		l.hostChanged(w.hosts[i])
	case k == 10 && n > 40: // it comes back larger than all that it had
		i := 1 + rng.IntN(len(w.hosts)-1)
		b := l.book(w.hosts[i].ID)
		l.hostGone(b)
		for _, id := range sortedClaims(w.claims) {
			c := w.claims[id]
			part := c.on(b.ID).Intersect(c.holds())
			if rest := part.Minus(l.rebind(c, part)); !rest.IsEmpty() {
				for n := range rest.All() {
					l.release(c, SlotsOf(n))
					l.stopped(c, n)
				}
			}
			if c.holds().IsEmpty() {
				delete(w.claims, id)
			}
		}
		for id, v := range l.volumes.all {
			if v.Host == b.ID {
				l.removeVolume(id)
			}
		}
		if l.hosts[b.ID] != nil {
			w.t.Errorf("host %s is gone, empty and remembered: %v %d", b.ID, b.used, b.slots)
		}
		w.hosts[i] = w.host(i)
		l.hostChanged(w.hosts[i])
	case k == 11:
		w.restart()
	}
}

// restart reads everything again.
func (w *hostsWalk) restart() {
	next := newLedger(w.l.self, w.l.tune, 0)
	next.labels, next.listed, next.booked, next.terms = w.l.labels, w.l.listed, w.l.booked, w.l.terms
	for _, c := range w.l.sorted() {
		for _, x := range w.l.writePlaced(c) {
			if err := next.load(x.Table, x.Key, x.Value); err != nil {
				w.t.Fatal(err)
			}
		}
		w.claims[c.ID] = next.claims[c.ID]
	}
	for id, v := range w.l.volumes.all {
		if err := next.load(tableVolumes, id.String(), Encode(v)); err != nil {
			w.t.Fatal(err)
		}
	}
	for _, h := range w.hosts {
		next.hostChanged(h)
	}
	w.l = next
}

func sortedClaims(claims map[ClaimID]*claim) []ClaimID {
	var out []ClaimID
	for id := range claims {
		out = append(out, id)
	}
	slices.SortFunc(out, func(a, b ClaimID) int { return a.Compare(b) })
	return out
}

func (w *hostsWalk) check(at string) {
	t, l := w.t, w.l
	used, slots, gpus := map[string]Resources{}, map[string]int{}, map[string]GPUShare{}
	for _, c := range l.claims {
		sel, _ := ParseSelector(c.Spec.Place.Where)
		for n := range c.holds().All() {
			b := l.book(c.hostOf(n))
			used[b.ID] = used[b.ID].Add(c.Need)
			slots[b.ID]++
			for _, d := range c.Devices[n] {
				gpus[b.ID+"/"+d] += min(c.Need.GPU.Count, wholeGPU)
			}
			if len(c.Spec.Architecture) > 0 && b.Arch != "arm64" || !sel.Matches(b.labels) {
				t.Errorf("%s: slot %d of %s is on %s, %s %v", at, n, c.ID, b.ID, b.Arch, b.labels)
			}
			if v := l.volumes.all[VolumeID{c.UID, c.Component, n}]; v != nil && len(c.Spec.Volumes) > 0 && l.book(v.Host) != b {
				t.Errorf("%s: slot %d of %s is on %s, and its volume on %s", at, n, c.ID, b.ID, v.Host)
			}
		}
	}
	for _, v := range l.volumes.all {
		id := l.book(v.Host).ID
		used[id] = used[id].Add(Resources{Disk: v.size()})
	}
	sum := Resources{}
	for _, h := range w.hosts {
		b := l.hosts[h.ID]
		sum = sum.Add(used[h.ID])
		if b.used != used[h.ID] || b.slots != slots[h.ID] {
			t.Errorf("%s: host %s counts %v in %d slots, and its claims %v in %d", at, h.ID, b.used, b.slots, used[h.ID], slots[h.ID])
		}
		if free := b.free(); min(int64(free.CPU), int64(free.Memory), int64(free.Disk)) < 0 {
			t.Errorf("%s: host %s has %v of %v granted", at, h.ID, b.used, h.Capacity)
		}
		for _, d := range h.GPUs {
			if g := gpus[h.ID+"/"+d.ID]; g > wholeGPU || g != b.gpus[d.ID] {
				t.Errorf("%s: of device %s of host %s %d is granted, %d counted", at, d.ID, h.ID, g, b.gpus[d.ID])
			}
		}
	}
	if l.used != sum {
		t.Errorf("%s: %v is used, and on hosts %v", at, l.used, sum)
	}
	w.checkDigest(at)
}

// checkDigest holds what a digest would say against the hosts.
func (w *hostsWalk) checkDigest(at string) {
	l, t := w.l, w.t
	shapes := l.classes.shapes
	d := Digest{Labels: map[string]string{}}
	l.describe(&d)
	fits, free, largest := make([]int, len(shapes)), Resources{}, Resources{}
	for _, b := range l.hosts {
		one := b.tally(shapes)
		free, largest = free.Add(one.free), most(largest, one.free)
		for i, n := range one.fits {
			fits[i] += n
		}
	}
	if d.Free != free || d.Largest != largest {
		t.Errorf("%s: free %v at most %v, and the digest says %v at most %v", at, free, largest, d.Free, d.Largest)
	}
	for i, f := range d.Fits {
		if f.Count != fits[i] {
			t.Errorf("%s: %d slots of %v fit, and the digest says %d", at, fits[i], f.Shape, f.Count)
		}
		if got := l.rooms.fits(f.Shape); got != fits[i] {
			t.Errorf("%s: %d slots of %v fit, and rooms have %d", at, fits[i], f.Shape, got)
		}
	}
	for _, c := range l.counted() {
		var gpus []PoolGPU
		for _, b := range c.hosts {
			if b.class != c {
				t.Errorf("%s: host %s is in another class", at, b.ID)
			}
			if !b.open() {
				continue
			}
			for _, g := range sumGPUs(b.freeGPUs()) {
				s := gpuOf(&gpus, g.Model)
				s.Devices, s.Whole, s.Free, s.Most, s.Share = s.Devices+g.Devices, s.Whole+g.Whole, s.Free+g.Free, max(s.Most, g.Most), max(s.Share, g.Share)
			}
		}
		have := slices.DeleteFunc(slices.Clone(c.sum.gpus), func(g PoolGPU) bool { return g.Devices == 0 })
		if !slices.Equal(have, gpus) {
			t.Errorf("%s: GPUs %v, and the class says %v", at, gpus, have)
		}
	}
}

// However many wishes a person has, hosts are looked through for a few levels of them:
// the best come first, and all slots find their place.
func TestManyWishes(t *testing.T) {
	l := manyHosts(60, func(i int, h *Host) { h.Labels = map[string]string{"hostname": fmt.Sprintf("n%02d", i)} })
	comp := plain(600, 50)
	comp.Place.Prefer = map[string]int{}
	for i := range 60 {
		comp.Place.Prefer[fmt.Sprintf("hostname = n%02d", i)] = i
	}
	x, why := l.chooser("u", "c", comp, nil)
	if why != "" || len(x.levels) > levelsMax || len(x.levels) < 2 || !slices.IsSortedFunc(x.levels, func(a, b int) int { return b - a }) {
		t.Fatalf("levels %v, %q", x.levels, why)
	}
	c, reply := admit(l, comp, FirstSlots(50), false)
	if reply.Granted.Len() != 50 {
		t.Fatalf("granted %s: %s", reply.Granted, reply.Reason)
	}
	for _, a := range c.At {
		if b := l.book(a.Host); b.Labels["hostname"] < "n08" {
			t.Errorf("slots %s are on %s, and 50 of 60 hosts are preferred", a.Slots, b.Labels["hostname"])
		}
	}
}
