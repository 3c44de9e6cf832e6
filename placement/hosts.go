package placement

import (
	"cmp"
	"slices"
	"sort"
)

// This file is the hosts of a peer, and what of its claims is on which. Most
// peers have one: then nothing says where a slot is, on disk, in labels or to a
// driver, and rooms and classes are not kept.
//
//	HostChanged ──▶ known ◀──────────── HostChanged ────┐
//	                  │ HostGone                        │
//	                  ▼                                 │
//	                gone: what is on it moves to other hosts of the peer, or is given back
//	                  │ nothing is left on it
//	                  ▼
//	              forgotten

const (
	// hostsMax bounds the hosts of one peer.
	hostsMax = 4096
	// peerSlotsMax bounds the slots of a peer that has many hosts; each of them
	// has slotsHeldMax at most.
	peerSlotsMax = 1 << 20
	// claimSlotsMax bounds the slots of one claim, which must be read again.
	claimSlotsMax = 1 << 15
)

// hostBook is one host, and what is granted of it.
type hostBook struct {
	Host
	known  bool              // it was told of in this life of the daemon
	gone   bool              // for good
	seen   uint64            // hash of Host
	labels map[string]string // its own, and those of its peer that it has not itself
	used   Resources
	slots  int
	gpus   map[string]GPUShare // granted, by device
	class  *class              // of a known one, when there are many
	told   tally               // what its class counts of it
	stirs  bool                // it changed since
}

// slotsAt is slots of a claim on one host; Host is "" for the peer's own.
type slotsAt struct {
	_     struct{} `cbor:",toarray"`
	Host  string
	Slots Slots
}

// hostRun is a run of slots on one host.
type hostRun struct {
	first, end Slot
	host       string
}

// hostOf is the host that a slot of a claim is on, "" for the peer's own.
func (c *claim) hostOf(n Slot) string {
	if len(c.At) == 0 {
		return ""
	}
	if c.runs == nil {
		for _, a := range c.At {
			for first, end := range a.Slots.runs() {
				c.runs = append(c.runs, hostRun{Slot(first), Slot(end), a.Host})
			}
		}
		slices.SortFunc(c.runs, func(a, b hostRun) int { return cmp.Compare(a.first, b.first) })
	}
	at := sort.Search(len(c.runs), func(i int) bool { return c.runs[i].end > n })
	if at < len(c.runs) && c.runs[at].first <= n {
		return c.runs[at].host
	}
	return ""
}

// on is the slots of a claim that are on a host.
func (c *claim) on(host string) Slots {
	if len(c.At) == 0 {
		if host == "" {
			return c.holds()
		}
		return Slots{}
	}
	if at, ok := c.spot(host); ok {
		return c.At[at].Slots
	}
	return Slots{}
}

func (c *claim) spot(host string) (int, bool) {
	return slices.BinarySearchFunc(c.At, host, func(a slotsAt, host string) int { return cmp.Compare(a.Host, host) })
}

// bind notes where slots of a claim are from now on.
func (c *claim) bind(host string, slots Slots) {
	if len(c.At) == 0 {
		if host == "" {
			return
		}
		if all := c.holds().Minus(slots); !all.IsEmpty() {
			c.At = []slotsAt{{Slots: all}}
		}
	}
	var out []slotsAt
	for _, a := range c.At {
		if a.Host != host {
			a.Slots = a.Slots.Minus(slots)
		}
		if !a.Slots.IsEmpty() {
			out = append(out, a)
		}
	}
	c.At, c.runs = out, nil
	if at, ok := c.spot(host); ok {
		c.At[at].Slots = c.At[at].Slots.Union(slots)
	} else {
		c.At = slices.Insert(c.At, at, slotsAt{Host: host, Slots: slots})
	}
}

// unbind forgets where a slot was that has stopped. runs may name it still.
func (c *claim) unbind(n Slot) {
	at, ok := c.spot(c.hostOf(n))
	if !ok {
		return
	}
	switch left := c.At[at].Slots.Remove(n); {
	case !left.IsEmpty():
		c.At[at].Slots = left
	case len(c.At) > 1: // else it would be a claim of the peer's own host
		c.At = slices.Delete(c.At, at, at+1)
	}
}

// many says whether this peer has, or had, more than one host, those among them
// that only claims speak of.
func (l *Ledger) many() bool { return l.rooms != nil }

// nameOfHost is how claims, volumes and labels of work name a host.
func (l *Ledger) nameOfHost(id string) string {
	if id == l.own {
		return ""
	}
	return id
}

// book is a host by its id, or by "" the peer's own: the first that was told of.
func (l *Ledger) book(id string) *hostBook {
	if id == "" {
		id = l.own
	}
	b := l.hosts[id]
	if b == nil {
		b = &hostBook{Host: Host{ID: id}, gpus: map[string]GPUShare{}}
		l.hosts[id] = b
		if l.rooms == nil && len(l.hosts) > 1 {
			l.beginMany()
		}
	}
	return b
}

// ownHost is the peer's own host, as far as it is known.
func (l *Ledger) ownHost() *hostBook {
	if b := l.hosts[l.own]; b != nil {
		return b
	}
	return &hostBook{}
}

// slotsMax bounds the slots that are held.
func (l *Ledger) slotsMax() int { return min(peerSlotsMax, max(1, l.knownHosts)*slotsHeldMax) }

// claimsMax bounds the claims.
func (l *Ledger) claimsMax() int { return min(peerClaimsMax, max(1, l.knownHosts)*claimsMax) }

// open says whether a host takes new work.
func (b *hostBook) open() bool { return b.known && !b.Cordoned && b.Full == "" }

// free is what is left of a host; it may be negative.
func (b *hostBook) free() Resources { return b.Capacity.Sub(b.used) }

// freeGPUs is what is left of its devices, in its order.
func (b *hostBook) freeGPUs() []FreeGPU {
	var out []FreeGPU
	for _, d := range b.GPUs {
		out = append(out, FreeGPU{Model: d.Model, Free: wholeGPU - b.gpus[d.ID], id: d.ID})
	}
	return out
}

// charge adds (or with -1 takes off) what slots of a claim hold, each at its
// host.
func (l *Ledger) charge(c *claim, slots Slots, sign int) {
	switch {
	case slots.IsEmpty():
	case len(c.At) == 0:
		l.chargeAt(l.book(""), c, slots, sign)
	case slots.Len() == 1:
		for n := range slots.All() {
			l.chargeAt(l.book(c.hostOf(n)), c, slots, sign)
		}
	default:
		for _, a := range c.At {
			l.chargeAt(l.book(a.Host), c, slots.Intersect(a.Slots), sign)
		}
	}
}

func (l *Ledger) chargeAt(b *hostBook, c *claim, slots Slots, sign int) {
	n := sign * slots.Len()
	if n == 0 {
		return
	}
	sum := c.Need.Times(n)
	b.used, l.used = b.used.Add(sum), l.used.Add(sum)
	b.slots += n
	l.slots += n
	gpus := c.Need.GPU.Count > 0 && len(c.Devices) > 0
	if gpus {
		for n := range slots.All() {
			b.chargeGPUs(c.Devices[n], c.Need.GPU, GPUShare(sign))
		}
	}
	switch {
	case l.rooms == nil:
	case !gpus && sign > 0:
		l.rooms.take(b.ID, sum, nil)
	case !gpus:
		l.rooms.give(b.ID, c.Need.Times(-n), nil)
	default:
		for n := range slots.All() {
			if sign > 0 {
				l.rooms.take(b.ID, c.Need, c.Devices[n])
			} else {
				l.rooms.give(b.ID, c.Need, c.Devices[n])
			}
		}
	}
	l.stir(b)
	l.settleGone(b)
}

// chargeDisk adds what volumes take of a host, or with less than 0 takes it off.
func (l *Ledger) chargeDisk(b *hostBook, more Bytes) {
	if more == 0 {
		return
	}
	b.used.Disk += more
	l.used.Disk += more
	switch {
	case l.rooms == nil:
	case more > 0:
		l.rooms.take(b.ID, Resources{Disk: more}, nil)
	default:
		l.rooms.give(b.ID, Resources{Disk: -more}, nil)
	}
	l.stir(b)
	l.settleGone(b)
}

// hostChanged enters a host or what is new of one, and says whether anything is,
// and whether it was not known before.
func (l *Ledger) hostChanged(h Host) (changed, fresh bool) {
	seen := fnvOf(h)
	b := l.hosts[h.ID]
	switch {
	case h.ID == "" || len(h.ID) > hostBytesMax:
		return false, false
	case b == nil && l.knownHosts >= hostsMax:
		return false, false
	case b != nil && b.known && b.seen == seen:
		return false, false
	}
	if l.own == "" {
		l.adoptOwn(h.ID)
	}
	b = l.book(h.ID)
	fresh = !b.known
	if b.known {
		l.uncount(b)
	}
	b.Host, b.known, b.gone, b.seen = h, true, false, seen
	b.labels = over(h.Labels, l.labels)
	l.count(b)
	l.changes++
	return true, fresh
}

// over is labels, and those of others whose names are not among them.
func over(labels, others map[string]string) map[string]string {
	if len(labels) == 0 {
		return others
	}
	out := make(map[string]string, len(labels)+len(others))
	for k, v := range others {
		out[k] = v
	}
	for k, v := range labels {
		out[k] = v
	}
	return out
}

// adoptOwn gives what is on the peer's own host to the one that is it.
func (l *Ledger) adoptOwn(id string) {
	b := l.hosts[""]
	l.own = id
	if b == nil {
		return
	}
	delete(l.hosts, "")
	b.ID = id
	if at := l.hosts[id]; at != nil { // claims name it too
		b.used = b.used.Add(at.used)
		b.slots += at.slots
		for device, n := range at.gpus {
			b.gpus[device] += n
		}
	}
	if l.hosts[id] = b; l.many() {
		l.beginMany()
	}
}

// count enters what a known host has into the sums of all.
func (l *Ledger) count(b *hostBook) {
	l.knownHosts++
	l.capacity = l.capacity.Add(b.Capacity)
	for _, d := range b.Drivers {
		l.drivers[d]++
	}
	if !l.many() {
		return
	}
	if b.open() {
		l.rooms.put(b.ID, b.Capacity, b.GPUs)
	}
	l.classify(b)
}

// uncount is the reverse.
func (l *Ledger) uncount(b *hostBook) {
	l.knownHosts--
	l.capacity = l.capacity.Sub(b.Capacity)
	for _, d := range b.Drivers {
		if l.drivers[d]--; l.drivers[d] == 0 {
			delete(l.drivers, d)
		}
	}
	if !l.many() {
		return
	}
	if b.open() {
		l.rooms.drop(b.ID)
	}
	l.declassify(b)
}

// beginMany begins to keep rooms and classes: the peer has more than one host.
func (l *Ledger) beginMany() {
	l.rooms, l.classes = newRooms(), newClasses()
	for _, id := range sortedKeys(l.hosts) {
		b := l.hosts[id]
		if b.open() {
			l.rooms.put(id, b.Capacity, b.GPUs)
		}
		if b.used != (Resources{}) {
			l.rooms.take(id, b.used, nil)
		}
		for _, device := range sortedKeys(b.gpus) {
			l.rooms.take(id, Resources{GPU: GPU{Count: b.gpus[device]}}, []string{device})
		}
		if b.known {
			l.classify(b)
		}
	}
}

// hostGone ends a host for good. What is on it counts until it is elsewhere or
// given back.
func (l *Ledger) hostGone(b *hostBook) {
	if b.known {
		l.uncount(b)
	}
	b.known, b.gone = false, true
	l.changes++
	l.settleGone(b)
}

// settleGone forgets a host that is gone and has nothing on it.
func (l *Ledger) settleGone(b *hostBook) {
	if b.gone && b.slots == 0 && b.used == (Resources{}) && b.ID != l.own {
		delete(l.hosts, b.ID)
	}
}

// ready says whether a slot of a claim may be started where it is.
func (l *Ledger) ready(c *claim, n Slot) bool {
	return len(c.At) == 0 || l.book(c.hostOf(n)).known && !c.moving.Contains(n) && !c.stranded.Contains(n)
}

// archOf is the architecture of the hosts of a claim: it is the same for all.
func (l *Ledger) archOf(c *claim) string {
	if len(c.At) == 0 {
		return l.ownHost().Arch
	}
	return l.book(c.At[0].Host).Arch
}
