package placement

import (
	"slices"
)

// This file is what a digest says of many hosts.

// Bounds of what a digest says of them.
const (
	poolsMax      = 16 // classes of hosts that are told of, those with most hosts
	poolLabelsMax = 8
	poolTextMax   = 63       // bytes of a label there
	poolGPUsMax   = 8        // models
	poolsBytesMax = 24 << 10 // together, and with the labels of all
	unsaidMax     = 16
)

// unsaidRest, among labels that are not told, is all those that Labels do not tell.
const unsaidRest = "*"

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
	unsaid := map[string]bool{}
	for _, name := range sortedKeys(l.classes.values) {
		switch values := l.classes.values[name]; {
		case l.classes.unsaid(name):
			unsaid[name] = true
		case len(values) == 1:
			for value, n := range values {
				if n == l.knownHosts && !d.addLabel(name, value) {
					unsaid[name] = true
				}
			}
		}
	}
	if len(classes) > 1 || gpus {
		d.addPools(l, classes, unsaid)
	}
	d.Unsaid = d.unsaid(unsaid)
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

// addLabel tells of a label that all hosts have, if there is room for it.
func (d *Digest) addLabel(name, value string) bool {
	if _, ok := d.Labels[name]; !ok && len(d.Labels) >= digestLabelsMax || len(name) > textMax/16 || len(value) > textMax/16 {
		return false
	}
	d.Labels[name] = value
	return true
}

// unsaid lists labels that are not told: first those that would be taken to be as
// the peer has them, and of too many others that there are.
func (d *Digest) unsaid(names map[string]bool) []string {
	var out []string
	for _, name := range sortedKeys(names) {
		if _, ok := d.Labels[name]; ok {
			out = append(out, name)
		}
	}
	own := len(out)
	for _, name := range sortedKeys(names) {
		if !slices.Contains(out[:own], name) {
			out = append(out, name)
		}
	}
	return boundedUnsaid(out)
}

func boundedUnsaid(names []string) []string {
	if len(names) <= unsaidMax {
		return names
	}
	return append(slices.Clone(names[:unsaidMax-1]), unsaidRest)
}

// addPools tells of the classes with most hosts each by itself, as far as the bounds
// go, and of the others together. unsaid gets the labels that had no room.
func (d *Digest) addPools(l *Ledger, classes []*class, unsaid map[string]bool) {
	told := len(classes)
	if told > poolsMax {
		told = poolsMax - 1
	}
	size := (&Pool{Labels: d.Labels}).size()
	for i, c := range classes[:told] {
		p, left := l.pool(d, c)
		if size += p.size(); size > poolsBytesMax {
			told = i
			break
		}
		for _, name := range left {
			unsaid[name] = true
		}
		d.Pools = append(d.Pools, p)
	}
	if rest := classes[told:]; len(rest) > 0 {
		d.Pools = append(d.Pools, l.restPool(d, rest))
	}
}

// size is about how many bytes a pool takes, and not less.
func (p *Pool) size() int {
	n := 256 + 96*len(p.Fits)
	for name, value := range p.Labels {
		n += len(name) + len(value) + 4
	}
	for _, words := range [][]string{p.Drivers, p.Fences, p.Unsaid} {
		for _, word := range words {
			n += len(word) + 2
		}
	}
	for _, f := range p.Fits {
		n += len(f.Shape.GPU.Model)
	}
	for _, g := range p.GPUs {
		n += len(g.Model) + 64
	}
	return n
}

// pool is what a digest says of a class, and the labels that it has no room for.
func (l *Ledger) pool(d *Digest, c *class) (p Pool, left []string) {
	p = Pool{
		Hosts: len(c.hosts), Arch: c.arch, Capacity: c.sum.capacity, Free: c.sum.free, Largest: c.largest,
		Fits: slices.DeleteFunc(l.shapeFits(c.sum.fits), func(f ShapeFit) bool { return f.Count == 0 }),
	}
	differ := map[string]string{}
	for name, value := range c.labels {
		if was, ok := d.Labels[name]; !ok || was != value {
			differ[name] = value
		}
	}
	p.Labels = poolLabels(differ)
	for _, name := range sortedKeys(differ) {
		if _, ok := p.Labels[name]; !ok {
			left = append(left, name)
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
	p.GPUs = poolGPUs(p.GPUs)
	return p.bounded(), left
}

// restPool is what a digest says of classes that have no pool each: what any of them
// has, so that the ledger decides, and of labels only which these are.
func (l *Ledger) restPool(d *Digest, classes []*class) Pool {
	rest := Pool{Mixed: true, Arch: classes[0].arch}
	fits, unsaid := make([]int, len(l.classes.shapes)), map[string]bool{}
	drivers, fences := map[string]bool{}, map[string]bool{}
	for _, c := range classes {
		if c.arch != rest.Arch {
			rest.Arch = ""
		}
		rest.Hosts += len(c.hosts)
		rest.Capacity, rest.Free, rest.Largest = rest.Capacity.Add(c.sum.capacity), rest.Free.Add(c.sum.free), most(rest.Largest, c.largest)
		for i, n := range c.sum.fits {
			fits[i] += n
		}
		for name, value := range c.labels {
			if was, ok := d.Labels[name]; !ok || was != value {
				unsaid[name] = true
			}
		}
		for _, driver := range c.drivers {
			drivers[driver] = drivers[driver] || l.listed[driver]
			fences[driver] = fences[driver] || l.listed[driver] && slices.Contains(c.fences, driver)
		}
		for _, g := range c.sum.gpus {
			if g.Devices > 0 {
				gpuOf(&rest.GPUs, g.Model).add(g)
			}
		}
	}
	rest.Fits = slices.DeleteFunc(l.shapeFits(fits), func(f ShapeFit) bool { return f.Count == 0 })
	rest.Unsaid, rest.GPUs = d.unsaid(unsaid), poolGPUs(rest.GPUs)
	for _, driver := range sortedKeys(drivers) {
		if drivers[driver] {
			rest.Drivers = append(rest.Drivers, driver)
		}
		if fences[driver] {
			rest.Fences = append(rest.Fences, driver)
		}
	}
	return rest.bounded()
}

// add enters devices of more hosts.
func (g *PoolGPU) add(o PoolGPU) {
	g.Devices, g.Whole, g.Free = g.Devices+o.Devices, g.Whole+o.Whole, g.Free+o.Free
	g.Most, g.Share = max(g.Most, o.Most), max(g.Share, o.Share)
}

// poolGPUs tells of few models, and of too many the last ones together: as of a model
// that has no name.
func poolGPUs(gpus []PoolGPU) []PoolGPU {
	if len(gpus) <= poolGPUsMax {
		return gpus
	}
	out, last := slices.Clone(gpus[:poolGPUsMax-1]), PoolGPU{}
	for _, g := range gpus[poolGPUsMax-1:] {
		last.add(g)
	}
	return append(out, last)
}

// poolLabels are those that a pool has room for.
func poolLabels(labels map[string]string) map[string]string {
	out := map[string]string{}
	for _, name := range sortedKeys(labels) {
		if value := labels[name]; len(out) < poolLabelsMax && name != "" && len(name) <= poolTextMax && len(value) <= poolTextMax {
			out[name] = value
		}
	}
	return out
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
	p.Labels, p.Unsaid = poolLabels(p.Labels), boundedUnsaid(p.Unsaid)
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
