package placement

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Peer is the deciding core of one peer: event in, effects out. It is not safe
// for concurrent use; one goroutine owns it.
//
//	          Receive, Submit, RecordChanged, MemberChanged, WorkChanged, …
//	                                   │
//	                                   ▼
//	┌──────── Peer.Step: the event, then messages to itself, then due timers,
//	│                    then the stewards of apps that changed ─────────────┐
//	│  Catalog   what the tables say         Ledger  what is granted here    │
//	│  Keeper    intents held, terms voted   Work    what runs here          │
//	│  Steward   one an app that is driven   members who lives               │
//	│  LeaseKeeper votes on exclusive slots  leases  what may run here       │
//	└──────────────────────────────── gate ──────────────────────────────────┘
//	                                   │ only what may be carried out now
//	                                   ▼
//	          Persist, Send, Publish, Start, Stop, Fetch, Timer, Answer, Record
type Peer struct {
	cfg     Config
	tune    Tuning
	rng     *rand.Rand
	clock   hlc
	out     *out
	timers  *timers
	members *members
	catalog *Catalog
	keeper  *Keeper
	ledger  *Ledger
	work    *Work
	votes   *LeaseKeeper
	leases  leases
	needs   *needIndex

	apps    map[UID]*app
	byKey   map[AppKey]map[UID]bool
	dirty   map[UID]bool // stewards to run before this step ends
	roles   bool         // who drives what must be decided again
	roleOf  map[UID]bool // likewise, of these apps alone
	left    bool         // this peer was shut out of the mesh
	started time.Duration

	counters   counters
	edits      edits
	asking     asking
	stores     map[UID]*storing
	waiting    map[UID]map[PeerID]bool // stores to answer when artifacts are here
	pages      pages
	failures   map[UID]map[string]failure
	telling    map[UID]telling
	cuts       cuts
	ended      remembered[UID]    // apps that are gone
	dropped    remembered[string] // versions that were taken back, by dropKey
	flagged    remembered[string] // versions of clocks too far ahead, by dropKey
	conflicts  map[AppKey]*noted  // that stand, as far as this peer knows
	decisions  decisions
	digestSeq  uint64
	digestTold digestBasis
	// distances is what was measured between sites.
	distances distances
	// secretSites are those that may hold the secrets of a namespace, where that
	// is not every site.
	secretSites map[string][]SiteID
	volumesAt   time.Duration // when the time of parked volumes was counted on last
	// lostVolumes are those whose host is gone, until the disk knows.
	lostVolumes map[VolumeID]bool
}

// app is all that this peer knows of one app.
type app struct {
	uid      UID
	key      AppKey
	versions []version // standing, newest first
	win      *version
	keepers  keeperList
	next     keeperList // that is to follow: see epochs.go
	listed   bool       // the catalog listed it, at some time
	rows     map[PeerID]*row
	steward  *Steward
}

// keeperIDs is the keepers, those that are to follow among them, in order.
func (a *app) keeperIDs() []PeerID {
	var out []PeerID
	for _, ref := range a.lists().refs() {
		if !slices.Contains(out, ref.Peer) {
			out = append(out, ref.Peer)
		}
	}
	return out
}

// liveKeepers is how many of the keepers live in this peer's view.
func (p *Peer) liveKeepers(a *app) int {
	n := 0
	for _, ref := range a.keepers.list.Peers {
		if p.keeperLives(ref) {
			n++
		}
	}
	return n
}

func (p *Peer) keeperLives(ref PeerRef) bool {
	if ref.Peer == p.cfg.Self.Peer {
		return ref == p.cfg.Self
	}
	return p.members.liveRef(ref)
}

// majority says whether a majority of an app's keepers lives in this view.
func (p *Peer) majority(a *app) bool {
	return p.decided(a, p.keeperLives)
}

// counters hands out numbers that this peer never uses twice in one life of
// its store. Blocks of them are on disk before the first is used.
type counters struct {
	next, limit uint64 // limit is on disk
	asked       bool   // a block is being written
	boot        uint64 // of this start; 0 until its block is on disk
	seq         uint64 // of reports since
}

// Counter blocks, and the table and key where their end is kept.
const (
	counterBlock = 4096
	tableMeta    = "meta"
	keyCounter   = "counter"
)

// reserve writes the next block.
func (p *Peer) reserve() {
	c := &p.counters
	if c.asked {
		return
	}
	c.asked = true
	limit := max(c.limit, c.next) + counterBlock
	w := Write{Table: tableMeta, Key: keyCounter, Value: []byte(strconv.FormatUint(limit, 10))}
	p.out.persist([]Write{w}, func(failed *PersistFailed) {
		c.asked = false
		if failed != nil {
			p.tune.mark(MarkCounterNotWritten)
			p.timers.set(timerRefresh, "counter", p.out.now.Mono+p.tune.RoundMin)
			return
		}
		if c.boot == 0 {
			c.boot, c.next = c.next+1, c.next+1
			p.ready()
		}
		c.limit = limit
	})
}

func (c *counters) load(value []byte) error {
	n, err := strconv.ParseUint(string(value), 10, 64)
	c.next, c.limit = n, n
	return err
}

// ready says that numbers can be handed out: what waited for that goes on.
func (p *Peer) ready() {
	p.roles = true
	for _, uid := range sortedKeys(p.ledger.byApp) {
		p.checkClaims(uid)
		p.touchReport(uid)
	}
	for _, uid := range sortedKeys(p.ledger.volumes.byApp) {
		p.checkVolumes(uid)
		p.touchReport(uid)
	}
	p.touchPages()
	p.armVolumes()
	if p.left {
		p.giveBack()
	}
}

// number is a new number, or false while the disk has not confirmed a block.
func (p *Peer) number() (uint64, bool) {
	c := &p.counters
	if c.limit-c.next < counterBlock/4 {
		p.reserve()
	}
	if c.boot == 0 || c.next >= c.limit {
		return 0, false
	}
	c.next++
	return c.next, true
}

func (p *Peer) order() order {
	return order{p.cfg.Self.Incarnation, p.counters.boot, p.counters.seq}
}

func (p *Peer) sign(v any) Signed {
	body := Encode(v)
	if p.tune.Future {
		body = withFuture(body)
	}
	s := Signed{Body: body, By: p.cfg.Self.Peer}
	if p.cfg.Sign != nil {
		s.Sig = p.cfg.Sign(body)
	}
	return s
}

func (p *Peer) has(a Artifact) bool { return p.cfg.Has == nil || p.cfg.Has(a) }

// publish writes a table and takes it for seen here at once.
func (p *Peer) publish(e Publish) {
	p.out.emit(e)
	siblings := e.Beside[:len(e.Beside):len(e.Beside)]
	if e.Value != nil {
		siblings = append(siblings, e.Value)
	}
	p.record(RecordChanged{Table: e.Table, Key: e.Key, Siblings: siblings})
}

// record takes a change of a replicated table.
func (p *Peer) record(ev RecordChanged) {
	for _, uid := range p.list(ev) {
		p.refresh(uid)
	}
}

// list notes in the catalog what a table says, and returns the apps that are
// to be looked at again.
func (p *Peer) list(ev RecordChanged) []UID {
	switch ev.Table {
	case TableIntents:
		if key, ok := parseAppKey(ev.Key); ok {
			touched := p.catalog.setIntents(key, ev.Siblings)
			for _, uid := range touched {
				p.needs.stale(uid)
			}
			return touched
		}
	case TableKeepers:
		p.catalog.setKeepers(UID(ev.Key), ev.Siblings)
		return []UID{UID(ev.Key)}
	case TableStatus:
		p.catalog.setStatus(ev.Key, ev.Siblings)
		if StatusOf(ev.Key) == p.cfg.Self.Peer {
			p.dropOldPages()
		}
	}
	return nil
}

// refresh joins what the catalog and this peer's own keeping say of an app,
// and lets everything that depends on it follow.
func (p *Peer) refresh(uid UID) {
	p.needs.stale(uid)
	p.persistKeep(uid, p.keeper.follow(uid))
	all, late := p.keeper.listing(uid)
	if late && len(all) == 0 && p.keeper.records[uid] == nil {
		p.tune.mark(MarkListedTooLate)
		p.publish(Publish{Table: TableIntents, Key: p.catalog.keyOf[uid].String(), Beside: p.allBut(uid)})
		return // which refreshes it
	}
	list := p.listsOf(uid)
	if r := p.keeper.records[uid]; r != nil {
		all = append(all, r.versions...)
	}
	for i := range all {
		if v := all[i].intent.Version; !p.clock.observe(v, p.out.now.Wall) {
			p.flagAhead(&all[i].intent)
		}
	}
	versions := standing(all)
	a := p.apps[uid]
	if len(versions) == 0 {
		if a != nil {
			p.endApp(a)
		}
		p.checkClaims(uid)
		return
	}
	if a == nil {
		a = &app{uid: uid, key: versions[0].intent.Key, rows: map[PeerID]*row{}}
		p.apps[uid] = a
		if p.byKey[a.key] == nil {
			p.byKey[a.key] = map[UID]bool{}
		}
		p.byKey[a.key][uid] = true
	}
	if a.win == nil || etag(versions) != etag(a.versions) || !slices.Equal(a.lists().refs(), list.refs()) {
		p.roleOf[uid] = true
		p.fetchAhead(versions, list)
		switch held := len(p.ledger.byApp[uid]) > 0; {
		case held && a.win == nil: // the ask came before the intent
			p.touchSummary(uid)
		case held: // what a summary says follows the policy
			p.touchReport(uid)
		}
	}
	a.versions, a.win, a.keepers, a.next = versions, winner(versions, p.out.now.Wall), list.now, list.next
	a.listed = a.listed || p.catalog.has(uid)
	p.noteConflict(a.key)
	p.followLists(a)
	p.checkClaims(uid)
	p.dirty[uid] = true
	if p.catalog.has(uid) && p.catalog.keepers[uid].list.Peers == nil && len(list.now.list.Peers) > 0 && !a.win.intent.Removed &&
		(a.steward != nil || !p.majority(a)) {
		p.tune.mark(MarkOutlivedRemoval)
		// An edit outlived a removal that had completed elsewhere. Where somebody else
		// drives the app that is theirs to publish: mostly it is on its way, behind the edit.
		p.publish(Publish{Table: TableKeepers, Key: string(uid), Value: Encode(list.now.signed)})
	}
}

// flagAhead says, once for each version, that a peer's clock is too far ahead:
// nobody follows it, and it wins no conflict. Once it is no longer ahead the
// app is looked at again.
func (p *Peer) flagAhead(i *Intent) {
	if ms := i.Version.Millis - p.out.now.Wall.UnixMilli(); ms < aheadWatched.Milliseconds() {
		wait := time.Duration(ms+1)*time.Millisecond - clockAheadMax
		p.timers.before(timerRefresh, "ahead/"+string(i.UID), p.out.now.Mono+wait)
	}
	if key := dropKey(i.UID, i.Version); !p.flagged.set[key] {
		p.flagged.add(key)
		p.tune.mark(MarkClockAhead)
		p.out.happened(Happened{Type: "clock-ahead", UID: i.UID, Key: i.Key, Peer: i.Version.Peer,
			Message: fmt.Sprintf("version %s was made by a clock more than %s ahead of this peer's", i.Version, clockAheadMax)})
	}
}

// fetchAhead brings a keeper's artifacts here and compiles them, so that a
// failover does not wait for that.
func (p *Peer) fetchAhead(versions []version, l lists) {
	list := Keepers{Peers: l.refs()}
	if !p.keeper.listed(list) {
		return
	}
	for _, v := range versions {
		if v.intent.Removed {
			continue
		}
		for _, art := range v.intent.Artifacts {
			if !p.has(art) {
				p.out.emit(Fetch{Artifact: art, From: p.sources(v.intent.Version.Peer, list), Warm: true})
			}
		}
	}
}

// strangersMax is how many peers are asked for an artifact that nobody is
// known to hold: where it was submitted may be any of them.
const strangersMax = 8

// sources is who may have an app's artifacts, best first, without this peer.
func (p *Peer) sources(first PeerID, list Keepers) []PeerID {
	var out []PeerID
	add := func(id PeerID) {
		if id != "" && id != p.cfg.Self.Peer && !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	add(first)
	for _, ref := range list.Peers {
		add(ref.Peer)
	}
	alive := p.members.alive()
	p.rng.Shuffle(len(alive), func(i, j int) { alive[i], alive[j] = alive[j], alive[i] })
	for _, id := range alive[:min(len(alive), strangersMax)] {
		add(id)
	}
	return out
}

// remembered is things that are gone, so that a message from before does not
// bring one back. It is bounded; what is older than its reach cannot be under
// way any more.
type remembered[T comparable] struct {
	set   map[T]bool
	order []T
}

const rememberedMax = 4096

// add remembers one more; when that is too many, it says which it forgot.
func (r *remembered[T]) add(v T) (forgot T, full bool) {
	if r.set[v] {
		return forgot, false
	}
	if r.set == nil {
		r.set = map[T]bool{}
	}
	r.set[v] = true
	r.order = append(r.order, v)
	if len(r.order) > rememberedMax {
		forgot, full = r.order[0], true
		delete(r.set, forgot)
		r.order = r.order[1:]
	}
	return forgot, full
}

// gone says whether an app has ended, as far as this peer knows.
func (p *Peer) gone(uid UID) bool { return p.ended.set[uid] && p.apps[uid] == nil }

func (p *Peer) endApp(a *app) {
	if a.win.intent.Removed || a.listed {
		if forgot, full := p.ended.add(a.uid); full {
			p.needs.stale(forgot)
		}
	}
	p.needs.stale(a.uid)
	p.endSteward(a)
	p.endCut(a.uid)
	delete(p.apps, a.uid)
	delete(p.byKey[a.key], a.uid)
	if len(p.byKey[a.key]) == 0 {
		delete(p.byKey, a.key)
	}
	p.noteConflict(a.key)
	delete(p.stores, a.uid)
	delete(p.waiting, a.uid)
	delete(p.failures, a.uid)
	delete(p.telling, a.uid)
	p.timers.cancel(timerStore, string(a.uid))
	p.decisions.forget(a.uid)
	p.out.persist(p.votes.forget(a.uid), func(*PersistFailed) {})
	if p.stranger(a.uid) { // else the last of its claims ends the fence
		p.out.persist(p.ledger.forgetTerm(a.uid), func(*PersistFailed) {})
	}
}

// persistKeep writes a keeper's record that nothing waits for.
func (p *Peer) persistKeep(uid UID, writes []Write) { p.persistKeepThen(uid, writes, func() {}) }

// persistKeepThen writes a keeper's record and calls then once it is on disk.
func (p *Peer) persistKeepThen(uid UID, writes []Write, then func()) {
	onDisk := func() {}
	if r := p.keeper.records[uid]; r != nil && len(writes) > 0 {
		onDisk = r.wrote()
	}
	p.out.persist(writes, func(failed *PersistFailed) {
		if failed == nil {
			onDisk()
			then()
		}
	})
}

// uids is the apps known, sorted, so that what follows has one order.
func (p *Peer) uids() []UID { return sortedKeys(p.apps) }

// find is the app that a name means: of several under one name, made on both
// sides of a cut, the one edited last.
func (p *Peer) find(key AppKey) *app {
	var best *app
	for _, uid := range sortedKeys(p.byKey[key]) {
		a := p.apps[uid]
		switch {
		case best == nil, best.win.intent.Removed && !a.win.intent.Removed:
			best = a
		case a.win.intent.Removed == best.win.intent.Removed && a.win.intent.Version.Compare(best.win.intent.Version) > 0:
			best = a
		}
	}
	return best
}

func parseAppKey(s string) (AppKey, bool) {
	namespace, app, ok := strings.Cut(s, "/")
	return AppKey{namespace, app}, ok
}
