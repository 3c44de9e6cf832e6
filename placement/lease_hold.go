package placement

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// lease is the right of one allocation of this peer to run, as its holder
// counts it.
//
//	          a majority granted            renewed, every L/3
//	asking ──────────────────────▶ standing ◀──────┐
//	  ▲ ▲  refused: a higher number,  │  └─────────┘
//	  │ └──── after a while           │ no majority answers, and it is time to stop
//	  │                               ▼
//	  └──── its work has ended ──── ending            slot given back, at any time:
//	                                                  freed at the keepers, then gone
//
// What starts, or goes on, rests on until alone: the end of the lease by this
// peer's clock.
type lease struct {
	id        AllocationID
	uid       UID
	key       AppKey
	component string
	number    uint64
	granted   map[PeerRef]time.Duration // when the newest request was sent that was granted
	under     listsID                   // of granted
	freed     map[PeerRef]bool

	until   time.Duration // 0: it does not stand
	adopted bool          // it ran before this daemon did: until is only its latest end
	ending  bool          // its work is being stopped
	over    bool          // the slot was given back
	overrun bool          // it was told that its work ran too long
	wanted  bool          // an allocation waits for it
	rival   bool          // others have, or ask for, it too
	next    time.Duration // when to ask again
	wait    time.Duration // after that
	tries   int           // asked under this number
	heard   uint64        // the highest number that a keeper told of
	why     string        // it is not granted
}

// leases is what this peer holds and asks for.
type leases struct {
	of    map[AllocationID]*lease
	asked map[uint64]leaseAsked // by request
}

// leaseAsked is a request whose answers count.
type leaseAsked struct {
	to PeerID
	at time.Duration // sent
}

func newLeases() leases {
	return leases{of: map[AllocationID]*lease{}, asked: map[uint64]leaseAsked{}}
}

// askTimer is the id of the one timer for asking; the others are allocations,
// whose leases end.
const askTimer = "ask"

// leaseFor says whether an allocation may run now, and until when. If it may
// not, the lease is asked for, and the allocation started when it stands.
func (p *Peer) leaseFor(a *alloc) (number uint64, until time.Duration, ok bool) {
	if p.tune.Break == FaultSkipLease {
		return 1, p.out.now.Mono + time.Hour, true
	}
	l := p.leases.of[a.id]
	if l == nil || l.over {
		heard, number := uint64(0), uint64(0)
		if l != nil {
			heard, number = l.heard, l.number
		}
		l = p.newLease(a, number)
		l.heard = heard
	}
	if p.out.now.Mono < l.until-p.tune.stopTime(a.claim.Spec) && !l.adopted {
		l.ending, l.wanted = false, false
		return l.number, l.until, true
	}
	if !l.wanted {
		l.wanted, l.wait = true, p.tune.Resend
		l.next = p.out.now.Mono
		p.timers.before(timerLease, askTimer, l.next)
		p.touchReport(l.uid)
	}
	return 0, 0, false
}

func (p *Peer) newLease(a *alloc, number uint64) *lease {
	c := a.claim
	l := &lease{id: a.id, uid: c.UID, key: c.Key, component: c.Component, number: number,
		granted: map[PeerRef]time.Duration{}, freed: map[PeerRef]bool{}, wait: p.tune.Resend}
	p.leases.of[a.id] = l
	return l
}

// adoptLease takes up the lease of work that ran before this daemon did. When
// it was renewed last is not known: not after this start, so that it ends no
// later than a lease from now; its driver knows better, and ends it by then.
func (p *Peer) adoptLease(a *alloc, number uint64) {
	l := p.leases.of[a.id]
	if l == nil {
		l = p.newLease(a, number)
	}
	l.number, l.heard, l.adopted, l.until = number, number, true, p.out.now.Mono+p.tune.Lease
	l.next = p.out.now.Mono
	p.timers.before(timerLease, askTimer, l.next)
	p.armLeaseEnd(l, a.claim.Spec)
}

// armLeaseEnd sets the time at which work must begin to stop, and after that the
// end itself.
func (p *Peer) armLeaseEnd(l *lease, spec Component) {
	p.timers.set(timerLease, l.id.String(), l.until-p.tune.stopTime(spec))
}

// askLeases sends each keeper all that is due: what is asked for, renewed and
// freed, with what would be due soon.
func (p *Peer) askLeases() {
	now := p.out.now.Mono
	maps.DeleteFunc(p.leases.asked, func(_ uint64, a leaseAsked) bool { return now-a.at > p.tune.Lease })
	to := map[PeerRef][]leaseItem{}
	next := now + p.tune.Lease/leaseShare
	for _, l := range p.sortedLeases() {
		if l.next <= now+p.tune.Lease/24 {
			p.askLease(l, to)
		}
		if p.leases.of[l.id] == l {
			next = min(next, max(l.next, now+time.Millisecond))
		}
	}
	for _, ref := range sortedRefs(to) {
		for items := range slices.Chunk(to[ref], leaseItemsMax) {
			request := p.rng.Uint64()
			p.leases.asked[request] = leaseAsked{ref.Peer, now}
			p.out.send(ref.Peer, message{Lease: &leaseMsg{Request: request, Items: items}})
		}
	}
	if len(p.leases.of) > 0 {
		p.timers.set(timerLease, askTimer, next)
	}
}

// askLease adds what there is to say of one lease to what its keepers are told,
// and sets when to say it again.
func (p *Peer) askLease(l *lease, to map[PeerRef][]leaseItem) {
	now := p.out.now.Mono
	a := p.apps[l.uid]
	standing := now < l.until
	l.next = now + l.wait/2 + time.Duration(p.rng.Int64N(int64(l.wait)))
	switch {
	case a == nil && l.over:
		delete(p.leases.of, l.id)
		return
	case a == nil || !l.over && !standing && !l.wanted:
		l.next = now + p.tune.Resend // its work ends first, or its app turns up
		return
	case standing && !l.over:
		l.next = now + p.tune.Lease/12 // unless it is renewed by this
	default:
		l.wait = min(2*l.wait, p.tune.Lease/5)
	}
	by := a.lists()
	if l.under != by.id() {
		l.under = by.id()
		clear(l.granted)
	}
	if !l.over && !standing && p.yield(l, by, to) {
		return
	}
	left := 0
	for _, ref := range by.refs() {
		if l.over && l.freed[ref] {
			continue
		}
		left++
		to[ref] = append(to[ref], l.item(standing && !l.adopted && !l.over, l.over))
	}
	if l.over && (left == 0 || l.tries >= freeTries) {
		delete(p.leases.of, l.id)
	}
	l.tries++
}

const (
	// freeTries is how often a keeper is told that a lease is over, before it is
	// left to find out by itself.
	freeTries = 6
	// splitTries is how often a lease is asked for that others ask for too, and
	// that nobody gets: then it is given back for a while.
	splitTries = 3
)

func (l *lease) item(stands, over bool) leaseItem {
	return leaseItem{UID: l.uid, Component: l.component, Claim: l.id.Claim, Slot: l.id.Slot, Number: l.number,
		Lists: l.under, Stands: stands, Over: over}
}

// yield raises the number of a lease that is asked for, when it is too low and
// when it stood before. When the votes are split, it frees what was granted, so
// that another may get it, and says so: it is asked for again after a random
// time, and whoever is first then has the votes.
func (p *Peer) yield(l *lease, by lists, to map[PeerRef][]leaseItem) (yields bool) {
	yields = l.rival && l.tries >= splitTries && len(l.granted) > 0
	highest := max(l.heard, floorOf(by.id().Now))
	if l.number > highest && l.until == 0 && !yields {
		return false
	}
	if yields {
		for _, ref := range by.refs() {
			if _, ok := l.granted[ref]; ok {
				to[ref] = append(to[ref], l.item(false, true))
			}
		}
		l.next = p.out.now.Mono + p.tune.Resend + time.Duration(p.rng.Int64N(int64(8*p.tune.Resend)))
	}
	l.number = max(l.number, highest) + 1
	l.until, l.adopted, l.rival, l.tries = 0, false, false, 0
	clear(l.granted)
	return yields
}

// onLeased counts a keeper's answers.
func (p *Peer) onLeased(from PeerID, m *leasedMsg) {
	asked, ok := p.leases.asked[m.Request]
	if !ok || asked.to != from || m.By.Peer != from {
		return
	}
	for i := range m.Items {
		it := &m.Items[i]
		l := p.leases.of[AllocationID{it.Claim, it.Slot}]
		a := p.apps[uidOf(l)]
		if l == nil || a == nil || it.Number != l.number {
			continue
		}
		by := a.lists()
		if it.Lists != by.id() || it.Lists != l.under || !slices.Contains(by.refs(), m.By) {
			if it.Not == leaseOther {
				l.why = it.Not.text()
			}
			continue
		}
		switch {
		case it.Over != l.over: // of what was said before
		case l.over:
			l.freed[m.By] = true
			l.next = p.out.now.Mono // perhaps it was the last
			p.timers.before(timerLease, askTimer, l.next+p.tune.Resend/4)
		case it.Not == "":
			l.granted[m.By] = max(l.granted[m.By], asked.at)
			p.decideLease(l, by)
		default:
			p.leaseRefused(l, it)
		}
	}
}

func uidOf(l *lease) UID {
	if l == nil {
		return ""
	}
	return l.uid
}

// leaseRefused notes why a keeper did not grant a lease.
func (p *Peer) leaseRefused(l *lease, it *leasedItem) {
	if it.Highest <= max(l.heard, floorOf(l.under.Now))+numberJumpMax {
		l.heard = max(l.heard, it.Highest)
	}
	if p.out.now.Mono < l.until {
		return
	}
	l.why = it.Not.text()
	if it.Not == leaseHeld {
		l.rival = true
		left := min(max(0, time.Duration(it.Left)*time.Millisecond), p.tune.keeperTerm())
		l.why = heldBy(it.Holder, left)
	}
	if it.Not == leaseLow {
		l.next = min(l.next, p.out.now.Mono+p.tune.Resend/4)
		p.timers.before(timerLease, askTimer, l.next)
	}
	if a := p.work.allocs[l.id]; a != nil && a.state.State == AllocPending && l.wanted {
		a.state.Reason = "waits for its lease: " + l.why
		p.touchReport(l.uid)
	}
}

// decideLease looks at whether a lease stands now, and for how long: what waits
// for it is started, and what runs may go on.
func (p *Peer) decideLease(l *lease, by lists) {
	now := p.out.now.Mono
	end, ok := by.end(l.granted, p.tune.Lease)
	if p.tune.Break == FaultIgnoreExpiry {
		end += time.Hour
	}
	if !ok || end <= now || end <= l.until && !l.adopted {
		return
	}
	a := p.work.allocs[l.id]
	if a == nil {
		return
	}
	l.until, l.adopted, l.wait, l.tries, l.why = end, false, p.tune.Resend, 0, ""
	period := p.tune.Lease / leaseShare
	l.next = (now/period + 1) * period // all that this peer holds, at one time
	p.timers.before(timerLease, askTimer, l.next)
	p.armLeaseEnd(l, a.claim.Spec)
	switch a.state.State {
	case AllocPending:
		if l.wanted && p.work.retry(l.id) != nil {
			p.touchReport(l.uid)
		}
	case AllocStarting, AllocRunning, AllocUnhealthy, AllocStopping:
		if !l.ending {
			p.out.emit(Extend{ID: l.id, Until: l.until})
		}
	}
}

// leaseTimer is the time to ask, or to stop what no longer has the right to run.
func (p *Peer) leaseTimer(id string) {
	if id == askTimer {
		p.askLeases()
		return
	}
	alloc, err := ParseAllocationID(id)
	l := p.leases.of[alloc]
	a := p.work.allocs[alloc]
	if err != nil || l == nil || a == nil || l.until == 0 {
		return
	}
	now := p.out.now.Mono
	if now < l.until-p.tune.stopTime(a.claim.Spec) {
		return // renewed since
	}
	if a.up() {
		p.checkOverrun(l)
		l.ending, l.wanted = true, false
		why := "its lease runs out: no majority of its keepers renews it"
		p.work.fence(a, why)
		p.tell(a.claim, "lease-lost", l.id.Slot, why)
		p.touchReport(l.uid)
	}
}

// checkOverrun says so when work is found to have gone on past the end of its
// lease: the machine was suspended, or its clock is not what it should be.
func (p *Peer) checkOverrun(l *lease) {
	if late := p.out.now.Mono - l.until; late > leaseOverrun && l.until > 0 && !l.adopted && !l.overrun {
		l.overrun = true
		p.out.happened(Happened{Type: "lease-overrun", UID: l.uid, Key: l.key, Component: l.component, Slots: SlotsOf(l.id.Slot).String(),
			Peer: p.cfg.Self.Peer, Message: fmt.Sprintf("its work was heard to run %s past the end of lease %d: was the machine suspended?", late.Round(time.Millisecond), l.number)})
	}
}

// fenced says whether work that ended did so for want of a lease, not by itself:
// then it is no failure of its own.
func (p *Peer) fenced(id AllocationID, byDeadline bool) bool {
	l := p.leases.of[id]
	if l == nil || l.over {
		return false
	}
	p.checkOverrun(l)
	if l.adopted || byDeadline || p.out.now.Mono >= l.until {
		l.until, l.adopted, l.wanted = 0, false, false
		l.heard = max(l.heard, l.number) // the next number is another right
		return true
	}
	return false
}

// freeLease is after a slot was given back and has stopped: its keepers need not
// wait until its lease is over.
func (p *Peer) freeLease(id AllocationID) {
	l := p.leases.of[id]
	if l == nil || l.over {
		return
	}
	l.over, l.until, l.tries, l.wait, l.next = true, 0, 0, p.tune.Resend, p.out.now.Mono
	clear(l.freed)
	p.timers.cancel(timerLease, id.String())
	p.timers.before(timerLease, askTimer, l.next)
}

// waitingLeases is the slots of a claim that could start, had they a lease.
func (p *Peer) waitingLeases(c *claim) Slots {
	s := Slots{}
	if !c.Spec.Exclusive.On {
		return s
	}
	for n := range c.Slots.All() {
		id := AllocationID{c.ID, n}
		if l, a := p.leases.of[id], p.work.allocs[id]; l != nil && a != nil && l.wanted && !l.over && a.state.State == AllocPending {
			s = s.Add(n)
		}
	}
	return s
}

func (p *Peer) sortedLeases() []*lease {
	out := slices.Collect(maps.Values(p.leases.of))
	slices.SortFunc(out, func(a, b *lease) int { return a.id.compare(b.id) })
	return out
}

func sortedRefs(m map[PeerRef][]leaseItem) []PeerRef {
	return slices.SortedFunc(maps.Keys(m), func(a, b PeerRef) int { return a.compare(b) })
}
