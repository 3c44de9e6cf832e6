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
