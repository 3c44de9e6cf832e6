package placement

import (
	"maps"
	"slices"
	"time"
)

// tableKeep holds a keeper's records: UID -> keepRecord; tableEnded what it
// remembers of apps that it keeps no more: UID -> ending.
const (
	tableKeep  = "keep"
	tableEnded = "ended"
)

// keepRecord is what a keeper holds of one app, on disk.
type keepRecord struct {
	UID     UID      `cbor:"u"`
	Key     AppKey   `cbor:"k"`
	Intents []Signed `cbor:"i"`
	Keepers Signed   `cbor:"l"`
	Term    Term     `cbor:"t,omitzero"` // the highest granted by this keeper
	Holders []PeerID `cbor:"h,omitempty"`
	Next    Signed   `cbor:"x,omitzero"` // the list that is to follow: accepted, and perhaps decided
	Heard   Term     `cbor:"e,omitzero"` // as heard, when this was written

	versions []version
	list     Keepers
	next     Keepers
	adopting bool             // next was decided, and counts as soon as the disk says so
	seen     map[Version]bool // versions that the catalog has listed since start
	heard    Term             // the highest term that somebody is known to act under
	granted  time.Duration    // when Term was, in this run of the daemon
	refused  uint64           // the highest term number that a keeper is known to have granted
	onDisk   []Version        // what the last write that is on disk held
	diskAt   uint64           // number of that write
	diskList keptLists        // what it said of the keepers
	writes   uint64
	from     []PeerID      // who is said to have the artifacts, beside the keepers
	changed  time.Duration // when a version was stored last, in this life of the daemon
}

// wrote says, when a write of the record was made; call the result when it is
// on disk.
func (r *keepRecord) wrote() (onDisk func()) {
	r.writes++
	n, kept := r.writes, keptLists{r.list.Epoch, r.next.Term}
	var held []Version
	for _, v := range r.versions {
		held = append(held, v.intent.Version)
	}
	return func() {
		if n > r.diskAt {
			r.onDisk, r.diskAt, r.diskList = held, n, kept
		}
	}
}

// keptLists is which lists a keeper follows: the epoch of the one that counts,
// and the term under which the one that is to follow was proposed.
type keptLists struct {
	epoch uint64
	next  Term
}

// Keeper holds intents for apps whose list names this peer, and votes on their
// terms. Every method changes what is in memory and returns the write that
// must be on disk before the answer leaves; a repeated request returns the
// write again, so that an answer never rests on one that failed.
//
// Invariants: for one term number this keeper grants one peer; a granted term
// is never lower than one granted before.
type Keeper struct {
	self    PeerRef
	tune    Tuning
	catalog *Catalog
	records map[UID]*keepRecord
	ended   map[UID]ending     // apps that it keeps no more
	pasts   map[UID]*chronicle // replaced, never changed

	changed func(UID) // told of each app of which something changed here
}

// ending is what a keeper remembers of an app that it keeps no more: what it
// granted, should the app come back, and its removal, so that what was from
// before that and turns up late does not bring it back.
type ending struct {
	Term    Term    `cbor:"t,omitzero"`
	Removal *Intent `cbor:"r,omitempty"` // only what supersedes needs
}

func newKeeper(self PeerRef, tune Tuning, catalog *Catalog) *Keeper {
	return &Keeper{self: self, tune: tune, catalog: catalog, records: map[UID]*keepRecord{}, ended: map[UID]ending{}, pasts: map[UID]*chronicle{},
		changed: func(UID) {}}
}

// load restores one record. What does not decode is an error: a keeper must
// not take its own loss for "never heard of it".
func (k *Keeper) load(uid UID, data []byte) error {
	r := &keepRecord{seen: map[Version]bool{}}
	if err := Decode(data, r); err != nil {
		return err
	}
	k.records[uid] = r // first: what its intents are held against is its term
	for _, s := range r.Intents {
		v, err := k.catalog.readIntent(s)
		if err != nil {
			return err
		}
		r.versions = append(r.versions, v)
	}
	var kl keeperList
	if len(r.Keepers.Body) > 0 {
		var err error
		if kl, err = k.catalog.readKeepers(r.Keepers); err != nil {
			return err
		}
	}
	if len(r.Next.Body) > 0 {
		next, err := k.catalog.readKeepers(r.Next)
		if err != nil {
			return err
		}
		r.next = next.list
	}
	r.list, r.heard = kl.list, r.Heard
	if r.heard == (Term{}) { // written by a release that did not say
		r.heard = r.Term
	}
	r.wrote()()
	k.changed(uid)
	return nil
}

// listed says whether this peer, in this life of its store, is in the list. A
// new incarnation has forgotten its votes and is no keeper.
func (k *Keeper) listed(list Keepers) bool { return slices.Contains(list.Peers, k.self) }

// votesIn says whether this peer is in a list that decides, or is to.
func (k *Keeper) votesIn(r *keepRecord) bool { return k.listed(r.list) || k.listed(r.next) }

func (k *Keeper) write(r *keepRecord) []Write {
	k.changed(r.UID)
	r.Intents = r.Intents[:0:0]
	for _, v := range r.versions {
		r.Intents = append(r.Intents, v.signed)
	}
	written := *r
	written.Heard = r.heard
	if r.adopting {
		written.adopt(r.pending())
	}
	return []Write{{Table: tableKeep, Key: string(r.UID), Value: Encode(&written)}}
}

// firstTerm is granted by the creating store alone.
const firstTerm = 1

// store takes intents to hold. It refuses an edit under a lower term than it
// granted, and returns that term.
func (k *Keeper) store(m *storeMsg, versions []version, list, next keeperList) (writes []Write, refused Term) {
	r := k.records[m.UID]
	if r == nil {
		r = k.open(m.UID, versions[0].intent.Key)
	}
	if m.Term != (Term{}) && m.Term.Compare(r.Term) < 0 {
		return nil, r.Term
	}
	if list.after(r.current()) {
		r.adopt(list)
	}
	if next.list.Peers != nil {
		r.accept(next)
	}
	r.add(versions...)
	if m.Term.Compare(r.Term) > 0 && k.votesIn(r) {
		r.Term = m.Term // the creating store grants the first term
	}
	r.hear(m.Term)
	r.addHolders(m.Holders)
	for _, id := range m.From {
		if !slices.Contains(r.from, id) && len(r.from) < keepersMax {
			r.from = append(r.from, id)
		}
	}
	return k.write(r), Term{}
}

// add enters versions beside those held. An ancestor stays until the catalog
// lists what supersedes it: an edit may yet be taken back, and then it is what
// stands. Only when there is no room for more does an ancestor go, the oldest
// first; what stands is never pushed out by what comes later.
func (r *keepRecord) add(versions ...version) {
	for _, v := range versions {
		if slices.ContainsFunc(r.versions, func(h version) bool { return h.intent.Version == v.intent.Version }) {
			continue
		}
		if len(r.versions) >= siblingsMax {
			i := len(r.versions) - 1
			for i >= 0 && !v.intent.supersedes(&r.versions[i].intent) && !slices.ContainsFunc(r.versions, func(h version) bool { return h.intent.supersedes(&r.versions[i].intent) }) {
				i--
			}
			if i < 0 {
				continue
			}
			r.versions = slices.Delete(r.versions, i, i+1)
		}
		r.versions = append(r.versions, v)
		slices.SortFunc(r.versions, func(a, b version) int { return b.intent.Version.Compare(a.intent.Version) })
	}
}

func (r *keepRecord) hear(t Term) {
	if t.Compare(r.heard) > 0 {
		r.heard = t
	}
}

func (r *keepRecord) addHolders(holders []PeerID) {
	for _, h := range holders {
		if at, found := slices.BinarySearch(r.Holders, h); !found && len(r.Holders) < holdersMax {
			r.Holders = slices.Insert(r.Holders, at, h)
		}
	}
}

// raise votes on a term. A number is granted to one peer. Whoever won the last
// term that this keeper has heard of gets the next one too, anyone gets it when
// that holder is dead in this keeper's view, and so does a keeper earlier in
// the list once it has been back for a time of calm.
func (k *Keeper) raise(m *raiseMsg, view *members, now Now) (writes []Write, reply raisedMsg) {
	reply = raisedMsg{UID: m.UID, Term: m.Term}
	r := k.records[m.UID]
	reply.Life = k.self.Incarnation
	if r != nil {
		reply.Lists = r.told()
	}
	if r == nil || !k.votesIn(r) {
		return nil, reply
	}
	reply.Known, reply.Holders = true, r.Holders
	reply.Heard = r.heard
	if k.votes(r, m.Term, view, now) {
		reply.Granted, reply.Past = true, k.pasts[m.UID]
		if m.Term.Compare(r.Term) > 0 {
			r.Term, r.granted = m.Term, now.Mono
		}
		writes = k.write(r)
	}
	reply.Highest = r.Term
	for _, v := range r.versions {
		reply.Intents = append(reply.Intents, v.signed)
	}
	return writes, reply
}

func (k *Keeper) votes(r *keepRecord, t Term, view *members, now Now) bool {
	switch {
	case t == r.Term:
		return true
	case t.Number == r.Term.Number && k.tune.Break == FaultTwoTerms:
		return true
	case t.Number <= max(r.Term.Number, firstTerm):
		return false
	}
	order := lists{now: r.current(), next: r.pending()}.refs()
	rank := func(p PeerID) int {
		return slices.IndexFunc(order, func(ref PeerRef) bool { return ref.Peer == p })
	}
	if rank(t.Peer) < 0 {
		return false
	}
	holder := k.follows(r, now.Mono)
	return holder == "" || holder == t.Peer || rank(holder) < 0 || !k.lives(order[rank(holder)], view) ||
		rank(t.Peer) < rank(holder) && view.calm(t.Peer, now.Mono)
}

// follows is who drives an app as far as this keeper knows: whoever acts under a
// term, but whoever it has granted a later one, for as long as winning that and
// saying so may take. A grant alone is no win: of two that raise a term at once
// neither may have got it, and each side would wait for the other.
func (k *Keeper) follows(r *keepRecord, now time.Duration) PeerID {
	if r.Term.Compare(r.heard) > 0 && r.Term.Peer != k.self.Peer && now-r.granted < k.tune.winWait() && r.granted > 0 {
		return r.Term.Peer
	}
	return r.heard.Peer
}

// lives says whether a keeper lives in that life of its store.
func (k *Keeper) lives(ref PeerRef, view *members) bool {
	if ref.Peer == k.self.Peer {
		return ref == k.self
	}
	return view.liveRef(ref)
}

// hold records holders.
func (k *Keeper) hold(m *holdMsg) ([]Write, bool) {
	r := k.records[m.UID]
	if r == nil || !m.Deputy && m.Term.Compare(r.Term) < 0 {
		return nil, false
	}
	r.addHolders(m.Holders)
	r.hear(m.Term)
	return k.write(r), true
}

// drop takes back a version that its acceptor could not write. The last one
// stays when this keeper has granted a later term to somebody else, who may have
// learned the version here; to itself counts once it is known to have won it.
func (k *Keeper) drop(uid UID, v Version) []Write {
	r := k.records[uid]
	if r == nil {
		return nil
	}
	n := len(r.versions)
	asked := r.Term.Peer == k.self.Peer && r.heard.Compare(r.Term) < 0
	if n == 1 && r.Term.Number > firstTerm && r.Term.Peer != v.Peer && !asked {
		return nil
	}
	r.versions = slices.DeleteFunc(r.versions, func(x version) bool { return x.intent.Version == v })
	switch {
	case len(r.versions) == n:
		return nil
	case len(r.versions) == 0:
		return k.forget(uid)
	}
	return k.write(r)
}

// endedMax bounds what is remembered of apps that are gone. What is dropped past
// it is one by chance (a UID is random).
const endedMax = 1 << 16

// forget ends the record of an app that is gone.
func (k *Keeper) forget(uid UID) []Write {
	r := k.records[uid]
	if r == nil {
		return nil
	}
	return k.end(r, r.versions)
}

// end ends a record; last is what it held before that.
func (k *Keeper) end(r *keepRecord, last []version) []Write {
	delete(k.records, r.UID)
	k.changed(r.UID)
	writes := []Write{{Table: tableKeep, Key: string(r.UID)}}
	if k.pasts[r.UID] != nil {
		delete(k.pasts, r.UID)
		writes = append(writes, Write{Table: tablePast, Key: string(r.UID)})
	}
	e := ending{Term: r.Term}
	for _, v := range last {
		if i := v.intent; i.Removed && (e.Removal == nil || compareUnder(i.Term, i.Version, e.Removal.Term, e.Removal.Version) > 0) {
			e.Removal = &Intent{UID: i.UID, Version: i.Version, Incarnation: i.Incarnation, Over: i.Over, Alone: i.Alone, Base: i.Base, Term: i.Term, Removed: true}
		}
	}
	if e.Term.Number <= firstTerm && e.Removal == nil {
		return writes
	}
	if len(k.ended) >= endedMax {
		old := slices.Min(slices.Collect(maps.Keys(k.ended)))
		delete(k.ended, old)
		writes = append(writes, Write{Table: tableEnded, Key: string(old)})
	}
	k.ended[r.UID] = e
	return append(writes, Write{Table: tableEnded, Key: string(r.UID), Value: Encode(e)})
}

// late says whether a version is from before the removal, or the removal itself.
func (e ending) late(i *Intent) bool {
	return i.Version == e.Removal.Version || e.Removal.supersedes(i)
}

// listing is the versions of an app that the catalog lists, and whether there
// are others, from before a removal that this keeper saw completed: they turned
// up late and stand no more.
func (k *Keeper) listing(uid UID) (listed []version, late bool) {
	listed = k.catalog.versions(uid)
	e := k.ended[uid]
	if e.Removal == nil {
		return listed, false
	}
	n, again := len(listed), k.records[uid] != nil
	listed = slices.DeleteFunc(listed, func(v version) bool {
		// Kept again, for an edit that the removal had not seen, the removal
		// itself is listed as one of two sides.
		return e.late(&v.intent) && !(again && v.intent.Version == e.Removal.Version)
	})
	return listed, len(listed) < n
}

// open begins the record of an app.
func (k *Keeper) open(uid UID, key AppKey) *keepRecord {
	r := &keepRecord{UID: uid, Key: key, Term: k.ended[uid].Term, seen: map[Version]bool{}}
	r.heard = r.Term
	k.records[uid] = r
	return r
}

// follow brings the record up to the catalog: what the catalog listed and no
// longer lists was removed or resolved, which is positive evidence.
func (k *Keeper) follow(uid UID) []Write {
	r := k.records[uid]
	listed, _ := k.listing(uid)
	kl := k.catalog.keepers[uid]
	if r == nil {
		if len(listed) == 0 || !k.listed(kl.list) {
			return nil
		}
		r = k.open(uid, listed[0].intent.Key)
	}
	moved := kl.after(r.current())
	if moved {
		r.adopt(kl)
	}
	before := slices.Clone(r.versions)
	now := map[Version]bool{}
	for _, v := range listed {
		now[v.intent.Version] = true
	}
	r.versions = slices.DeleteFunc(r.versions, func(v version) bool {
		return r.seen[v.intent.Version] && !now[v.intent.Version] || k.catalog.ends(&v.intent) ||
			slices.ContainsFunc(listed, func(l version) bool { return l.intent.supersedes(&v.intent) })
	})
	r.seen = now
	r.add(standing(listed)...)
	if len(r.versions) == 0 {
		return k.end(r, before)
	}
	same := slices.EqualFunc(before, r.versions, func(a, b version) bool { return a.intent.Version == b.intent.Version })
	if same && !moved {
		return nil
	}
	return k.write(r)
}
