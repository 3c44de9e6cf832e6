package placement

import (
	"cmp"
	"fmt"
	"slices"
)

// This file is which of a peer's many hosts take the slots of an ask. rooms
// chooses among those that may: that have the driver, the architecture and the
// labels. Of these go first those that place.prefer speaks for; then the slots of
// a component are kept on at least hostsApart hosts while there is room.

// hostsApart is on how many hosts the slots of a component are at least, where
// there is room for it, so that no host takes all of them with it.
const hostsApart = 3

// chooser binds slots of one component to hosts.
type chooser struct {
	l      *Ledger
	comp   Component
	arch   string
	archs  []string                      // of the hosts that may
	level  func(b *hostBook) (int, bool) // how much a host is preferred, and whether it may take a slot
	levels []int                         // most preferred first
	held   map[*hostBook]int             // slots of the component there
	most   int                           // of them on one host, while others have room
	left   int                           // slots that may be bound yet

	// What is bound is charged at once, under a claim that is none.
	made  *claim
	bound map[string][]Slot
	disk  map[*hostBook]Bytes
}

// chooser prepares for slots of a component of an app, or says why no host may
// take any. replaced is a claim that the slots follow.
func (l *Ledger) chooser(uid UID, name string, comp Component, replaced *ClaimID) (*chooser, string) {
	x := &chooser{
		l: l, comp: comp, held: map[*hostBook]int{}, most: max(1, (comp.Wanted()+hostsApart-1)/hostsApart),
		left: min(l.slotsMax()-l.slots, claimSlotsMax),
		made: &claim{Need: comp.Takes(), Devices: map[Slot][]string{}}, bound: map[string][]Slot{}, disk: map[*hostBook]Bytes{},
	}
	for _, c := range l.byApp[uid] {
		if c.Component != name || replaced != nil && c.ID == *replaced {
			continue
		}
		if len(c.At) == 0 {
			x.held[l.book("")] += c.holds().Len()
		}
		for _, a := range c.At {
			x.held[l.book(a.Host)] += a.Slots.Intersect(c.holds()).Len()
		}
	}
	return x, x.look()
}

// look finds which hosts may take a slot, and says why none does.
func (x *chooser) look() string {
	where, err := ParseSelector(x.comp.Place.Where)
	if err != nil {
		return "where can't be read: " + err.Error()
	}
	l, prefer := x.l, preferences(x.comp)
	unsaid := where.speaksOf(l.classes.unsaid) || slices.ContainsFunc(prefer, func(p preference) bool { return p.selector.speaksOf(l.classes.unsaid) })
	why, known := "no host is known yet", map[*class]int{}
	level := func(labels map[string]string) int {
		n := 0
		for _, p := range prefer {
			if p.selector.Matches(labels) {
				n += p.weight
			}
		}
		return n
	}
	for _, c := range l.counted() {
		if lacks := lacksFor(x.comp, c.drivers, c.fences, c.arch); lacks != "" {
			why = lacks
			continue
		}
		if !unsaid && !where.Matches(c.labels) {
			why = "where " + x.comp.Place.Where + ": no such host"
			continue
		}
		known[c] = level(c.labels)
		x.levels = append(x.levels, known[c])
		if !slices.Contains(x.archs, c.arch) {
			x.archs = append(x.archs, c.arch)
		}
	}
	if len(known) == 0 {
		return why
	}
	x.level = func(b *hostBook) (int, bool) { n, ok := known[b.class]; return n, ok && b.class != nil }
	if unsaid {
		x.levels = nil
		each := map[*hostBook]int{}
		for c := range known {
			for _, b := range c.hosts {
				if where.Matches(b.labels) {
					each[b] = level(b.labels)
					x.levels = append(x.levels, each[b])
				}
			}
		}
		if len(each) == 0 {
			return "where " + x.comp.Place.Where + ": no such host"
		}
		x.level = func(b *hostBook) (int, bool) { n, ok := each[b]; return n, ok }
	}
	x.sortLevels()
	return ""
}

// levelsMax bounds the levels, each of which is a search of its own.
const levelsMax = 16

// sortLevels puts the levels in order, and takes near ones for one where there are many.
func (x *chooser) sortLevels() {
	slices.SortFunc(x.levels, func(a, b int) int { return b - a })
	if x.levels = slices.Compact(x.levels); len(x.levels) <= levelsMax {
		return
	}
	exact, least := x.level, x.levels[len(x.levels)-1]
	step := (x.levels[0]-least)/levelsMax + 1
	near := func(n int) int { return least + (n-least)/step*step }
	for i, n := range x.levels {
		x.levels[i] = near(n)
	}
	x.levels = slices.Compact(x.levels)
	x.level = func(b *hostBook) (int, bool) { n, ok := exact(b); return near(n), ok }
}

// asked has it known what is asked for, whether it is granted or not, and to which
// hosts it may go where that is said.
func (x *chooser) asked(need Resources, slots int) {
	x.l.rooms.asked(need, slots, x.comp.Place.Where, func(id string) bool {
		b := x.l.hosts[id]
		if b == nil {
			return false
		}
		_, ok := x.level(b)
		return ok
	})
}

// chooseArch keeps to the architecture whose hosts have most room: what a claim
// needs for its slots is of one.
func (x *chooser) chooseArch(need Resources) {
	if len(x.archs) == 1 {
		x.arch = x.archs[0]
		return
	}
	room := map[string]int{}
	for _, b := range x.l.hosts {
		if _, ok := x.level(b); ok {
			room[b.Arch] += fitsHost(b.free(), b.freeGPUs(), need)
		}
	}
	for i, arch := range sortedKeys(room) {
		if i == 0 || room[arch] > room[x.arch] {
			x.arch = arch
		}
	}
}

// volumeArch keeps to the architecture of the first slot that can go back to its
// volume: those whose volumes lie on another come with the next ask.
func (x *chooser) volumeArch(uid UID, name string, want Slots) bool {
	for n := range want.All() {
		id := VolumeID{uid, name, n}
		if v := x.l.volumes.all[id]; v != nil {
			x.arch = x.l.book(v.Host).Arch
			if _, _, ok := x.home(id, v); ok {
				return true
			}
		}
	}
	return false
}

// may says whether a host may take a slot more.
func (x *chooser) may(b *hostBook) bool {
	_, ok := x.level(b)
	return ok && b.open() && b.Arch == x.arch && b.slots < slotsHeldMax && x.left > 0
}

// put binds slots to a host, with the devices of each, and charges them.
func (x *chooser) put(b *hostBook, slots []Slot, devices []string, disk Bytes) {
	if len(devices) > 0 {
		x.made.Devices[slots[0]] = devices
	}
	x.l.chargeAt(b, x.made, SlotsOf(slots...), 1)
	x.l.chargeDisk(b, disk)
	x.disk[b] += disk
	x.held[b] += len(slots)
	x.left -= len(slots)
	x.bound[b.ID] = append(x.bound[b.ID], slots...)
}

// home is the host where a slot's volume lies and by how much that grows, if the
// slot has room there.
func (x *chooser) home(id VolumeID, v *volume) (b *hostBook, grown Bytes, ok bool) {
	b, need, grown := x.l.book(v.Host), x.comp.Takes(), x.l.growth(id, x.comp.Volumes)
	need.Disk += grown
	return b, grown, !v.Dropped && x.may(b) && fitsHost(b.free(), b.freeGPUs(), need) > 0
}

// stay binds slots whose volumes lie on hosts to those, and returns the others.
func (x *chooser) stay(uid UID, name string, want Slots) (others Slots) {
	for n := range want.All() {
		id := VolumeID{uid, name, n}
		v := x.l.volumes.all[id]
		if v == nil {
			others = others.Add(n)
			continue
		}
		b, grown, ok := x.home(id, v)
		if !ok {
			continue
		}
		_, devices := b.allot(x.comp.Resources.GPU, SlotsOf(n))
		x.put(b, []Slot{n}, devices[n], grown)
	}
	return others
}

// spread binds slots that may be anywhere, and returns how many it did.
func (x *chooser) spread(slots []Slot, need Resources, disk Bytes) (done int) {
	for _, level := range x.levels {
		for _, apart := range []bool{true, false} {
			allowed := func(id string) bool {
				b := x.l.hosts[id]
				if b == nil || !x.may(b) || apart && x.held[b] >= x.most {
					return false
				}
				n, _ := x.level(b)
				return n == level
			}
			for done < len(slots) && x.left > 0 {
				id, devices, ok := x.l.rooms.choose(need, allowed)
				if !ok {
					break
				}
				b := x.l.hosts[id]
				k := 1
				if need.GPU.Count <= 0 { // those after it fill that host best too
					k = min(b.free().Fits(need), slotsHeldMax-b.slots, x.left, len(slots)-done)
					if apart {
						k = min(k, x.most-x.held[b])
					}
				}
				x.put(b, slots[done:done+k], devices, Bytes(k)*disk)
				done += k
			}
		}
	}
	return done
}

// end gives back what was charged, and says what is where.
func (x *chooser) end() binding {
	out := binding{devices: x.made.Devices}
	if len(out.devices) == 0 {
		out.devices = nil
	}
	for _, id := range sortedKeys(x.bound) {
		b := x.l.hosts[id]
		slots := SlotsOf(x.bound[id]...)
		x.l.chargeAt(b, x.made, slots, -1)
		x.l.chargeDisk(b, -x.disk[b])
		out.slots = out.slots.Union(slots)
		out.at = append(out.at, slotsAt{Host: x.l.nameOfHost(id), Slots: slots})
	}
	slices.SortFunc(out.at, func(a, b slotsAt) int { return cmp.Compare(a.Host, b.Host) })
	return out
}

// fitsMany is the part of what is wanted that hosts have room for, and why not
// all.
func (l *Ledger) fitsMany(ask *askMsg, comp Component, want Slots) (binding, string) {
	if want.IsEmpty() {
		return binding{}, ""
	}
	l.noteShape(comp.Need())
	x, why := l.chooser(ask.UID, ask.Component, comp, ask.Replaces)
	if why != "" {
		return binding{}, why
	}
	need, wanted := comp.Need(), want.Len()
	x.asked(need, wanted)
	volumes := need.Disk - comp.Takes().Disk
	if volumes <= 0 || !x.volumeArch(ask.UID, ask.Component, want) {
		x.chooseArch(need)
	}
	if volumes > 0 {
		want = x.stay(ask.UID, ask.Component, want)
		x.left = min(x.left, l.slotsMax()-len(l.volumes.all))
	}
	x.spread(want.Slice(), need, volumes)
	bound := x.end()
	if bound.slots.Len() == wanted {
		return bound, ""
	}
	return bound, x.short(bound.slots.Len(), need)
}

// short is why no more slots were bound.
func (x *chooser) short(bound int, need Resources) string {
	hosts, largest := 0, Resources{}
	for _, b := range x.l.hosts {
		if x.may(b) {
			hosts++
			largest = most(largest, b.free())
		}
	}
	why := fmt.Sprintf("no room: %d slots fit on %d hosts that may take them", bound, hosts)
	if text := shortOf(need, largest); text != "" {
		why += "; " + text + " on one of them"
	}
	if beside := x.comp.beside(); beside != "" {
		why += "; " + beside
	}
	return why
}

// rebind binds slots of a claim whose host is gone to others that are like it, and
// says which found room.
func (l *Ledger) rebind(c *claim, slots Slots) Slots {
	if c.Spec.Kind() == "" || c.Spec.Exclusive.On || len(c.Spec.Volumes) > 0 || !l.many() {
		return Slots{} // these are for their steward to place
	}
	x, why := l.chooser(c.UID, c.Component, c.Spec, nil)
	if why != "" {
		return Slots{}
	}
	x.arch, x.made.Need = l.archOf(c), c.Need
	done := x.spread(slots.Slice(), c.Need, 0)
	bound := x.end()
	if done == 0 {
		return Slots{}
	}
	l.charge(c, bound.slots, -1)
	for _, a := range bound.at {
		c.bind(a.Host, a.Slots)
	}
	if c.Devices == nil && len(bound.devices) > 0 {
		c.Devices = map[Slot][]string{}
	}
	for n, devices := range bound.devices {
		c.Devices[n] = devices
	}
	l.charge(c, bound.slots, 1)
	return bound.slots
}
