package placement

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// plainRoom is a host as the reference has it: what is left is counted from what
// is taken each time.
type plainRoom struct {
	here     bool
	capacity Resources
	gpus     []Device
	taken    []taken
}

func (h *plainRoom) left() (Resources, []FreeGPU) {
	free, gpus := h.capacity, []FreeGPU(nil)
	for _, d := range h.gpus {
		gpus = append(gpus, FreeGPU{Model: d.Model, Free: wholeGPU, id: d.ID})
	}
	for _, t := range h.taken {
		free = free.Sub(t.need)
		for i := range gpus {
			if slices.Contains(t.devices, gpus[i].id) {
				gpus[i].Free -= min(t.need.GPU.Count, wholeGPU)
			}
		}
	}
	return free, gpus
}

func (h *plainRoom) fits(need Resources) int {
	free, gpus := h.left()
	if !h.here || free.CPU < 0 || free.Memory < 0 || free.Disk < 0 {
		return 0
	}
	n := free.Fits(need)
	if need.GPU.Count > 0 && n > 0 {
		for i := range gpus {
			gpus[i].Free = max(0, gpus[i].Free)
		}
		n = min(n, gpuSlots(gpus, need.GPU))
	}
	return n
}

// What is chosen fits, something is chosen whenever something fits, and what is
// counted is what a look at every host counts, whatever was taken, given, put and
// dropped before.
func TestRoomsAreAsALookAtEveryHost(t *testing.T) {
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 1))
		r, plain := newRooms(), map[string]*plainRoom{}
		needs := append(mixedNeeds(rng, 12), Resources{CPU: 1000, Disk: 1 << 30}, Resources{}, Resources{CPU: 500, GPU: GPU{Count: 300, Model: "b"}}, Resources{GPU: GPU{Count: 2000, Model: "a"}})
		for step := range 400 {
			if !roomsStep(t, rng, r, plain, needs) {
				t.Fatalf("seed %d, step %d", seed, step)
			}
		}
		for id := range plain {
			for _, x := range plain[id].taken {
				r.give(id, x.need, x.devices)
			}
			r.drop(id)
		}
		if len(r.byID) != 0 || r.free() != (Resources{}) || r.largest() != (Resources{}) {
			t.Fatalf("seed %d: all was given back, and %d hosts are left with %+v", seed, len(r.byID), r.free())
		}
	}
}

func roomsStep(t *testing.T, rng *rand.Rand, r *rooms, plain map[string]*plainRoom, needs []Resources) bool {
	id := fmt.Sprintf("h%d", rng.IntN(20))
	need := needs[rng.IntN(len(needs))]
	h := plain[id]
	switch rng.IntN(8) {
	case 0:
		if h == nil {
			h = &plainRoom{}
			plain[id] = h
		}
		h.here, h.capacity = true, Resources{CPU: CPU(1+rng.IntN(4)) * 8000, Memory: Bytes(1+rng.IntN(4)) << 34, Disk: 4 << 30}
		h.gpus = gpusOf([]string{"a", "b"}[rng.IntN(2)], rng.IntN(5))
		for i := range h.gpus {
			if rng.IntN(4) == 0 {
				h.gpus[i].Model = "b c"
			}
		}
		r.put(id, h.capacity, h.gpus)
	case 1:
		if h != nil && rng.IntN(4) == 0 {
			h.here, h.capacity, h.gpus = false, Resources{}, nil
			r.drop(id)
		}
	case 2, 3:
		if h != nil && len(h.taken) > 0 {
			n := rng.IntN(len(h.taken))
			r.give(id, h.taken[n].need, h.taken[n].devices)
			h.taken = slices.Delete(h.taken, n, n+1)
		}
	default:
		return roomsChoose(t, rng, r, plain, need)
	}
	return roomsCount(t, r, plain, need)
}

// roomsChoose chooses among half of the hosts or all, and takes what was chosen.
func roomsChoose(t *testing.T, rng *rand.Rand, r *rooms, plain map[string]*plainRoom, need Resources) bool {
	var allowed func(string) bool
	where := ""
	if odd := fmt.Sprint(rng.IntN(2)); rng.IntN(2) == 0 {
		where = odd
		allowed = func(id string) bool { return (id[len(id)-1]-'0')%2 == odd[0]-'0' }
	}
	any := false
	for id, h := range plain {
		any = any || h.fits(need) > 0 && (allowed == nil || allowed(id))
	}
	r.asked(need, 1+rng.IntN(3), where, allowed)
	id, devices, ok := r.choose(need, allowed)
	if ok != any {
		t.Errorf("%+v: chosen %v, and that something fits is %v", need, ok, any)
		return false
	}
	if !ok {
		return true
	}
	_, gpus := plain[id].left()
	want := max(0, need.GPU.Count)
	if want >= wholeGPU {
		want /= wholeGPU
	} else if want > 0 {
		want = 1
	}
	if plain[id].fits(need) == 0 || allowed != nil && !allowed(id) || len(devices) != int(want) {
		t.Errorf("%+v: %s was chosen with %v, which has %+v", need, id, devices, gpus)
		return false
	}
	for _, d := range devices {
		n := slices.IndexFunc(gpus, func(g FreeGPU) bool { return g.id == d })
		if gpus[n].Free < min(need.GPU.Count, wholeGPU) || !need.GPU.fits(gpus[n].Model) {
			t.Errorf("%+v: device %s of %s has %+v", need, d, id, gpus[n])
			return false
		}
	}
	if rng.IntN(5) > 0 {
		r.take(id, need, devices)
		plain[id].taken = append(plain[id].taken, taken{id, need, devices})
	}
	return true
}

func roomsCount(t *testing.T, r *rooms, plain map[string]*plainRoom, need Resources) bool {
	n, sum, most := 0, Resources{}, CPU(0)
	for _, id := range slices.Sorted(maps.Keys(plain)) {
		h := plain[id]
		n += h.fits(need)
		if free, _ := h.left(); h.here {
			sum = sum.Add(Resources{CPU: max(0, free.CPU), Memory: max(0, free.Memory), Disk: max(0, free.Disk)})
			if free.CPU >= 0 && free.Memory >= 0 && free.Disk >= 0 {
				most = max(most, free.CPU)
			}
		}
	}
	n = min(n, math.MaxInt32) // of a shape that needs nothing
	if got := r.fits(need); got != n || r.free() != sum || r.largest().CPU != most {
		t.Errorf("%d fit of %+v, want %d; %+v is free, want %+v; the largest is %+v, want %s CPU", got, need, n, r.free(), sum, r.largest(), most)
		return false
	}
	return true
}
