package placement

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Ledger is what this peer has granted of its own hosts. Only it decides what
// fits. Methods change what is in memory, hold the capacity at once, and
// return the writes; the answer leaves when they are on disk.
//
// Invariants:
//   - the slots held on a host, times what each needs, fit its capacity, those
//     not on disk yet included;
//   - the highest term seen of an app is on disk before an order under it is
//     answered, and an order under a lower one is refused;
//   - one ask grants once.
type Ledger struct {
	self    PeerRef
	tune    Tuning
	price   float64
	labels  map[string]string // of the peer, which those of its hosts outrank
	own     string            // the host that is meant where none is named: the first that was told of
	hosts   map[string]*hostBook
	listed  map[string]bool // drivers that have said what they run
	booked  map[string]bool // drivers that did so in this life of the store: see accounts.go
	claims  map[ClaimID]*claim
	byApp   map[UID]map[ClaimID]*claim
	askers  map[askerKey]*askerRecord
	terms   map[UID]Term
	noted   map[UID]Term           // of terms, what is on disk
	newest  map[PeerID]Incarnation // of askers
	used    Resources              // of all hosts
	slots   int
	owed    map[ClaimID]uint64    // see debts
	places  map[ClaimID][]slotsAt // that were loaded before their claims
	volumes volumes

	capacity   Resources      // of all hosts that are known
	knownHosts int            // of hosts
	drivers    map[string]int // on how many known hosts each is
	rooms      *rooms         // what is free where; nil with one host
	classes    *classes       // likewise
	changes    uint64         // of hosts, and of what is told of them
	moves      uint64         // of what is granted on them
	// holdsOff says why this peer takes no slot of a component now, or "".
	holdsOff func(UID, Component) string
	// secretsBar is why no slot of a namespace's component may be here, or "".
	secretsBar func(namespace string, c Component) string
	debt       uint64
}

func newLedger(self PeerRef, tune Tuning, price float64) *Ledger {
	return &Ledger{
		self: self, tune: tune, price: price, listed: map[string]bool{}, booked: map[string]bool{},
		claims: map[ClaimID]*claim{}, byApp: map[UID]map[ClaimID]*claim{},
		askers: map[askerKey]*askerRecord{}, terms: map[UID]Term{},
		noted: map[UID]Term{}, newest: map[PeerID]Incarnation{}, owed: map[ClaimID]uint64{}, volumes: newVolumes(), places: map[ClaimID][]slotsAt{}, hosts: map[string]*hostBook{}, drivers: map[string]int{},
	}
}

// load restores one record of its tables.
func (l *Ledger) load(table, key string, value []byte) error {
	switch table {
	case tableClaims:
		c := &claim{}
		if err := Decode(value, c); err != nil {
			return err
		}
		c.work = c.State != claimReserved
		c.At = l.places[c.ID]
		delete(l.places, c.ID)
		l.add(c)
	case tablePlaces:
		return l.loadPlaces(key, value)
	case tableAskers:
		at := max(0, strings.LastIndexByte(key, '/'))
		inc, err := strconv.ParseUint(key[at+1:], 36, 64)
		if err != nil {
			return err
		}
		a := l.asker(askerKey{PeerID(key[:at]), Incarnation(inc)})
		return Decode(value, a)
	case tableVolumes:
		return l.loadVolume(key, value)
	case tableTerms:
		var t Term
		if err := Decode(value, &t); err != nil {
			return err
		}
		l.terms[UID(key)], l.noted[UID(key)] = t, t
	}
	return nil
}

// begin re-arms expiries after a restart: what was left then is left now.
func (l *Ledger) begin(now Now) {
	for _, c := range l.claims {
		if c.State == claimReserved || c.State == claimUnconfirmed {
			c.expires = now.Mono + time.Duration(c.Left)
		}
	}
}

func (l *Ledger) asker(key askerKey) *askerRecord {
	a := l.askers[key]
	if a == nil {
		a = &askerRecord{refused: map[uint64]string{}, claims: map[uint64]ClaimID{}}
		l.askers[key] = a
		l.newest[key.peer] = max(l.newest[key.peer], key.inc)
	}
	return a
}

// outlived ends the record of an asker's earlier life: it asks nothing more in
// that one, and what is asked in its name is refused. It stays while there are
// claims.
func (l *Ledger) outlived(key askerKey) []Write {
	if a := l.askers[key]; a == nil || key.inc >= l.newest[key.peer] || len(a.claims) > 0 {
		return nil
	}
	delete(l.askers, key)
	return []Write{{Table: tableAskers, Key: key.String()}}
}

func (k askerKey) String() string {
	return string(k.peer) + "/" + strconv.FormatUint(uint64(k.inc), 36)
}

func (l *Ledger) add(c *claim) {
	l.claims[c.ID] = c
	if l.byApp[c.UID] == nil {
		l.byApp[c.UID] = map[ClaimID]*claim{}
	}
	l.byApp[c.UID][c.ID] = c
	l.asker(askerKey{c.ID.Ask.Asker, c.ID.Ask.Incarnation}).claims[c.ID.Ask.Counter] = c.ID
	l.charge(c, c.holds(), 1)
}

// remove ends a claim; its ask is spent from now on.
func (l *Ledger) remove(c *claim) []Write {
	l.charge(c, c.holds(), -1)
	delete(l.claims, c.ID)
	delete(l.byApp[c.UID], c.ID)
	if len(l.byApp[c.UID]) == 0 {
		delete(l.byApp, c.UID)
	}
	key := askerKey{c.ID.Ask.Asker, c.ID.Ask.Incarnation}
	a := l.asker(key)
	delete(a.claims, c.ID.Ask.Counter)
	if c.ID.Ask.Counter >= a.Floor && !slices.Contains(a.Spent, c.ID.Ask.Counter) {
		a.Spent = append(a.Spent, c.ID.Ask.Counter)
	}
	writes := []Write{{Table: tableClaims, Key: c.ID.String()}}
	if len(c.At) > 0 {
		writes = append(writes, Write{Table: tablePlaces, Key: c.ID.String()})
	}
	if end := l.outlived(key); end != nil {
		return append(writes, end...)
	}
	return append(writes, l.writeAsker(key))
}

func (l *Ledger) writeAsker(key askerKey) Write {
	return Write{Table: tableAskers, Key: key.String(), Value: Encode(l.asker(key))}
}

// writePlaced writes a claim whose slots were bound to hosts.
func (l *Ledger) writePlaced(c *claim) []Write {
	if len(c.At) == 0 {
		return []Write{l.writeClaim(c)}
	}
	return []Write{l.writeClaim(c), {Table: tablePlaces, Key: c.ID.String(), Value: Encode(c.At)}}
}

// loadPlaces restores where the slots of a claim are.
func (l *Ledger) loadPlaces(key string, value []byte) error {
	id, err := ParseClaimID(key)
	var at []slotsAt
	if err == nil {
		err = Decode(value, &at)
	}
	if err != nil {
		return err
	}
	c := l.claims[id]
	if c == nil {
		l.places[id] = at
		return nil
	}
	l.charge(c, c.holds(), -1)
	c.At, c.runs = at, nil
	l.charge(c, c.holds(), 1)
	return nil
}

func (l *Ledger) writeClaim(c *claim) Write {
	return Write{Table: tableClaims, Key: c.ID.String(), Value: Encode(c)}
}

// sorted is the claims in order of their ids.
func (l *Ledger) sorted() []*claim {
	out := slices.Collect(maps.Values(l.claims))
	slices.SortFunc(out, func(a, b *claim) int { return a.ID.Compare(b.ID) })
	return out
}

// of is the claims of one app, in order of their ids.
func (l *Ledger) of(uid UID) []*claim {
	out := slices.Collect(maps.Values(l.byApp[uid]))
	slices.SortFunc(out, func(a, b *claim) int { return a.ID.Compare(b.ID) })
	return out
}

// fence checks an order's term. A higher one is noted, but for a deputy's, which
// is hearsay; its write must be on disk before the order is answered, and is
// returned again until termNoted says so.
func (l *Ledger) fence(uid UID, t Term, deputy bool) (writes []Write, higher Term, ok bool) {
	seen := l.terms[uid]
	if t.Compare(seen) < 0 && l.tune.Break != FaultNoFence {
		return nil, seen, false
	}
	if t.Compare(seen) > 0 && !deputy {
		l.terms[uid] = t
	}
	if t := l.terms[uid]; t != l.noted[uid] && l.tune.Break != FaultForgetTerm {
		writes = []Write{{Table: tableTerms, Key: string(uid), Value: Encode(t)}}
	}
	return writes, Term{}, true
}

// termNoted says that what a fence returned is on disk.
func (l *Ledger) termNoted(writes []Write) {
	for _, w := range writes {
		if uid := UID(w.Key); w.Table == tableTerms {
			var t Term
			if err := Decode(w.Value, &t); err == nil && t.Compare(l.noted[uid]) > 0 {
				l.noted[uid] = t
			}
		}
	}
}

// forgetTerm ends the fence of an app that is gone for good.
func (l *Ledger) forgetTerm(uid UID) []Write {
	if _, ok := l.terms[uid]; !ok {
		return nil
	}
	delete(l.terms, uid)
	delete(l.noted, uid)
	return []Write{{Table: tableTerms, Key: string(uid)}}
}

// confirm takes a claim's intent for known from now on, and returns what has to be
// written for that: nothing where the disk says already that it is work. Should it say
// that it is unconfirmed when this peer comes back, its catalog has the intent by then.
func (l *Ledger) confirm(c *claim) (confirmed bool, writes []Write) {
	if c.State != claimUnconfirmed || c.held {
		return false, nil
	}
	c.State, c.expires, c.Left = claimActive, 0, 0
	if c.work {
		return true, nil
	}
	return true, []Write{l.writeClaim(c)}
}

// Why a commit comes too late.
const (
	commitExpired = "expired" // the claim was given back
	commitUnknown = "unknown" // this life of the store never granted it
)

// commit makes a reservation work, and like a grant waits for an intent that is
// not in the catalog. A repeated one changes nothing.
func (l *Ledger) commit(now Now, m *commitMsg, listed bool) (c *claim, writes []Write, not string) {
	c = l.claims[m.Claim]
	switch {
	case m.Claim.Owner != l.self:
		l.tune.mark(MarkCommitUnknown)
		return nil, nil, commitUnknown
	case c == nil || c.UID != m.UID || c.State == claimReleasing:
		l.tune.mark(MarkCommitExpired)
		return nil, nil, commitExpired
	case c.State != claimReserved:
		return c, []Write{l.writeClaim(c)}, ""
	}
	c.State, c.expires, c.Left = claimActive, 0, 0
	if !listed {
		c.State, c.Left = claimUnconfirmed, int64(l.tune.ConfirmExpiry)
		c.expires = now.Mono + l.tune.ConfirmExpiry
	}
	return c, append(l.keep(now.Wall, c, c.Slots, c.Spec.Volumes), l.writeClaim(c)), ""
}

// release moves slots of a claim to stopping. The caller stops them once the
// writes are on disk, and reports each with stopped.
func (l *Ledger) release(c *claim, slots Slots) (stopping Slots, writes []Write) {
	stopping = slots.Intersect(c.Slots)
	if stopping.IsEmpty() {
		return stopping, nil
	}
	c.Slots, c.Stopping = c.Slots.Minus(stopping), c.Stopping.Union(stopping)
	if c.Slots.IsEmpty() {
		c.State, c.expires, c.Left = claimReleasing, 0, 0
	}
	return stopping, []Write{l.writeClaim(c)}
}

// unrelease takes back a release that could not be written.
func (l *Ledger) unrelease(c *claim, slots Slots, state claimState, expires time.Duration) {
	if l.claims[c.ID] != c {
		return
	}
	l.tune.mark(MarkReleaseNotWritten)
	c.Stopping, c.Slots = c.Stopping.Minus(slots), c.Slots.Union(slots)
	c.State, c.expires = state, expires
}

// stopped frees the capacity of one slot that has ended.
func (l *Ledger) stopped(c *claim, n Slot) []Write {
	if l.claims[c.ID] != c || !c.Stopping.Contains(n) {
		return nil
	}
	l.debt++
	l.owed[c.ID] = l.debt
	l.charge(c, SlotsOf(n), -1)
	c.Stopping = c.Stopping.Remove(n)
	c.unbind(n)
	unused := l.unused(VolumeID{c.UID, c.Component, n})
	if c.holds().IsEmpty() {
		return append(l.remove(c), unused...)
	}
	return append(unused, l.writeClaim(c))
}

// debts writes what the disk may not say yet of slots that have stopped: what
// they held is free at once, and must not be granted anew on a disk that still
// says otherwise. Call written when the writes are on disk.
func (l *Ledger) debts() (writes []Write, written func()) {
	owed := maps.Clone(l.owed)
	for id := range owed {
		w := Write{Table: tableClaims, Key: id.String()}
		if c := l.claims[id]; c != nil {
			w = l.writeClaim(c)
		} else if l.many() {
			writes = append(writes, Write{Table: tablePlaces, Key: id.String()})
		}
		writes = append(writes, w)
	}
	slices.SortFunc(writes, func(a, b Write) int { return cmp.Or(strings.Compare(a.Key, b.Key), strings.Compare(a.Table, b.Table)) })
	return writes, func() {
		for id, n := range owed {
			if l.owed[id] == n {
				delete(l.owed, id)
			}
		}
	}
}

// settles says of one claim what written of debts does of all.
func (l *Ledger) settles(id ClaimID) func() {
	n := l.owed[id]
	return func() {
		if l.owed[id] == n {
			delete(l.owed, id)
		}
	}
}

// pin confirms which of the slots run, and refuses their release for a while.
func (l *Ledger) pin(now Now, c *claim, running Slots, term Term, order uint64) Slots {
	c.pinned, c.pinUntil = running.Intersect(c.Slots), now.Mono+l.tune.PinExpiry
	c.pinTerm, c.pinOrder = term, order
	return c.pinned
}

// unpinned is the slots whose release a steward may order now. A pin holds
// against what was ordered before it: by whoever decided otherwise earlier, and
// whose order is late. It does not hold against whoever decides later, and has
// another survivor pinned by now.
func (l *Ledger) unpinned(now Now, c *claim, slots Slots, term Term, order uint64) Slots {
	later := cmp.Or(term.Compare(c.pinTerm), cmp.Compare(order, c.pinOrder)) > 0
	if now.Mono < c.pinUntil && !later {
		l.tune.mark(MarkReleasePinned)
		return slots.Minus(c.pinned)
	}
	return slots
}
