package placement

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// row is what one holder said of an app last.
type row struct {
	report reportMsg
	at     time.Duration
	// granted are offers that no report can list yet.
	granted map[ClaimID]grantedClaim
}

type grantedClaim struct {
	status claimStatus
	after  order // a report later than this one speaks for itself
}

// claims is what a holder has, offers on their way included, sorted.
func (r *row) claims() []claimStatus {
	out := r.report.Claims
	if len(r.granted) > 0 {
		out = slices.Grow(out[:len(out):len(out)], len(r.granted))
	}
	for _, g := range r.granted {
		out = append(out, g.status)
	}
	slices.SortFunc(out, func(a, b claimStatus) int { return a.ID.Compare(b.ID) })
	return out
}

// take enters what a holder says.
func (r *row) take(m reportMsg, at time.Duration) {
	r.report, r.at = m, at
	for id, g := range r.granted {
		if m.Order.compare(g.after) > 0 || m.lists(id) {
			delete(r.granted, id)
		}
	}
}

// offer enters a claim that a holder offered, unless its reports speak of it: one
// that is later than the offer does, and so may one before it, of an offer that was
// asked for again. A claim that counts twice is taken for two with the same slots.
func (r *row) offer(c claimStatus, after order) {
	if after.compare(r.report.Order) >= 0 && !r.report.lists(c.ID) {
		r.granted[c.ID] = grantedClaim{status: c, after: after}
	}
}

// lists says whether a report speaks of a claim.
func (m *reportMsg) lists(id ClaimID) bool {
	return slices.ContainsFunc(m.Claims, func(c claimStatus) bool { return c.ID == id })
}

// touchReport says that what this peer holds of an app changed.
func (p *Peer) touchReport(uid UID) { p.touchReportBy(uid, p.tune.ReportDelay) }

// touchReportBy is touchReport of what can wait for that long.
func (p *Peer) touchReportBy(uid UID, delay time.Duration) {
	t := p.telling[uid]
	t.touched = true
	p.timers.before(timerReport, string(uid), max(p.out.now.Mono+delay, t.next))
	p.telling[uid] = t
	p.touchSummary(uid)
}

// report is everything that this peer holds of an app.
func (p *Peer) report(uid UID, nonce uint64) reportMsg {
	p.counters.seq++
	m := reportMsg{UID: uid, Peer: p.cfg.Self, Order: p.order(), Nonce: nonce, Term: p.ledger.terms[uid], Kept: p.ledger.kept(uid, false)}
	known := Version{}
	if a := p.apps[uid]; a != nil {
		known = a.versions[0].intent.Version
	}
	for _, c := range p.ledger.of(uid) {
		if c.held {
			continue
		}
		fresh, _ := p.work.fresh(c, p.minHealthy(c))
		m.Claims = append(m.Claims, claimStatus{
			ID: c.ID, Component: c.Component, Version: c.Version, Spec: c.SpecHash, Slots: c.Slots,
			Running: p.work.running(c), Unhealthy: p.work.unhealthy(c), Fresh: fresh, Stopping: c.Stopping, Reserved: c.State == claimReserved,
			Replaces: c.Replaces, FirstRunning: c.FirstRunning, Again: c.Again, Score: c.Score,
			Exclusive: c.Spec.Exclusive.On, Ready: p.waitingLeases(c), Unlisted: known.Compare(c.Version) < 0,
			Why: p.work.why(c), Unsure: p.unsureOf(c),
		})
	}
	for _, name := range sortedKeys(p.failures[uid]) {
		f := p.failures[uid][name]
		if p.out.now.Mono-f.at > p.tune.RestartWindow {
			delete(p.failures[uid], name)
			continue
		}
		if m.Failed == nil {
			m.Failed, m.FailedSpecs, m.FailedWhy = map[string]Slots{}, map[string]uint64{}, map[string]string{}
		}
		m.Failed[name], m.FailedSpecs[name], m.FailedWhy[name] = f.slots, f.spec, clip(f.why)
		m.Why = m.FailedWhy[name]
		if f.final {
			if m.FailedFinal == nil {
				m.FailedFinal = map[string]bool{}
			}
			m.FailedFinal[name] = true
		}
	}
	return m
}

// unsureOf says whether a driver is yet to say what runs of a claim. One that does not
// for long may never do: then nothing is waited for.
func (p *Peer) unsureOf(c *claim) bool {
	return c.Spec.Kind() != "" && !p.ledger.listed[c.Spec.Driver()] && p.out.now.Mono-p.started < p.tune.RestartWindow
}

// failedWhy is why slots of a component were given back.
func (m *reportMsg) failedWhy(component string) string {
	if why, ok := m.FailedWhy[component]; ok {
		return why
	}
	return m.Why
}

// longest is how much the longest reason of its claims and components says.
func (m *reportMsg) longest() (n int) {
	for i := range m.Claims {
		n = max(n, len(m.Claims[i].Why))
	}
	for _, why := range m.FailedWhy {
		n = max(n, len(why))
	}
	return n
}

// clip bounds a text that others get. What is no text any more, for instance
// half of a letter, is replaced: nobody could decode what holds it.
func clip(s string) string { return readable(s[:min(len(s), 256)]) }

// readable is a text with a mark for what is no UTF-8.
func readable(s string) string { return strings.ToValidUTF8(s, "?") }

// reportNow is the timer of an app's report: to its keepers, and again slowly,
// in case one was lost.
func (p *Peer) reportNow(uid UID) {
	if p.counters.boot == 0 {
		return // ready does it
	}
	to := map[PeerID]bool{}
	if a := p.apps[uid]; a != nil {
		for _, id := range a.keeperIDs() {
			to[id] = true
		}
		if a.steward != nil {
			to[p.cfg.Self.Peer] = true
		}
	}
	claims := p.ledger.of(uid)
	for _, c := range claims {
		for _, id := range c.Keepers {
			to[id] = true
		}
	}
	if len(to) > 0 {
		m := p.report(uid, 0)
		p.out.sendAll(p.reportTo(uid, to), message{Report: &m})
	} else {
		delete(p.telling, uid)
	}
	if len(claims) > 0 || len(p.ledger.volumes.byApp[uid]) > 0 {
		p.timers.before(timerReport, string(uid), p.out.now.Mono+p.tune.ReportEvery)
	}
	for _, c := range claims { // what a roll-out waits for is told when it is so
		if _, next := p.work.fresh(c, p.minHealthy(c)); next > 0 {
			t := p.telling[uid]
			if t.fresh == 0 || next < t.fresh {
				t.fresh = next
				p.telling[uid] = t
			}
			p.timers.before(timerReport, string(uid), max(next, t.next))
		}
	}
}

// telling is what keepers are yet to be told of an app here.
type telling struct {
	touched bool          // something changed since its driver was told
	due     time.Duration // when the others are told, 0: they were
	pause   time.Duration // between two reports to its driver: twice as long after each, until all are told
	next    time.Duration // before which there is no other
	fresh   time.Duration // when slots will have been healthy for long enough, 0: they are
}

// reportTo is whom a report goes to now. Who drives the app waits for it, less and less
// closely while changes go on; the other keepers, who would ask before they act in its
// place, get what has come together in a while, and with that what only a roll-out waits
// for. Where one of them is not in reach all are told at once.
func (p *Peer) reportTo(uid UID, to map[PeerID]bool) []PeerID {
	all := len(to)
	maps.DeleteFunc(to, func(id PeerID, _ bool) bool { return !p.members.live(id) })
	driver, now, t := p.ledger.terms[uid].Peer, p.out.now.Mono, p.telling[uid]
	ripe := t.fresh > 0 && now >= t.fresh
	if ripe {
		t.fresh = 0
	}
	switch {
	case !to[driver] || len(to) < all, !t.touched && !ripe && t.due == 0:
		delete(p.telling, uid)
		return sortedKeys(to)
	case t.due > 0 && now >= t.due:
		if !t.touched && !ripe {
			delete(to, driver)
		}
		delete(p.telling, uid)
		return sortedKeys(to)
	case t.touched && t.due == 0:
		t.due = now + p.tune.SummaryEvery
	}
	t.touched, t.pause = false, min(max(2*t.pause, 2*p.tune.ReportDelay), p.tune.SummaryEvery)
	t.next = now + t.pause
	if t.due > 0 {
		t.next = min(t.next, t.due)
		p.timers.before(timerReport, string(uid), t.due)
	}
	p.telling[uid] = t
	return []PeerID{driver}
}

// minHealthy is how long a slot of a claim runs until a roll-out counts it.
func (p *Peer) minHealthy(c *claim) time.Duration {
	if a := p.apps[c.UID]; a != nil {
		if comp, ok := a.win.intent.App.Components[c.Component]; ok {
			return comp.UpdatePolicy().MinHealthy
		}
	}
	return c.Spec.UpdatePolicy().MinHealthy
}

func (p *Peer) onCensus(from PeerID, m *censusMsg) {
	if p.counters.boot == 0 {
		return
	}
	// What an earlier steward ordered and has not arrived must not come after the
	// answer: the new one counts with it. So the answer is the fence, too. What has
	// no number asks for news only, perhaps under a term that is yet to be won.
	var writes []Write
	if m.Nonce != 0 && !m.Deputy && len(p.ledger.byApp[m.UID]) > 0 && p.mayOrder(from, m.UID, m.Term) {
		var ok bool
		if writes, _, ok = p.ledger.fence(m.UID, m.Term, false); !ok {
			writes = nil
		}
	}
	p.out.persist(writes, func(failed *PersistFailed) {
		if failed == nil {
			p.ledger.termNoted(writes)
		}
		r := p.report(m.UID, m.Nonce)
		p.out.send(from, message{Report: &r})
	})
}

// ownClaims says whether a report speaks of its sender's claims, each once.
func (m *reportMsg) ownClaims() bool {
	seen := map[ClaimID]bool{}
	for _, c := range m.Claims {
		if c.ID.Owner.Peer != m.Peer.Peer || seen[c.ID] {
			return false
		}
		seen[c.ID] = true
	}
	return true
}

// onReport takes what a holder says of itself.
func (p *Peer) onReport(from PeerID, m *reportMsg) {
	a := p.apps[m.UID]
	if a == nil || m.Peer.Peer != from || m.Order.Incarnation != m.Peer.Incarnation || !m.ownClaims() {
		return
	}
	if !p.mayHave(m.UID, m.Term, p.highest(m.UID)) {
		m.Term = Term{}
	}
	r := a.rows[from]
	if r == nil {
		if len(a.rows) >= holdersMax {
			return
		}
		r = &row{granted: map[ClaimID]grantedClaim{}}
		a.rows[from] = r
	} else if m.Order.compare(r.report.Order) < 0 {
		return
	}
	r.take(*m, p.out.now.Mono)
	if kr := p.keeper.records[m.UID]; kr != nil {
		kr.hear(m.Term)
		if _, known := slices.BinarySearch(kr.Holders, from); !known && len(m.Claims)+len(m.Kept) > 0 && p.keeper.listed(kr.list) {
			kr.addHolders([]PeerID{from})
			p.persistKeep(m.UID, p.keeper.write(kr))
		}
	}
	if a.steward != nil {
		a.steward.followTerm(m.Term)
		a.steward.heard(from, m)
		p.dirty[m.UID] = true
	}
}
