package placement

import (
	"fmt"
	"slices"
	"strconv"
)

// editStored counts a copy of the edits that wait for it.
func (p *Peer) editStored(from PeerID, m *storedMsg) {
	for _, id := range sortedKeys(p.edits.open) {
		e := p.edits.open[id]
		if e == nil || e.phase != editStoring || e.uid != m.UID || !slices.Contains(m.Versions, e.version) {
			continue
		}
		a := p.apps[e.uid]
		e.copies[a.refOf(from, m.Life)] = true
		if from == p.cfg.Self.Peer && !e.written {
			e.written = true
			if e.created || e.alone {
				p.publishEdit(e, a)
			}
		}
		if p.quorum(e, a) && e.written {
			if !e.created && !e.alone && !e.told {
				p.publishEdit(e, a)
			}
			e.told = true
			if p.enough(e, a) {
				p.acknowledge(e, a)
			}
		}
	}
}

// publishEdit publishes what stands once an edit may be shown, unless a later one is
// among that which may yet be taken back: its own answer publishes it. What was
// accepted on the other side of a cut, and heard of while the edit waited, stays
// beside it.
func (p *Peer) publishEdit(e *edit, a *app) {
	for _, o := range p.edits.open {
		if o != nil && o != e && o.uid == a.uid && o.phase == editStoring && !o.told && !(o.written && (o.alone || o.created)) &&
			slices.ContainsFunc(a.versions, func(v version) bool { return v.intent.Version == o.version }) {
			return
		}
	}
	if len(a.versions) == 1 {
		p.publishApp(a)
	} else {
		p.publishSides(a)
	}
}

// enough says whether as many keepers hold an edit as it wants, of those that
// live.
func (p *Peer) enough(e *edit, a *app) bool {
	return len(e.copies) >= min(e.req.copies, p.liveKeepers(a))
}

func (p *Peer) quorum(e *edit, a *app) bool {
	return p.decided(a, func(ref PeerRef) bool { return e.copies[ref] })
}

// copied is the peers that hold an edit, sorted.
func (e *edit) copied() []PeerID {
	ids := map[PeerID]bool{}
	for ref := range e.copies {
		ids[ref.Peer] = true
	}
	return sortedKeys(ids)
}

// publishApp tells the mesh of the version that an app follows.
func (p *Peer) publishApp(a *app) { p.publishVersion(a, a.win) }

// publishSides shows the mesh a conflict whole: versions that stand and that
// only keepers know.
func (p *Peer) publishSides(a *app) {
	for _, v := range a.versions { // as they are now
		if !p.lists(a.uid, v.intent.Version) {
			p.publishVersion(a, &v)
		}
	}
}

// publishVersion puts a version beside those listed ones that stand with it, and
// beside other apps under the same name, made on the other side of a cut, but for
// what a person decided against.
func (p *Peer) publishVersion(a *app, v *version) {
	if p.catalog.keepers[a.uid].list.Epoch < a.keepers.list.Epoch {
		p.publish(Publish{Table: TableKeepers, Key: string(a.uid), Value: Encode(a.keepers.signed)})
	}
	beside := p.others(a)
	for _, l := range p.catalog.versions(a.uid) {
		if l.intent.Version != v.intent.Version && slices.ContainsFunc(a.versions, func(o version) bool { return o.intent.Version == l.intent.Version }) {
			beside = append(beside, l.raw)
		}
	}
	p.publish(Publish{Table: TableIntents, Key: a.key.String(), Value: Encode(v.signed), Beside: beside})
}

// others is the records of other apps under the same name that stand.
func (p *Peer) others(a *app) [][]byte {
	var out [][]byte
	for _, v := range p.catalog.byKey[a.key] {
		if v.intent.UID != a.uid && !v.intent.Removed && !a.win.intent.ends(&v.intent) {
			out = append(out, v.raw)
		}
	}
	return out
}

// allBut is the records of other apps under an app's name.
func (p *Peer) allBut(uid UID) [][]byte {
	var out [][]byte
	for _, v := range p.catalog.byKey[p.catalog.keyOf[uid]] {
		if v.intent.UID != uid {
			out = append(out, v.raw)
		}
	}
	return out
}

// unpublishApp ends an app's records. Those of other apps under its name are not
// touched: writing one anew would bring it back, had it been removed meanwhile.
func (p *Peer) unpublishApp(a *app) {
	p.publish(Publish{Table: TableIntents, Key: a.key.String(), Beside: p.others(a)}) // first: a list that is missing for a listed app is published again
	p.publish(Publish{Table: TableKeepers, Key: string(a.uid)})
}

// happens is what an edit is called among events, and a removal, by the namespace
// that something of its own is kept in.
var happens = map[string][]string{
	"":                {"deployed", "removed"},
	NamespaceImages:   {"pushed", "image-removed"},
	NamespacePolicies: {"policy-set", "policy-removed"},
}

func (p *Peer) acknowledge(e *edit, a *app) {
	version := e.version
	if !e.as.IsZero() {
		version = e.as
	}
	p.finish(e, Result{
		UID: e.uid, Version: version, ETag: p.etag(a.key), Created: e.created,
		Copies: len(e.copied()), Peers: e.copied(), Quorum: p.quorum(e, a), Notes: p.farKeepers(a),
	})
	if e.merges {
		p.out.happened(Happened{Type: "merged", UID: e.uid, Key: e.req.key, Peer: p.cfg.Self.Peer,
			Message: fmt.Sprintf("edits made on both sides of a cut are one again, version %s", e.version)})
	}
	if len(e.tickets)+len(e.remotes) == 0 {
		return
	}
	what := happens[a.key.Namespace]
	if what == nil {
		what = happens[""]
	}
	p.out.happened(Happened{Type: what[btoi(e.req.remove)], UID: e.uid, Key: e.req.key, Peer: p.cfg.Self.Peer,
		Message: fmt.Sprintf("version %s, on disk at %d of %d keepers", version, len(e.copied()), len(a.keeperIDs()))})
}

// editRefused takes back the edits of an app whose keepers follow a higher term.
// Those that named a version lost the compare-and-set; the others go on to who
// drives it. What a majority holds was made, and waits for copies only.
func (p *Peer) editRefused(uid UID, higher Term) {
	for _, id := range sortedKeys(p.edits.open) {
		e := p.edits.open[id]
		if e == nil || e.phase != editStoring || e.uid != uid || e.created || e.alone || e.told {
			continue
		}
		p.tune.mark(MarkEditRefused)
		p.takeBack(e)
		if !e.again && !e.req.conditional() && p.out.now.Mono < e.deadline {
			p.tune.mark(MarkEditSentOn)
			e.phase, e.written, e.before, e.copies, e.sentOn = editWaiting, false, nil, map[PeerRef]bool{}, e.sentOn+1
			switch {
			case higher.Peer != p.cfg.Self.Peer && p.members.live(higher.Peer) && e.sentOn < sentOnMax:
				p.forward(e, higher.Peer)
			default:
				p.route(e)
			}
			if p.edits.open[id] == e {
				p.armEdit(e)
			}
			continue
		}
		p.finish(e, Result{Err: fmt.Errorf("edit of %s: %w: the app is driven under term %d by %s", e.req.key, ErrConflict, higher.Number, higher.Peer)})
	}
}

// editNotWritten ends the edits of an app that this peer could not write.
func (p *Peer) editNotWritten(uid UID, failed *PersistFailed) {
	kind := ErrInternal
	if failed.Full {
		kind = ErrFull
	}
	for _, id := range sortedKeys(p.edits.open) {
		e := p.edits.open[id]
		if e == nil || e.phase != editStoring || e.uid != uid || e.written {
			continue
		}
		p.tune.mark(MarkEditNotWritten)
		p.takeBack(e)
		p.finish(e, Result{Err: fmt.Errorf("edit of %s: %w: %s", e.req.key, kind, failed.Err)})
	}
}

// takeBack undoes what an edit that is refused has spread so far.
func (p *Peer) takeBack(e *edit) {
	if a := p.apps[e.uid]; a != nil {
		for _, id := range a.keeperIDs() {
			if id != p.cfg.Self.Peer {
				p.out.send(id, message{Drop: &dropMsg{UID: e.uid, Version: e.version}})
			}
		}
	}
	p.dropped.add(dropKey(e.uid, e.version))
	p.persistKeep(e.uid, p.keeper.drop(e.uid, e.version))
	p.refresh(e.uid)
}

func dropKey(uid UID, v Version) string { return string(uid) + "/" + v.String() }

func (p *Peer) onDrop(from PeerID, m *dropMsg) {
	if p.lists(m.UID, m.Version) {
		p.tune.mark(MarkDropTooLate)
		return // it was published, and stands
	}
	if m.Version.Peer != from && !p.reminded(from, m) && !(p.members.forgotten(m.Version.Peer) && p.isKeeper(m.UID, from)) {
		return // only its writer takes a version back, or a keeper that heard so from one that is no more
	}
	p.dropped.add(dropKey(m.UID, m.Version)) // the store may come after this
	p.persistKeep(m.UID, p.keeper.drop(m.UID, m.Version))
	p.refresh(m.UID)
}

// reminded says whether a keeper may remind this peer that it took a version of
// its own back: in an earlier run of the daemon, and its disk was too full to
// forget it.
func (p *Peer) reminded(from PeerID, m *dropMsg) bool {
	if m.Version.Peer != p.cfg.Self.Peer {
		return false
	}
	for _, e := range p.edits.open {
		if e.uid == m.UID && e.version == m.Version {
			return false
		}
	}
	a := p.apps[m.UID]
	if a == nil || !slices.Contains(a.keeperIDs(), from) {
		return false
	}
	s := a.steward // one with a term has told others of it, and publishes it
	return s == nil || s.deputy || s.phase == phaseRaising
}

// editTimer is the deadline of an edit, or the time to forward it again.
func (p *Peer) editTimer(id string) {
	n, _ := strconv.ParseUint(id, 10, 64)
	e := p.edits.open[n]
	if e == nil {
		return
	}
	a := p.apps[e.uid]
	late := p.out.now.Mono >= e.deadline ||
		p.out.now.Mono >= e.soft && a != nil && (e.alone || !p.majority(a)) // what it waits for does not come
	switch {
	case e.phase == editForwarded && late:
		p.tune.mark(MarkForwardUnanswered)
		p.finish(e, Result{Err: fmt.Errorf("edit of %s: %w: %s does not answer; the outcome is unknown", e.req.key, ErrUnavailable, e.to)})
		return
	case e.phase == editForwarded:
		p.route(e)
	case e.phase == editWaiting && late:
		if a = p.find(e.req.key); a == nil {
			p.finish(e, Result{Err: fmt.Errorf("edit of %s: %w", e.req.key, ErrNotFound)})
			return
		}
		p.editAlone(e, a)
		e.deadline = p.out.now.Mono + p.tune.SubmitWait
	case e.phase == editStoring && a == nil: // removed meanwhile
		p.finish(e, Result{UID: e.uid, Version: e.version, Created: e.created, Copies: len(e.copied()), Peers: e.copied()})
		return
	case e.phase == editStoring && late && !e.written && p.merged(e, a): // and answered, or as good as
	case e.phase == editStoring && late && !e.written && !p.stands(e):
		p.finish(e, Result{Err: fmt.Errorf("edit of %s: %w: another edit came first", e.req.key, ErrConflict)})
		return
	case e.phase == editStoring && late && !e.written && p.lacks(e):
		p.takeBack(e)
		p.finish(e, Result{Err: fmt.Errorf("edit of %s: %w: its artifacts did not arrive", e.req.key, ErrUnavailable)})
		return
	case e.phase == editStoring && late && !e.written:
		// The disk is slow: its answer ends the edit, one way or the other.
		e.deadline = p.out.now.Mono + p.tune.SubmitWait
	case e.phase == editStoring && (late && (e.alone || e.told) || e.told && p.enough(e, a)):
		p.acknowledge(e, a)
		return
	case e.phase == editStoring && late && e.merges:
		p.takeBack(e)
		p.finish(e, Result{Err: fmt.Errorf("merge of %s: %w: no majority of its keepers took it", e.req.key, ErrUnavailable)})
		return
	case e.phase == editStoring && late:
		// Written under a term that has no majority (any more): it stands as
		// an edit made alone, which belongs to this side and which no other
		// edit supersedes unseen.
		e.req.ifNone = e.req.ifNone && !e.created // what exists is this
		if err := p.check(e, a, p.liveKeepers(a)); err != nil {
			p.takeBack(e)
			p.finish(e, Result{Err: err})
			return
		}
		p.tune.mark(MarkEditLostMajority)
		e.alone = true
		p.write(e, a, Term{})
		e.deadline = p.out.now.Mono + p.tune.SubmitWait
	}
	if p.edits.open[n] == e {
		p.armEdit(e)
	}
}

// merged answers an edit that another peer has made part of what the mesh lists.
func (p *Peer) merged(e *edit, a *app) bool {
	return p.lists(a.uid, a.win.intent.Version) && a.win.intent.Version != e.version && p.madeBefore(e, a, false)
}

// stands says whether this peer still holds an edit: one that was superseded
// before it was on disk is gone.
func (p *Peer) stands(e *edit) bool { return p.keptEdit(e) != nil }

// lacks says whether artifacts of an edit are not here.
func (p *Peer) lacks(e *edit) bool {
	v := p.keptEdit(e)
	return v != nil && p.awaits(&v.intent)
}

// keptEdit is an edit as this peer keeps it, nil if it does not.
func (p *Peer) keptEdit(e *edit) *version {
	r := p.keeper.records[e.uid]
	if r == nil {
		return nil
	}
	n := slices.IndexFunc(r.versions, func(v version) bool { return v.intent.Version == e.version })
	if n < 0 {
		return nil
	}
	return &r.versions[n]
}

// awaits says whether bytes of an intent are not here that a keeper of it has to
// hold.
func (p *Peer) awaits(i *Intent) bool {
	return !i.Removed && slices.ContainsFunc(i.Artifacts, func(art Artifact) bool { return !p.has(art) && !p.durable(i, art) })
}

// rerouteEdits looks again at edits that wait for someone, since who that is
// may have changed: those of one app's name, or with nil all.
func (p *Peer) rerouteEdits(a *app) {
	for _, id := range sortedKeys(p.edits.open) {
		e := p.edits.open[id]
		if e == nil || a != nil && e.req.key != a.key || len(p.byKey[e.req.key]) == 0 {
			continue
		}
		if e.phase == editWaiting || e.phase == editForwarded && !p.members.live(e.to) {
			p.route(e)
		}
	}
}

func (p *Peer) onForwarded(from PeerID, m *forwardedMsg) {
	if m.Request.Peer != p.cfg.Self.Peer {
		return
	}
	for _, id := range sortedKeys(p.edits.open) {
		e := p.edits.open[id]
		if e.phase != editForwarded || e.request != m.Request || !slices.Contains(e.asked, from) {
			continue
		}
		if m.Kind == ErrUnavailable.Error() {
			// Views differ for the moment: it is forwarded again until the deadline,
			// and at once to whom a keeper takes for the driver. That is not the first
			// of the list for a while after the first came back.
			if p.isKeeper(e.req.uid, m.Driver) && m.Driver != from && p.members.live(m.Driver) && e.sentOn < sentOnMax {
				e.sentOn++
				p.forward(e, m.Driver)
			}
			return
		}
		r := Result{UID: m.UID, Version: m.Version, ETag: m.ETag, Created: m.Created, Copies: len(m.Peers), Peers: m.Peers, Quorum: m.Quorum, Notes: m.Notes}
		if m.Kind != "" {
			r.Err = remoteError(m.Kind, m.Text)
		}
		p.finish(e, r)
		return
	}
}

// finish answers an edit and remembers the answer for those who ask again.
func (p *Peer) finish(e *edit, r Result) {
	delete(p.edits.open, e.id)
	p.timers.cancel(timerSubmit, strconv.FormatUint(e.id, 10))
	name := e.req.idemName()
	if name != "" {
		delete(p.edits.byIdem, name)
		if r.Err == nil && len(e.tickets)+len(e.remotes) > 0 { // not for one that was only written again
			p.remember(name, r)
		}
	}
	for _, req := range e.remotes {
		delete(p.edits.byReq, req)
		if r.Err == nil {
			p.remember(reqName(req), r)
		}
	}
	p.answer(e, r)
}

func (p *Peer) remember(name string, r Result) {
	if _, ok := p.edits.answered[name]; !ok {
		p.edits.order = append(p.edits.order, name)
	}
	p.edits.answered[name] = r
	for len(p.edits.order) > answeredMax {
		delete(p.edits.answered, p.edits.order[0])
		p.edits.order = p.edits.order[1:]
	}
}

func (p *Peer) answer(e *edit, r Result) {
	for _, t := range e.tickets {
		p.out.emit(Answer{Ticket: t, Result: r})
	}
	for _, req := range e.remotes {
		m := &forwardedMsg{
			Request: req, UID: r.UID, Version: r.Version, ETag: r.ETag, Created: r.Created, Peers: r.Peers, Quorum: r.Quorum, Driver: r.Driver, Notes: r.Notes,
		}
		if r.Err != nil {
			m.Kind, m.Text = kindOf(r.Err), clip(r.Err.Error())
		}
		p.out.send(req.Peer, message{Forwarded: m})
	}
}
