package sim

import (
	"math/rand/v2"
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

// This file is faults of one peer, its machine and its host.

// crashFault ends a daemon or a machine, for a while.
func crashFault(w *world, a Action, p, _ *peer, rng *rand.Rand) {
	if p.core == nil {
		return
	}
	p.crash(rng.IntN(2) == 0)
	w.undo(a, p.boot)
}

// boot starts a daemon that is down.
func (p *peer) boot() {
	if p.core == nil && !p.out && !p.absent {
		p.start()
	}
}

// plannedRestart is a restart that was announced: whoever hears of it waits.
func plannedRestart(w *world, a Action, p, _ *peer, rng *rand.Rand) {
	if p.core == nil {
		return
	}
	for _, o := range w.peers {
		if o != p && o.core != nil && w.open(p, o) {
			o.later(w.delay(p, o), func() { o.left(p, a.Lasts) })
		}
	}
	p.crash(rng.IntN(4) == 0)
	w.after(time.Duration(rng.Int64N(int64(a.Lasts*5/4))), func() {
		if !w.calm {
			p.boot()
		}
	})
}

// sitePower cuts the power of a site, for a moment.
func sitePower(w *world, _ Action, p, _ *peer, rng *rand.Rand) {
	w.power(rng, func(q *peer) bool { return q.site == p.site })
}

// allPower cuts the power of the whole mesh: it comes back to all at once.
func allPower(w *world, _ Action, _, _ *peer, rng *rand.Rand) {
	w.power(rng, func(*peer) bool { return true })
}

func (w *world) power(rng *rand.Rand, off func(*peer) bool) {
	for _, q := range w.peers {
		if off(q) && q.core != nil {
			q.crash(true)
			w.after(100*time.Millisecond+time.Duration(rng.Int64N(int64(1900*time.Millisecond))), q.boot)
		}
	}
}

// slowPeer delays everything that a daemon does, by seconds.
func slowPeer(w *world, a Action, p, _ *peer, rng *rand.Rand) {
	p.lag = 200*time.Millisecond + time.Duration(rng.Int64N(int64(slowMax)))
	w.undo(a, func() { p.lag = 0 })
}

// clockJump steps a wall clock: back or forth, by seconds or by hours.
func clockJump(w *world, a Action, p, _ *peer, rng *rand.Rand) {
	most := []time.Duration{5 * time.Second, 2 * time.Minute, 3 * time.Hour}[rng.IntN(3)]
	by := time.Duration(rng.Int64N(int64(2*most))) - most
	p.skew += by
	w.undo(a, func() { p.skew -= by })
}

// suspend freezes a machine: its daemon and its work do nothing, and afterwards
// everything at once. Its monotonic clock goes on. One that sleeps already wakes
// no earlier: what it has to do then is planned for that time.
func suspend(w *world, a Action, p, _ *peer, _ *rand.Rand) { p.frozen = max(p.frozen, w.now+a.Lasts) }

// cordon lets a host take no new work.
func cordon(w *world, a Action, p, _ *peer, _ *rand.Rand) {
	h := p.someHost(a)
	h.cordoned = true
	p.tellHosts()
	w.undo(a, func() { h.cordoned = false; p.tellHosts() })
}

// shrinkHost takes a part of a host's capacity, perhaps more than is free.
func shrinkHost(w *world, a Action, p, _ *peer, rng *rand.Rand) {
	k := int64(rng.IntN(4))
	h := p.someHost(a)
	h.offered = placement.Resources{CPU: h.capacity.CPU * placement.CPU(k) / 4, Memory: h.capacity.Memory * placement.Bytes(k) / 4, Disk: h.capacity.Disk * placement.Bytes(k) / 4}
	p.tellHosts()
	w.undo(a, func() { h.offered = h.capacity; p.tellHosts() })
}

// upgrade brings a peer of release n-1 to release n.
func upgrade(_ *world, _ Action, p, _ *peer, _ *rand.Rand) {
	if p.old {
		p.old = false
		if p.core != nil {
			p.crash(false)
			p.w.after(500*time.Millisecond, p.boot)
		}
	}
}

// join lets a peer into the mesh that was not there when it began.
func join(_ *world, _ Action, p, _ *peer, _ *rand.Rand) {
	p.absent = false
	p.boot()
}

// death ends a machine for good, and nobody says so.
func death(w *world, _ Action, p, _ *peer, _ *rand.Rand) {
	if w.lose(p) {
		w.died = true
	}
}

// lose ends a peer for good, if it is the first such and enough are left.
func (w *world) lose(p *peer) bool {
	if w.lost > 0 || p.absent || len(w.in()) <= sitesMin {
		return false
	}
	w.lost++
	p.out = true
	if p.core != nil {
		p.crash(true)
	}
	return true
}

// forget shuts a peer out of the mesh for good, once in a run. It is told to the
// others one by one, and to those that are down when they come back.
func forget(w *world, _ Action, p, _ *peer, rng *rand.Rand) {
	if !w.lose(p) {
		return
	}
	p.forgotten = true
	for _, q := range w.peers {
		q.later(time.Duration(rng.Int64N(int64(3*time.Second))), func() { q.member(p, placement.MemberForgotten) })
	}
}

// failWork lets work end as soon as it runs, until its budget of restarts there
// is used up and it has to be moved.
func failWork(w *world, a Action, p, _ *peer, _ *rand.Rand) {
	p.failing = true
	w.undo(a, func() { p.failing = false })
}
