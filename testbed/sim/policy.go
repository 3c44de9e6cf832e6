package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

// withPolicies gives the components of an app disconnect policies of all kinds.
func withPolicies(app placement.App, rng *rand.Rand) {
	for _, name := range app.ComponentNames() {
		c := app.Components[name]
		if c.Exclusive.On || rng.IntN(3) == 0 {
			continue
		}
		c.Disconnect.Replace = placement.Replaces[rng.IntN(len(placement.Replaces))]
		c.Disconnect.Reconcile = placement.Reconciles[rng.IntN(len(placement.Reconciles))]
		if rng.IntN(2) == 0 {
			lost := placement.Duration(drawTime(rng, 0, 10*time.Second))
			c.Disconnect.LostAfter = &lost
		}
		if rng.IntN(3) == 0 {
			c.Disconnect.StopAfter = placement.OrNever(drawTime(rng, 10*time.Second, 20*time.Second))
		}
		app.Components[name] = c
	}
}

// duplicatesGone is how long after the last fault no slot may run twice any
// more: until both sides have seen each other, two rounds of a steward, and the
// stop.
func (w *world) duplicatesGone() time.Duration {
	const seen, stop = 4 * time.Second, 2 * time.Second
	return seen + 2*w.plan.Tune.RoundMax + stop
}

// checkTwice fails if a slot still runs twice when no duplicate may be left. What
// a conflict keeps on both sides is none, and of an app that lost its keepers, or
// of a peer that lost what it had granted, a person decides.
func (w *world) checkTwice() {
	if w.forgot || w.died || w.plan.Tight {
		return
	}
	running := map[slotKey][]string{}
	specs := map[slotKey]map[uint64]bool{}
	for _, p := range w.in() {
		for id, r := range p.runs {
			k := slotKey{r.spec.UID, r.spec.Component, id.Slot}
			running[k] = append(running[k], string(p.id))
			if specs[k] == nil {
				specs[k] = map[uint64]bool{}
			}
			specs[k][placement.SpecHash(r.spec.Spec)] = true
		}
	}
	for _, v := range w.in()[0].core.Apps() {
		if v.Conflict || w.oracle.orphaned(v.Intent.UID) {
			continue
		}
		for _, name := range v.Intent.App.ComponentNames() {
			for n := range v.Intent.App.Components[name].Wanted() {
				k := slotKey{v.Intent.UID, name, placement.Slot(n)}
				if at := running[k]; len(at) > len(specs[k]) { // a copy of each version is a roll-out
					slices.Sort(at)
					w.fail("%s/%s[%d] still runs twice, at %v, %s after the last fault", v.Intent.Key, name, n, at, fmt.Sprint(w.duplicatesGone()))
				}
			}
		}
	}
}
