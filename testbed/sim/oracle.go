package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

// oracle knows what a simulation promised its people, and holds the mesh to
// it.
type oracle struct {
	w        *world
	ticket   uint64
	asked    map[uint64]*request
	acked    map[placement.UID]*acked
	answers  map[placement.Version]bool
	removed  map[placement.UID]bool // a removal was asked for, answered or not
	terms    map[termKey]placement.PeerID
	asks     map[placement.AskID]placement.Term
	gone     map[string]bool              // claims that were on a disk and are not any more
	over     map[string]placement.Version // by what an edit compared with, or by its key: what came of it
	lists    keeperLists
	accepted []accepted
	alone    map[placement.Version]bool // accepted below a majority, whatever became of them
	read     map[string]placement.Kept  // by record
	stats    Report
	leases   *leaseOracle
	rolls    *rollOracle
	names    map[placement.AppKey][]placement.UID // that an image's name was ever made with
}

type termKey struct {
	uid    placement.UID
	number uint64
}

// request is one PUT or DELETE.
type request struct {
	at     *peer
	key    placement.AppKey
	remove bool
	edit   placement.Submit // when it is one
	since  time.Duration    // when it was made
}

// acked is what was acknowledged of one app with a quorum.
type acked struct {
	key     placement.AppKey
	version placement.Version
	keepers placement.Keepers
	lost    bool // so many keepers lost their disks that it may be gone
}

func newOracle(w *world) *oracle {
	return &oracle{
		w: w, asked: map[uint64]*request{}, answers: map[placement.Version]bool{}, acked: map[placement.UID]*acked{}, removed: map[placement.UID]bool{},
		terms: map[termKey]placement.PeerID{}, asks: map[placement.AskID]placement.Term{},
		gone: map[string]bool{}, over: map[string]placement.Version{}, lists: keeperLists{}, alone: map[placement.Version]bool{}, read: map[string]placement.Kept{}, leases: newLeaseOracle(w), rolls: newRollOracle(w),
		names: map[placement.AppKey][]placement.UID{},
	}
}

func (o *oracle) kept(p *peer, uid placement.UID) (placement.Kept, bool) {
	value := p.disk.tables[placement.TableKeep][string(uid)]
	if value == nil {
		return placement.Kept{}, false
	}
	k, ok := p.disk.kept[string(uid)]
	if ok {
		return k, true
	}
	if k, ok = o.read[string(value)]; !ok { // of other keepers too: most write the same
		var err error
		if k, err = placement.ReadKept(value); err != nil {
			o.w.fail("%s: keeper's record of %s: %v", p.id, uid, err)
			return k, false
		}
		o.read[string(value)] = k
	}
	p.disk.kept[string(uid)] = k
	return k, true
}

// answered takes the answer to a request.
func (o *oracle) answered(p *peer, e placement.Answer) {
	req := o.asked[e.Ticket]
	delete(o.asked, e.Ticket)
	if req == nil {
		o.w.fail("%s: ticket %d was answered twice, or never given", p.id, e.Ticket)
		return
	}
	r := e.Result
	if r.Err != nil {
		o.w.tell(p, "answer", req.key.String(), r.Err.Error())
		o.stats.Refused++
		return
	}
	o.w.tell(p, "answer", req.key.String(), r.Version.String())
	o.stats.Acknowledged++
	if req.remove {
		o.removed[r.UID] = true
	}
	o.accept(req, r)
	o.conditions(p, req, r)
	o.named(p, req, r)
	if !r.Quorum {
		o.stats.Below++
		return
	}
	var keepers placement.Keepers
	for _, id := range r.Peers {
		if k, ok := o.kept(o.w.byID[id], r.UID); ok {
			keepers = k.Keepers
		}
	}
	if keepers.UID == "" { // a retry has the answer of then: of its keepers all may have lost their disks since, or been replaced
		keepers = o.lists.last(r.UID, keepers)
	}
	if keepers.UID == "" {
		if !o.removed[r.UID] && len(r.Peers) > 0 {
			o.w.fail("%s: acknowledged %s, and none of %v holds it", p.id, req.key, r.Peers)
		}
		return
	}
	if a := o.acked[r.UID]; a == nil || r.Version.Compare(a.version) > 0 {
		o.acked[r.UID] = &acked{key: req.key, version: r.Version, keepers: keepers}
	}
	o.check(o.w, r.UID)
}

// conditions looks at what an edit that was acknowledged was made under.
func (o *oracle) conditions(p *peer, req *request, r placement.Result) {
	switch ev := req.edit; {
	case ev.IfNoneMatch && !r.Created:
		o.w.fail("%s: %s was to be created only, and version %s was an edit", p.id, req.key, r.Version)
	case ev.MinCopies > copiesMax && !o.w.plan.Exclusive:
		o.w.fail("%s: %s wanted %d copies and was acknowledged", p.id, req.key, ev.MinCopies)
	case ev.IfMatch != "" && ev.IfMatch != "*":
		o.once(p, r, fmt.Sprintf("%s over %s", r.UID, ev.IfMatch))
	case ev.IdempotencyKey != "" && !r.Created:
		o.once(p, r, fmt.Sprintf("%s by %s", r.UID, ev.IdempotencyKey))
	}
}

// once: with a majority of the keepers in reach, of the edits that compare with
// one version one is made, and a repeated one is made once.
func (o *oracle) once(p *peer, r placement.Result, what string) {
	alone := !r.Quorum || o.alone[r.Version]
	for _, id := range r.Peers {
		if k, ok := o.kept(o.w.byID[id], r.UID); ok {
			alone = alone || slices.Contains(k.Alone, r.Version)
		}
	}
	if alone {
		return
	}
	if v, ok := o.over[what]; ok && v != r.Version {
		o.w.fail("%s: two edits were made %s: %s and %s", p.id, what, v, r.Version)
	}
	o.over[what] = r.Version
}

// check says whether a majority of the keepers holds what was acknowledged, or
// something later, on disk.
func (o *oracle) check(w *world, uid placement.UID) {
	a := o.acked[uid]
	if a == nil || o.removed[uid] {
		return
	}
	a.lost = a.lost || o.lost(a)
	if a.lost {
		return
	}
	a.keepers = o.lists.last(uid, a.keepers)
	n, left := 0, 0
	for _, ref := range a.keepers.Peers {
		p := w.byID[ref.Peer]
		if !o.intact(ref) {
			continue
		}
		left++
		if k, ok := o.kept(p, uid); ok && slices.ContainsFunc(k.Versions, func(v placement.Version) bool { return v.Compare(a.version) >= 0 }) {
			n++
		}
	}
	if n < a.keepers.Majority()-(len(a.keepers.Peers)-left) {
		if o.rivals(a.key); o.removed[uid] { // a push that nobody was answered yet found it, and is over it
			return
		}
		for _, ref := range a.keepers.Peers {
			k, ok := o.kept(w.byID[ref.Peer], uid)
			w.tell(w.byID[ref.Peer], "keeps", a.key.String(), fmt.Sprint(ok, " ", k.Term, " ", k.Versions))
		}
		w.fail("app %s %s: version %s was acknowledged, and %d of its keepers hold it", a.key, uid, a.version, n)
	}
}

func (o *oracle) checkAll(w *world) {
	for uid := range o.acked {
		o.check(w, uid)
	}
}

// intact says whether a keeper has its disk of then, and is in the mesh.
func (o *oracle) intact(ref placement.PeerRef) bool {
	p := o.w.byID[ref.Peer]
	return p.inc == ref.Incarnation && !p.out
}

// lost says whether so many keepers lost their disks that what was acknowledged
// may be lost: their minority is what an acknowledgement allows for.
func (o *oracle) lost(a *acked) bool {
	n := 0
	for _, ref := range a.keepers.Peers {
		if o.intact(ref) {
			n++
		}
	}
	return n < a.keepers.Majority()
}

// orphaned says whether so many of an app's keepers lost their disks that
// nobody can drive it but deputies: a person has to give it new keepers. The list that
// counts is the last that anybody who is left follows: that another was decided may
// have been known to one disk alone, and was lost with that.
func (o *oracle) orphaned(uid placement.UID) bool {
	list := placement.Keepers{}
	for _, p := range o.w.in() {
		if k, ok := o.kept(p, uid); ok && k.Keepers.UID != "" && k.Keepers.Epoch >= list.Epoch {
			list = k.Keepers
		}
	}
	return o.lost(&acked{keepers: list})
}

// stranded says whether a keeper that is left holds an app, and too few of them
// are left for it to be published: its side drives what it has.
func (o *oracle) stranded(uid placement.UID) bool {
	for _, p := range o.w.in() {
		if k, ok := o.kept(p, uid); ok && k.Keepers.UID != "" {
			return o.orphaned(uid)
		}
	}
	return false
}

// sent looks at an order that leaves a peer.
func (o *oracle) sent(p *peer, e placement.Send) placement.Inspection {
	in := e.Inspect()
	o.stats.Messages++
	o.leases.sent(p, in)
	o.rolls.ordered(p, e.To, in)
	if in.Kind == "ask" && !in.Deputy {
		o.asks[in.Ask] = in.Term
	}
	if in.Term.Number > 0 && !in.Deputy && (in.Kind == "ask" || in.Kind == "release" || in.Kind == "hold" || in.Kind == "store" || in.Kind == "pin") {
		key := termKey{in.UID, in.Term.Number}
		if by, ok := o.terms[key]; ok && by != p.id {
			o.w.fail("app %s: %s and %s both act under term %d", in.UID, by, p.id, in.Term.Number)
		}
		o.terms[key] = p.id
	}
	if in.Kind == "offer" && !in.Granted.IsEmpty() {
		o.offered(p, in)
	}
	return in
}

// offered looks at a grant: its claim must be on disk, and with it the term that
// it was asked under or a later one.
func (o *oracle) offered(p *peer, in placement.Inspection) {
	if in.Claim.Owner.Incarnation != p.inc {
		return // granted in an earlier life of its store, and booked again because it runs
	}
	at := p.disk.tables[placement.TableTerms][string(in.UID)]
	if held := p.disk.tables[placement.TableClaims][in.Claim.String()] != nil; held && term(at).Compare(o.asks[in.Ask]) < 0 {
		o.w.fail("%s: grants %s under term %d, which is not on its disk", p.id, in.Claim, o.asks[in.Ask].Number)
	}
	id := in.Claim.String()
	if p.disk.tables[placement.TableClaims][id] == nil && !o.gone[id] {
		o.w.fail("%s: grants %s, which is not on its disk", p.id, id)
	}
}

// written looks at a write that becomes durable.
func (o *oracle) written(p *peer, wr placement.Write) {
	old := p.disk.tables[wr.Table][wr.Key]
	switch wr.Table {
	case placement.TableClaims:
		o.claimWritten(p, wr, old)
	case placement.TableTerms:
		if old != nil && wr.Value != nil && term(wr.Value).Compare(term(old)) < 0 {
			o.w.fail("%s: its ledger's term of %s fell", p.id, wr.Key)
		}
	case placement.TableKeep:
		o.keepWritten(p, wr)
	}
}

// keepWritten takes a keeper's record for written: what was in its place is
// compared with it.
func (o *oracle) keepWritten(p *peer, wr placement.Write) {
	uid := placement.UID(wr.Key)
	was, had := o.kept(p, uid)
	p.disk.set(wr.Table, wr.Key, wr.Value)
	is, has := o.kept(p, uid)
	for _, v := range is.Alone {
		o.alone[v] = true
	}
	if has {
		o.lists.written(o.w, p, is)
	}
	// The first term is granted by the creating store alone: nobody is voted into it.
	if had && has && is.Term.Compare(was.Term) < 0 && was.Term.Number > 1 {
		o.w.fail("%s: the term that it granted of %s fell", p.id, wr.Key)
	}
}

func (o *oracle) claimWritten(p *peer, wr placement.Write, old []byte) {
	if wr.Value == nil {
		if old != nil {
			o.gone[wr.Key] = true
		}
		return
	}
	id, err := placement.ParseClaimID(wr.Key)
	if err != nil {
		o.w.fail("%s: claim %s: %v", p.id, wr.Key, err)
		return
	}
	if old != nil || id.Owner.Incarnation != p.inc {
		return
	}
	o.stats.Grants++
	if o.gone[wr.Key] {
		o.w.fail("%s: ask %v was granted twice", p.id, id.Ask)
	}
	// A grant under a term below the one that this ledger has on disk.
	uid, t, deputy := placement.ClaimTerm(wr.Value)
	if seen := p.disk.tables[placement.TableTerms][string(uid)]; seen != nil && t.Compare(term(seen)) < 0 {
		o.w.fail("%s: granted %s under term %d (deputy %t), after term %d", p.id, wr.Key, t.Number, deputy, term(seen).Number)
	}
}

func term(data []byte) (t placement.Term) {
	_ = placement.Decode(data, &t)
	return t
}
