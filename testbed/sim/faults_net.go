package sim

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

// This file is faults between peers: cuts, and views that are wrong.

// cutSite cuts a site off.
func cutSite(w *world, a Action, p, _ *peer, _ *rand.Rand) {
	w.partition(func(x, y *peer) bool { return (x.site == p.site) != (y.site == p.site) }, a.Lasts)
}

// cutLink cuts a link, perhaps one way.
func cutLink(w *world, a Action, p, o *peer, rng *rand.Rand) {
	both := rng.IntN(2) == 0
	w.partition(func(x, y *peer) bool { return x == p && y == o || both && x == o && y == p }, a.Lasts)
}

// cutHalves lets the mesh fall apart in two.
func cutHalves(w *world, a Action, _, _ *peer, rng *rand.Rand) {
	half := map[*peer]bool{}
	for _, q := range w.peers {
		half[q] = rng.IntN(2) == 0
	}
	w.partition(func(x, y *peer) bool { return half[x] != half[y] }, a.Lasts)
}

// flap cuts a site off again and again, for about as long as failure detection
// takes, so that verdicts and returns chase each other.
func flap(w *world, a Action, p, _ *peer, rng *rand.Rand) {
	end := w.now + a.Lasts
	var cut func()
	cut = func() {
		if w.calm || w.now >= end {
			return
		}
		lasts := 500*time.Millisecond + time.Duration(rng.Int64N(int64(8*time.Second)))
		w.partition(func(x, y *peer) bool { return (x.site == p.site) != (y.site == p.site) }, lasts)
		w.after(lasts+200*time.Millisecond+time.Duration(rng.Int64N(int64(2*time.Second))), cut)
	}
	cut()
}

// partition cuts links for a while.
func (w *world) partition(cuts func(a, b *peer) bool, lasts time.Duration) {
	var cut [][2]placement.PeerID
	for _, a := range w.peers {
		for _, b := range w.peers {
			k := [2]placement.PeerID{a.id, b.id}
			if a != b && cuts(a, b) && !w.cut[k] {
				w.cut[k] = true
				cut = append(cut, k)
			}
		}
	}
	if w.trace != nil {
		w.tell(nil, "cut", "", fmt.Sprint(cut))
	}
	w.after(lasts, func() {
		for _, k := range cut {
			delete(w.cut, k)
		}
		if w.trace != nil {
			w.tell(nil, "healed", "", fmt.Sprint(cut))
		}
	})
}

// falseDeath makes a peer take another for dead that lives and speaks to it,
// while third peers see both.
func falseDeath(w *world, a Action, p, o *peer, _ *rand.Rand) { w.misjudge(a, p, o, judgedDead) }

// unseenDeath makes a peer take another for alive, whatever happens to it.
func unseenDeath(w *world, a Action, p, o *peer, _ *rand.Rand) {
	w.misjudge(a, p, o, judgedAlive)
	if o.core != nil && p != o {
		w.partition(func(x, y *peer) bool { return x == p && y == o || x == o && y == p }, a.Lasts)
	}
}

// judgement is what failure detection holds of a peer whatever it hears.
type judgement uint8

const (
	judgedByWhatItHears judgement = iota
	judgedDead
	judgedAlive
)

func (w *world) misjudge(a Action, p, o *peer, j judgement) {
	if p == o {
		return
	}
	p.judged[o.id] = j
	w.undo(a, func() { delete(p.judged, o.id) })
}
