package placement

// roomsLooked is how many states with room are compared for one slot, those with
// least free first, and beside them how many of a cell without.
const roomsLooked = 256

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
	kinds := [...][]int{{roomsBare}, {roomsShares, roomsWhole}}
	switch {
	case need.GPU.Count >= wholeGPU:
		kinds = [...][]int{{roomsWhole}, nil}
	case need.GPU.Count > 0:
		kinds = [...][]int{{roomsShares, roomsWhole}, nil}
	}
	for _, bounded := range []bool{true, false} {
		for _, among := range kinds {
			if best, second, ok := r.best(need, among, bounded, allowed); ok {
				r.last = roomChoice{need: need, number: best.number, good: true, seen: r.demand.changed, second: second}
				return best.number
			}
		}
	}
	r.last.good = false
	return -1
}

// best looks through grids. Bounded, it compares so many states only, and may miss
// one where many lack room.
func (r *rooms) best(need Resources, among []int, bounded bool, allowed func(id string) bool) (best, second roomOption, ok bool) {
	best, second = noRoom, noRoom
	place, found := r.place(need), 0
	for _, kind := range among {
		for cell := range r.grids[kind].cellsFor(need) {
			without := 0
			for _, s := range cell {
				if !r.stateFits(s, need) {
					if without++; bounded && without == roomsLooked {
						break
					}
					continue
				}
				found++
				o := roomOption{r.level(s, need, place), s.hosts[0]}
				if o.better(best) && allowed != nil {
					o = r.firstAllowed(s, o, allowed)
				}
				if o.better(best) {
					best, second = o, best
					for _, next := range s.hosts[1:min(3, len(s.hosts))] {
						if b := (roomOption{o.level, next}); b.better(second) {
							second = b
						}
					}
				} else if o.better(second) {
					second = o
				}
			}
			if best.level >= 0 && found >= roomsLooked {
				return best, second, true
			}
		}
	}
	return best, second, best.level >= 0
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
