package placement

// Bounds of what is looked at of each grid for one slot: states with room, those
// with least free first, and states without.
const (
	roomsLooked  = 48
	roomsWithout = 256
)

// roomChoice is what was chosen last, and the best beside it. As long as nothing
// changes but that host, as when it is given the slot, the next slot of the shape
// goes there if it is still the best, and nothing is looked through.
type roomChoice struct {
	need   Resources
	number int
	good   bool
	seen   int
	second roomOption
}

// roomOption is a host, by number, and how good it is.
type roomOption struct{ level, number int }

// none is worse than any.
var noRoom = roomOption{level: -1}

func (o roomOption) better(than roomOption) bool {
	return o.level > than.level || o.level == than.level && o.number < than.number
}

// choose says which of the hosts that are allowed one slot goes to, and which
// devices of it.
func (r *rooms) choose(need Resources, allowed func(id string) bool) (id string, devices []string, ok bool) {
	r.refresh()
	n := r.again(need, allowed)
	if n < 0 {
		n = r.search(need, allowed)
	}
	if n < 0 {
		return "", nil, false
	}
	h := r.all[n]
	return h.id, h.devices(need.GPU), true
}

// again is the host that was chosen last, if it is the best again, or -1.
func (r *rooms) again(need Resources, allowed func(id string) bool) int {
	last := &r.last
	if !last.good || last.need != need || last.seen != r.demand.changed {
		return -1
	}
	h := r.all[last.number]
	if h == nil || h.state == nil || !r.stateFits(h.state, need) || allowed != nil && !allowed(h.id) {
		return -1
	}
	now := roomOption{r.level(h.state, need, r.place(need)), h.number}
	if last.second.better(now) {
		return -1
	}
	return h.number
}

// search looks for the best host, or says -1. A slot without GPUs goes to a host
// without any that are free, if it can.
func (r *rooms) search(need Resources, allowed func(id string) bool) int {
	from, to := [2]int{roomsBare, roomsShares}, [2]int{roomsShares, roomKinds}
	switch {
	case need.GPU.Count >= wholeGPU:
		from[0], to[0], to[1] = wholeKind(int(need.GPU.Count/wholeGPU)), roomKinds, 0
	case need.GPU.Count > 0:
		from[0], to[0], to[1] = roomsShares, roomKinds, 0
	}
	for _, bounded := range []bool{true, false} {
		for i := range from {
			if best, second, ok := r.best(need, from[i], to[i], bounded, allowed); ok {
				r.last = roomChoice{need: need, number: best.number, good: true, seen: r.demand.changed, second: second}
				return best.number
			}
		}
	}
	r.last.good = false
	return -1
}

// best looks through the grids of some kinds. Bounded, it may miss a state where
// many lack room.
func (r *rooms) best(need Resources, from, to int, bounded bool, allowed func(id string) bool) (best, second roomOption, ok bool) {
	best, second = noRoom, noRoom
	place := r.place(need)
	for kind := from; kind < to; kind++ {
		found, without := 0, 0
		for cell := range r.grids[kind].cellsFor(need) {
			for _, s := range cell {
				if !r.stateFits(s, need) {
					if without++; bounded && without >= roomsWithout {
						break
					}
					continue
				}
				found++
				o := roomOption{r.level(s, need, place), s.hosts[0]}
				if o.better(best) && allowed != nil {
					o = r.firstAllowed(s, o, allowed)
				}
				best, second = o.among(s, best, second)
			}
			if best.level >= 0 && found >= roomsLooked {
				break
			}
		}
	}
	return best, second, best.level >= 0
}

// among is the two best when an option is added, of a state that may have another
// host as good.
func (o roomOption) among(s *roomState, best, second roomOption) (roomOption, roomOption) {
	if !o.better(best) {
		if o.better(second) {
			second = o
		}
		return best, second
	}
	second = best
	for _, n := range s.hosts[1:min(3, len(s.hosts))] {
		if next := (roomOption{o.level, n}); next.better(second) && n != o.number {
			second = next
		}
	}
	return o, second
}

// firstAllowed is the option of the first host of a state that is allowed.
func (r *rooms) firstAllowed(s *roomState, o roomOption, allowed func(id string) bool) roomOption {
	if allowed(r.all[o.number].id) {
		return o
	}
	first := noRoom
	for _, n := range s.hosts[1:] {
		if next := (roomOption{o.level, n}); next.better(first) && allowed(r.all[n].id) {
			first = next
		}
	}
	return first
}
