package placement

import (
	"maps"
	"slices"
	"time"
)

// This file is the holder's side: what the ledger and the work of this peer
// do when others ask, the catalog changes, or the runner reports.

func (p *Peer) onAsk(from PeerID, m *askMsg) {
	if m.ID.Asker != from || m.Slots.IsEmpty() || p.gone(m.UID) || !m.Deputy && !p.mayOrder(from, m.UID, m.Term) {
		return
	}
	v, err := p.catalog.readIntent(m.Intent)
	if err != nil || v.intent.UID != m.UID || !p.named(v) {
		return
	}
	wanted := &v.intent
	if len(m.As.Body) > 0 {
		as, err := p.catalog.readIntent(m.As)
		if err != nil {
			return
		}
		if wanted = wanted.asOf(m.Component, &as.intent); wanted == nil {
			return
		}
	}
	p.clock.observe(v.intent.Version, p.out.now.Wall)
	var known *Intent
	if p.catalog.has(m.UID) {
		if a := p.apps[m.UID]; a != nil {
			known = &a.win.intent
		}
	}
	adm := p.ledger.Admit(p.out.now, m, wanted, known)
	if adm.wait {
		return
	}
	if adm.claim == nil && p.stranger(m.UID) { // nothing to fence
		p.ledger.forgetTerm(m.UID)
		adm.writes = slices.DeleteFunc(adm.writes, func(w Write) bool { return w.Table == tableTerms })
	}
	owed, written := p.ledger.debts()
	p.out.persist(append(owed, adm.writes...), func(failed *PersistFailed) {
		reply := adm.reply
		if failed == nil {
			written()
			p.ledger.termNoted(adm.writes)
		}
		if failed != nil {
			reply.Granted, reply.Refused, reply.Claim = Slots{}, m.Slots, ClaimID{}
			reply.Reason = "the disk of this peer does not take it: " + failed.Err
		}
		if c := adm.claim; c != nil {
			if failed != nil {
				p.ledger.Aborted(c)
			} else {
				p.ledger.Committed(c)
				p.armClaim(c)
				p.leaveGone(c) // a host may have gone since
				p.runClaim(c)
				p.checkClaims(c.UID)
			}
		}
		reply.Digest, reply.Order = p.Digest(), p.order()
		p.out.send(from, message{Offer: &reply})
	})
}

// stranger says whether this peer neither knows an app nor holds anything of it.
func (p *Peer) stranger(uid UID) bool { return p.apps[uid] == nil && len(p.ledger.byApp[uid]) == 0 }

// armClaim sets the expiry of a claim that has one.
func (p *Peer) armClaim(c *claim) {
	if c.expires > 0 {
		p.timers.set(timerClaim, c.ID.String(), c.expires)
	}
}

// runClaim starts the slots of a claim that may run.
func (p *Peer) runClaim(c *claim) {
	if c.held || c.State == claimReserved {
		return
	}
	for n := range c.Slots.All() {
		p.work.begin(c, n)
	}
	p.touchReportBy(c.UID, p.tune.Resend) // its steward has the offer, and what begins to run is told of at once
}

// onCommit makes a reservation work, and says so once that is on disk.
func (p *Peer) onCommit(from PeerID, m *commitMsg) {
	if c := p.ledger.claims[m.Claim]; c != nil && c.held || !p.mayOrder(from, m.UID, m.Term) {
		return
	}
	fence, _, ok := p.ledger.fence(m.UID, m.Term, false)
	if !ok {
		return
	}
	c, writes, not := p.ledger.commit(p.out.now, m, p.catalog.has(m.UID))
	reply := &committedMsg{UID: m.UID, Term: m.Term, Claim: m.Claim, Not: not}
	if c == nil {
		p.out.send(from, message{Committed: reply})
		return
	}
	state, expires := c.State, c.expires
	p.timers.cancel(timerClaim, c.ID.String())
	p.armClaim(c)
	p.out.persist(append(fence, writes...), func(failed *PersistFailed) {
		switch {
		case failed == nil:
			p.ledger.termNoted(fence)
			c.work = true
			if c.State == claimReserved { // a commit before this one was not written
				c.State, c.expires = state, expires
			}
			p.runClaim(c)
			p.checkClaims(c.UID)
			p.out.send(from, message{Committed: reply})
		default:
			p.uncommit(c)
		}
	})
}

// uncommit makes a claim a reservation again whose commit is not on disk, and
// whose disk says so by now.
func (p *Peer) uncommit(c *claim) {
	if p.ledger.claims[c.ID] == c && !c.work && (c.State == claimUnconfirmed || c.State == claimActive) {
		c.State, c.Left = claimReserved, int64(p.tune.ReserveExpiry)
		c.expires = p.out.now.Mono + p.tune.ReserveExpiry
		p.armClaim(c)
	}
}

// onRelease takes an order to give slots back. It needs the current term, and
// an intent that is not older than the claim's.
func (p *Peer) onRelease(from PeerID, m *releaseMsg) {
	c := p.ledger.claims[m.Claim]
	if !p.mayOrder(from, m.UID, m.Term) && !p.rolledHere(from, m, c) {
		return
	}
	if c == nil || c.UID != m.UID || c.held || m.Version.Compare(c.Version) < 0 {
		p.tune.mark(MarkReleaseOutdated)
		p.touchReport(m.UID)
		return
	}
	fence, _, ok := p.ledger.fence(m.UID, m.Term, m.Deputy)
	if !ok {
		return
	}
	slots := m.Slots
	if slots.IsEmpty() {
		slots = c.Slots
	}
	slots = p.ledger.unpinned(p.out.now, c, slots, m.Term, m.Order)
	if m.Behind {
		fence = append(fence, p.ledger.leaveBehind(c, slots.Intersect(c.Slots))...)
	}
	p.releaseSlots(c, slots, clip(m.Reason), fence...)
}

// releaseSlots stops slots of a claim once the release is on disk, and with it
// the term that it was ordered under.
func (p *Peer) releaseSlots(c *claim, slots Slots, reason string, fence ...Write) {
	state, expires := c.State, c.expires
	stopping, writes := p.ledger.release(c, slots)
	if stopping.IsEmpty() {
		return
	}
	c.leaving = c.leaving.Union(stopping)
	p.out.persist(append(fence, writes...), func(failed *PersistFailed) {
		c.leaving = c.leaving.Minus(stopping)
		if failed == nil {
			p.ledger.termNoted(fence)
		}
		if failed != nil {
			p.ledger.unrelease(c, stopping, state, expires)
			p.uncommit(c)
			p.armClaim(c)
			if p.ledger.claims[c.ID] == c {
				p.runClaim(c) // what a driver's list did not start meanwhile
			}
			p.timers.before(timerRefresh, "claims", p.out.now.Mono+p.tune.RoundMin)
			return
		}
		if state == claimReserved {
			for n := range stopping.All() {
				p.slotStopped(c, n)
			}
			return
		}
		for n := range stopping.All() {
			p.work.stop(AllocationID{c.ID, n}, c, reason)
		}
	})
	p.touchReport(c.UID)
}

func (p *Peer) slotStopped(c *claim, n Slot) {
	if writes := p.ledger.stopped(c, n); writes != nil {
		if p.stranger(c.UID) {
			writes = append(writes, p.ledger.forgetTerm(c.UID)...)
		}
		written := p.ledger.settles(c.ID)
		p.out.persist(writes, func(failed *PersistFailed) {
			if failed == nil {
				written()
			}
		})
	}
	p.freeLease(AllocationID{c.ID, n})
	p.follow(c, n)
	p.touchReport(c.UID)
}

func (p *Peer) onPin(from PeerID, m *pinMsg) {
	if !p.mayOrder(from, m.UID, m.Term) {
		return
	}
	c := p.ledger.claims[m.Claim]
	if c == nil || c.UID != m.UID || c.held {
		p.tune.mark(MarkPinOfNothing)
		p.touchReport(m.UID) // whoever asks takes it for running here
		return
	}
	writes, _, ok := p.ledger.fence(m.UID, m.Term, false)
	if !ok {
		return
	}
	pinned := p.ledger.pin(p.out.now, c, p.work.running(c).Intersect(m.Slots), m.Term, m.Order)
	p.out.persist(writes, func(failed *PersistFailed) {
		if failed == nil {
			p.ledger.termNoted(writes)
			p.out.send(from, message{Pinned: &pinnedMsg{UID: m.UID, Term: m.Term, Claim: m.Claim, Slots: pinned}})
		}
	})
}

// checkClaims holds this peer's claims of an app against the intent: what
// scaling down and removal ask for, each peer does itself.
func (p *Peer) checkClaims(uid UID) {
	if p.counters.boot == 0 {
		return // the catalog may not be loaded yet
	}
	listed := p.catalog.has(uid)
	a := p.apps[uid]
	for _, c := range p.ledger.of(uid) {
		switch {
		case c.held || c.State == claimReleasing:
		case c.State == claimReserved:
		case !listed && c.State == claimActive:
			p.releaseSlots(c, c.Slots, "the app was removed")
		case !listed:
			p.letGo(c)
		case a.win.intent.Removed:
			p.releaseSlots(c, c.Slots, "the app was removed")
		default:
			p.checkClaim(a, c)
		}
	}
	p.checkVolumes(uid)
}

func (p *Peer) checkClaim(a *app, c *claim) {
	confirmed, writes := p.ledger.confirm(c)
	if confirmed {
		p.timers.cancel(timerClaim, c.ID.String())
	}
	if len(writes) > 0 {
		p.out.persist(writes, func(failed *PersistFailed) {
			// Its commit may have failed meanwhile; with this it is on disk.
			if failed != nil || p.ledger.claims[c.ID] != c {
				return
			}
			c.work = true
			if c.State == claimReserved {
				p.timers.cancel(timerClaim, c.ID.String())
				c.State, c.expires, c.Left = claimActive, 0, 0
			}
			if c.State == claimActive {
				p.runClaim(c)
			}
		})
	}
	if c.Spec.Kind() == "" { // booked again from labels
		for _, v := range a.versions {
			if comp, ok := v.intent.App.Components[c.Component]; ok && v.spec(c.Component) == c.SpecHash {
				c.Spec = comp
				c.needs(&v.intent, p.ledger.archOf(c))
				kept := p.ledger.keep(p.out.now.Wall, c, c.holds(), comp.Volumes)
				p.out.persist(append(kept, p.ledger.writeClaim(c)), func(*PersistFailed) {})
				p.watch(c)
				for n := range c.Slots.All() { // it was not known what they are
					if a := p.work.allocs[AllocationID{c.ID, n}]; a != nil {
						p.work.noteCalls(a)
					}
				}
				p.runClaim(c)
				break
			}
		}
		p.letGo(c)
	}
	if a.versions[0].intent.Version.Compare(c.Version) < 0 {
		return // granted from a newer version than this peer knows
	}
	wanted := 0
	for _, v := range a.versions {
		if comp, ok := v.intent.App.Components[c.Component]; ok && !v.intent.Removed {
			wanted = max(wanted, comp.Wanted())
		}
	}
	p.releaseSlots(c, c.Slots.Minus(FirstSlots(wanted)), "scaled down")
}

// expireClaim is the timer of a claim that was never confirmed or committed.
func (p *Peer) expireClaim(id string) {
	cid, err := ParseClaimID(id)
	c := p.ledger.claims[cid]
	if err != nil || c == nil || c.expires == 0 || p.out.now.Mono < c.expires || p.tune.Break == FaultKeepForever {
		return
	}
	switch c.State {
	case claimReserved:
		p.tune.mark(MarkReservationExpired)
		p.releaseSlots(c, c.Slots, "the reservation expired")
	case claimUnconfirmed:
		p.tune.mark(MarkNeverConfirmed)
		p.releaseSlots(c, c.Slots, "its intent never arrived")
	}
}

// onWork takes news of the runner.
func (p *Peer) onWork(ev WorkChanged, why string) {
	ran, told := false, false
	if a := p.work.allocs[ev.ID]; a != nil {
		told = a.state.State == AllocRunning
		ran = told || a.state.State == AllocUnhealthy // and runs on
	}
	a, v := p.work.changed(ev.ID, ev.State)
	if a == nil {
		return
	}
	c := a.claim
	switch v {
	case workRunning:
		if c.FirstRunning == 0 || why == "" && !ran { // else it runs on
			p.ran(c, ev.ID.Slot, p.out.now.Wall.UnixMilli(), a.restarts > 0)
		}
		if !told || why != "" {
			p.work.happened(a, "running", why)
		}
	case workGone:
		p.slotStopped(c, ev.ID.Slot)
		p.tell(c, "stopped", ev.ID.Slot, a.state.Reason)
	case workExited:
		p.work.happened(a, "exited", ev.State.Reason)
		p.letGo(c)
	case workFenced:
		p.tell(c, "stopped", ev.ID.Slot, "its lease ended")
		p.letGo(c)
		p.work.retry(ev.ID)
	case workAgain:
		p.tell(c, "restarted", ev.ID.Slot, "")
		p.letGo(c)
		p.work.retry(ev.ID)
	case workFailed:
		p.failed(c, ev.ID.Slot, a.state)
		p.releaseSlots(c, SlotsOf(ev.ID.Slot), a.state.Reason)
		p.tell(c, "failed", ev.ID.Slot, a.state.Reason)
	}
	p.touchReport(c.UID)
}

// startSpread is how long after the first slot of a claim another may begin to
// run and count as having begun with it: what is placed together starts so.
const startSpread = 10 * time.Second

// ran notes since when a slot runs, in Unix milliseconds, which decides which of
// two copies is the original and which has run longer.
func (p *Peer) ran(c *claim, n Slot, at int64, again bool) {
	known := c.FirstRunning
	if t, ok := c.Again[n]; ok {
		known = t
	}
	switch {
	case c.FirstRunning == 0:
		c.FirstRunning = at
	case !again && at <= known+startSpread.Milliseconds():
		return
	default:
		c.Again = maps.Clone(c.Again) // reports that are under way hold the old one
		if c.Again == nil {
			c.Again = map[Slot]int64{}
		}
		c.Again[n] = at
	}
	if p.ledger.claims[c.ID] == c && !c.held {
		p.out.persist([]Write{p.ledger.writeClaim(c)}, func(*PersistFailed) {})
	}
}

func (p *Peer) tell(c *claim, what string, n Slot, why string) {
	p.out.happened(Happened{
		Type: what, UID: c.UID, Key: c.Key, Component: c.Component,
		Slots: SlotsOf(n).String(), Peer: p.cfg.Self.Peer, Message: why,
	})
}

// failure is slots of one component that were given back here.
type failure struct {
	slots Slots
	spec  uint64 // SpecHash of what failed last: another version may do better
	why   string
	final bool // no start of it here will do
	at    time.Duration
}

func (p *Peer) failed(c *claim, n Slot, s WorkState) {
	if p.failures[c.UID] == nil {
		p.failures[c.UID] = map[string]failure{}
	}
	f := p.failures[c.UID][c.Component]
	if f.spec != c.SpecHash {
		f.slots = Slots{}
	}
	p.failures[c.UID][c.Component] = failure{slots: f.slots.Add(n), spec: c.SpecHash, why: s.Reason, final: s.Final, at: p.out.now.Mono}
}

// onWorkListed takes a driver's answer to "what do you run?" and brings ledger
// and work together: what runs and is granted is adopted, what runs and was
// given back is stopped, what the ledger forgot is booked again, and what is
// granted and does not run is started.
func (p *Peer) onWorkListed(ev WorkListed) {
	p.ledger.listed[ev.Driver] = true
	booked := map[ClaimID]bool{}
	for _, f := range ev.Work {
		c := p.ledger.claims[f.ID.Claim]
		if (c == nil || booked[c.ID]) && f.ID.Claim.Owner != p.cfg.Self {
			if c = p.rebook(f); c != nil {
				booked[c.ID] = true
			}
		}
		switch {
		case c == nil:
			// Granted in this life of the store and no longer in the ledger:
			// given back.
			p.out.emit(Stop{ID: f.ID, Reason: "its claim was given back"})
		case c.Slots.Contains(f.ID.Slot):
			p.adopt(c, f)
		case !c.Stopping.Contains(f.ID.Slot):
			p.out.emit(Stop{ID: f.ID, Reason: "its slot was given back"})
		}
	}
	p.book(ev.Driver, booked)
	for _, c := range p.ledger.sorted() {
		if booked[c.ID] {
			p.checkClaims(c.UID)
		}
		if c.Spec.Kind() != "" && c.Spec.Driver() == ev.Driver {
			for n := range c.Stopping.Minus(c.leaving).All() {
				p.work.stop(AllocationID{c.ID, n}, c, "given back before the restart")
			}
			p.runClaim(c)
		}
		if c.Spec.Kind() == "" && p.ledger.allListed() { // any driver may run it
			for n := range c.Stopping.Minus(c.leaving).All() {
				p.work.stop(AllocationID{c.ID, n}, c, "given back before the restart")
			}
		}
		p.letGo(c)
	}
}

// letGo gives slots back that were booked again from labels and whose work has
// ended since: what it was is not known any more, so that it cannot be started.
func (p *Peer) letGo(c *claim) {
	if c.Spec.Kind() != "" || c.held || !p.ledger.allListed() {
		return // it may run at a driver that has not said so yet
	}
	idle := c.Slots
	for n := range c.Slots.All() {
		if a := p.work.allocs[AllocationID{c.ID, n}]; a != nil && a.up() {
			idle = idle.Remove(n)
		}
	}
	if !idle.IsEmpty() {
		p.tune.mark(MarkLetGo)
	}
	p.releaseSlots(c, idle, "it ended, and this peer lost what it was")
}

// adopt takes work that runs already. It has run since it began, not since this
// daemon did: a claim that was booked again is still the original beside what
// was placed elsewhere meanwhile.
func (p *Peer) adopt(c *claim, f Found) {
	a := p.work.allocs[f.ID]
	if a == nil {
		a = p.work.make(f.ID, c)
	}
	a.state = WorkState{State: AllocStarting, Driver: c.Spec.Driver()}
	began := min(f.Since, p.out.now.Wall.UnixMilli())
	runs := f.State.State == AllocRunning && began > 0
	if runs {
		p.ran(c, f.ID.Slot, began, false)
	}
	b, err := FromLabels(f.Labels)
	if err == nil && b.Fence > 0 {
		p.adoptLease(a, b.Fence)
	}
	p.onWork(WorkChanged{ID: f.ID, State: f.State}, "adopted, it ran on")
	if runs {
		a.since, a.made, a.state.Started = began, began, began
		a.healthy = p.out.now.Mono - time.Duration(p.out.now.Wall.UnixMilli()-began)*time.Millisecond
	}
	if a.up() && c.Spec.Kind() != "" {
		p.out.emit(Watch{ID: a.id, Spec: a.spec()})
	}
	if err == nil && p.ledger.nameOfHost(b.Host) != c.hostOf(f.ID.Slot) {
		p.work.elsewhere(c, f.ID.Slot) // it was bound to another host, and had not begun there
	}
}

// rebook enters work into the ledger whose claim was lost with an earlier life
// of the store. The claim keeps its name, and waits for the catalog without an
// expiry: a peer that is cut off must not stop what runs.
func (p *Peer) rebook(f Found) *claim {
	b, err := FromLabels(f.Labels)
	if err != nil || b.ID != f.ID || b.ID.Claim.Owner.Peer != p.cfg.Self.Peer {
		return nil
	}
	c := p.ledger.claims[b.ID.Claim]
	if c == nil {
		p.tune.mark(MarkBookedAgain)
		c = &claim{
			ID: b.ID.Claim, UID: b.UID, Key: b.Key, Component: b.Component, Version: b.Version,
			SpecHash: b.SpecHash, Need: b.Need, State: claimUnconfirmed, work: true,
		}
		p.ledger.add(c)
	}
	one := SlotsOf(b.ID.Slot)
	p.ledger.charge(c, one.Intersect(c.holds()), -1)
	c.bind(p.ledger.nameOfHost(b.Host), one)
	c.Slots = c.Slots.Union(one)
	if len(b.Devices) > 0 {
		if c.Devices == nil {
			c.Devices = map[Slot][]string{}
		}
		c.Devices[b.ID.Slot] = b.Devices
	}
	c.Granted = c.Slots
	p.ledger.charge(c, one, 1)
	if kept := p.ledger.keep(p.out.now.Wall, c, SlotsOf(b.ID.Slot), b.Volumes); len(kept) > 0 {
		p.out.persist(kept, func(*PersistFailed) {})
	}
	return c
}
