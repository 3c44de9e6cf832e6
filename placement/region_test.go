package placement

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
)

// drawnPeers is peers of all sorts: some dead, some full, with GPUs or without, of a
// few tiers and architectures, and in some seeds more kinds than a fold has room for.
func drawnPeers(rng *rand.Rand, n int) []Candidate {
	var out []Candidate
	labels := 2 + rng.IntN(2*regionKindsMax)
	for i := range n {
		capacity := Resources{CPU: CPU(rng.Int64N(64_000)), Memory: Bytes(rng.Int64N(256 << 30)), Disk: Bytes(rng.Int64N(1 << 40))}
		d := Digest{
			Peer: PeerRef{Peer: PeerID(fmt.Sprintf("p%03d", i))}, Site: SiteID(fmt.Sprintf("s%03d", i)), Drivers: []string{DriverProcess},
			Labels: map[string]string{"site": fmt.Sprintf("s%03d", i), "tier": fmt.Sprint(rng.IntN(labels))},
			Arch:   []string{[]string{"amd64", "arm64"}[rng.IntN(2)]}, Price: float64(rng.IntN(3)), Slots: rng.IntN(10), Capacity: capacity,
			Free: Resources{CPU: CPU(rng.Int64N(int64(capacity.CPU) + 1)), Memory: Bytes(rng.Int64N(int64(capacity.Memory) + 1)), Disk: Bytes(rng.Int64N(int64(capacity.Disk) + 1))},
		}
		for range rng.IntN(3) * 4 {
			d.GPUs = append(d.GPUs, FreeGPU{Model: []string{"a100", "t4"}[rng.IntN(2)], Free: GPUShare(rng.IntN(3)) * 500})
		}
		if rng.IntN(9) == 0 {
			d.Full = "the host is cordoned"
		}
		for _, s := range commonShapes {
			d.Fits = append(d.Fits, ShapeFit{Shape: s, Count: d.Free.Fits(s)})
		}
		out = append(out, Candidate{Digest: d, Age: rng.Int64N(5000), RTT: -1, Alive: rng.IntN(9) > 0})
	}
	return out
}

// A fold of folds is the fold of all, whatever the parts and their order.
func TestFoldOfFolds(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		all := drawnPeers(rng, rng.IntN(120))
		whole := FoldDigests("r", all)
		rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		folded := FoldDigests("r", nil)
		for rest := all; len(rest) > 0; {
			n := 1 + rng.IntN(len(rest))
			part := FoldDigests("r", rest[:n])
			var read RegionDigest // as it comes from another peer
			if err := Decode(Encode(part), &read); err != nil {
				t.Fatal(err)
			}
			if rng.IntN(2) == 0 {
				folded = folded.Merge(read)
			} else {
				folded = read.Merge(folded)
			}
			rest = rest[n:]
		}
		if string(Encode(folded)) != string(Encode(whole)) {
			t.Fatalf("seed %d: folded in parts %+v, at once %+v", seed, folded, whole)
		}
	}
}

// Sums are exact: of all that take work, also of kinds that found no room.
func TestFoldSums(t *testing.T) {
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 2))
		all := drawnPeers(rng, 80)
		got := FoldDigests("r", all)
		want := RegionDigest{Region: "r", Cheapest: 99}
		for _, c := range all {
			d := c.Digest
			if !c.Alive || d.Full != "" {
				want.Out++
				continue
			}
			want.Peers++
			want.Slots += d.Slots
			want.Capacity, want.Free = want.Capacity.Add(d.Capacity), want.Free.Add(d.Free)
			want.Oldest = max(want.Oldest, c.Age)
			want.Cheapest, want.Dearest = min(want.Cheapest, d.Price), max(want.Dearest, d.Price)
		}
		for _, k := range got.Kinds {
			for _, f := range k.Shapes {
				exact := 0
				for _, c := range all {
					if d := c.Digest; c.Alive && d.Full == "" && d.Labels["tier"] == k.Labels["tier"] && slices.Equal(d.Arch, k.Arch) {
						if _, _, models := leastGPUs(d.GPUs); slices.Equal(models, k.Models) {
							exact += d.Free.Fits(f.Shape)
						}
					}
				}
				if f.Count != exact {
					t.Fatalf("seed %d: %d slots of %v fit, it says %d", seed, exact, f.Shape, f.Count)
				}
			}
		}
		got.Kinds = nil
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("seed %d: %+v, want %+v", seed, got, want)
		}
	}
}

// A fold never has room for more slots than its sites, by their digests, together;
// and where a site has room it says so, or that there may be.
func TestFoldPromisesNothing(t *testing.T) {
	sure := 0
	for seed := range uint64(400) {
		rng := rand.New(rand.NewPCG(seed, 3))
		all := drawnPeers(rng, 1+rng.IntN(40))
		in := planFor(1+rng.IntN(200), Place{}, all)
		c := in.App.Components["c"]
		c.Resources = Resources{CPU: CPU(1 + rng.Int64N(4000)), Memory: Bytes(1 + rng.Int64N(8<<30)), Disk: Bytes(rng.Int64N(8 << 30))}
		if rng.IntN(3) == 0 {
			c.Resources.GPU = GPU{Count: []GPUShare{250, 500, 1000, 2000}[rng.IntN(4)], Model: []string{"", "a100"}[rng.IntN(2)]}
		}
		c.Place.Where = []string{"", "tier=1", "tier!=1", "site!=s001", "site in (s000)"}[rng.IntN(5)]
		in.App.Components["c"] = c
		fits := 0 // by the digests
		for _, o := range eligible(in) {
			fits += o.left
		}
		res := PlanRegions(in, []RegionCandidate{{Digest: FoldDigests("r", all), RTT: -1, Alive: true}})
		n := res.Assign["r"].Len()
		sure += n
		if n > fits {
			t.Fatalf("seed %d: %d slots given to a region where %d fit: %+v", seed, n, fits, c)
		}
		if n < min(fits, in.Slots.Len()) && fits > 0 && len(res.May) == 0 && n == 0 {
			t.Fatalf("seed %d: %d slots fit and the fold says that none does: %+v, %s", seed, fits, c, res.Outcome)
		}
		if n+res.Unplaced.Len() != in.Slots.Len() {
			t.Fatalf("seed %d: %d placed, %d not, of %d", seed, n, res.Unplaced.Len(), in.Slots.Len())
		}
	}
	if sure < 1000 {
		t.Errorf("%d slots in all: these folds have room for nothing, and show nothing", sure)
	}
}

// A peer whose hosts differ is of several kinds, and has no more room for work than
// those of its hosts that may take it.
func TestFoldOfManyHosts(t *testing.T) {
	shape := commonShapes[1]
	comp := func(where string, arch ...string) Component {
		c := plain(shape.CPU, 100)
		c.Resources, c.Place.Where, c.Architecture = shape, where, arch
		return c
	}
	gpu := comp("")
	gpu.Resources.GPU = GPU{Count: 2000, Model: "a100"}
	other := gpu
	other.Resources.GPU.Count = 8000
	few := func(i int, h *Host) {
		h.Labels = map[string]string{"zone": fmt.Sprint("z", i%2)}
		switch i {
		case 0:
			h.Arch = "arm64"
		case 1:
			h.GPUs = []Device{{"g0", "a100", 0}, {"g1", "a100", 0}}
		}
	}
	for name, x := range map[string]struct {
		each func(i int, h *Host)
		c    Component
		fits int
		may  bool
	}{
		"all":                      {few, comp(""), 40, false},
		"a label":                  {few, comp("zone=z1"), 20, false},
		"of one architecture":      {few, comp("", "arm64"), 4, false},
		"no label":                 {few, comp("zone=z2"), 0, false},
		"GPUs":                     {few, gpu, 0, true},
		"too many GPUs":            {few, other, 0, false},
		"a label that is not told": {func(i int, h *Host) { h.Labels = map[string]string{"name": h.ID} }, comp("name=a000"), 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			d := digestOfMany(manyHosts(10, x.each))
			in := planFor(100, Place{}, nil)
			in.App.Components["c"] = x.c
			res := PlanRegions(in, []RegionCandidate{{Digest: FoldDigests("r", []Candidate{{Digest: d, Alive: true}}), RTT: -1, Alive: true}})
			if n := res.Assign["r"].Len(); n != x.fits || (len(res.May) > 0) != x.may {
				t.Errorf("%d slots, want %d; may %v: %s", n, x.fits, res.May, res.Outcome)
			}
		})
	}
}

// However many sites and kinds of them there are, a fold is of bounded size.
func TestFoldIsBounded(t *testing.T) {
	var all []Candidate
	rng := rand.New(rand.NewPCG(1, 4))
	for len(all) < 5000 {
		all = append(all, drawnPeers(rng, 100)...)
	}
	for i := range all {
		all[i].Digest.Labels["own"] = fmt.Sprint(i % 997)
		for n := range 40 {
			all[i].Digest.Labels[fmt.Sprint("long", n)] = fmt.Sprintf("%060d", i%3)
		}
	}
	if n := len(Encode(FoldDigests("r", all))); n > 32<<10 {
		t.Errorf("%d bytes", n)
	}
}

func regionsFor(n int) (out []RegionCandidate) {
	for i := range n {
		out = append(out, RegionCandidate{Digest: FoldDigests(fmt.Sprintf("r%d", i), peersFor(6)), RTT: int64(i) * 1000, Alive: true})
	}
	return out
}

// Plans over regions go by what plans go by: who answers, who refused, labels, the
// score, and what is near.
func TestPlanRegions(t *testing.T) {
	in := planFor(30, Place{}, nil)
	regions := regionsFor(4)
	regions[2].Alive = false
	in.Refused = map[PeerID]string{"r3": "no room"}
	res := PlanRegions(in, regions)
	if !res.Unplaced.IsEmpty() || len(res.Assign) != 2 || res.Assign["r0"].Len()+res.Assign["r1"].Len() != 30 {
		t.Errorf("%v, %s", res.Assign, res.Outcome)
	}
	in = planFor(200, Place{Where: "tier=core"}, nil)
	if res = PlanRegions(in, regionsFor(4)); res.Unplaced.Len() != 200-4*30 {
		t.Errorf("%v of tier core, %s", res.Assign, res.Outcome)
	}
	in = planFor(5, Place{Near: &Near{Site: "x"}}, nil)
	in.Near = map[PeerID]Distance{"r0": {RTT: 90_000}, "r1": {RTT: 500}, "r2": {RTT: 90_000}}
	if res = PlanRegions(in, regionsFor(3)); res.Assign["r1"].Len() < 2 {
		t.Errorf("near r1: %v", res.Assign)
	}
	in = planFor(1, Place{Where: "site=s1"}, nil)
	if res = PlanRegions(in, regionsFor(3)); len(res.Assign) > 0 || !slices.Equal(res.May, []string{"r0", "r1", "r2"}) {
		t.Errorf("folds know no site: %v, may %v", res.Assign, res.May)
	}
	in = planFor(1, Place{}, nil)
	in.Slots = FirstSlots(1)
	c := in.App.Components["c"]
	c.Resources.CPU = 1001
	in.App.Components["c"] = c
	if res = PlanRegions(in, regionsFor(2)); len(res.Assign) > 0 {
		t.Errorf("no site has 1001m: %v", res.Assign)
	}
}

// Relays are the same for all, others for another region, and when one is gone the
// next is there.
func TestRelays(t *testing.T) {
	var ids []PeerID
	for i := range 20 {
		ids = append(ids, PeerID(fmt.Sprintf("p%d", i)))
	}
	first := Relays("eu", ids, 3)
	slices.Reverse(ids)
	if !slices.Equal(Relays("eu", ids, 3), first) || slices.Equal(Relays("us", ids, 3), first) || len(Relays("eu", ids[:2], 3)) != 2 {
		t.Errorf("%v, then %v, of another region %v", first, Relays("eu", ids, 3), Relays("us", ids, 3))
	}
	left := slices.DeleteFunc(slices.Clone(ids), func(id PeerID) bool { return id == first[0] })
	if got := Relays("eu", left, 3); !slices.Equal(got[:2], first[1:]) {
		t.Errorf("without %s: %v, before %v", first[0], got, first)
	}
}
