package placement

import (
	"cmp"
	"math"
	"slices"
)

// roomDemand is the shapes of the slots that a ledger was asked for, granted or
// not, each with its share: the older, the less it counts. What is free is worth
// what these could do with it.
type roomDemand struct {
	shapes  []roomShape
	at      map[shapeKey]int // of shapes
	scale   float64          // of what is asked next
	asked   int
	changed int // how often the typical ones did
	stale   bool
	typical []roomTypical
}

// shapeKey tells shapes apart: slots that may go to some hosts only are another shape
// than those that may go to any.
type shapeKey struct {
	need  Resources
	where string
}

// roomShape is one of them.
type roomShape struct {
	shapeKey
	may   []bool // by kind of host; beyond its end, to any
	count float64
	told  float64 // its share when the typical ones were chosen
}

// roomTypical is a shape as it is scored with.
type roomTypical struct {
	need   Resources
	models []bool // that it can have
	may    []bool
	weight float64
}

// Bounds of what is remembered. They matter little: with 32 typical shapes a
// tenth of a point less of the GPUs of a large cluster is used, with 128 no more.
const (
	demandShapesMax  = 256
	demandTypicalMax = 64
	demandHalf       = 2000 // slots after which one counts half
	demandDrift      = 0.1  // what share of all may be another than was told
	demandScaleMax   = 1e12
)

func newRoomDemand() roomDemand { return roomDemand{at: map[shapeKey]int{}, scale: 1} }

// asked notes that so many slots were asked for, once for each ask. where tells
// apart shapes that may go to different hosts, as allowed says; it may be nil.
func (r *rooms) asked(need Resources, n int, where string, allowed func(id string) bool) {
	d := &r.demand
	if n <= 0 {
		return
	}
	shape := d.shape(need, where)
	if where != "" && allowed != nil {
		for of := len(shape.may); of < len(r.reps); of++ {
			shape.may = append(shape.may, allowed(r.reps[of].id))
			d.stale = d.stale || shape.told > 0
		}
	}
	n = min(n, demandHalf)
	d.scale *= math.Exp2(float64(n) / demandHalf)
	shape.count += float64(n) * d.scale
	before := d.asked
	d.asked += n
	if d.scale > demandScaleMax {
		for i := range d.shapes {
			d.shapes[i].count /= d.scale
		}
		d.scale = 1
	}
	if before/demandTypicalMax != d.asked/demandTypicalMax || d.asked < demandTypicalMax && before&d.asked == 0 {
		d.stale = d.stale || d.drifted()
	}
}

// shape is the record of one; a new one takes the place of the one that counts
// least.
func (d *roomDemand) shape(need Resources, where string) *roomShape {
	key := shapeKey{need, where}
	if n, ok := d.at[key]; ok {
		return &d.shapes[n]
	}
	least := 0
	if len(d.shapes) < demandShapesMax {
		least = len(d.shapes)
		d.shapes = append(d.shapes, roomShape{})
	} else {
		for i := range d.shapes {
			if d.shapes[i].count < d.shapes[least].count {
				least = i
			}
		}
		delete(d.at, d.shapes[least].shapeKey)
	}
	d.at[key] = least
	d.shapes[least] = roomShape{shapeKey: key}
	return &d.shapes[least]
}

func (d *roomDemand) total() float64 {
	sum := 0.0
	for i := range d.shapes {
		sum += d.shapes[i].count
	}
	return sum
}

// drifted says whether shares are others by now than those that are scored with.
func (d *roomDemand) drifted() bool {
	total, off := d.total(), 0.0
	for i := range d.shapes {
		off += math.Abs(d.shapes[i].count/total - d.shapes[i].told)
	}
	return off/2 > demandDrift
}

// refresh chooses the typical shapes anew where that is due. Those that need no
// GPU are left out: what is free of GPUs is lost to them on any host.
func (r *rooms) refresh() {
	d := &r.demand
	if !d.stale {
		return
	}
	d.stale, d.typical = false, nil
	d.changed++
	total, sum := d.total(), 0.0
	order := make([]*roomShape, 0, len(d.shapes))
	for i := range d.shapes {
		s := &d.shapes[i]
		s.told = s.count / total
		if s.need.GPU.Count > 0 && s.count > 0 { // one that was asked for long ago has come to nothing
			order = append(order, s)
		}
	}
	slices.SortStableFunc(order, func(a, b *roomShape) int { return cmp.Compare(b.count, a.count) })
	for _, s := range order[:min(len(order), demandTypicalMax)] {
		t := roomTypical{need: s.need, may: s.may, weight: s.told / math.Sqrt(float64(s.need.GPU.Count)/wholeGPU)}
		for _, model := range r.models {
			t.models = append(t.models, s.need.GPU.fits(model))
		}
		sum += t.weight
		d.typical = append(d.typical, t)
	}
	for i := range d.typical {
		d.typical[i].weight /= cmp.Or(sum, 1)
	}
}
