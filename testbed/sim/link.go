package sim

import (
	"slices"
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

// open says whether a message from a to b can arrive now.
func (w *world) open(a, b *peer) bool { return !w.cut[[2]placement.PeerID{a.id, b.id}] }

// up is the peers that people can ask.
func (w *world) up() []*peer {
	return slices.DeleteFunc(slices.Clone(w.peers), func(p *peer) bool { return p.core == nil || p.frozen > w.now })
}

// in is the peers that the mesh has.
func (w *world) in() []*peer {
	return slices.DeleteFunc(slices.Clone(w.peers), func(p *peer) bool { return p.out || p.absent })
}

// reach says whether a hears b when it asks it something now.
func (w *world) reach(a, b *peer) bool {
	return b.core != nil && b.frozen <= w.now && w.open(a, b) && w.open(b, a)
}

// delay is the time that a message takes.
func (w *world) delay(a, b *peer) time.Duration {
	base := 2 * time.Millisecond
	if a.site != b.site {
		base = w.plan.RTT / 2
	}
	d := base + w.between(0, base) + w.between(0, b.lag)
	if !w.calm && w.chance(w.plan.Slow) {
		d += w.between(0, slowMax)
	}
	return d
}

// carry brings something from a to b, perhaps, perhaps twice, perhaps again
// when nobody thinks of it any more.
func (w *world) carry(a, b *peer, run func()) (sent bool) {
	if !w.open(a, b) || b.core == nil || !w.calm && w.chance(w.plan.Loss) {
		return false
	}
	deliver := func() {
		if w.open(a, b) && b.core != nil {
			run()
		}
	}
	w.at(b, w.delay(a, b), deliver)
	if !w.calm && w.chance(w.plan.Double) {
		w.at(b, w.delay(a, b), deliver)
	}
	if !w.calm && w.chance(w.plan.Replay) {
		w.at(b, w.between(slowMax, replayMax), deliver)
	}
	return true
}

// at plans something on a peer's machine: not while that is suspended.
func (w *world) at(p *peer, d time.Duration, run func()) {
	w.after(d, func() {
		if p.frozen > w.now {
			w.at(p, p.frozen-w.now, run)
			return
		}
		run()
	})
}
