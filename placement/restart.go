package placement

import (
	"fmt"
	"slices"
	"time"
)

// This file is what becomes of a slot that ended, and of one that a person
// begins anew.

// restartRules are how often a slot is started again where it is.
type restartRules struct {
	budget      int
	window      time.Duration
	first, most time.Duration // back-off
}

// rules are what a component says of restarts, and where it says nothing the
// usual.
func (t Tuning) rules(r *Restart) restartRules {
	rules := restartRules{t.RestartBudget, t.RestartWindow, t.RestartMin, t.RestartMax}
	if r == nil {
		return rules
	}
	if r.Budget != nil {
		rules.budget = *r.Budget
	}
	fill := func(to *time.Duration, d Duration) {
		if d > 0 {
			*to = time.Duration(d)
		}
	}
	fill(&rules.window, r.Window)
	fill(&rules.first, r.Backoff)
	fill(&rules.most, r.BackoffMax)
	rules.most = max(rules.most, rules.first)
	return rules
}

// after is the wait before the restart that follows the n-th exit.
func (r restartRules) after(n int) time.Duration {
	return min(r.first<<min(n-1, 16), r.most)
}

// restartOf is what stands now of restarts, which a claim does not freeze: a
// change of it restarts nothing.
func (p *Peer) restartOf(c *claim) restartRules {
	if a := p.apps[c.UID]; a != nil {
		if comp, ok := a.win.intent.App.Components[c.Component]; ok {
			return p.tune.rules(comp.Restart)
		}
	}
	return p.tune.rules(c.Spec.Restart)
}

// exited restarts in place with back-off, or gives up when the budget is used.
func (w *Work) exited(a *alloc, s WorkState) verdict {
	now, rules := w.out.now.Mono, w.rules(a.claim)
	a.exits = slices.DeleteFunc(a.exits, func(at time.Duration) bool { return now-at > rules.window })
	a.exits = append(a.exits, now)
	a.last = &Exit{Code: s.ExitCode, Reason: s.Reason, At: w.out.now.Wall.UnixMilli()}
	if s.Final || len(a.exits) > rules.budget {
		s.State = AllocFailed
		if !s.Final {
			w.tune.mark(MarkBudgetUsedUp)
		}
		if !s.Final && rules.budget > 0 {
			s.Reason = fmt.Sprintf("ended %d times: %s", len(a.exits), s.Reason)
		}
		w.enter(a, s)
		return workFailed
	}
	a.restarts++
	s.State, s.Started = AllocPending, 0
	w.enter(a, s)
	w.timers.set(timerRestart, a.id.String(), now+rules.after(len(a.exits)))
	return workExited
}

// exitsTold is how many exits within the restart window are told of one by one.
// Of a slot that goes on so each second, fourth, eighth time is told.
const exitsTold = 8

// happened tells of a change of an allocation, unless it goes round in circles.
func (w *Work) happened(a *alloc, what, why string) {
	if n := len(a.exits); n > exitsTold && n&(n-1) != 0 {
		return
	}
	w.tell(a.claim, what, a.id.Slot, why)
}

// startAgain ends an allocation that runs, so that it begins anew, and begins one at
// once that waits. It says why not.
func (w *Work) startAgain(id AllocationID) (*alloc, string) {
	a := w.allocs[id]
	switch {
	case a == nil:
		return nil, "it is not here (any more)"
	case a.again:
		return a, "" // asked twice
	case a.claim.Spec.Kind() == "":
		return nil, "this peer lost what it was, so that it would not come back"
	case a.up():
		w.enter(a, WorkState{State: AllocStopping, Reason: "it begins anew, as was asked for", Ports: a.state.Ports})
		a.again = true
		w.out.emit(Stop{ID: id, Reason: a.state.Reason, Keep: true})
	case a.state.State == AllocPending || a.state.State == AllocFetching:
		w.start(a)
	case a.fenced:
		return nil, "it is stopping for want of its lease, and begins anew with the next one"
	default:
		return nil, "it is " + string(a.state.State) + ": " + a.state.Reason
	}
	return a, ""
}

// beginAnew enters that what was to begin anew has ended.
func (w *Work) beginAnew(a *alloc, s WorkState) {
	why, next := "a person began it anew", "it begins anew, as was asked for"
	if a.moves {
		w.tune.mark(MarkMovedHost)
		why, next = "its host is gone", "it begins anew on another host"
	} else {
		w.tune.mark(MarkBegunAnew)
	}
	a.again, a.moves = false, false
	a.restarts++
	a.last = &Exit{Code: s.ExitCode, Reason: why, At: w.out.now.Wall.UnixMilli()}
	w.enter(a, WorkState{State: AllocPending, Reason: next})
}

// elsewhere begins a slot of a claim anew on the host that it is bound to now.
func (w *Work) elsewhere(c *claim, n Slot) {
	a := w.allocs[AllocationID{c.ID, n}]
	if a == nil || !a.up() {
		w.begin(c, n) // or it is stopping already, and comes back there
		return
	}
	w.enter(a, WorkState{State: AllocStopping, Reason: "its host is gone: it goes to another", Ports: a.state.Ports})
	a.again, a.moves = true, true
	w.out.emit(Stop{ID: a.id, Reason: a.state.Reason})
}

// onRestart takes a person's order to begin an allocation anew.
func (p *Peer) onRestart(ev RestartWork) {
	a, not := p.work.startAgain(ev.ID)
	if not != "" {
		err := ErrNotFound
		if p.work.allocs[ev.ID] != nil {
			err = ErrUnavailable
		}
		p.out.emit(Answer{Ticket: ev.Ticket, Result: Result{Err: fmt.Errorf("restart %s: %w: %s", ev.ID, err, not)}})
		return
	}
	p.out.emit(Answer{Ticket: ev.Ticket})
	p.touchReport(a.claim.UID)
}

// watch tells the runner what the slots of a claim are that run already.
func (p *Peer) watch(c *claim) {
	for n := range c.Slots.All() {
		if a := p.work.allocs[AllocationID{c.ID, n}]; a != nil && a.up() && c.Spec.Kind() != "" {
			p.out.emit(Watch{ID: a.id, Spec: a.spec()})
		}
	}
}
