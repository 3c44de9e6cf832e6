package placement

import (
	"cmp"
	"encoding/binary"
	"iter"
	"math"
	"math/bits"
	"slices"
)

// roomState is what is free on each host of it. It never changes: a host of which
// something is taken goes to another state.
type roomState struct {
	free  Resources
	share GPUShare   // the most that is left of one GPU
	whole int        // GPUs of one model, at most
	left  GPUShare   // of all GPUs
	parts []roomPart // of them, those with nothing left too
	make  int
	hosts []int // that are in it: a heap by number

	kind, row, column, at int // in the grid

	// By rooms_score.go.
	seen   int               // of the demand that the following are of
	lost   float64           // of the GPUs
	levels [scoredMax]uint16 // after a slot, by shape
}

// roomPart is one GPU.
type roomPart struct {
	model int
	free  GPUShare
}

// States by their GPUs: none is left, shares, whole ones; of these so many of one
// model, to the next power of two.
const (
	roomsBare = iota
	roomsShares
	roomsWhole
	roomKinds = roomsWhole + 7
)

// wholeKind is the kind of states that have so many whole devices of a model.
func wholeKind(devices int) int {
	return min(roomsWhole+bits.Len(uint(devices))-1, roomKinds-1)
}

// modelOf is the number of a model.
func (r *rooms) modelOf(model string) int {
	n := slices.Index(r.models, model)
	if n < 0 {
		n = len(r.models)
		r.models = append(r.models, model)
		r.demand.stale = true
	}
	return n
}

// makeOf is the number of a kind of host. Which slots may go to a kind is asked of
// one host of it.
func (r *rooms) makeOf(h *room) int {
	key := amounts(nil, h.capacity)
	for _, m := range slices.Sorted(slices.Values(h.models)) {
		key = binary.AppendUvarint(key, uint64(m))
	}
	n, ok := r.makes[string(key)]
	if !ok {
		n = len(r.reps)
		r.makes[string(key)] = n
		r.reps = append(r.reps, h)
		r.demand.stale = true
	}
	if !r.reps[n].here || r.reps[n].make != n {
		r.reps[n] = h
	}
	return n
}

func amounts(key []byte, r Resources) []byte {
	key = binary.AppendVarint(key, int64(r.CPU))
	key = binary.AppendVarint(key, int64(r.Memory))
	return binary.AppendVarint(key, int64(r.Disk))
}

// stateOf is the state that a host is in by what it has free.
func (r *rooms) stateOf(h *room) *roomState {
	parts := r.parts[:0]
	for i, d := range h.gpus {
		parts = append(parts, roomPart{h.models[i], h.left(d)})
	}
	r.parts = parts
	return r.state(h.free(), parts, h.make)
}

// state is the one with so much free. Its devices are told apart by model and by
// what is left alone.
func (r *rooms) state(free Resources, parts []roomPart, of int) *roomState {
	slices.SortFunc(parts, func(a, b roomPart) int {
		return cmp.Or(a.model-b.model, int(b.free-a.free))
	})
	key := amounts(binary.AppendUvarint(r.key[:0], uint64(of)), free)
	for _, p := range parts {
		key = binary.AppendUvarint(key, uint64(p.model)*(wholeGPU+1)+uint64(p.free))
	}
	r.key = key
	if s := r.states[string(key)]; s != nil {
		return s
	}
	r.sweep()
	s := &roomState{free: free, parts: slices.Clone(parts), make: of, seen: -1, row: cpuClass(free.CPU), column: memoryClass(free.Memory), kind: roomsBare}
	whole := 0 // of the model
	for i, p := range parts {
		s.left += p.free
		s.share = max(s.share, p.free)
		if i > 0 && p.model != parts[i-1].model {
			whole = 0
		}
		if p.free == wholeGPU {
			whole++
		}
		s.whole = max(s.whole, whole)
	}
	switch {
	case s.whole > 0:
		s.kind = wholeKind(s.whole)
	case s.left > 0:
		s.kind = roomsShares
	}
	r.states[string(key)] = s
	r.idle++
	return s
}

// idleStates is how many states without a host are kept for when there is one
// again, beside one for each host.
const idleStates = 1024

func (r *rooms) sweep() {
	if r.idle <= idleStates+len(r.byID) {
		return
	}
	for key, s := range r.states { // in any order: nothing follows from it
		if len(s.hosts) == 0 {
			delete(r.states, key)
		}
	}
	r.idle = 0
}

// fits says whether a slot fits.
func (r *rooms) stateFits(s *roomState, need Resources) bool {
	if need.CPU > s.free.CPU || need.Memory > s.free.Memory || need.Disk > s.free.Disk {
		return false
	}
	switch {
	case need.GPU.Count <= 0:
		return true
	case need.GPU.Count < wholeGPU && need.GPU.Count > s.share || need.GPU.Count >= wholeGPU && int(need.GPU.Count/wholeGPU) > s.whole:
		return false
	}
	return need.GPU.Model == "" || r.firstPart(s.parts, need.GPU) >= 0
}

// firstPart is the first of the devices that a slot would have, or -1: of a share
// the one that it fills best, of whole ones the first of a model that has enough,
// as takeGPU has it.
func (r *rooms) firstPart(parts []roomPart, need GPU) int {
	if need.Count < wholeGPU {
		best := -1
		for i, p := range parts {
			if p.free >= need.Count && (best < 0 || p.free < parts[best].free) && r.modelFits(need, p.model) {
				best = i
			}
		}
		return best
	}
	want := int(need.Count / wholeGPU)
	for from := 0; from < len(parts); {
		to := from
		for to < len(parts) && parts[to] == parts[from] {
			to++
		}
		if parts[from].free == wholeGPU && to-from >= want && r.modelFits(need, parts[from].model) {
			return from
		}
		from = to
	}
	return -1
}

func (r *rooms) modelFits(need GPU, model int) bool {
	return need.Model == "" || need.fits(r.models[model])
}

// takeParts takes a slot off devices.
func (r *rooms) takeParts(parts []roomPart, need GPU) {
	at := r.firstPart(parts, need)
	switch {
	case at < 0:
	case need.Count < wholeGPU:
		parts[at].free -= need.Count
	default:
		for i := range int(need.Count / wholeGPU) {
			parts[at+i].free = 0
		}
	}
}

// move brings a host to a state, or to none.
func (r *rooms) move(h *room, to *roomState) {
	from := h.state
	if from == to {
		return
	}
	if from != nil {
		r.pull(from, h)
		if len(from.hosts) == 0 {
			r.idle++
			r.grids[from.kind].remove(from)
		}
	}
	if h.state = to; to != nil {
		if len(to.hosts) == 0 {
			r.idle--
			r.grids[to.kind].add(to)
		}
		to.hosts = append(to.hosts, h.number)
		h.at = len(to.hosts) - 1
		r.up(to.hosts, h.at)
	}
}

// pull takes a host out of the heap of its state.
func (r *rooms) pull(s *roomState, h *room) {
	at, last := h.at, len(s.hosts)-1
	r.swap(s.hosts, at, last)
	s.hosts = s.hosts[:last]
	if at < last {
		r.down(s.hosts, at)
		r.up(s.hosts, at)
	}
}

func (r *rooms) swap(hosts []int, a, b int) {
	hosts[a], hosts[b] = hosts[b], hosts[a]
	r.all[hosts[a]].at, r.all[hosts[b]].at = a, b
}

func (r *rooms) up(hosts []int, at int) {
	for at > 0 && hosts[at] < hosts[(at-1)/2] {
		r.swap(hosts, at, (at-1)/2)
		at = (at - 1) / 2
	}
}

func (r *rooms) down(hosts []int, at int) {
	for {
		least := at
		for child := 2*at + 1; child <= 2*at+2 && child < len(hosts); child++ {
			if hosts[child] < hosts[least] {
				least = child
			}
		}
		if least == at {
			return
		}
		r.swap(hosts, at, least)
		at = least
	}
}

// roomClasses is how many classes of free CPU, and of free memory, a grid has: each
// a fourth of a doubling wide.
const roomClasses = 64

// roomGrid is states that have hosts, by the classes of their free CPU and memory.
type roomGrid struct {
	columns [roomClasses]uint64 // of each row, those with states
	cells   [roomClasses][roomClasses][]*roomState
}

// The first class is of what is below so much.
const (
	cpuLeast    = 16
	memoryLeast = 16 << 20
)

func cpuClass(c CPU) int      { return roomClass(float64(c) / cpuLeast) }
func memoryClass(b Bytes) int { return roomClass(float64(b) / memoryLeast) }

func roomClass(times float64) int {
	if times < 1 {
		return 0
	}
	fraction, doublings := math.Frexp(times) // times = fraction × 2^doublings, 1/2 ≤ fraction < 1
	fourth := 0
	for fourth < 3 && fraction >= roomFourths[fourth] {
		fourth++
	}
	return min(4*(doublings-1)+fourth, roomClasses-1)
}

// roomFourths is where the fourths of a doubling from 1/2 to 1 end.
var roomFourths = [...]float64{0.5946035575013605, 0.7071067811865476, 0.8408964152537145}

func (g *roomGrid) add(s *roomState) {
	cell := &g.cells[s.row][s.column]
	s.at = len(*cell)
	*cell = append(*cell, s)
	g.columns[s.row] |= 1 << s.column
}

func (g *roomGrid) remove(s *roomState) {
	cell := &g.cells[s.row][s.column]
	last := len(*cell) - 1
	(*cell)[s.at] = (*cell)[last]
	(*cell)[s.at].at = s.at
	(*cell)[last] = nil
	if *cell = (*cell)[:last]; last == 0 {
		g.columns[s.row] &^= 1 << s.column
	}
}

// cellsFor is the cells in which a slot may fit, those with least free first.
func (g *roomGrid) cellsFor(need Resources) iter.Seq[[]*roomState] {
	return func(yield func([]*roomState) bool) {
		column := memoryClass(need.Memory)
		for row := cpuClass(need.CPU); row < roomClasses; row++ {
			for have := g.columns[row] >> column << column; have != 0; have &= have - 1 {
				if !yield(g.cells[row][bits.TrailingZeros64(have)]) {
					return
				}
			}
		}
	}
}

// top is the states among which is the one with most CPU.
func (g *roomGrid) top() iter.Seq[*roomState] {
	return func(yield func(*roomState) bool) {
		for row := roomClasses - 1; row >= 0; row-- {
			if g.columns[row] == 0 {
				continue
			}
			for _, cell := range g.cells[row] {
				for _, s := range cell {
					if !yield(s) {
						return
					}
				}
			}
			return
		}
	}
}
