package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hansa-mesh/hansa/gossip/table"
	"github.com/hansa-mesh/hansa/placement"
)

// settleEvery is how often a mesh is looked at for being settled.
const settleEvery = 2 * time.Second

// settle waits until everything is as it should be.
func (w *world) settle() {
	end, twice := w.now+w.plan.Settle, max(w.now, w.thawed)+w.duplicatesGone()
	for len(w.failed) == 0 {
		w.until(w.now + settleEvery)
		switch {
		case len(w.up()) < len(w.in()): // killed once more, while it settled
			twice = w.now + w.duplicatesGone()
		case w.now >= twice:
			w.checkTwice()
			twice = end + time.Hour
		}
		open := w.unsettled()
		if len(open) == 0 {
			return
		}
		if w.now >= end {
			for _, o := range open {
				w.fail("not settled: %s", o)
			}
			w.dump()
		}
	}
}

// dump writes what every core knows into the trace.
func (w *world) dump() {
	for _, p := range w.peers {
		if w.trace != nil && p.core != nil {
			fmt.Fprintf(w.trace, "\n%s\n", p.id)
			p.core.Dump(w.trace)
		}
	}
}

// unsettled is what is not as it should be in a mesh without faults.
func (w *world) unsettled() []string {
	var open []string
	note := func(format string, args ...any) { open = append(open, fmt.Sprintf(format, args...)) }
	for _, name := range tables {
		var first table.Hash
		for i, p := range w.in() {
			if p.core == nil {
				note("%s is down", p.id)
				return open
			}
			if h := p.tables[name].Hash(); i == 0 {
				first = h
			} else if h != first {
				note("table %s of %s differs", name, p.id)
			}
		}
	}
	if len(open) > 0 {
		return open
	}
	views := w.in()[0].core.Apps()
	conflict, bytesLost := false, w.bytesLost(views)
	for _, v := range views {
		conflict = conflict || v.Conflict
	}
	w.acknowledgedStand(note)
	w.editsStand(note)
	w.imagesStand(note)
	w.bytesThere(views, note)
	w.placedOnce(views, note)
	w.rolledOut(note)
	for _, p := range w.in() {
		for _, o := range p.core.Open() {
			if strings.HasSuffix(o, " is reserved") {
				note("%s: %s", p.id, o)
			}
			if w.lost > 0 && strings.Contains(o, "lease") { // of keepers that were shut out, perhaps
				continue
			}
			if strings.Contains(o, "the roll-out stalled") { // a person's to look at
				continue
			}
			if w.plan.Archs && strings.Contains(o, " missing: ") { // no peer has its architecture: placedOnce knows
				continue
			}
			if isName(o) && (w.namesInConflict() || w.forgot || w.died) {
				continue
			}
			if !conflict || !strings.Contains(o, "conflict") {
				if !(w.plan.Tight || w.plan.GPUs || conflict || bytesLost || w.forgot || w.died) { // where there is too little, something stays open
					note("%s: %s", p.id, o)
				}
			}
		}
	}
	if len(w.oracle.asked) > 0 {
		note("%d requests have no answer", len(w.oracle.asked))
	}
	return open
}

// acknowledgedStand: what was acknowledged, or something later, is known at
// every peer.
func (w *world) acknowledgedStand(note func(string, ...any)) {
	for _, p := range w.in() {
		views := p.core.Apps()
		for uid, a := range w.oracle.acked {
			if a.key.Recorded() || w.oracle.removed[uid] || a.lost || w.oracle.lost(a) {
				continue
			}
			ok := slices.ContainsFunc(views, func(v placement.AppView) bool {
				return v.Intent.Key == a.key && (v.Intent.UID != uid || v.Intent.Version.Compare(a.version) >= 0 || v.Conflict)
			})
			if !ok {
				note("%s does not know %s version %s, which was acknowledged", p.id, a.key, a.version)
			}
		}
	}
}

// placedOnce: every slot runs once, if it fits anywhere, and nothing else runs.
func (w *world) placedOnce(views []placement.AppView, note func(string, ...any)) {
	running := map[slotKey][]placement.PeerID{}
	sides := map[slotKey]map[uint64]bool{}
	for _, p := range w.in() {
		for id, r := range p.runs {
			k := slotKey{r.spec.UID, r.spec.Component, id.Slot}
			running[k] = append(running[k], p.id)
			if sides[k] == nil {
				sides[k] = map[uint64]bool{}
			}
			sides[k][placement.SpecHash(r.spec.Spec)] = true
		}
	}
	orphans := map[placement.UID]bool{}
	for _, v := range views {
		uid := v.Intent.UID
		if w.oracle.orphaned(uid) {
			orphans[uid] = true
			continue
		}
		for _, name := range v.Intent.App.ComponentNames() {
			comp := v.Intent.App.Components[name]
			for n := range comp.Wanted() {
				k := slotKey{v.Intent.UID, name, placement.Slot(n)}
				at := running[k]
				delete(running, k)
				switch {
				case v.Intent.Removed && len(at) > 0:
					note("%s is removed, and %s[%d] runs at %v", v.Intent.Key, name, n, at)
				case v.Intent.Removed || len(at) == 1:
				case v.Conflict && len(at) > 1 && len(at) == len(sides[k]): // what either side runs stays
				case len(at) == 0 && w.died && w.waitsForDead(comp): // it waits for a peer that never comes back
				case len(at) == 0 && v.Conflict && w.plan.Ahead: // whose clock is ahead takes another side for the winner
				case len(at) == 0 && w.roomFor(comp, k) && !waitsForName(v, name):
					note("%s/%s[%d] runs nowhere", v.Intent.Key, name, n)
				case len(at) > 1:
					slices.Sort(at)
					note("%s/%s[%d] runs at %v", v.Intent.Key, name, n, at)
				}
			}
		}
	}
	conflict := slices.ContainsFunc(views, func(v placement.AppView) bool { return v.Conflict })
	for k, at := range running {
		if !conflict && !orphans[k.uid] && !w.forgot && !w.oracle.stranded(k.uid) { // work of before an amnesia waits for a person
			note("%s %s[%d] runs at %v, and nobody wants it", k.uid, k.component, k.slot, at)
		}
	}
}
