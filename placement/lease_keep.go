package placement

import (
	"cmp"
	"slices"
	"strconv"
	"time"
)

// Tables of a keeper's promises on its disk.
const (
	tableLeases    = "leases"    // UID/component/slot -> leaseSlot
	tableLeaseApps = "leaseapps" // UID -> leaseApp
)

// leaseAppsMax bounds the apps whose leases a keeper votes on, those that are
// gone and whose numbers it remembers among them.
const leaseAppsMax = 1 << 16

// LeaseKeeper is the votes of one keeper on leases: what it promised to whom.
// Like Keeper it changes what is in memory and returns the writes that must be
// on disk before the answer leaves.
//
// Invariants: in this keeper's clock at most one claim has a slot at a time; a
// number is granted to one claim, and is above all that were granted before,
// but for a lease that stands already; both over any number of restarts.
type LeaseKeeper struct {
	tune  Tuning
	apps  map[UID]*leaseApp
	names map[AppKey]UID // which app of a name has the leases
}

// leaseApp is what a keeper remembers of an app's leases as a whole.
type leaseApp struct {
	UID   UID    `cbor:"u"`
	Key   AppKey `cbor:"k"`
	Floor uint64 `cbor:"f,omitempty"` // no number of a slot without a record is above it
	Epoch uint64 `cbor:"e"`           // of the list by which it has voted for a keeperTerm
	Named bool   `cbor:"n,omitempty"` // it has the leases of its name
	Gone  bool   `cbor:"g,omitempty"` // this peer forgot the app

	by    uint64        // the epoch by which it votes
	quiet time.Duration // until when it grants nothing new
	slots map[slotName]*leaseSlot
}

type slotName struct {
	component string
	slot      Slot
}

// leaseSlot is the promise for one slot.
//
//	free ──grant──▶ in force ──5/4 L without a renewal──▶ over
//	  ▲                │  ▲                                │
//	  └────released────┘  └──another claim, or the same────┘
type leaseSlot struct {
	UID       UID     `cbor:"u"`
	Component string  `cbor:"c"`
	Slot      Slot    `cbor:"s"`
	Claim     ClaimID `cbor:"i,omitzero"` // zero: free
	Number    uint64  `cbor:"n"`
	Highest   uint64  `cbor:"h"`

	until  time.Duration // Now.Mono
	writes uint64        // made so far
	onDisk uint64        // the newest of them that is
}

func newLeaseKeeper(tune Tuning) *LeaseKeeper {
	return &LeaseKeeper{tune: tune, apps: map[UID]*leaseApp{}, names: map[AppKey]UID{}}
}

// load restores one record. What does not decode is an error: a promise must
// not be taken for none.
func (k *LeaseKeeper) load(table string, value []byte) error {
	if table == tableLeaseApps {
		var a leaseApp
		if err := Decode(value, &a); err != nil {
			return err
		}
		old := k.open(a.UID)
		a.slots, a.by = old.slots, a.Epoch
		*old = a
		if a.Named {
			k.names[a.Key] = a.UID
		}
		return nil
	}
	s := &leaseSlot{}
	if err := Decode(value, s); err != nil {
		return err
	}
	k.open(s.UID).slots[slotName{s.Component, s.Slot}] = s
	return nil
}

// begin is after a start: how long what was granted is in force is not known.
func (k *LeaseKeeper) begin(now Now) {
	for _, a := range k.apps {
		for _, s := range a.slots {
			if k.tune.Break != FaultLeaseRestart {
				s.until = now.Mono + k.tune.keeperTerm()
			}
		}
	}
}

func (k *LeaseKeeper) open(uid UID) *leaseApp {
	a := k.apps[uid]
	if a == nil {
		a = &leaseApp{UID: uid, slots: map[slotName]*leaseSlot{}}
		k.apps[uid] = a
	}
	return a
}

// votesBy notes the list by which this peer votes on an app from now on; member
// says that it is in it, not only in the one that is to follow. One by which it
// did not vote before may have granted, with others, what this peer knows nothing
// of.
func (k *LeaseKeeper) votesBy(uid UID, key AppKey, epoch uint64, member bool, now Now) *leaseApp {
	a := k.apps[uid]
	switch {
	case a == nil && len(k.apps) >= leaseAppsMax && !k.dropGone():
		return nil
	case a == nil:
		a = k.open(uid)
		if epoch > firstEpoch || !member {
			a.quiet = now.Mono + k.tune.keeperTerm()
		}
	case a.Gone || a.by != epoch:
		a.quiet = now.Mono + k.tune.keeperTerm()
	}
	a.Key, a.by, a.Gone = key, epoch, false
	return a
}

// dropGone makes room: what is dropped past the bound is one by chance, since a
// UID is random. Its record stays on disk until the next start.
func (k *LeaseKeeper) dropGone() bool {
	for _, uid := range sortedKeys(k.apps) {
		if k.apps[uid].Gone {
			delete(k.apps, uid)
			return true
		}
	}
	return false
}

// firstEpoch is that of a list that was made with its app: nobody voted on it
// before.
const firstEpoch = 1

// settled notes on disk by which list it votes, once what it may not have known
// of is over: a restart before that waits anew.
func (k *LeaseKeeper) settled(a *leaseApp, now Now) []Write {
	if now.Mono < a.quiet || a.Epoch == a.by {
		return nil
	}
	a.Epoch = a.by
	return []Write{a.write()}
}

func (a *leaseApp) write() Write {
	return Write{Table: tableLeaseApps, Key: string(a.UID), Value: Encode(a)}
}

func (s *leaseSlot) write() Write {
	s.writes++
	return Write{Table: tableLeases, Key: s.key(), Value: Encode(s)}
}

func (s *leaseSlot) key() string {
	return string(s.UID) + "/" + s.Component + "/" + strconv.FormatUint(uint64(s.Slot), 10)
}

// takeName gives the leases of a name to this app, if no other has them.
func (k *LeaseKeeper) takeName(a *leaseApp, standing func(UID) bool, now Now) (writes []Write, ok bool) {
	has := k.names[a.Key]
	if has == a.UID {
		return nil, true
	}
	if other := k.apps[has]; other != nil {
		inForce := slices.ContainsFunc(other.sorted(), func(s *leaseSlot) bool { return s.Claim != (ClaimID{}) && now.Mono < s.until })
		if standing(has) || inForce {
			return nil, false
		}
		other.Named = false
		writes = append(writes, other.write())
	}
	k.names[a.Key], a.Named = a.UID, true
	return append(writes, a.write()), true
}

func (n slotName) compare(o slotName) int {
	return cmp.Or(cmp.Compare(n.component, o.component), cmp.Compare(n.slot, o.slot))
}

// sorted is the slots in order.
func (a *leaseApp) sorted() []*leaseSlot {
	var out []*leaseSlot
	for _, s := range a.slots {
		out = append(out, s)
	}
	slices.SortFunc(out, func(x, y *leaseSlot) int {
		return slotName{x.Component, x.Slot}.compare(slotName{y.Component, y.Slot})
	})
	return out
}

// vote decides on one item. changed says that the slot's record is to be
// written before the answer leaves.
func (k *LeaseKeeper) vote(a *leaseApp, it *leaseItem, now Now) (answer leasedItem, s *leaseSlot, changed bool) {
	name := slotName{it.Component, it.Slot}
	answer = leasedItem{Claim: it.Claim, Slot: it.Slot, Number: it.Number, Lists: it.Lists}
	if s = a.slots[name]; s == nil {
		s = &leaseSlot{UID: a.UID, Component: it.Component, Slot: it.Slot, Highest: a.Floor}
	}
	mine, highest := s.Claim == it.Claim, max(s.Highest, floorOf(a.by))
	others := s.Claim != (ClaimID{}) && !mine && now.Mono < s.until && k.tune.Break != FaultIgnoreExpiry
	switch {
	case others:
		answer.Not, answer.Holder = leaseHeld, s.Claim.Owner.Peer
		answer.Left = (s.until - now.Mono).Milliseconds()
	case mine && it.Number == s.Number: // renewed
	case it.Number > highest+numberJumpMax:
		answer.Not = leaseLow
	case it.Stands: // nobody else holds it, then; its number was above all before it once
	case now.Mono < a.quiet:
		answer.Not, answer.Left = leaseQuiet, (a.quiet - now.Mono).Milliseconds()
	case it.Number <= highest:
		answer.Not = leaseLow
	}
	if answer.Not != "" {
		answer.Highest = highest
		return answer, s, false
	}
	changed = !mine || it.Number != s.Number || s.onDisk < s.writes
	s.Claim, s.Number, s.Highest = it.Claim, it.Number, max(s.Highest, it.Number)
	s.until = now.Mono + k.tune.keeperTerm()
	a.slots[name] = s
	return answer, s, changed
}

// free ends the lease of a claim that needs it no more. One from before the
// claim got it anew ends nothing.
func (k *LeaseKeeper) free(a *leaseApp, it *leaseItem) (s *leaseSlot, changed bool) {
	s = a.slots[slotName{it.Component, it.Slot}]
	if s == nil || s.Claim != it.Claim || it.Number < s.Number || it.Number > max(s.Highest, floorOf(a.by))+numberJumpMax {
		return s, false
	}
	s.Claim, s.until = ClaimID{}, 0
	s.Highest = max(s.Highest, it.Number) // what was asked before and comes late is too low
	return s, true
}

// forget ends the records of an app that is gone, but for the highest number: it
// may yet come back.
func (k *LeaseKeeper) forget(uid UID) []Write {
	a := k.apps[uid]
	if a == nil || a.Gone {
		return nil
	}
	var writes []Write
	for _, s := range a.sorted() {
		a.Floor = max(a.Floor, s.Highest)
		writes = append(writes, Write{Table: tableLeases, Key: s.key()})
	}
	clear(a.slots)
	if k.names[a.Key] == uid {
		delete(k.names, a.Key)
	}
	a.Gone, a.Named = true, false
	if a.Floor == 0 {
		delete(k.apps, uid)
		return append(writes, Write{Table: tableLeaseApps, Key: string(uid)})
	}
	return append(writes, a.write())
}
