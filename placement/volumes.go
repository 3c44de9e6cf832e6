package placement

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// This file is the volumes of this peer's hosts. A volume belongs to a slot of an
// app, not to a claim: it is entered with the first grant of the slot here, and
// outlives that and every other one. It goes when its app was removed and a week
// has passed, or when a person says so.
//
//	grant ──▶ entered ──the slot may start──▶ used ──the app is removed──▶ parked ──a week──▶ dropped ──▶ gone
//	             │ the reservation came to nothing    ◀──an edit outlived that──┘    the node deletes the data
//	             ▼
//	            gone

// tableVolumes: VolumeID -> volume, on its peer's disk.
const tableVolumes = "volumes"

// VolumeID names what a slot of an app keeps at a host: all of its volumes.
type VolumeID struct {
	UID       UID
	Component string
	Slot      Slot
}

// String is "uid/component/slot".
func (v VolumeID) String() string {
	return string(v.UID) + "/" + v.Component + "/" + strconv.FormatUint(uint64(v.Slot), 10)
}

// ParseVolumeID reads what String wrote.
func ParseVolumeID(text string) (VolumeID, error) {
	parts := strings.Split(text, "/")
	if len(parts) == 3 && parts[0] != "" && parts[1] != "" {
		if n, err := strconv.ParseUint(parts[2], 10, 32); err == nil && n < SlotsMax {
			return VolumeID{UID(parts[0]), parts[1], Slot(n)}, nil
		}
	}
	return VolumeID{}, fmt.Errorf("volume %q: %w: uid/component/slot", clip(text), ErrInvalid)
}

// volume is what a slot keeps here, as it stands on disk.
type volume struct {
	Key     AppKey           `cbor:"k"`
	Sizes   map[string]Bytes `cbor:"s"`           // by name: what was asked for at most, ever
	Created int64            `cbor:"c"`           // Unix milliseconds
	Used    bool             `cbor:"u,omitempty"` // the slot may have started with it: there may be data
	Listed  bool             `cbor:"l,omitempty"` // the catalog listed its app since
	Behind  bool             `cbor:"b,omitempty"` // the slot runs elsewhere, with a volume there
	Parked  int64            `cbor:"p,omitempty"` // Unix milliseconds: its app was found removed; 0: it was not
	Left    int64            `cbor:"e,omitempty"` // of a parked one, nanoseconds: counted while the daemon runs, so that no clock that jumps deletes data
	Dropped bool             `cbor:"d,omitempty"` // its data is being deleted
	Host    string           `cbor:"h,omitempty"` // where it lies; "" is the peer's own host
}

func (v *volume) size() Bytes {
	var sum Bytes
	for _, n := range v.Sizes {
		sum += n
	}
	return sum
}

// stands says whether the slot would find its data in it.
func (v *volume) stands() bool { return v.Used && !v.Behind && v.Parked == 0 && !v.Dropped }

// Need is what a slot takes at a host where it has no volume yet.
func (c Component) Need() Resources {
	need := c.Takes()
	for _, v := range c.Volumes {
		need.Disk += v.Size
	}
	return need
}

// volumes is what a ledger keeps of them.
type volumes struct {
	all   map[VolumeID]*volume
	byApp map[UID]map[VolumeID]bool
}

func newVolumes() volumes {
	return volumes{all: map[VolumeID]*volume{}, byApp: map[UID]map[VolumeID]bool{}}
}

// of is the volumes of an app, in order.
func (v *volumes) of(uid UID) []VolumeID {
	ids := make([]VolumeID, 0, len(v.byApp[uid]))
	for id := range v.byApp[uid] {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b VolumeID) int { return strings.Compare(a.String(), b.String()) })
	return ids
}

func (l *Ledger) addVolume(id VolumeID, v *volume) {
	l.volumes.all[id] = v
	if l.volumes.byApp[id.UID] == nil {
		l.volumes.byApp[id.UID] = map[VolumeID]bool{}
	}
	l.volumes.byApp[id.UID][id] = true
	l.chargeDisk(l.book(v.Host), v.size())
}

func (l *Ledger) removeVolume(id VolumeID) Write {
	if v := l.volumes.all[id]; v != nil {
		l.chargeDisk(l.book(v.Host), -v.size())
	}
	delete(l.volumes.all, id)
	delete(l.volumes.byApp[id.UID], id)
	if len(l.volumes.byApp[id.UID]) == 0 {
		delete(l.volumes.byApp, id.UID)
	}
	return Write{Table: tableVolumes, Key: id.String()}
}

func (l *Ledger) writeVolume(id VolumeID) Write {
	return Write{Table: tableVolumes, Key: id.String(), Value: Encode(l.volumes.all[id])}
}

func (l *Ledger) loadVolume(key string, value []byte) error {
	id, err := ParseVolumeID(key)
	if err != nil {
		return err
	}
	v := &volume{}
	if err := Decode(value, v); err != nil {
		return err
	}
	l.addVolume(id, v)
	return nil
}

// growth is how much more disk a slot's volumes would take than they do.
func (l *Ledger) growth(id VolumeID, wanted map[string]Volume) Bytes {
	var more Bytes
	have := l.volumes.all[id]
	for name, w := range wanted {
		if have == nil {
			more += w.Size
		} else {
			more += max(0, w.Size-have.Sizes[name])
		}
	}
	return more
}

// fitting is those of the slots that there is room for on the only host. Those that have their
// volume here go first, and need none for that.
func (l *Ledger) fitting(ask *askMsg, comp Component, want Slots) Slots {
	room := slotsHeldMax - l.slots
	free := l.ownHost().free()
	if len(comp.Volumes) == 0 {
		return want.Min(min(free.Fits(comp.Takes()), room))
	}
	left, out := free, Slots{}
	entered := len(l.volumes.all)
	for _, here := range []bool{true, false} {
		for n := range want.All() {
			id := VolumeID{ask.UID, ask.Component, n}
			v := l.volumes.all[id]
			if (v != nil) != here || v != nil && v.Dropped || v == nil && entered >= slotsHeldMax {
				continue
			}
			need := comp.Takes()
			need.Disk += l.growth(id, comp.Volumes)
			if out.Len() == room {
				return out
			}
			if left.Fits(need) == 0 {
				continue
			}
			left, out = left.Sub(need), out.Add(n)
			if v == nil {
				entered++
			}
		}
	}
	return out
}

// keep enters the volumes of slots of a claim, or makes them larger. What was
// entered for this claim is noted, until it is on disk.
func (l *Ledger) keep(now time.Time, c *claim, slots Slots, sizes map[string]Volume) []Write {
	if len(sizes) == 0 {
		return nil
	}
	var writes []Write
	for n := range slots.All() {
		id := VolumeID{c.UID, c.Component, n}
		v := l.volumes.all[id]
		if v == nil {
			v = &volume{Key: c.Key, Sizes: map[string]Bytes{}, Created: now.UnixMilli(), Host: c.hostOf(n)}
			l.addVolume(id, v)
			c.entered = c.entered.Add(n)
		}
		before := v.size()
		for name, w := range sizes {
			v.Sizes[name] = max(v.Sizes[name], w.Size)
		}
		l.chargeDisk(l.book(v.Host), v.size()-before)
		v.Behind = false
		v.Used = v.Used || c.State != claimReserved
		writes = append(writes, l.writeVolume(id))
	}
	return writes
}

// holdsSlot says whether a claim but c has a slot of a component, or is stopping
// it.
func (l *Ledger) holdsSlot(id VolumeID, but *claim) bool {
	for _, o := range l.byApp[id.UID] {
		if o != but && o.Component == id.Component && o.holds().Contains(id.Slot) {
			return true
		}
	}
	return false
}

// unkeep takes back what was entered for a claim that could not be written.
func (l *Ledger) unkeep(c *claim) {
	for n := range c.entered.All() {
		if id := (VolumeID{c.UID, c.Component, n}); l.volumes.all[id] != nil && !l.holdsSlot(id, c) {
			l.removeVolume(id)
		}
	}
}

// unused ends the volumes of a slot that never started with them.
func (l *Ledger) unused(id VolumeID) []Write {
	if v := l.volumes.all[id]; v == nil || v.Used || l.holdsSlot(id, nil) {
		return nil
	}
	return []Write{l.removeVolume(id)}
}

// leaveBehind notes that slots run elsewhere, with volumes of their own there:
// nobody is sent here for the data any more.
func (l *Ledger) leaveBehind(c *claim, slots Slots) []Write {
	var writes []Write
	for n := range slots.All() {
		id := VolumeID{c.UID, c.Component, n}
		if v := l.volumes.all[id]; v != nil && !v.Behind && !l.holdsSlot(id, c) {
			v.Behind = true
			writes = append(writes, l.writeVolume(id))
		}
	}
	return writes
}

// kept is which slots of an app's components find their data here; of apps that
// the catalog listed alone, if so wanted.
func (l *Ledger) kept(uid UID, listed bool) map[string]Slots {
	var out map[string]Slots
	for id := range l.volumes.byApp[uid] {
		if v := l.volumes.all[id]; v.stands() && (v.Listed || !listed) {
			if out == nil {
				out = map[string]Slots{}
			}
			out[id.Component] = out[id.Component].Add(id.Slot)
		}
	}
	return out
}
