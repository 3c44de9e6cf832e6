package placement

import (
	"fmt"
	"testing"
)

func gpusOf(model string, n int) []Device {
	var out []Device
	for i := range n {
		out = append(out, Device{ID: fmt.Sprintf("g%d", i), Model: model})
	}
	return out
}

func TestRoomsKeepWhatIsTaken(t *testing.T) {
	r := newRooms()
	slot := Resources{CPU: 1000, Memory: 1 << 30, GPU: GPU{Count: 500}}
	r.take("a", slot, []string{"g0"}) // before the host is known
	if _, _, ok := r.choose(slot, nil); ok || r.fits(slot) != 0 {
		t.Fatal("a host that is not known has room")
	}
	r.put("a", Resources{CPU: 4000, Memory: 4 << 30}, gpusOf("A", 1))
	if id, devices, ok := r.choose(slot, nil); !ok || id != "a" || fmt.Sprint(devices) != "[g0]" {
		t.Fatal(id, devices, ok)
	}
	if n := r.fits(slot); n != 1 { // of one device half is left
		t.Errorf("%d fit", n)
	}
	r.drop("a")
	if n := r.fits(slot); n != 0 || r.free() != (Resources{}) || r.largest() != (Resources{}) {
		t.Errorf("gone, and %d fit", n)
	}
	r.put("a", Resources{CPU: 4000, Memory: 4 << 30}, gpusOf("A", 1))
	if f := r.free(); f.CPU != 3000 || r.largest() != f {
		t.Errorf("%+v is free", f)
	}
	r.give("a", slot, []string{"g0"})
	if n := r.fits(slot); n != 2 {
		t.Errorf("%d fit", n)
	}
	r.drop("a")
	if len(r.byID) != 0 || r.all[0] != nil {
		t.Error("a host that is gone and has nothing taken is remembered")
	}
}

func TestRoomsAreChosenAmongTheAllowed(t *testing.T) {
	r := newRooms()
	for _, id := range []string{"b", "a", "c"} {
		r.put(id, Resources{CPU: 4000, Memory: 4 << 30}, nil)
	}
	slot := Resources{CPU: 3000}
	if id, _, ok := r.choose(slot, func(id string) bool { return id == "c" }); !ok || id != "c" {
		t.Error(id, ok)
	}
	r.take("c", slot, nil)
	if _, _, ok := r.choose(slot, func(id string) bool { return id == "c" }); ok {
		t.Error("c has no room")
	}
	if n := r.fits(slot); n != 2 {
		t.Errorf("%d fit", n)
	}
	if l := r.largest(); l.CPU != 4000 {
		t.Errorf("largest %+v", l)
	}
}

// A host is chosen by what is asked for, and not by what is free alone.
func TestRoomsLoseFewGPUs(t *testing.T) {
	share, whole := Resources{CPU: 2000, GPU: GPU{Count: 500}}, Resources{CPU: 8000, GPU: GPU{Count: 1000}}
	for _, c := range []struct {
		name  string
		hosts map[string]CPU // with four GPUs each, but for those that begin with "bare"
		taken map[string]GPUShare
		asked []Resources
		need  Resources
		want  string
	}{
		{"a share goes to the device that is broken", map[string]CPU{"a": 64_000, "b": 64_000}, map[string]GPUShare{"b": 500}, []Resources{share, whole}, share, "b"},
		{"where whole ones are asked for a share goes where they are useless", map[string]CPU{"a": 64_000, "b": 7000}, nil, []Resources{whole}, share, "b"},
		{"cores are left to those who need them beside GPUs", map[string]CPU{"a": 32_000, "b": 96_000}, nil, []Resources{whole}, Resources{CPU: 16_000}, "b"},
		{"a slot without GPUs goes to a host without", map[string]CPU{"a": 96_000, "bare": 16_000}, nil, []Resources{whole}, Resources{CPU: 1000}, "bare"},
		{"with nothing asked for the first goes", map[string]CPU{"a": 64_000, "b": 7000}, nil, nil, share, "a"},
	} {
		r := newRooms()
		for _, id := range []string{"a", "b", "bare"} {
			var gpus []Device
			if id != "bare" {
				gpus = gpusOf("A", 4)
			}
			if cpu, ok := c.hosts[id]; ok {
				r.put(id, Resources{CPU: cpu}, gpus)
			}
			if n := c.taken[id]; n > 0 {
				r.take(id, Resources{GPU: GPU{Count: n}}, []string{"g0"})
			}
		}
		for _, need := range c.asked {
			r.asked(need, 10, "", nil)
		}
		if id, _, ok := r.choose(c.need, nil); !ok || id != c.want {
			t.Errorf("%s: %s was chosen, want %s", c.name, id, c.want)
		}
	}
}

// What may go to some hosts only is worth nothing on the others.
func TestRoomsKnowWhereShapesMayGo(t *testing.T) {
	r := newRooms()
	r.put("a", Resources{CPU: 64_000}, gpusOf("A", 1))
	r.put("b", Resources{CPU: 64_000}, gpusOf("B", 1))
	whole, share := Resources{CPU: 1000, GPU: GPU{Count: 1000}}, Resources{CPU: 1000, GPU: GPU{Count: 500}}
	r.asked(whole, 30, "gpu=A", func(id string) bool { return id == "a" })
	r.asked(share, 10, "", nil)
	if id, _, _ := r.choose(share, nil); id != "b" {
		t.Errorf("a share went to %s, which another shape needs whole", id)
	}
}

// Demand is bounded, follows what is asked for now, and forgets.
func TestRoomsForgetOldDemand(t *testing.T) {
	r := newRooms()
	r.put("a", Resources{CPU: 64_000}, gpusOf("A", 8))
	for i := range 3 * demandShapesMax {
		r.asked(Resources{CPU: CPU(1 + i), GPU: GPU{Count: 1000}}, 1, "", nil)
	}
	if n := len(r.demand.shapes); n != demandShapesMax || len(r.demand.at) != n {
		t.Fatalf("%d shapes, %d by key", n, len(r.demand.at))
	}
	now := Resources{CPU: 5, GPU: GPU{Count: 2000}}
	for range 40 * demandHalf {
		r.asked(now, 1, "", nil)
	}
	r.refresh()
	if top := r.demand.typical[0]; top.need != now || top.weight < 0.95 {
		t.Errorf("%+v", top)
	}
	if d := &r.demand; d.scale > demandScaleMax || d.changed > 200 {
		t.Errorf("scale %v, changed %d times", d.scale, d.changed)
	}
}
