package placement

import (
	"cmp"
	"slices"
	"strings"
)

// This file is what a ledger with many hosts sums up of them, so that its digest
// costs what changed since the last one and not what there is. Hosts that are
// alike are one class.

const (
	// poolValuesMax is how many values a label may have over the hosts of a peer
	// and tell classes apart: the name of each host would make a class of each.
	poolValuesMax = 8
	// recentShapes is how many shapes of slots, those that were asked for last, are
	// counted beside the common ones.
	recentShapes = 8
)

// class is the hosts that are alike: of equal labels (those that differ too much
// left out), architecture, drivers, fences and models of GPUs.
type class struct {
	key     string
	labels  map[string]string // as hostBook.labels
	arch    string
	drivers []string
	fences  []string
	hosts   []*hostBook // in order of their ids
	sum     tally
	largest Resources // in each resource
	stale   bool      // largest is, and what is largest of GPUs
}

// tally is what a host adds to its class, or the sum of that. It takes part with
// what it has free while it takes work.
type tally struct {
	hosts          int
	capacity, free Resources
	fits           []int // by classes.shapes
	gpus           []PoolGPU
}

// classes are those of a ledger.
type classes struct {
	byKey  map[string]*class
	order  []*class                  // as they are told of: those with most hosts first
	values map[string]map[string]int // of labels, and how many hosts have each
	shapes []Resources               // the common ones and then the recent ones
	asked  []uint64                  // when each was asked for last
	asks   uint64
	stirs  []*hostBook // changed since they were counted
}

func newClasses() *classes {
	return &classes{
		byKey: map[string]*class{}, values: map[string]map[string]int{},
		shapes: slices.Clone(commonShapes), asked: make([]uint64, len(commonShapes)),
	}
}

// unsaid says whether a label differs too much from host to host to be told of.
func (k *classes) unsaid(label string) bool { return len(k.values[label]) > poolValuesMax }

// keyOf is what hosts of one class have in common.
func (k *classes) keyOf(b *hostBook) string {
	var key strings.Builder
	add := func(words ...string) {
		for _, w := range words {
			key.WriteString(w)
			key.WriteByte(0)
		}
		key.WriteByte(1)
	}
	for _, name := range sortedKeys(b.Labels) {
		if !k.unsaid(name) {
			add(name, b.Labels[name])
		}
	}
	add(b.Arch)
	add(b.Drivers...)
	add(b.Fences...)
	var models []string
	for _, d := range b.GPUs {
		models = append(models, d.Model)
	}
	slices.Sort(models)
	add(slices.Compact(models)...)
	return key.String()
}

// classify enters a known host into its class. When one of its labels begins to
// differ too much, all classes are made anew.
func (l *Ledger) classify(b *hostBook) {
	k := l.classes
	again := false
	for name, value := range b.Labels {
		was := k.unsaid(name)
		if k.values[name] == nil {
			k.values[name] = map[string]int{}
		}
		k.values[name][value]++
		again = again || k.unsaid(name) != was
	}
	l.enclass(b)
	if again {
		l.reclass()
	}
}

// declassify is the reverse.
func (l *Ledger) declassify(b *hostBook) {
	k := l.classes
	again := false
	for name, value := range b.Labels {
		was := k.unsaid(name)
		if k.values[name][value]--; k.values[name][value] == 0 {
			delete(k.values[name], value)
		}
		again = again || k.unsaid(name) != was
	}
	l.declass(b)
	if again {
		l.reclass()
	}
}

func (l *Ledger) reclass() {
	for _, id := range sortedKeys(l.hosts) {
		if b := l.hosts[id]; b.class != nil {
			l.declass(b)
			l.enclass(b)
		}
	}
}

func (l *Ledger) enclass(b *hostBook) {
	k := l.classes
	key := k.keyOf(b)
	c := k.byKey[key]
	if c == nil {
		c = &class{key: key, arch: b.Arch, drivers: b.Drivers, fences: b.Fences, labels: l.labels}
		said := map[string]string{}
		for name, value := range b.Labels {
			if !k.unsaid(name) {
				said[name] = value
			}
		}
		c.labels = over(said, l.labels)
		c.sum.fits = make([]int, len(k.shapes))
		k.byKey[key], k.order = c, nil
	}
	at, _ := slices.BinarySearchFunc(c.hosts, b.ID, func(b *hostBook, id string) int { return cmp.Compare(b.ID, id) })
	c.hosts = slices.Insert(c.hosts, at, b)
	b.class, b.told, k.order = c, tally{}, nil
	l.stir(b)
}

func (l *Ledger) declass(b *hostBook) {
	k, c := l.classes, b.class
	if c == nil {
		return
	}
	c.add(b.told, -1)
	c.stale = true
	at, _ := slices.BinarySearchFunc(c.hosts, b.ID, func(b *hostBook, id string) int { return cmp.Compare(b.ID, id) })
	c.hosts = slices.Delete(c.hosts, at, at+1)
	if len(c.hosts) == 0 {
		delete(k.byKey, c.key)
	}
	b.class, b.told, k.order = nil, tally{}, nil
}

// stir notes that a host is to be counted anew.
func (l *Ledger) stir(b *hostBook) {
	l.moves++
	if b.class != nil && !b.stirs {
		b.stirs = true
		l.classes.stirs = append(l.classes.stirs, b)
	}
}

// counted is the classes with all sums as they are now, those with most hosts
// first.
func (l *Ledger) counted() []*class {
	k := l.classes
	for _, b := range k.stirs {
		b.stirs = false
		if c := b.class; c != nil {
			now := b.tally(k.shapes)
			c.stale = c.stale || c.shrinks(b.told, now)
			c.add(b.told, -1)
			c.add(now, 1)
			b.told = now
		}
	}
	k.stirs = k.stirs[:0]
	if k.order == nil {
		for _, c := range k.byKey {
			k.order = append(k.order, c)
		}
		slices.SortFunc(k.order, func(a, b *class) int {
			return cmp.Or(cmp.Compare(len(b.hosts), len(a.hosts)), cmp.Compare(a.key, b.key))
		})
	}
	for _, c := range k.order {
		if c.stale {
			c.measure()
		}
	}
	return k.order
}

// tally is what a host adds to its class now.
func (b *hostBook) tally(shapes []Resources) tally {
	t := tally{hosts: 1, capacity: b.Capacity, fits: make([]int, len(shapes))}
	if !b.open() {
		return t
	}
	t.free = positive(b.free())
	free := b.freeGPUs()
	for i, s := range shapes {
		t.fits[i] = fitsHost(t.free, free, s)
	}
	t.gpus = sumGPUs(free)
	return t
}

// positive is what is not less than nothing.
func positive(r Resources) Resources {
	return Resources{CPU: max(0, r.CPU), Memory: max(0, r.Memory), Disk: max(0, r.Disk)}
}

// fitsHost is how many slots fit on a host.
func fitsHost(free Resources, gpus []FreeGPU, need Resources) int {
	n := min(free.Fits(need), slotsHeldMax)
	if need.GPU.Count > 0 && n > 0 {
		n = min(n, gpuSlots(gpus, need.GPU))
	}
	return n
}

// add enters what a host adds, or with -1 takes it off.
func (c *class) add(t tally, sign int) {
	s := &c.sum
	s.hosts += sign * t.hosts
	s.capacity = s.capacity.Add(t.capacity.Times(sign))
	s.free = s.free.Add(t.free.Times(sign))
	for i, n := range t.fits {
		s.fits[i] += sign * n
	}
	for _, g := range t.gpus {
		sum := gpuOf(&s.gpus, g.Model)
		sum.Devices += sign * g.Devices
		sum.Whole += sign * g.Whole
		sum.Free += GPUShare(sign) * g.Free
	}
	if sign > 0 {
		c.largest = most(c.largest, t.free)
		for _, g := range t.gpus {
			sum := gpuOf(&s.gpus, g.Model)
			sum.Most, sum.Share = max(sum.Most, g.Most), max(sum.Share, g.Share)
		}
	}
}

func most(a, b Resources) Resources {
	return Resources{CPU: max(a.CPU, b.CPU), Memory: max(a.Memory, b.Memory), Disk: max(a.Disk, b.Disk)}
}

// shrinks says whether a host has less than it had where it had most.
func (c *class) shrinks(was, now tally) bool {
	w, n, m := was.free, now.free, c.largest
	if w.CPU == m.CPU && n.CPU < w.CPU || w.Memory == m.Memory && n.Memory < w.Memory || w.Disk == m.Disk && n.Disk < w.Disk {
		return true
	}
	return len(was.gpus) > 0 && !slices.Equal(was.gpus, now.gpus)
}

// measure looks at all hosts for the largest of what is free.
func (c *class) measure() {
	c.stale, c.largest = false, Resources{}
	for i := range c.sum.gpus {
		c.sum.gpus[i].Most, c.sum.gpus[i].Share = 0, 0
	}
	for _, b := range c.hosts {
		c.largest = most(c.largest, b.told.free)
		for _, g := range b.told.gpus {
			sum := gpuOf(&c.sum.gpus, g.Model)
			sum.Most, sum.Share = max(sum.Most, g.Most), max(sum.Share, g.Share)
		}
	}
}

// sumGPUs is what is left of the devices of one host, by model.
func sumGPUs(free []FreeGPU) []PoolGPU {
	var out []PoolGPU
	for _, f := range free {
		g := gpuOf(&out, f.Model)
		left := max(0, f.Free)
		g.Devices++
		g.Free += left
		g.Share = max(g.Share, left)
		if left == wholeGPU {
			g.Whole++
			g.Most++
		}
	}
	return out
}

// gpuOf is the entry of a model, made if there is none.
func gpuOf(list *[]PoolGPU, model string) *PoolGPU {
	at, ok := slices.BinarySearchFunc(*list, model, func(g PoolGPU, model string) int { return cmp.Compare(g.Model, model) })
	if !ok {
		*list = slices.Insert(*list, at, PoolGPU{Model: model})
	}
	return &(*list)[at]
}

// noteShape counts the room for a shape of slots that was asked for, from now on:
// in place of the one that was not for longest.
func (l *Ledger) noteShape(need Resources) {
	k := l.classes
	k.asks++
	at := slices.Index(k.shapes, need)
	if at >= 0 {
		k.asked[at] = k.asks
		return
	}
	l.counted() // by the shapes as they were
	if at = len(k.shapes); at < len(commonShapes)+recentShapes {
		k.shapes, k.asked = append(k.shapes, need), append(k.asked, k.asks)
	} else {
		at = len(commonShapes)
		for i := at; i < len(k.shapes); i++ {
			if k.asked[i] < k.asked[at] {
				at = i
			}
		}
		k.shapes[at], k.asked[at] = need, k.asks
	}
	for _, c := range k.byKey {
		c.sum.fits = append(c.sum.fits, make([]int, len(k.shapes)-len(c.sum.fits))...)
		c.sum.fits[at] = 0
		for _, b := range c.hosts {
			b.told.fits = append(b.told.fits, make([]int, len(k.shapes)-len(b.told.fits))...)
			b.told.fits[at] = 0
			if b.open() {
				b.told.fits[at] = fitsHost(b.told.free, b.freeGPUs(), need)
			}
			c.sum.fits[at] += b.told.fits[at]
		}
	}
	l.changes++
}
