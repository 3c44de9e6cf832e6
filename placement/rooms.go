package placement

import (
	"cmp"
	"slices"
)

// rooms is what is free on the hosts of one ledger, and which of them a slot
// goes to. It knows hosts by their ids, and is told what is taken and given
// back: it never decides that by itself.
//
// A host may have more taken than it has, or be gone, as long as slots hold what
// is there: such a host has no room, and none is lost when it returns.
type rooms struct {
	byID map[string]*room
	all  []*room // in order of their ids
}

// room is one host.
type room struct {
	id       string
	here     bool // it was put, and not dropped since
	capacity Resources
	taken    Resources
	gpus     []Device
	shares   map[string]GPUShare // taken, by device
}

func newRooms() *rooms { return &rooms{byID: map[string]*room{}} }

// of is a host's room, made if there is none.
func (r *rooms) of(id string) *room {
	if h := r.byID[id]; h != nil {
		return h
	}
	h := &room{id: id, shares: map[string]GPUShare{}}
	r.byID[id] = h
	at, _ := slices.BinarySearchFunc(r.all, id, func(h *room, id string) int { return cmp.Compare(h.id, id) })
	r.all = slices.Insert(r.all, at, h)
	return h
}

// put adds a host, or changes what it has; what is taken stays so.
func (r *rooms) put(id string, capacity Resources, gpus []Device) {
	h := r.of(id)
	h.here, h.capacity, h.gpus = true, capacity, slices.Clone(gpus)
}

// drop says that a host is gone. What is taken of it is remembered until it is
// given back.
func (r *rooms) drop(id string) {
	if h := r.byID[id]; h != nil {
		h.here, h.capacity, h.gpus = false, Resources{}, nil
		r.forget(h)
	}
}

// forget ends the room of a host that is gone and has nothing taken.
func (r *rooms) forget(h *room) {
	if h.here || h.taken != (Resources{}) || len(h.shares) > 0 {
		return
	}
	delete(r.byID, h.id)
	at, _ := slices.BinarySearchFunc(r.all, h.id, func(h *room, id string) int { return cmp.Compare(h.id, id) })
	r.all = slices.Delete(r.all, at, at+1)
}

// take books one slot on a host, with the devices that it has.
func (r *rooms) take(id string, need Resources, devices []string) {
	h := r.of(id)
	h.taken = h.taken.Add(need)
	h.charge(need.GPU, devices, 1)
}

// give is the reverse of take.
func (r *rooms) give(id string, need Resources, devices []string) {
	if h := r.byID[id]; h != nil {
		h.taken = h.taken.Sub(need)
		h.charge(need.GPU, devices, -1)
		r.forget(h)
	}
}

func (h *room) charge(need GPU, devices []string, sign GPUShare) {
	for _, id := range devices {
		if h.shares[id] += sign * min(need.Count, wholeGPU); h.shares[id] == 0 {
			delete(h.shares, id)
		}
	}
}

// free is what is left of a host, GPUs left out. It may be negative.
func (h *room) free() Resources { return h.capacity.Sub(h.taken) }

// freeGPUs is what is left of its devices, in its order.
func (h *room) freeGPUs() []FreeGPU {
	out := make([]FreeGPU, 0, len(h.gpus))
	for _, d := range h.gpus {
		out = append(out, FreeGPU{Model: d.Model, Free: wholeGPU - h.shares[d.ID], id: d.ID})
	}
	return out
}

// fits is how many slots fit on the host.
func (h *room) fits(need Resources) int {
	if !h.here {
		return 0
	}
	n := h.free().Fits(need)
	if need.GPU.Count > 0 && n > 0 {
		n = min(n, gpuSlots(h.freeGPUs(), need.GPU))
	}
	return n
}

// choose says which of the hosts that are allowed one slot goes to, and which
// devices of it.
func (r *rooms) choose(need Resources, allowed func(id string) bool) (id string, devices []string, ok bool) {
	var best *room
	var least float64
	for _, h := range r.all {
		if h.fits(need) == 0 || allowed != nil && !allowed(h.id) {
			continue
		}
		if left := h.left(need); best == nil || left < least {
			best, least = h, left
		}
	}
	if best == nil {
		return "", nil, false
	}
	return best.id, best.devices(need.GPU), true
}

// devices is which ones a slot would have; none where it needs none.
func (h *room) devices(need GPU) []string {
	if need.Count <= 0 {
		return nil
	}
	free := h.freeGPUs()
	var out []string
	for _, i := range takeGPU(free, need) {
		out = append(out, free[i].id)
	}
	return out
}

// left is the sum of the shares of each resource that a slot would leave.
func (h *room) left(need Resources) float64 {
	free := h.free().Sub(need)
	sum := float64(free.CPU)/float64(max(1, h.capacity.CPU)) + float64(free.Memory)/float64(max(1, h.capacity.Memory))
	for _, g := range h.freeGPUs() {
		sum += float64(g.Free) / wholeGPU
	}
	return sum
}

// fits is how many slots fit over all hosts.
func (r *rooms) fits(need Resources) int {
	n := 0
	for _, h := range r.all {
		n += h.fits(need)
	}
	return n
}

// largest is the largest piece that is free on one host: that with most CPU, of
// such with most memory.
func (r *rooms) largest() Resources {
	var most Resources
	for _, h := range r.all {
		if f := h.free(); h.here && cmp.Or(cmp.Compare(f.CPU, most.CPU), cmp.Compare(f.Memory, most.Memory), cmp.Compare(f.Disk, most.Disk)) > 0 {
			most = f
		}
	}
	return most
}

// free is the sum of what is free.
func (r *rooms) free() Resources {
	var sum Resources
	for _, h := range r.all {
		if f := h.free(); h.here {
			sum = sum.Add(Resources{CPU: max(0, f.CPU), Memory: max(0, f.Memory), Disk: max(0, f.Disk)})
		}
	}
	return sum
}
