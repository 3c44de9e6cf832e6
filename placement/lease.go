package placement

import (
	"slices"
	"time"
)

// This file is what holders and keepers of leases agree on.
//
// A lease is the right of one claim to run one exclusive slot (Gray and
// Cheriton, 1989). It rests on answers of a majority of the app's keepers, of
// both lists while the list changes, and on clocks that tick at nearly one
// rate; never on clocks that agree.
//
//	holder                                        keeper (each of the list)
//	 t0 ── lease(claim, slot, number) ──────────▶  nobody else's lease is in force here,
//	                                               and the number is above all before it:
//	                                               on disk, then in force until its
//	    ◀─────────────── leased(granted) ───────   now + 5/4 L, by its clock
//	 t0 + L, by its clock, is the end: of the
//	 majority-th newest t0 that was granted
//
// Why two never run at once: two majorities share a keeper, which counts its
// promise from receipt, for a quarter longer than the holder, who counts from
// sending. So the holder has ended first while the rates of the two clocks are
// within a quarter of each other (DriftMax): latency, and clocks that are set,
// only add to that. What is executing is ended by its driver at the deadline,
// without this core (WorkSpec.Until); after a suspend a machine may execute
// until the driver notices, which the number covers: whoever stores something
// can refuse a lower one than it has seen.
//
// Grants, and transfers from one claim to another, are on the keeper's disk
// before it answers. Renewals are not written: a keeper that was down treats
// what its disk says was granted as in force for a whole 5/4 L from its start.
// A keeper that votes by a list it did not vote by before, or that forgot the
// app and got it again, grants nothing new for that long; who says that it holds
// the lease now is believed all the same, since then nobody else does.
//
// A vote counts under the lists that it was asked under, and keeper and holder
// must know the same ones: who renews by an old list can't go on past its end.
//
// Numbers rise under one list since any two majorities of it share a keeper, and
// from list to list since each has numbers of its own (floorOf).

// leaseShare divides a lease: it is renewed that often before it ends.
const leaseShare = 3

// DriftMax is how far the rates of two peers' clocks may be apart, as a ratio,
// for leases to be safe.
const DriftMax = 1.25

// leaseOverrun is how much later than a lease's end its work may be heard to
// have ended before that is worth an event.
const leaseOverrun = time.Second

const (
	leaseItemsMax = 1024
	// numberJumpMax is how far one message may raise the number of a slot, so
	// that nobody who lies uses the numbers up.
	numberJumpMax = 1 << 32
	// epochNumbers is how many numbers a slot has under one list of keepers.
	epochNumbers = 1 << 40
)

// floorOf is what the numbers are above that are granted under a list: all that
// were granted under those before it. A keeper that takes the place of another
// knows none of them, and may make a majority with one that missed the last.
func floorOf(epoch uint64) uint64 { return (max(epoch, firstEpoch) - firstEpoch) * epochNumbers }

// listsID names the lists that a vote counts under: the epoch of the one that
// counts and, while it is being changed, the term that the next was proposed
// under.
type listsID struct {
	Now  uint64 `cbor:"n"`
	Next Term   `cbor:"x,omitzero"`
}

func (l lists) id() listsID { return listsID{Now: l.now.list.Epoch, Next: l.next.list.Term} }

type (
	// leaseMsg asks a keeper for leases, renews them or frees them: all that its
	// sender has to say to that keeper at the time. Request names it in answers.
	leaseMsg struct {
		Request uint64      `cbor:"r"`
		Items   []leaseItem `cbor:"i"`
	}

	leaseItem struct {
		UID       UID     `cbor:"u"`
		Component string  `cbor:"c"`
		Claim     ClaimID `cbor:"i"`
		Slot      Slot    `cbor:"s"`
		Number    uint64  `cbor:"n"`
		Lists     listsID `cbor:"l"`
		Stands    bool    `cbor:"t,omitempty"` // its sender holds the lease now
		Over      bool    `cbor:"o,omitempty"` // and needs it no more: nothing of it runs
	}

	// leasedMsg answers items of a leaseMsg, perhaps not all of them at once.
	leasedMsg struct {
		Request uint64       `cbor:"r"`
		By      PeerRef      `cbor:"b"` // the keeper, in this life of its store
		Items   []leasedItem `cbor:"i"`
	}

	leasedItem struct {
		Claim   ClaimID  `cbor:"i"`
		Slot    Slot     `cbor:"s"`
		Number  uint64   `cbor:"n"`
		Lists   listsID  `cbor:"l"`
		Over    bool     `cbor:"o,omitempty"` // freed, as asked
		Not     leaseNot `cbor:"w,omitempty"` // why it is not granted; "" when it is
		Highest uint64   `cbor:"h,omitempty"` // of the slot's numbers, when it is not granted
		Holder  PeerID   `cbor:"p,omitempty"` // who else holds it,
		Left    int64    `cbor:"e,omitempty"` // and for how many milliseconds at most
	}

	// leaseNot is why a keeper does not grant a lease.
	leaseNot string
)

// Why a lease is not granted.
const (
	leaseHeld    leaseNot = "held"    // by another claim
	leaseLow     leaseNot = "low"     // the number is not above those before it
	leaseQuiet   leaseNot = "quiet"   // the keeper is new, or was down: it waits for what it may not know of
	leaseOther   leaseNot = "lists"   // keeper and holder know other lists of keepers
	leaseUnknown leaseNot = "unknown" // no keeper of such a slot
	leaseName    leaseNot = "name"    // another app of this name has it
)

func (n leaseNot) text() string {
	switch n {
	case leaseQuiet:
		return "a keeper is new or was down, and waits until what it may not know of is over"
	case leaseOther:
		return "its keepers are being changed"
	case leaseUnknown:
		return "its keepers do not hold the app yet"
	case leaseName:
		return "another app of this name has the leases: resolve the conflict"
	}
	return "its number was too low"
}

// keeperTerm is how long a keeper holds its promise.
func (t Tuning) keeperTerm() time.Duration { return t.Lease + t.Lease/4 }

// stopTime is how long before the end of its lease work begins to stop: its
// grace, and time for the kill.
func (t Tuning) stopTime(c Component) time.Duration {
	grace := t.Lease / graceShare
	if g := time.Duration(c.Stop.Grace); g > 0 {
		grace = min(grace, g)
	}
	return grace + t.Lease/10
}

// end is when a lease of length term ends that these keepers granted to requests
// sent at these times: the newest time by which enough of them had answered.
func (l lists) end(granted map[PeerRef]time.Duration, term time.Duration) (time.Duration, bool) {
	var sent []time.Duration
	for _, ref := range l.refs() {
		if at, ok := granted[ref]; ok {
			sent = append(sent, at)
		}
	}
	slices.Sort(sent)
	for _, at := range slices.Backward(sent) {
		if l.decided(func(ref PeerRef) bool { g, ok := granted[ref]; return ok && g >= at }) {
			return at + term, true
		}
	}
	return 0, false
}
