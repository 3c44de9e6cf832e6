package placement

import (
	"fmt"
	"time"
)

// tableCuts is since when this peer reaches no majority of an app's keepers,
// where it has work that is to stop for it: UID -> cutRecord.
const tableCuts = "cuts"

// cutRecord is a cut on disk, so that a peer that is started again counts on.
type cutRecord struct {
	Since int64 `cbor:"s"` // Unix milliseconds
	Past  int64 `cbor:"p"` // nanoseconds that were counted when this was written
}

// cut is the time in which this peer reaches no majority of an app's keepers.
//
//	majority in reach ──lost──▶ counting ──stop_after──▶ over: its slots are given
//	       ▲                       │                     back, and none is taken
//	       └───────── back ────────┴──────────────────────────┘
//
// The time that it was down for counts too, once the cut is on disk: by the wall
// clock, and if that went back by what was counted before.
type cut struct {
	since   time.Duration // Now.Mono: of the loss, or of this start
	past    time.Duration // before this start
	wall    int64         // Unix milliseconds of the loss
	written time.Duration // what was counted when it was written last; 0: it is not on disk
	writing bool
}

// length is how long the cut lasts by now.
func (c *cut) length(now time.Duration) time.Duration { return c.past + now - c.since }

// over says whether a component must not run any more.
func (c *cut) over(pol Policy, now time.Duration) bool {
	return pol.StopAfter > 0 && c.length(now) >= time.Duration(pol.StopAfter)
}

// cuts is all cuts, by app.
type cuts struct{ open map[UID]*cut }

// cutParts is how often a cut that is counted is written: so many times until
// its work stops.
const cutParts = 8

func (p *Peer) loadCut(uid UID, value []byte) error {
	var r cutRecord
	if err := Decode(value, &r); err != nil {
		return err
	}
	p.cuts.open[uid] = &cut{past: max(0, time.Duration(r.Past)), wall: r.Since, written: max(1, time.Duration(r.Past))}
	return nil
}

// beginCuts counts on after a start.
func (p *Peer) beginCuts() {
	now := p.out.now
	for _, uid := range sortedKeys(p.cuts.open) {
		c := p.cuts.open[uid]
		c.since, c.past = now.Mono, max(c.past, now.Wall.Sub(time.UnixMilli(c.wall)))
		if a := p.apps[uid]; a != nil {
			p.watchCut(a)
		} else {
			p.endCut(uid)
		}
	}
}

// watchCut follows whether a majority of an app's keepers is in reach, as this
// peer's own failure detection sees it, and stops what is to stop without one.
func (p *Peer) watchCut(a *app) {
	if len(a.keepers.list.Peers) == 0 || p.majority(a) {
		p.endCut(a.uid)
		return
	}
	now := p.out.now
	c := p.cuts.open[a.uid]
	if c == nil {
		c = &cut{since: now.Mono, wall: now.Wall.UnixMilli()}
		p.cuts.open[a.uid] = c
	}
	next := time.Duration(0) // the shortest stop_after that is not over
	for _, cl := range p.ledger.of(a.uid) {
		pol := p.policyOf(a, cl)
		switch {
		case pol.StopAfter == 0 || cl.held:
		case c.over(pol, now.Mono):
			p.stopCut(a, cl, pol)
		case next == 0 || time.Duration(pol.StopAfter) < next:
			next = time.Duration(pol.StopAfter)
		}
	}
	if next == 0 {
		return
	}
	part := max(next/cutParts, p.tune.RoundMin)
	p.timers.before(timerRefresh, cutTimer+string(a.uid), now.Mono+min(next-c.length(now.Mono), part))
	// After a start the others are not in reach yet: that alone is no cut.
	if c.length(now.Mono) >= c.written+part || c.written == 0 && now.Mono-p.started >= p.tune.Grace {
		p.writeCut(a.uid, c)
	}
}

// cutTimer begins the id of the refresh timer of a cut.
const cutTimer = "cut/"

// stopCut gives back what a cut has lasted too long for.
func (p *Peer) stopCut(a *app, cl *claim, pol Policy) {
	if cl.Slots.IsEmpty() {
		return
	}
	why := p.stopText(a.uid, pol)
	p.out.happened(Happened{Type: "stop-after", UID: a.uid, Key: a.key, Component: cl.Component, Slots: cl.Slots.String(),
		Peer: p.cfg.Self.Peer, Message: why})
	p.releaseSlots(cl, cl.Slots, why)
}

func (p *Peer) stopText(uid UID, pol Policy) string {
	since := time.UnixMilli(p.cuts.open[uid].wall).UTC()
	return fmt.Sprintf("no majority of the app's keepers is in reach since %s (stop_after %s)", since.Format(time.TimeOnly), pol.StopAfter)
}

// policyOf is the policy of a claim: that of the intent as it is now, since a
// change of it restarts nothing.
func (p *Peer) policyOf(a *app, cl *claim) Policy {
	if comp, ok := a.win.intent.App.Components[cl.Component]; ok {
		return comp.Policy()
	}
	return cl.Spec.Policy()
}

// stopped says why this peer takes no slot of a component, or "": it would have
// to stop it at once.
func (p *Peer) stopped(uid UID, comp Component) string {
	pol := comp.Policy()
	if c := p.cuts.open[uid]; c != nil && c.over(pol, p.out.now.Mono) {
		return p.stopText(uid, pol)
	}
	return ""
}

func (p *Peer) writeCut(uid UID, c *cut) {
	if c.writing {
		return
	}
	c.writing = true
	past := c.length(p.out.now.Mono)
	w := Write{Table: tableCuts, Key: string(uid), Value: Encode(cutRecord{Since: c.wall, Past: int64(past)})}
	p.out.persist([]Write{w}, func(failed *PersistFailed) {
		c.writing = false
		if failed == nil {
			c.written = max(1, past)
		}
	})
}

// endCut ends a cut: a majority is in reach, or the app is gone.
func (p *Peer) endCut(uid UID) {
	c := p.cuts.open[uid]
	if c == nil {
		return
	}
	delete(p.cuts.open, uid)
	p.timers.cancel(timerRefresh, cutTimer+string(uid))
	if c.written > 0 || c.writing {
		p.out.persist([]Write{{Table: tableCuts, Key: string(uid)}}, func(*PersistFailed) {})
	}
}
