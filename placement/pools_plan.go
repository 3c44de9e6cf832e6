package placement

import (
	"slices"
)

// This file is what a planner makes of what a digest says of many hosts.

// chargesMax is how many sorts of asks a planner counts one by one at a peer.
const chargesMax = 256

// fits is how many slots a pool has room for: exactly where it counted that
// shape, else at most. Of the shapes of its digest it leaves out those of which none
// fits.
func (d *Digest) fits(p *Pool, need Resources) int {
	is := func(f ShapeFit) bool { return f.Shape == need }
	at, n := slices.IndexFunc(p.Fits, is), p.Free.Fits(need)
	if need.GPU.Count > 0 && n > 0 {
		n = min(n, poolGPUSlots(p.GPUs, need.GPU))
	}
	switch {
	case at >= 0:
		return min(p.Fits[at].Count, n)
	case p.Largest.Fits(need) == 0 || slices.ContainsFunc(d.Fits, is):
		return 0
	}
	return n
}

// poolGPUSlots is for how many slots there are GPUs in a pool, at most.
func poolGPUSlots(gpus []PoolGPU, need GPU) int {
	n := 0
	for i := range gpus {
		n += gpus[i].slots(need)
	}
	return n
}

func (g *PoolGPU) slots(need GPU) int {
	switch {
	case g.Model != "" && !need.fits(g.Model):
	case need.Count < wholeGPU && g.Share >= need.Count:
		return int(g.Free / need.Count)
	case need.Count >= wholeGPU && g.Most >= int(need.Count/wholeGPU):
		return g.Whole / int(need.Count/wholeGPU)
	}
	return 0
}

// takePoolGPUs takes so many slots off what is free, and leaves the given list alone.
func takePoolGPUs(gpus []PoolGPU, need GPU, slots int) []PoolGPU {
	if need.Count <= 0 || slots <= 0 {
		return gpus
	}
	gpus = slices.Clone(gpus)
	for i := range gpus {
		g := &gpus[i]
		k := min(slots, g.slots(need))
		g.Free -= GPUShare(k) * need.Count
		g.Whole = min(g.Whole, int(g.Free/wholeGPU))
		g.Most, g.Share = min(g.Most, g.Whole), min(g.Share, g.Free)
		slots -= k
	}
	return gpus
}

// takerOf is what decides which pools take slots of a component, which need so much.
func takerOf(comp Component, need Resources) *planner {
	where, err := ParseSelector(comp.Place.Where)
	if err != nil {
		where = Selector{} // it is asked for nowhere
	}
	return &planner{need: comp, slot: need, where: where}
}

// takeOff takes slots off what a digest says is free, which must be the caller's
// own but for what it points to: off the pools that may take them.
func (p *planner) takeOff(d *Digest, slots int) {
	need := p.slot
	d.Free = d.Free.Sub(need.Times(slots))
	if d.Hosts <= 1 {
		d.Largest = d.Largest.Sub(need.Times(slots))
		return
	}
	d.Fits = takenOff(d.Fits, need, slots)
	d.Pools = slices.Clone(d.Pools)
	for i := range d.Pools {
		pool := &d.Pools[i]
		k := min(slots, d.fits(pool, need))
		if k == 0 || !p.may(d, pool) {
			continue
		}
		pool.Free, pool.Fits = pool.Free.Sub(need.Times(k)), takenOff(pool.Fits, need, k)
		pool.GPUs = takePoolGPUs(pool.GPUs, need.GPU, k)
		if slots -= k; slots == 0 {
			break
		}
	}
}

func takenOff(fits []ShapeFit, need Resources, slots int) []ShapeFit {
	at := slices.IndexFunc(fits, func(f ShapeFit) bool { return f.Shape == need })
	if at < 0 {
		return fits
	}
	fits = slices.Clone(fits)
	fits[at].Count -= min(slots, fits[at].Count)
	return fits
}

// slotCharge is slots that were asked of a peer.
type slotCharge struct {
	of    *planner
	slots int
}

func (m *member) chargeShape(of *planner, slots int) {
	at := slices.IndexFunc(m.charges, func(c slotCharge) bool { return c.of.like(of) })
	switch {
	case at >= 0:
		m.charges[at].slots += slots
	case len(m.charges) < chargesMax:
		m.charges = append(m.charges, slotCharge{of, slots})
	}
}

// like says whether the same pools take slots of two components, as many of them.
func (p *planner) like(o *planner) bool {
	a, b := &p.need, &o.need
	return p.slot == o.slot && a.Place.Where == b.Place.Where && a.Driver() == b.Driver() &&
		a.Exclusive.On == b.Exclusive.On && slices.Equal(a.RunsOn(), b.RunsOn())
}

// putBack is the reverse for slots that are about to end: what fits is not known
// then but by what is free.
func (d *Digest) putBack(r Resources) {
	d.Free, d.Largest, d.Fits = d.Free.Add(r), d.Largest.Add(r), nil
	d.Pools = slices.Clone(d.Pools)
	for i := range d.Pools {
		p := &d.Pools[i]
		p.Free, p.Largest, p.Fits = p.Free.Add(r), p.Largest.Add(r), nil
	}
}

// may says whether the hosts of a pool may take a slot. Architectures that it does
// not tell are among those of its digest.
func (p *planner) may(d *Digest, pool *Pool) bool {
	arch := pool.Arch
	if on := p.need.RunsOn(); pool.Mixed && arch == "" && len(on) > 0 {
		arch = on[0]
	}
	return lacksFor(p.need, pool.Drivers, pool.Fences, arch) == "" && p.where.mayMatch(d, pool)
}

// mayMatch says whether the condition holds for hosts of a candidate, as far as that
// tells: what it leaves unsaid is for its ledger to look at.
func (s Selector) mayMatch(d *Digest, pool *Pool) bool {
	if s.s == nil || s.s.Empty() {
		return true
	}
	if len(d.Unsaid) > 0 || len(pool.Unsaid) > 0 {
		s = s.without(func(label string) bool { return d.unsays(pool, label) })
	}
	return s.matchesOver(pool.Labels, d.Labels)
}

// unsays says whether a digest does not tell what a label is for hosts of a pool.
func (d *Digest) unsays(pool *Pool, label string) bool {
	if _, ok := pool.Labels[label]; ok {
		return false
	}
	if slices.Contains(d.Unsaid, label) || slices.Contains(pool.Unsaid, label) {
		return true
	}
	_, told := d.Labels[label]
	return !told && (slices.Contains(d.Unsaid, unsaidRest) || slices.Contains(pool.Unsaid, unsaidRest))
}

// fitsPools is how many slots the pools of a candidate have room for that may take
// them, and whether any may.
func (p *planner) fitsPools(d *Digest) (n int, any bool) {
	for i := range d.Pools {
		if pool := &d.Pools[i]; p.may(d, pool) {
			n, any = n+d.fits(pool, p.slot), true
		}
	}
	return n, any
}

func (p *planner) anyPool(d *Digest) bool {
	_, ok := p.fitsPools(d)
	return ok
}

// matchesAny says whether a candidate has a label that a selector wants, or hosts
// that have.
func matchesAny(s Selector, d *Digest) bool {
	return s.Matches(d.Labels) || slices.ContainsFunc(d.Pools, func(p Pool) bool { return s.matchesOver(p.Labels, d.Labels) })
}
