package placement

import (
	"cmp"
	"math"
	"slices"
)

// rooms is what is free on the hosts of one ledger, and which of them a slot
// goes to. It knows hosts by their ids, and is told what is taken and given
// back: it never decides that by itself.
//
// Hosts that have the same free are of one state (rooms_state.go), which is scored
// once for all of them (rooms_score.go) by what the slots that are asked for could
// do with it (rooms_demand.go). So what a choice costs does not grow with the
// hosts (rooms_choose.go).
//
// A host may have more taken than it has, or be gone, as long as slots hold what
// is there: such a host has no room, and none is lost when it returns.
type rooms struct {
	byID map[string]*room
	all  []*room // by number; nil where a host was forgotten
	gaps []int   // numbers to use again
	sum  Resources

	makes  map[string]int // kinds of host, by what they have; numbered
	reps   []*room        // a host of each, for what may go there
	models []string       // of GPUs, by number
	states map[string]*roomState
	idle   int // of states, those without a host
	grids  [roomKinds]roomGrid

	demand  roomDemand
	scores  roomScores
	last    roomChoice
	tallies []*roomTally
	log     []int // hosts that changed, for tallies
	logFrom int   // how many were before

	// Room to work in, so that a choice allocates next to nothing.
	key   []byte
	parts []roomPart
	runs  []roomRun
}

// room is one host.
type room struct {
	id       string
	number   int
	here     bool // it was put, and not dropped since
	capacity Resources
	taken    Resources
	gpus     []Device
	models   []int               // of gpus
	shares   map[string]GPUShare // taken, by device
	make     int
	counted  Resources  // in the sum
	state    *roomState // nil when it has no room
	at       int        // among the hosts of the state
}

func newRooms() *rooms {
	return &rooms{byID: map[string]*room{}, makes: map[string]int{}, states: map[string]*roomState{}, demand: newRoomDemand(), scores: newRoomScores()}
}

// of is a host's room, made if there is none.
func (r *rooms) of(id string) *room {
	if h := r.byID[id]; h != nil {
		return h
	}
	h := &room{id: id, number: len(r.all), shares: map[string]GPUShare{}}
	if n := len(r.gaps); n > 0 {
		h.number = r.gaps[n-1]
		r.gaps, r.all[h.number] = r.gaps[:n-1], h
	} else {
		r.all = append(r.all, h)
	}
	r.byID[id] = h
	return h
}

// put adds a host, or changes what it has; what is taken stays so.
func (r *rooms) put(id string, capacity Resources, gpus []Device) {
	h := r.of(id)
	h.here, h.capacity, h.gpus, h.models = true, capacity, slices.Clone(gpus), nil
	for _, d := range gpus {
		h.models = append(h.models, r.modelOf(d.Model))
	}
	h.make = r.makeOf(h)
	r.changed(h)
}

// drop says that a host is gone. What is taken of it is remembered until it is
// given back.
func (r *rooms) drop(id string) {
	if h := r.byID[id]; h != nil {
		h.here, h.capacity, h.gpus, h.models = false, Resources{}, nil, nil
		r.changed(h)
		r.forget(h)
	}
}

// forget ends the room of a host that is gone and has nothing taken.
func (r *rooms) forget(h *room) {
	if h.here || h.taken != (Resources{}) || len(h.shares) > 0 {
		return
	}
	delete(r.byID, h.id)
	r.all[h.number] = nil
	r.gaps = append(r.gaps, h.number)
}

// take books what a slot or several need on a host, with the devices that one has.
func (r *rooms) take(id string, need Resources, devices []string) {
	h := r.of(id)
	h.taken = h.taken.Add(need)
	h.charge(need.GPU, devices, 1)
	r.changed(h)
}

// give is the reverse of take.
func (r *rooms) give(id string, need Resources, devices []string) {
	if h := r.byID[id]; h != nil {
		h.taken = h.taken.Sub(need)
		h.charge(need.GPU, devices, -1)
		r.changed(h)
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

// changed enters what is free of a host now.
func (r *rooms) changed(h *room) {
	if r.last.number != h.number {
		r.last.good = false
	}
	free := h.free()
	counted := Resources{}
	if h.here {
		counted = Resources{CPU: max(0, free.CPU), Memory: max(0, free.Memory), Disk: max(0, free.Disk)}
	}
	r.sum = r.sum.Add(counted).Sub(h.counted)
	h.counted = counted
	var next *roomState
	if h.here && free.CPU >= 0 && free.Memory >= 0 && free.Disk >= 0 {
		next = r.stateOf(h)
	}
	r.move(h, next)
	r.logged(h.number)
}

// free is what is left of a host, GPUs left out. It may be negative.
func (h *room) free() Resources { return h.capacity.Sub(h.taken) }

// left is what is left of a device.
func (h *room) left(d Device) GPUShare { return max(0, wholeGPU-h.shares[d.ID]) }

// freeGPUs is what is left of its devices, in its order.
func (h *room) freeGPUs() []FreeGPU {
	out := make([]FreeGPU, 0, len(h.gpus))
	for _, d := range h.gpus {
		out = append(out, FreeGPU{Model: d.Model, Free: h.left(d), id: d.ID})
	}
	return out
}

// fits is how many slots fit on the host.
func (h *room) fits(need Resources) int {
	if h.state == nil {
		return 0
	}
	n := h.state.free.Fits(need)
	if need.GPU.Count > 0 && n > 0 {
		n = min(n, gpuSlots(h.freeGPUs(), need.GPU))
	}
	return n
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

// free is the sum of what is free.
func (r *rooms) free() Resources { return r.sum }

// largest is the largest piece that is free on one host: that with most CPU, of
// such with most memory, and then disk.
func (r *rooms) largest() Resources {
	var most Resources
	for i := range r.grids {
		for s := range r.grids[i].top() {
			if f := s.free; cmp.Or(cmp.Compare(f.CPU, most.CPU), cmp.Compare(f.Memory, most.Memory), cmp.Compare(f.Disk, most.Disk)) > 0 {
				most = f
			}
		}
	}
	return most
}

// Bounds of what is counted by shape, and of the changes that are remembered for
// it: after more, all hosts are counted anew.
const (
	talliesMax    = 32
	tallyLogMax   = 4096
	tallyEachSlot = math.MaxInt32 // what fits of a shape that needs nothing
)

// roomTally is how many slots of a shape fit, kept so from one question to the
// next: only hosts that changed since are looked at.
type roomTally struct {
	need  Resources
	fits  []int // by host
	sum   int
	seen  int // of the log
	asked int
}

// fits is how many slots fit over all hosts.
func (r *rooms) fits(need Resources) int {
	t := r.tally(need)
	now := r.logFrom + len(r.log)
	if t.seen < r.logFrom || t.fits == nil {
		t.sum, t.fits = 0, make([]int, len(r.all))
		for n := range r.all {
			t.recount(r, n)
		}
	} else {
		for _, n := range r.log[t.seen-r.logFrom:] {
			t.recount(r, n)
		}
	}
	t.seen, t.asked = now, now
	return min(t.sum, tallyEachSlot)
}

func (t *roomTally) recount(r *rooms, n int) {
	for n >= len(t.fits) {
		t.fits = append(t.fits, 0)
	}
	t.sum -= t.fits[n]
	t.fits[n] = 0
	if h := r.all[n]; h != nil {
		t.fits[n] = h.fits(t.need)
	}
	t.sum += t.fits[n]
}

// tally is that of a shape; a new one takes the place of the one that was not
// asked for longest.
func (r *rooms) tally(need Resources) *roomTally {
	var oldest *roomTally
	for _, t := range r.tallies {
		if t.need == need {
			return t
		}
		if oldest == nil || t.asked < oldest.asked {
			oldest = t
		}
	}
	if len(r.tallies) < talliesMax {
		oldest = &roomTally{}
		r.tallies = append(r.tallies, oldest)
	}
	*oldest = roomTally{need: need}
	return oldest
}

// logged notes that a host changed.
func (r *rooms) logged(n int) {
	if len(r.tallies) == 0 {
		r.logFrom++
		return
	}
	if len(r.log) == tallyLogMax {
		r.logFrom += len(r.log)
		r.log = r.log[:0]
	}
	r.log = append(r.log, n)
}
