package placement

import "math"

// The score of a state for a slot is by how much more of its GPUs are lost after
// the slot than before, seen from what is asked for: the gradient of fragmentation
// (Weng et al., "Beware of Fragmentation", USENIX ATC 2023), with two measures of
// what is lost, and shapes weighted by their share of the slots over the root of
// the GPUs that each needs. docs/PLACEMENT.md says why, and what it gives.

// roomSteps is in how many levels scores are told apart. States of one level are
// near-equal, and the first host of any goes: hosts fill up one after the other.
const roomSteps = 30

// roomRun is devices of one model that have the same left.
type roomRun struct {
	model int
	free  uint32
	n     int
}

// lost is what of the free GPUs of a state the typical shapes can't use.
func (r *rooms) lost(free Resources, parts []roomPart, left GPUShare, of int) float64 {
	if left == 0 {
		return 0
	}
	runs := r.runs[:0]
	for i, p := range parts {
		switch {
		case p.free == 0:
		case i > 0 && len(runs) > 0 && p == parts[i-1]:
			runs[len(runs)-1].n++
		default:
			runs = append(runs, roomRun{p.model, uint32(p.free), 1})
		}
	}
	r.runs = runs
	sum := 0.0
	for i := range r.demand.typical {
		t := &r.demand.typical[i]
		sum += t.weight * float64(t.lost(free, runs, left, of))
	}
	return sum / wholeGPU
}

// lost is what one shape can't use: what its next slot can have nothing of, and
// what would lie idle if nothing but the shape came until the host is full.
func (t *roomTypical) lost(free Resources, runs []roomRun, left GPUShare, of int) GPUShare {
	if of < len(t.may) && !t.may[of] || t.need.CPU > free.CPU || t.need.Memory > free.Memory || t.need.Disk > free.Disk {
		return 2 * left
	}
	least := uint32(min(t.need.GPU.Count, wholeGPU))
	devices := max(1, int(t.need.GPU.Count/wholeGPU))
	var unfit GPUShare
	room, whole, model := 0, 0, -1
	for _, run := range runs {
		if run.model != model {
			room, whole, model = room+whole/devices, 0, run.model
		}
		if run.free < least || !t.models[run.model] {
			unfit += GPUShare(run.free) * GPUShare(run.n)
		} else {
			whole += int(run.free/least) * run.n
		}
	}
	if devices > 1 {
		whole /= devices
	}
	if room += whole; room == 0 {
		return 2 * left
	}
	for room > 1 && !free.hold(t.need, room) {
		room--
	}
	return unfit + left - GPUShare(room)*t.need.GPU.Count
}

// hold says whether so many slots fit.
func (r Resources) hold(need Resources, n int) bool {
	return need.CPU*CPU(n) <= r.CPU && need.Memory*Bytes(n) <= r.Memory && need.Disk*Bytes(n) <= r.Disk
}

// Levels are kept with a state for so many shapes.
const (
	scoredMax   = 64
	scoredLives = 1 << 10 // of a place, before all are forgotten
)

// roomScores is which shapes levels are kept for.
type roomScores struct {
	at     map[Resources]int
	shapes [scoredMax]struct {
		need Resources
		life uint16
		used int
	}
	clock int
	lives int // how often all were forgotten
}

func newRoomScores() roomScores { return roomScores{at: map[Resources]int{}} }

// place is where levels of a shape are; a new one takes that of the shape that was
// not asked for longest.
func (r *rooms) place(need Resources) int {
	c := &r.scores
	c.clock++
	n, ok := c.at[need]
	if !ok {
		for i := range c.shapes {
			if c.shapes[i].used < c.shapes[n].used {
				n = i
			}
		}
		s := &c.shapes[n]
		delete(c.at, s.need)
		c.at[need] = n
		s.need = need
		if s.life++; s.life == scoredLives {
			s.life = 1
			c.lives++
		}
	}
	c.shapes[n].used = c.clock
	return n
}

// level is how good it is to have a slot at a state, up to roomSteps.
func (r *rooms) level(s *roomState, need Resources, place int) int {
	if s.left == 0 {
		return roomSteps / 2
	}
	if seen := r.demand.changed + r.scores.lives; s.seen != seen {
		s.seen, s.lost = seen, r.lost(s.free, s.parts, s.left, s.make)
		clear(s.levels[:])
	}
	life := r.scores.shapes[place].life
	if v := s.levels[place]; v>>6 == life {
		return int(v & 63)
	}
	parts := append(r.parts[:0], s.parts...)
	r.parts = parts
	r.takeParts(parts, need.GPU)
	grown := r.lost(s.free.Sub(need), parts, s.left-need.GPU.Count, s.make) - s.lost
	level := int(roomSteps / (1 + math.Exp(grown)))
	s.levels[place] = life<<6 | uint16(level)
	return level
}
