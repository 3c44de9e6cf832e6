package sim

import (
	"slices"
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

// run is one piece of work on a machine.
type run struct {
	spec     placement.WorkSpec
	labels   map[string]string
	state    placement.AllocState
	stopping bool
	ails     bool // its checks fail
	number   int
	deadline time.Duration // of exclusive work, by the machine's clock
	since    time.Duration // of its last lease operation
	ran      time.Duration // when it began to run last
}

// startWork runs an allocation; it is idempotent.
func (p *peer) startWork(e placement.Start) {
	w := p.w
	w.tell(p, "start work", e.Spec.Key.String(), e.Spec.Component+" "+e.ID.String())
	if h := p.host(e.Spec.Host); h.gone && !h.heard {
		return // there is nothing to run it, and soon the core hears of that
	}
	r := p.runs[e.ID]
	if r == nil {
		p.openVolumes(e.ID, e.Spec)
		p.checkBytes(e.ID, e.Spec)
		r = &run{spec: e.Spec, labels: placement.Labels(e.ID, e.Spec), state: placement.AllocStarting}
		p.runs[e.ID] = r
		if e.Spec.Fence > 0 {
			r.deadline = e.Spec.Until
			w.oracle.leases.started(p, e.ID, r)
			p.supervise(e.ID, r)
		}
		p.takeHost(e)
	}
	if r.state == placement.AllocRunning && !r.stopping {
		w.fail("%s: starts %s %s, which runs", p.id, e.Spec.Component, e.ID)
	}
	r.number++
	n := r.number
	w.at(p, w.between(20*time.Millisecond, 300*time.Millisecond), func() {
		if p.runs[e.ID] != r || r.number != n || r.stopping {
			return
		}
		r.state, r.ran = placement.AllocRunning, w.now
		delete(w.oracle.rolls.taken, keyOf(e.ID, r))
		p.step(placement.WorkChanged{ID: e.ID, State: placement.WorkState{State: placement.AllocRunning}})
		switch {
		case p.failing && !w.calm:
			w.at(p, w.between(0, 300*time.Millisecond), func() { p.crashWork(e.ID, r, n) })
		case !w.calm && w.chance(w.plan.WorkCrash):
			w.at(p, w.between(0, 20*time.Second), func() { p.crashWork(e.ID, r, n) })
		case !w.calm && w.chance(w.plan.WorkCrash):
			w.at(p, w.between(0, 20*time.Second), func() { p.ailWork(e.ID, r, n) })
		case !w.calm && w.chance(w.plan.WorkCrash/2):
			w.at(p, w.between(0, 20*time.Second), func() { // a person begins it anew
				if p.core != nil && p.runs[e.ID] == r {
					p.w.tell(p, "restart work", r.spec.Key.String(), e.ID.String())
					p.step(placement.RestartWork{ID: e.ID})
				}
			})
		}
	})
}

func (p *peer) crashWork(id placement.AllocationID, r *run, n int) {
	if p.runs[id] != r || r.number != n || r.stopping || p.w.calm {
		return
	}
	p.end(id)
	p.w.tell(p, "work ends", r.spec.Key.String(), id.String())
	p.step(placement.WorkChanged{ID: id, State: placement.WorkState{State: placement.AllocFailed, Reason: "exit code 1"}})
}

// ailWork fails the checks of work for a while.
func (p *peer) ailWork(id placement.AllocationID, r *run, n int) {
	runs := func() bool { return p.runs[id] == r && r.number == n && !r.stopping }
	if !runs() || p.w.calm {
		return
	}
	r.ails = true
	p.step(placement.WorkChanged{ID: id, State: placement.WorkState{State: placement.AllocUnhealthy, Reason: "3 checks failed"}})
	p.w.at(p, p.w.between(0, 10*time.Second), func() {
		if !runs() {
			return
		}
		r.ails = false
		if p.w.calm || p.w.chance(0.5) {
			p.step(placement.WorkChanged{ID: id, State: placement.WorkState{State: placement.AllocRunning}})
			return
		}
		p.crashWork(id, r, n)
	})
}

func (p *peer) end(id placement.AllocationID) {
	if r := p.runs[id]; r != nil {
		p.w.oracle.leases.ended(p, id, r)
		delete(p.runs, id)
		h := p.host(r.spec.Host)
		h.used = h.used.Sub(r.spec.Spec.Resources)
	}
}

// stopWork ends an allocation. A daemon that dies while it does so may have told
// nobody to end anything.
func (p *peer) stopWork(e placement.Stop) {
	w := p.w
	life, told := p.life, w.chance(0.5)
	w.tell(p, "stop work", "", e.ID.String()+" "+e.Reason)
	r := p.runs[e.ID]
	if r != nil {
		w.oracle.rolls.stopped(p, e, r)
		r.stopping = true
	}
	grace := 300 * time.Millisecond
	if r != nil && r.spec.Fence > 0 && r.spec.Spec.Stop.Grace == 0 {
		grace = leaseTerm / 4
	}
	w.at(p, w.between(5*time.Millisecond, grace), func() {
		if p.life != life && !told {
			if r != nil {
				r.stopping = false
			}
			return
		}
		if p.runs[e.ID] == r && w.plan.Mutant != skipStop {
			p.end(e.ID)
		}
		p.step(placement.WorkChanged{ID: e.ID, State: placement.WorkState{State: placement.AllocStopped}})
	})
}

// found is what a driver lists after a start of the daemon.
func (p *peer) found(driver string) []placement.Found {
	var out []placement.Found
	if p.w.plan.Mutant == fullStart {
		return nil
	}
	for id, r := range p.runs {
		if r.spec.Spec.Driver() == driver {
			out = append(out, placement.Found{ID: id, Labels: r.labels, State: placement.WorkState{State: r.state, Driver: driver}})
		}
	}
	slices.SortFunc(out, func(a, b placement.Found) int { return cmpString(a.ID.String(), b.ID.String()) })
	return out
}
