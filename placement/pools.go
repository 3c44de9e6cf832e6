package placement

import (
	"slices"
)

// This file is what a digest says of many hosts, and what a planner makes of it.

// Bounds of what a digest says of them.
const (
	poolsMax      = 16 // classes of hosts that are told of, those with most hosts
	poolLabelsMax = 8
	poolTextMax   = 63 // bytes of a label there
	poolGPUsMax   = 8  // models
	unsaidMax     = 16
	chargesMax    = 256 // asks that a planner counts one by one at a peer
)

// describe says in a digest what many hosts have, sums first.
func (l *Ledger) describe(d *Digest) {
	d.Hosts, d.Capacity = l.knownHosts, l.capacity
	classes := l.counted()
	fits, arch, fences := make([]int, len(l.classes.shapes)), map[string]bool{}, map[string]bool{}
	gpus := false
	for _, c := range classes {
		d.Free, d.Largest = d.Free.Add(c.sum.free), most(d.Largest, c.largest)
		for i, n := range c.sum.fits {
			fits[i] += n
		}
		if c.arch != "" {
			arch[c.arch] = true
		}
		for _, driver := range c.fences {
			fences[driver] = fences[driver] || l.listed[driver]
		}
		gpus = gpus || len(c.sum.gpus) > 0
	}
	d.Arch = sortedKeys(arch)
	for _, driver := range sortedKeys(l.drivers) {
		if l.listed[driver] {
			d.Drivers = append(d.Drivers, driver)
		}
		if fences[driver] {
			d.Fences = append(d.Fences, driver)
		}
	}
	d.Fits = l.shapeFits(fits)
	for name, values := range l.classes.values {
		switch {
		case l.classes.unsaid(name):
			d.Unsaid = append(d.Unsaid, name)
		case len(values) == 1:
			for value, n := range values {
				if n == l.knownHosts {
					d.Labels[name] = value
				}
			}
		}
	}
	slices.Sort(d.Unsaid)
	if len(classes) > 1 || gpus {
		for _, c := range classes[:min(len(classes), poolsMax)] {
			d.Pools = append(d.Pools, l.pool(c))
		}
	}
	d.Lacks = map[string]string{}
	for driver, why := range l.ownHost().Lacks {
		if l.drivers[driver] == 0 {
			d.Lacks[driver] = why
		}
	}
	d.Lacks = shortLacks(d.Lacks)
}

func (l *Ledger) shapeFits(fits []int) []ShapeFit {
	out := make([]ShapeFit, len(fits))
	for i, n := range fits {
		out[i] = ShapeFit{Shape: l.classes.shapes[i], Count: n}
	}
	return out
}

// pool is what a digest says of a class.
func (l *Ledger) pool(c *class) Pool {
	p := Pool{
		Hosts: len(c.hosts), Labels: map[string]string{}, Arch: c.arch, Capacity: c.sum.capacity, Free: c.sum.free, Largest: c.largest,
		Fits: l.shapeFits(c.sum.fits),
	}
	for name, value := range c.labels { // those that differ from the peer's
		if was, ok := l.labels[name]; !ok || was != value {
			p.Labels[name] = value
		}
	}
	for _, driver := range c.drivers {
		if l.listed[driver] {
			p.Drivers = append(p.Drivers, driver)
			if slices.Contains(c.fences, driver) {
				p.Fences = append(p.Fences, driver)
			}
		}
	}
	for _, g := range c.sum.gpus {
		if g.Devices > 0 {
			p.GPUs = append(p.GPUs, g)
		}
	}
	return p.bounded()
}

// full is why none of many hosts takes work, or "".
func (l *Ledger) full() string {
	for _, b := range l.hosts {
		if b.open() {
			return "" // as with nearly every digest, which spares the order
		}
	}
	why := ""
	for _, id := range sortedKeys(l.hosts) {
		switch b := l.hosts[id]; {
		case !b.known:
		case b.Cordoned && why == "":
			why = "every host is cordoned"
		case b.Full != "":
			why = b.Full
		}
	}
	return why
}

// bounded is a pool that can be counted with, whatever its peer says.
func (p Pool) bounded() Pool {
	p.Hosts = max(0, min(p.Hosts, hostsMax))
	p.Capacity = least(p.Capacity, capacityMax)
	p.Free = least(p.Free, p.Capacity)
	p.Largest = least(p.Largest, p.Free)
	p.Arch = clip(p.Arch)
	p.Drivers, p.Fences = p.Drivers[:min(len(p.Drivers), digestShapesMax)], p.Fences[:min(len(p.Fences), digestShapesMax)]
	p.Fits = boundedFits(p.Fits, p.Free)
	labels := map[string]string{}
	for _, name := range sortedKeys(p.Labels) {
		if value := p.Labels[name]; len(labels) < poolLabelsMax && name != "" && len(name) <= poolTextMax && len(value) <= poolTextMax {
			labels[name] = value
		}
	}
	p.Labels = labels
	p.GPUs = slices.Clone(p.GPUs[:min(len(p.GPUs), poolGPUsMax)])
	for i := range p.GPUs {
		g := &p.GPUs[i]
		g.Model = clip(g.Model)
		g.Devices = max(0, min(g.Devices, hostsMax*gpusMax))
		g.Whole = max(0, min(g.Whole, g.Devices))
		g.Most = max(0, min(g.Most, g.Whole, gpusMax))
		g.Share, g.Free = max(0, min(g.Share, wholeGPU)), max(0, min(g.Free, GPUShare(g.Devices)*wholeGPU))
	}
	return p
}

// boundedPools is what a digest may say of pools.
func boundedPools(pools []Pool) []Pool {
	var out []Pool
	for _, p := range pools[:min(len(pools), poolsMax)] {
		out = append(out, p.bounded())
	}
	return out
}

// fits is how many slots a pool has room for: exactly where it counted that
// shape, else at most.
func (p *Pool) fits(need Resources) int {
	at := slices.IndexFunc(p.Fits, func(f ShapeFit) bool { return f.Shape == need })
	switch n := p.Free.Fits(need); {
	case at >= 0:
		return min(p.Fits[at].Count, n)
	case p.Largest.Fits(need) == 0:
		return 0
	case need.GPU.Count > 0:
		return min(n, poolGPUSlots(p.GPUs, need.GPU))
	default:
		return n
	}
}

// poolGPUSlots is for how many slots there are GPUs in a pool, at most.
func poolGPUSlots(gpus []PoolGPU, need GPU) int {
	n := 0
	for _, g := range gpus {
		switch {
		case !need.fits(g.Model):
		case need.Count < wholeGPU && g.Share >= need.Count:
			n += int(g.Free / need.Count)
		case need.Count >= wholeGPU && g.Most >= int(need.Count/wholeGPU):
			n += g.Whole / int(need.Count/wholeGPU)
		}
	}
	return n
}

// takeOff takes slots off what a digest says is free, which must be the caller's
// own but for what it points to.
func (d *Digest) takeOff(need Resources, slots int) {
	d.Free = d.Free.Sub(need.Times(slots))
	if d.Hosts <= 1 {
		d.Largest = d.Largest.Sub(need.Times(slots))
		return
	}
	d.Fits = takenOff(d.Fits, need, slots)
	d.Pools = slices.Clone(d.Pools)
	for i := range d.Pools {
		p := &d.Pools[i]
		k := min(slots, p.fits(need))
		p.Free, p.Fits = p.Free.Sub(need.Times(k)), takenOff(p.Fits, need, k)
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
	need  Resources
	slots int
}

func (m *member) chargeShape(need Resources, slots int) {
	at := slices.IndexFunc(m.charges, func(c slotCharge) bool { return c.need == need })
	switch {
	case at >= 0:
		m.charges[at].slots += slots
	case len(m.charges) < chargesMax:
		m.charges = append(m.charges, slotCharge{need, slots})
	}
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

// The planner's side.

// may says whether the hosts of a pool may take a slot.
func (p *planner) may(d *Digest, pool *Pool) bool {
	return lacksFor(p.need, pool.Drivers, pool.Fences, pool.Arch) == "" && p.where.without(d.Unsaid).Matches(over(pool.Labels, d.Labels))
}

// fitsPools is how many slots the pools of a candidate have room for that may take
// them, and whether any may.
func (p *planner) fitsPools(d *Digest) (n int, any bool) {
	for i := range d.Pools {
		if pool := &d.Pools[i]; p.may(d, pool) {
			n, any = n+pool.fits(p.slot), true
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
	return s.Matches(d.Labels) || slices.ContainsFunc(d.Pools, func(p Pool) bool { return s.Matches(over(p.Labels, d.Labels)) })
}
