package sim

import (
	"math/rand/v2"
)

// kind is a sort of fault that a plan may have: how often in comparison to the
// others, and what it does. rng is the action's own.
type kind struct {
	name   string
	weight int
	do     func(w *world, a Action, p, other *peer, rng *rand.Rand)
}

// doRequest is the action of a person, which is no fault.
const doRequest = "request"

// doAmnesia is a disk that is lost.
const doAmnesia = "amnesia"

// doJoin is a peer that joins during the faults.
const doJoin = "join"

// kinds are all faults, in the order in which plans draw them: new ones come
// last.
var kinds = []kind{
	{"crash", 4, crashFault},
	{"cut-site", 4, cutSite},
	{"cut-link", 2, cutLink},
	{"halves", 2, cutHalves},
	{"disk-full", 2, diskFull},
	{"site-power", 2, sitePower},
	{doAmnesia, 2, amnesia},
	{"restore", 1, restoreOld},
	{"flap", 2, flap},
	{"slow-peer", 2, slowPeer},
	{"slow-disk", 2, slowDisk},
	{"clock-jump", 2, clockJump},
	{"suspend", 2, suspend},
	{"false-death", 2, falseDeath},
	{"unseen-death", 2, unseenDeath},
	{"all-power", 1, allPower},
	{"cordon", 2, cordon},
	{"shrink", 2, shrinkHost},
	{"restart", 2, plannedRestart},
	{"forget", 1, forget},
	{"upgrade", 2, upgrade},
	{"fail-work", 1, failWork},
	{"death", 1, death},
	{doJoin, 0, join},         // drawn for those that are late
	{doRot, 0, rotFile},       // drawn where images are pinned
	{doHostGone, 0, hostGone}, // drawn where peers have several
}

// act carries an action of the plan out.
func (w *world) act(a Action) {
	if w.calm || len(w.peers) == 0 {
		return
	}
	p, other := w.peers[a.Peer%len(w.peers)], w.peers[a.Other%len(w.peers)]
	rng := rand.New(rand.NewPCG(a.N, 3))
	if a.Do == doRequest {
		w.request(p, rng)
		return
	}
	for _, k := range kinds {
		if k.name == a.Do {
			w.oracle.stats.Faults++
			if w.trace != nil {
				w.tell(p, "fault", a.Do, a.Lasts.String())
			}
			k.do(w, a, p, other, rng)
			return
		}
	}
	w.fail("a plan with a fault %q that there is none of", a.Do)
}

// later undoes a fault, unless all faults were undone meanwhile.
func (w *world) undo(a Action, undo func()) {
	w.after(a.Lasts, func() {
		if !w.calm {
			undo()
		}
	})
}
