package placement

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// digestOfMany is what a ledger says of its hosts, as another peer takes it.
func digestOfMany(l *Ledger) Digest {
	d := Digest{Peer: PeerRef{"p", 1}, Name: "p", Site: "s", Labels: map[string]string{}}
	for k, v := range l.labels {
		d.Labels[k] = v
	}
	l.describe(&d)
	return d.bounded()
}

func planAt(c Component, slots int, d Digest) PlanResult {
	app := App{Name: "a", Components: map[string]Component{"c": c}}
	return Plan(PlanInput{App: app, Component: "c", Slots: FirstSlots(slots), Candidates: []Candidate{{Digest: d, RTT: -1, Alive: true}}, Rand: rand.New(rand.NewPCG(1, 1))})
}

// A digest tells hosts apart by what a planner asks for, and says of labels that
// differ from host to host that they do.
func TestDigestTellsHostsApart(t *testing.T) {
	l := manyHosts(20, func(i int, h *Host) {
		h.Labels = map[string]string{"hostname": h.ID, "rack": fmt.Sprint(i % 2), "owner": "ops"}
		if i%5 == 0 {
			h.Arch = "arm64"
		}
	})
	d := digestOfMany(l)
	if len(d.Pools) != 4 || d.Hosts != 20 || fmt.Sprint(d.Unsaid) != "[hostname]" || d.Labels["owner"] != "ops" || fmt.Sprint(d.Arch) != "[amd64 arm64]" {
		t.Errorf("%d pools, %d hosts, unsaid %v, labels %v, %v", len(d.Pools), d.Hosts, d.Unsaid, d.Labels, d.Arch)
	}
	for name, x := range map[string]struct {
		where, arch string
		cpu         CPU
		fits        int
		why         string
	}{
		"all":             {"", "", 1000, 20, ""},
		"a rack":          {"rack=1", "", 1000, 10, ""},
		"a rack of arm64": {"rack=1", "arm64", 250, 2 * 4, ""},
		"no rack":         {"rack=7", "", 250, 0, "none of its hosts is for this"},
		"one by its name": {"hostname=b001,rack=1", "", 1000, 10, ""}, // at most; the ledger knows
		"too large":       {"", "", 1100, 0, "a slot needs 1100m CPU, 1 are free"},
	} {
		t.Run(name, func(t *testing.T) {
			c := plain(x.cpu, 100)
			c.Place.Where = x.where
			if x.arch != "" {
				c.Architecture = []string{x.arch}
			}
			res := planAt(c, 100, d)
			if got := 100 - res.Unplaced.Len(); got != x.fits || x.why != "" && !strings.Contains(res.Considered[0].Reason, x.why) {
				t.Errorf("%d slots are placed, want %d: %q", got, x.fits, res.Considered[0].Reason)
			}
		})
	}
	c := plain(100, 1)
	c.Place.Where = "hostname=b001"
	if got, reply := admit(l, c, FirstSlots(1), false); got == nil || got.hostOf(0) != "b001" {
		t.Errorf("not on the host that was named: %s", reply.Reason)
	}
}

// A shape of slots is counted exactly once it was asked for: what is left on
// several hosts together is none.
func TestDigestCountsShapes(t *testing.T) {
	l := manyHosts(10, func(i int, h *Host) { h.GPUs = []Device{{"g0", "a100", 0}, {"g1", "a100", 0}} })
	c := plain(300, 100)
	c.Resources.GPU = GPU{Count: 2000}
	if res := planAt(c, 100, digestOfMany(l)); res.Unplaced.Len() != 90 {
		t.Errorf("%d fit by GPUs", 100-res.Unplaced.Len())
	}
	odd := plain(700, 100)
	if before := 100 - planAt(odd, 100, digestOfMany(l)).Unplaced.Len(); before != 14 { // at most, by the sum
		t.Errorf("%d are thought to fit", before)
	}
	_, reply := admitAs(l, "u", odd, FirstSlots(4))
	d := digestOfMany(l)
	if fit := 100 - planAt(odd, 100, d).Unplaced.Len(); fit != 6 || reply.Granted.Len() != 4 {
		t.Errorf("after %s were granted %d fit", reply.Granted, fit)
	}
	p := New(Config{Self: PeerRef{Peer: "a", Incarnation: 1}, Seed: 1})
	p.members.digestChanged(0, d)
	p.members.charge(0, "p", odd, 4)
	for _, c := range p.members.candidates(time.Millisecond) {
		if fit := 100 - planAt(odd, 100, c.Digest).Unplaced.Len(); c.Digest.Peer.Peer == "p" && fit != 2 {
			t.Errorf("after 4 were asked for %d fit", fit)
		}
	}
}

// What was asked for is taken off the hosts that may have it, GPUs too.
func TestAsksAreTakenOffTheirPools(t *testing.T) {
	l := manyHosts(9, func(i int, h *Host) {
		h.Labels = map[string]string{"zone": fmt.Sprint("z", i%3)}
		h.GPUs = []Device{{"g0", "a100", 0}, {"g1", "a100", 0}}
	})
	in := func(zone string, cpu CPU, gpu GPUShare) Component {
		c := plain(cpu, 30)
		c.Place.Where = zone
		c.Resources.GPU.Count = gpu
		return c
	}
	for name, x := range map[string]struct {
		asked, next  Component
		slots, taken int
	}{
		"of other hosts":          {in("zone=z2", 1000, 0), in("zone=z0", 1000, 0), 3, 0},
		"of the same":             {in("zone=z2", 1000, 0), in("zone=z2", 1000, 0), 2, 2},
		"whole GPUs":              {in("", 10, 1000), in("", 10, 1000), 5, 5},
		"whole GPUs there":        {in("zone=z1", 10, 1000), in("zone=z1", 20, 1000), 5, 5},
		"GPUs of others":          {in("zone=z1", 10, 1000), in("zone!=z1", 20, 1000), 5, 0},
		"parts of GPUs":           {in("zone=z1", 10, 500), in("zone=z1", 20, 1000), 4, 2},
		"pairs, of them all":      {in("zone=z1", 10, 2000), in("zone=z1", 20, 250), 3, 24},
		"GPUs, and none is asked": {in("zone=z1", 100, 1000), in("zone=z1", 100, 0), 6, 6},
	} {
		t.Run(name, func(t *testing.T) {
			fit := func(d Digest) int { return 30 - planAt(x.next, 30, d).Unplaced.Len() }
			p := New(Config{Self: PeerRef{Peer: "a", Incarnation: 1}, Seed: 1})
			d := digestOfMany(l)
			p.members.digestChanged(0, d)
			for range x.slots { // one after the other, as one
				p.members.charge(0, "p", x.asked, 1)
			}
			candidates := []Candidate{{Digest: d}}
			take(candidates, x.asked, x.asked.Need(), map[PeerID]Slots{"p": FirstSlots(x.slots)})
			for _, c := range append(candidates, p.members.candidates(time.Millisecond)...) {
				if c.Digest.Peer.Peer == "p" && fit(d)-fit(c.Digest) != x.taken {
					t.Errorf("of %d that fit %d are left, %d should be taken", fit(d), fit(c.Digest), x.taken)
				}
			}
			if n := len(p.members.get("p").charges); n != 1 {
				t.Errorf("%d charges", n)
			}
		})
	}
}

// A label that a digest has no room for and a host that has no pool of its own are
// for the ledger to look at: what that grants is planned.
func TestDigestLeavesNothingOut(t *testing.T) {
	where := func(text string) Component {
		c := plain(500, 1)
		c.Place.Where = text
		return c
	}
	gpu := plain(500, 1)
	gpu.Resources.GPU = GPU{Count: 1000, Model: "a100"}
	arm := plain(500, 1)
	arm.Architecture = []string{"arm64"}
	exclusive := plain(500, 1)
	exclusive.Exclusive.On = true
	classes := func(i int, h *Host) {
		h.Fences, h.Labels = nil, map[string]string{"zone": fmt.Sprint("z", i%4), "rack": fmt.Sprint("r", i%5)}
		if i == 60 {
			h.Arch, h.GPUs, h.Fences = "arm64", []Device{{"g", "nvidia a100", 0}}, []string{DriverProcess}
			h.Labels = map[string]string{"zone": "z9", "site": "own"}
		}
	}
	differ := func(i int, h *Host) { // labels of two values, more than are told of
		h.Labels = map[string]string{"tier": fmt.Sprint(i % 2)}
		for k := range 40 {
			h.Labels[fmt.Sprintf("l%02d", k)] = fmt.Sprint(i % 2)
		}
	}
	common := func(i int, h *Host) {
		h.Labels = map[string]string{"zone": fmt.Sprint("z", i%2)}
		for k := range 8 {
			h.Labels[fmt.Sprint("a", k)] = "x"
		}
	}
	crowd := func(i int, h *Host) { // more of equal labels than are told of
		h.Labels = map[string]string{}
		for k := range 100 {
			h.Labels[fmt.Sprintf("l%03d", k)] = "x"
		}
	}
	models := func(i int, h *Host) {
		for k := range 12 {
			h.GPUs = append(h.GPUs, Device{fmt.Sprint("g", k), fmt.Sprintf("model %02d", k), 0})
		}
	}
	last := plain(500, 1)
	last.Resources.GPU = GPU{Count: 1000, Model: "model 11"}
	for name, x := range map[string]struct {
		hosts int
		each  func(i int, h *Host)
		c     Component
		fits  bool // by the digest
	}{
		"a label behind common ones":     {4, common, where("zone=z1"), true},
		"a value that none has":          {4, common, where("zone=z7"), false},
		"a label of many":                {4, differ, where("l39=1"), true},
		"a label of the peer's":          {4, differ, where("tier=1"), true},
		"what all hosts have not":        {4, differ, where("site=other"), false},
		"a label of very many":           {4, crowd, where("l099=x"), true},
		"a GPU in a small class":         {61, classes, gpu, true},
		"an architecture there":          {61, classes, arm, true},
		"a fence there":                  {61, classes, exclusive, true},
		"a label there":                  {61, classes, where("zone=z9"), true},
		"a label there that is another":  {61, classes, where("site=own"), true},
		"a label of all":                 {61, classes, where("site=s"), true},
		"a label that is none's":         {61, classes, where("other=1"), false},
		"the last of many models of GPU": {1 + 1, models, last, true},
	} {
		t.Run(name, func(t *testing.T) {
			l := manyHosts(x.hosts, x.each)
			d := digestOfMany(l)
			res := planAt(x.c, 1, d)
			got, reply := admit(l, x.c, FirstSlots(1), false)
			if fits := res.Unplaced.IsEmpty(); fits != x.fits || got != nil && !fits {
				t.Errorf("planned %v: %q; granted %s: %s; unsaid %v", fits, res.Considered[0].Reason, reply.Granted, reply.Reason, d.Unsaid)
			}
			if len(d.Pools) > poolsMax || len(d.Unsaid) > unsaidMax {
				t.Errorf("%d pools, unsaid %v", len(d.Pools), d.Unsaid)
			}
		})
	}
}

// However many hosts there are and however they differ, a digest stays small.
func TestDigestOfManyIsBounded(t *testing.T) {
	long := strings.Repeat("x", 60)
	l := manyHosts(1000, func(i int, h *Host) {
		h.Labels = map[string]string{}
		for k := range 30 {
			h.Labels[fmt.Sprint(long, k)] = fmt.Sprint(long, i%(k%7+2))
		}
		for g := range 8 {
			h.GPUs = append(h.GPUs, Device{fmt.Sprint("g", g), fmt.Sprint("model ", (i+g)%20), 0})
		}
	})
	for i := range 20 {
		admitAs(l, UID(fmt.Sprint("u", i)), plain(CPU(101+i), 3), FirstSlots(3))
	}
	d := digestOfMany(l)
	hosts := 0
	for i, p := range d.Pools {
		hosts += p.Hosts
		if size := len(Encode(p)); size > p.size() {
			t.Errorf("pool %d has %d bytes, thought to be %d", i, size, p.size())
		}
	}
	if size := len(Encode(d)); size > 28<<10 || len(d.Pools) < 5 || len(d.Pools) > poolsMax || hosts != 1000 || len(d.Fits) != len(commonShapes)+recentShapes {
		t.Errorf("a digest of %d bytes, %d pools of %d hosts, %d shapes", size, len(d.Pools), hosts, len(d.Fits))
	}
	for k := range digestLabelsMax { // even with the longest labels
		l.labels[fmt.Sprintf("%0256d", k)] = strings.Repeat("x", 256)
	}
	if size := len(Encode(digestOfMany(l))); size > 48<<10 {
		t.Errorf("a digest of %d bytes", size)
	}
	if same := manyHosts(1000, nil); len(Encode(digestOfMany(same))) > 1000 || len(digestOfMany(same).Pools) > 0 {
		t.Errorf("a digest of equal hosts has %d bytes", len(Encode(digestOfMany(same))))
	}
}

// What a peer says of pools can be counted with, whatever it is.
func TestForgedPools(t *testing.T) {
	d := Digest{Hosts: 1 << 40, Capacity: Resources{CPU: 1000}, Free: Resources{CPU: 1000}}
	for range 100 {
		d.Pools = append(d.Pools, Pool{
			Hosts: -1, Capacity: Resources{CPU: -5, Memory: 1 << 62}, Free: Resources{CPU: 1 << 62, Memory: 1 << 62}, Drivers: []string{DriverProcess},
			Fits: []ShapeFit{{Shape: Resources{CPU: 1}, Count: 1 << 60}}, GPUs: []PoolGPU{{Model: "x", Devices: -1, Whole: 1 << 40, Most: 1 << 40, Free: 1 << 60, Share: 1 << 60}},
		})
	}
	d = d.bounded()
	if len(d.Pools) != poolsMax || d.Hosts != hostsMax {
		t.Errorf("%d pools, %d hosts", len(d.Pools), d.Hosts)
	}
	for _, p := range d.Pools {
		if p.Hosts != 0 || p.Free.CPU != 0 || p.Free.Memory > capacityMax.Memory || p.Fits[0].Count != 0 || p.GPUs[0] != (PoolGPU{Model: "x", Share: wholeGPU}) {
			t.Fatalf("%+v", p)
		}
	}
}

// BenchmarkManyHosts is one slot that is granted and given back, with a digest
// after each.
func BenchmarkManyHosts(b *testing.B) {
	for _, n := range []int{100, 1000, hostsMax} {
		b.Run(fmt.Sprint(n, " hosts"), func(b *testing.B) {
			l := manyHosts(n, func(i int, h *Host) { h.Labels = map[string]string{"rack": fmt.Sprint(i % 4)} })
			for i := range n {
				admitAs(l, UID(fmt.Sprint("u", i)), plain(CPU(100+i%7*50), 2), FirstSlots(2))
			}
			c := plain(100, 1)
			b.ResetTimer()
			for range b.N {
				got, _ := admitAs(l, "one", c, FirstSlots(1))
				digestOfMany(l)
				end(l, got)
				digestOfMany(l)
			}
		})
	}
}

// BenchmarkManySlots is 10,000 slots that are granted at once over many hosts.
func BenchmarkManySlots(b *testing.B) {
	for _, n := range []int{1000, hostsMax} {
		b.Run(fmt.Sprint(n, " hosts"), func(b *testing.B) {
			l := manyHosts(n, nil)
			b.ResetTimer()
			for range b.N {
				got, _ := admitAs(l, "one", plain(100, 10000), FirstSlots(10000))
				b.StopTimer()
				if got.Slots.Len() != 10000 {
					b.Fatalf("%d slots are granted", got.Slots.Len())
				}
				b.ReportMetric(float64(len(Encode(got.At))), "record-bytes")
				l.remove(got)
				b.StartTimer()
			}
		})
	}
}
