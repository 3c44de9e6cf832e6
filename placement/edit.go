package placement

import (
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// edit is one person's PUT or DELETE on its way to an answer.
//
//	           steward elsewhere                       answer of the steward
//	request ─────────────────────▶ forwarded ─────────────────────────────────▶ done
//	   │ steward here, no term yet                         deadline: unavailable ▲
//	   ├─────────────────────▶ waiting ─── term granted ──┐                      │
//	   │ steward here                 deadline: alone     ▼    majority, refusal │
//	   ├──────────────────────────────────────────────▶ storing ─────────────────┤
//	   │ new app                                          ▲    deadline: 202     │
//	   ├──────────────────────────────────────────────────┤                      │
//	   └── below a majority of the keepers: alone ────────┘    refused ──────────┘
//
// One that named no version is not refused for a higher term: it is forwarded.
type edit struct {
	id       uint64
	req      editRequest
	tickets  []uint64    // to answer here
	remotes  []requestID // to answer elsewhere
	phase    editPhase
	to       PeerID   // of forwarded
	asked    []PeerID // every such, in this edit's time
	sentOn   int      // how often it was sent on to whom another took for the driver
	request  requestID
	soft     time.Duration // past it nothing is waited for but bytes on their way
	deadline time.Duration
	uid      UID
	version  Version
	created  bool
	alone    bool
	resolves bool           // a conflict between apps of one name
	written  bool           // here
	told     bool           // a majority has it, and the mesh was told
	before   map[string]int // wanted before the edit
	again    bool           // it writes once more what people did; nobody's, but with as
	as       Version        // of one that comes again: what it was made as, to answer with
	merges   bool           // such, of versions that stand side by side (merge.go)
	changes  map[string]Change
	writers  []PeerID // of those versions
	copies   map[PeerRef]bool
}

type editPhase uint8

const (
	editWaiting editPhase = iota + 1
	editForwarded
	editStoring
)

// editRequest is what a person asked for, here or at another peer.
type editRequest struct {
	app       App
	artifacts []Artifact
	key       AppKey
	remove    bool
	ifMatch   string
	ifNone    bool
	minCopies int
	copies    int // wanted before the answer, if so many keepers live
	idemKey   string
	uid       UID    // of the app that it is for, once that was looked up
	remote    bool   // came from another peer: not passed on again
	origin    PeerID // that peer, which has the artifacts
}

// edits is the edits under way and the answers of late ones.
type edits struct {
	next     uint64
	open     map[uint64]*edit
	byIdem   map[string]uint64 // namespace/app and key of an open edit
	byReq    map[requestID]uint64
	answered map[string]Result // by idempotency key or request
	order    []string          // of answered, oldest first
}

// Bounds of edits.
const (
	editsMax    = 1024
	answeredMax = 1024
	retriesMax  = 64 // of one edit, with its Idempotency-Key
	keepersWant = 3
	copiesMax   = 7  // that can be waited for
	sentOnMax   = 16 // two that take each other for the driver do not go on for ever
)

func newEdits() edits {
	return edits{open: map[uint64]*edit{}, byIdem: map[string]uint64{}, byReq: map[requestID]uint64{}, answered: map[string]Result{}}
}

func (p *Peer) onSubmit(ev Submit) {
	if err := ev.App.submitted(ev.Artifacts); err != nil {
		p.out.emit(Answer{Ticket: ev.Ticket, Result: Result{Err: fmt.Errorf("edit of %s: %w", ev.App.Key(), err)}})
		return
	}
	p.edit(&edit{tickets: []uint64{ev.Ticket}, req: editRequest{
		app: ev.App, artifacts: ev.Artifacts, key: ev.App.Key(), ifMatch: ev.IfMatch, ifNone: ev.IfNoneMatch,
		minCopies: ev.MinCopies, copies: min(ev.Copies, copiesMax), idemKey: ev.IdempotencyKey, uid: ev.UID,
	}})
}

func (p *Peer) onRemove(ev Remove) {
	p.edit(&edit{tickets: []uint64{ev.Ticket}, req: editRequest{
		key: ev.Key, remove: true, ifMatch: ev.IfMatch, minCopies: ev.MinCopies, idemKey: ev.IdempotencyKey, uid: ev.UID,
	}})
}

func (p *Peer) onForward(from PeerID, m *forwardMsg) {
	if m.Request.Peer != from || !m.Remove && m.App.Key() != m.Key {
		return
	}
	if id, ok := p.edits.byReq[m.Request]; ok && p.edits.open[id] != nil {
		return // under way: its answer will come
	}
	if err := m.App.submitted(m.Artifacts); !m.Remove && err != nil {
		return // the other peer's API lets nothing of the kind through
	}
	e := &edit{remotes: []requestID{m.Request}, req: editRequest{
		app: m.App, artifacts: m.Artifacts, key: m.Key, remove: m.Remove, ifMatch: m.IfMatch, ifNone: m.IfNone,
		minCopies: m.MinCopies, copies: min(m.Copies, copiesMax), idemKey: m.IdemKey, remote: true, origin: from, uid: m.UID,
	}}
	if e.req.idemKey == "" {
		e.req.idemKey = reqName(m.Request) // the next steward must know it again
	}
	if r, ok := p.edits.answered[reqName(m.Request)]; ok {
		p.answer(e, r)
		return
	}
	p.edit(e)
}

// conditional says whether it is to be made over a certain version only.
func (r *editRequest) conditional() bool { return r.ifNone || r.ifMatch != "" }

// reqPrefix begins the keys that peers give to edits of people who gave none.
const reqPrefix = "req/"

func reqName(r requestID) string {
	return reqPrefix + string(r.Peer) + "/" + strconv.FormatUint(uint64(r.Incarnation), 36) + "/" + strconv.FormatUint(r.Count, 36)
}

func (r *editRequest) idemName() string {
	if r.idemKey == "" {
		return ""
	}
	return "idem/" + r.key.String() + "/" + r.idemKey
}

// edit decides who makes an edit, and makes it if that is this peer.
func (p *Peer) edit(e *edit) {
	name := e.req.idemName()
	if name != "" && p.tune.Break != FaultRemake {
		if r, ok := p.edits.answered[name]; ok {
			p.tune.mark(MarkEditRetried)
			p.answer(e, r)
			return
		}
		if o := p.edits.open[p.edits.byIdem[name]]; o != nil {
			if len(o.tickets)+len(o.remotes) >= retriesMax {
				p.answer(e, Result{Err: fmt.Errorf("edit of %s: %w: %d retries of it wait", e.req.key, ErrLimit, retriesMax)})
				return
			}
			o.tickets, o.remotes = append(o.tickets, e.tickets...), append(o.remotes, e.remotes...)
			for _, r := range e.remotes {
				p.edits.byReq[r] = o.id
			}
			return
		}
	}
	if len(p.edits.open) >= editsMax {
		p.answer(e, Result{Err: fmt.Errorf("edit of %s: %w: %d edits are under way", e.req.key, ErrLimit, editsMax)})
		return
	}
	p.edits.next++
	e.id = p.edits.next
	e.copies = map[PeerRef]bool{}
	e.soft = p.out.now.Mono + p.tune.SubmitWait
	e.deadline = e.soft + treesTake(e.req.artifacts)
	p.edits.open[e.id] = e
	if name != "" {
		p.edits.byIdem[name] = e.id
	}
	for _, r := range e.remotes {
		p.edits.byReq[r] = e.id
	}
	p.route(e)
	if p.edits.open[e.id] == e {
		p.armEdit(e)
	}
}

func (p *Peer) armEdit(e *edit) {
	at := e.deadline
	switch {
	case e.phase == editForwarded:
		at = min(at, p.out.now.Mono+p.tune.Resend)
	case e.phase == editStoring: // what it waits for may have come to nothing
		at = min(at, max(e.soft, p.out.now.Mono+p.tune.SubmitWait))
	}
	p.timers.set(timerSubmit, strconv.FormatUint(e.id, 10), at)
}

// route sends an edit on its way, or on another when the view has changed.
func (p *Peer) route(e *edit) {
	a, ok := p.target(e)
	if !ok {
		return
	}
	exists := a != nil && !a.win.intent.Removed
	switch {
	case !exists && e.req.remove:
		p.finish(e, Result{Err: fmt.Errorf("app %s: %w", e.req.key, ErrNotFound)})
	case !exists:
		p.create(e)
	case len(a.keepers.list.Peers) == 0:
		e.phase = editWaiting // the list is on its way
	case !p.majority(a):
		p.tune.mark(MarkEditedAlone)
		p.editAlone(e, a)
	case p.leader(a) == p.cfg.Self.Peer:
		if s := a.steward; s != nil && !s.deputy && s.phase == phaseActing {
			p.editHere(e, a)
		} else {
			e.phase = editWaiting
		}
	case e.req.remote:
		p.finish(e, Result{Driver: p.leader(a), Err: fmt.Errorf("edit of %s: %w: %s drives it", e.req.key, ErrUnavailable, p.leader(a))})
	default:
		p.forward(e, p.leader(a))
	}
}

// target is the app that an edit is for: the one that its name meant when it
// was looked up first, so that an edit that is tried again does not fall on
// another app of the same name. When that has gone, the edit ends here.
func (p *Peer) target(e *edit) (a *app, ok bool) {
	if e.req.uid == "" {
		if a = p.find(e.req.key); a != nil && !a.win.intent.Removed {
			e.req.uid = a.uid
		}
		return a, true
	}
	if a = p.apps[e.req.uid]; a != nil && !a.win.intent.Removed {
		return a, true
	}
	switch {
	case e.req.remote && !p.ended.set[e.req.uid] && a == nil:
		p.finish(e, Result{Err: fmt.Errorf("edit of %s: %w: this peer does not know it yet", e.req.key, ErrUnavailable)})
	case e.req.remove:
		r := Result{UID: e.req.uid}
		if a != nil {
			r.Version = a.win.intent.Version
		}
		p.finish(e, r)
	default:
		p.finish(e, Result{Err: fmt.Errorf("edit of %s: %w: it was removed meanwhile", e.req.key, ErrConflict)})
	}
	return nil, false
}

// numbered gives an edit a number by which another peer knows it again, false while
// there is none to give.
func (p *Peer) numbered(e *edit) bool {
	if e.request.Count == 0 {
		n, ok := p.number()
		if !ok {
			return false
		}
		e.request = requestID{p.cfg.Self.Peer, p.cfg.Self.Incarnation, n}
	}
	return true
}

func (p *Peer) forward(e *edit, to PeerID) {
	if !p.numbered(e) {
		p.finish(e, Result{Err: fmt.Errorf("edit of %s: %w: this peer's disk does not answer", e.req.key, ErrUnavailable)})
		return
	}
	e.phase, e.to = editForwarded, to
	if !slices.Contains(e.asked, to) {
		e.asked = append(e.asked, to)
	}
	r := &e.req
	p.out.send(to, message{Forward: &forwardMsg{
		Request: e.request, App: r.app, Key: r.key, Artifacts: r.artifacts, Remove: r.remove, IfMatch: r.ifMatch,
		IfNone: r.ifNone, MinCopies: r.minCopies, Copies: r.copies, IdemKey: r.idemKey, UID: r.uid,
	}})
}

// check is the compare of compare-and-set, and what else can refuse an edit
// before anything is written.
func (p *Peer) check(e *edit, a *app, copies int) error {
	exists := a != nil && !a.win.intent.Removed
	r := &e.req
	switch {
	case r.ifNone && exists:
		return fmt.Errorf("create %s: %w: it exists", r.key, ErrConflict)
	case p.tune.Break != FaultNoCompare &&
		(r.ifMatch == "*" && !exists || r.ifMatch != "" && r.ifMatch != "*" && (!exists || r.ifMatch != p.etag(a.key))):
		return fmt.Errorf("edit of %s: %w: it is no longer what If-Match names", r.key, ErrConflict)
	case copies < r.minCopies:
		p.tune.mark(MarkTooFewCopies)
		return fmt.Errorf("edit of %s: %w: %d keepers in reach, %d wanted", r.key, ErrTooFew, copies, r.minCopies)
	case exists && a.win.intent.MinSchema > p.tune.Schema:
		p.tune.mark(MarkEditOfNewer)
		return fmt.Errorf("edit of %s: %w: it was made by a newer release than this peer runs", r.key, ErrInvalid)
	}
	e.resolves = exists && (r.ifMatch != "" && r.ifMatch != "*" && r.ifMatch != etag(a.versions) ||
		r.key.Recorded()) // a push names what it names, whatever stood there
	return nil
}

// etag covers all that stands under a name.
func (p *Peer) etag(key AppKey) string {
	var all []version
	for _, uid := range sortedKeys(p.byKey[key]) {
		if a := p.apps[uid]; !a.win.intent.Removed {
			all = append(all, a.versions...)
		}
	}
	if len(all) == 0 {
		if a := p.find(key); a != nil {
			all = a.versions
		}
	}
	return etag(all)
}

// intent is the record of an edit.
func (p *Peer) intent(e *edit, a *app) *Intent {
	r := &e.req
	i := &Intent{Key: r.key, App: r.app, Artifacts: r.artifacts, Removed: r.remove, MinSchema: p.minSchema(r.app), Request: r.idemKey,
		Incarnation: p.cfg.Self.Incarnation}
	if a == nil {
		i.Version = p.clock.next(p.out.now.Wall)
		i.UID = p.newUID()
		i.Created = p.out.now.Wall.UnixMilli()
		return i
	}
	if a.keepers.list.Epoch == 1 {
		i.Keepers = &a.keepers.signed
	}
	newest := a.versions[0].intent.Version
	i.Over, i.Past = ancestors(a.versions), pasts(a.versions)
	i.UID, i.Created, i.Version = a.uid, a.win.intent.Created, p.clock.after(newest, p.out.now.Wall)
	for p.dropped.set[dropKey(a.uid, i.Version)] { // after one of a clock far ahead, which this peer's own does not pass
		i.Version = i.Version.successor()
	}
	if r.remove {
		i.App, i.Artifacts, i.MinSchema = a.win.intent.App, a.win.intent.Artifacts, a.win.intent.MinSchema
	}
	if i.Changes = e.changes; i.Changes == nil {
		i.Changes = changes(i.App, a.versions)
	}
	i.Base, i.Term = baseOf(a.versions)
	i.Ends = p.endsOf(e, a)
	if e.again {
		i.Restates = editsOf(a.versions)
	}
	return i
}

func (p *Peer) newUID() UID {
	var raw [15]byte
	binary.BigEndian.PutUint64(raw[:8], p.rng.Uint64())
	binary.BigEndian.PutUint32(raw[8:12], p.rng.Uint32())
	binary.BigEndian.PutUint16(raw[12:14], uint16(p.rng.Uint32()))
	return UID(strings.ToLower(base32.StdEncoding.EncodeToString(raw[:])))
}

// sources is who has an edit's artifacts beside this peer: where the person
// submitted it, or where what it merges was written.
func (e *edit) sources() []PeerID {
	if e.req.origin == "" {
		return e.writers
	}
	return []PeerID{e.req.origin}
}

// create makes a new app: its keepers are chosen, its first term is granted in
// the message that stores it, and capacity is asked for at the same time.
func (p *Peer) create(e *edit) {
	keepers, err := p.chooseFor(e.req.app, e.req.copies)
	live := 0
	for _, ref := range keepers {
		live += btoi(p.keeperLives(ref))
	}
	if err == nil {
		err = p.check(e, nil, live)
	}
	if err != nil {
		p.finish(e, Result{Err: err})
		return
	}
	i := p.intent(e, nil)
	i.Term = firstTerm
	k := Keepers{UID: i.UID, Epoch: 1, Peers: keepers, Term: Term{Number: firstTerm, Peer: p.cfg.Self.Peer}}
	list := keeperList{signed: p.sign(k), list: k}
	i.Keepers = &list.signed
	v := version{signed: p.sign(i), intent: *i}
	e.phase, e.uid, e.version, e.created, e.before = editStoring, i.UID, i.Version, true, map[string]int{}
	m := &storeMsg{UID: i.UID, Term: k.Term, Intents: []Signed{v.signed}, Keepers: list.signed, From: e.sources()}
	p.keep(p.cfg.Self.Peer, m, []version{v}, list, keeperList{})
	a := p.apps[i.UID]
	a.steward = newSteward(p, a, k.Term)
	a.steward.phase = phaseActing
	p.runSteward(a)
	p.ensureStored(a.uid)
}

// restate writes what stands as a version under this steward's term: an edit
// that was accepted below a majority belongs to the whole mesh from here on,
// and what was granted from a version that came to nothing is outdated.
func (p *Peer) restate(a *app) {
	for _, e := range p.edits.open {
		if e.uid == a.uid {
			return
		}
	}
	i := &a.win.intent
	e := &edit{again: true, req: editRequest{
		app: i.App, artifacts: i.Artifacts, key: i.Key, remove: i.Removed, idemKey: i.Request,
	}, copies: map[PeerRef]bool{}, deadline: p.out.now.Mono + p.tune.SubmitWait}
	if i.Alone { // and stays so, should there be no majority for this version either
		e.before = map[string]int{} // a record without any: the app was created so
		maps.Copy(e.before, i.Before)
	}
	p.edits.next++
	e.id = p.edits.next
	p.edits.open[e.id] = e
	p.write(e, a, a.steward.term)
	p.armEdit(e)
}

// editHere makes an edit under this steward's term: whoever is later finds
// another version.
func (p *Peer) editHere(e *edit, a *app) {
	if p.madeBefore(e, a, true) {
		return
	}
	if err := p.check(e, a, p.liveKeepers(a)); err != nil {
		p.finish(e, Result{Err: err})
		return
	}
	p.write(e, a, a.steward.term)
}

// madeBefore answers an edit that comes again, perhaps after a steward died
// before it could answer: once as many keepers hold it as it wants, as far as is
// known here, or when they take too long. Below a majority none are waited for.
func (p *Peer) madeBefore(e *edit, a *app, wait bool) bool {
	if p.tune.Break == FaultRemake {
		return false
	}
	for i := range a.versions {
		v, ok := a.versions[i].intent.made(e.req.idemKey)
		if !ok {
			continue
		}
		for _, ref := range p.holdersOf(a) {
			e.copies[ref] = true
		}
		if wait && !(p.quorum(e, a) && p.enough(e, a)) && p.out.now.Mono < e.deadline {
			e.phase = editWaiting
			p.ensureStored(a.uid)
			return true
		}
		e.uid, e.version = a.uid, v
		if at := a.versions[i].intent.Version; !wait && !p.lists(a.uid, at) { // who was to publish it may have lost its store, and it is answered for now
			if p.publishEdit(e, a); !p.lists(a.uid, at) {
				e.phase = editWaiting // for that, or whoever made it could take it back
				return true
			}
		}
		p.acknowledge(e, a)
		return true
	}
	return false
}

// editAlone makes an edit below a majority of the keepers.
func (p *Peer) editAlone(e *edit, a *app) {
	if i, made := p.undecided(e, a); i != nil {
		p.standAlone(e, a, i, made)
		return
	}
	if p.madeBefore(e, a, false) {
		return
	}
	copies := p.liveKeepers(a)
	if !slices.ContainsFunc(a.keepers.list.Peers, func(r PeerRef) bool { return r == p.cfg.Self }) {
		copies++
	}
	if err := p.check(e, a, copies); err != nil {
		p.finish(e, Result{Err: err})
		return
	}
	e.alone = true
	p.write(e, a, Term{})
}

func (p *Peer) write(e *edit, a *app, term Term) {
	if e.req.idemKey == "" && !e.again && !e.req.conditional() && p.numbered(e) {
		e.req.idemKey = reqName(e.request) // should it be sent on, the next steward must know it again
	}
	if e.before == nil {
		e.before = map[string]int{}
		for name, c := range a.win.intent.App.Components {
			e.before[name] = c.Wanted()
		}
	}
	i := p.intent(e, a)
	if e.alone {
		i.Alone = true
		i.Before = e.before
		i.Changes = notDecided(i.Changes, e.version)
	} else {
		i.Term = term.Number
	}
	v := version{signed: p.sign(i), intent: *i}
	e.phase, e.uid, e.version, e.written = editStoring, a.uid, i.Version, false
	e.told = false
	e.copies = map[PeerRef]bool{}
	m := &storeMsg{UID: a.uid, Term: term, Intents: []Signed{v.signed}, Keepers: a.keepers.signed, From: e.sources()}
	p.keep(p.cfg.Self.Peer, m, []version{v}, a.keepers, keeperList{})
	p.ensureStored(a.uid)
}
