package sim

import (
	"math/rand/v2"
	"strings"
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

// withUpdates says how the components of an app are replaced: sooner than by
// default, mostly, since a simulation is short.
func withUpdates(app placement.App, rng *rand.Rand) {
	amounts := []placement.Amount{{}, {Set: true}, {N: 1, Set: true}, {N: 2, Set: true}, {N: 50, Percent: true, Set: true}}
	for _, name := range app.ComponentNames() {
		c := app.Components[name]
		if rng.IntN(8) == 0 {
			continue
		}
		healthy := placement.Duration(drawTime(rng, 0, 3*time.Second))
		deadline := placement.Duration(drawTime(rng, 10*time.Second, 40*time.Second))
		u := placement.Update{MinHealthy: &healthy, Deadline: &deadline}
		u.MaxUnavailable, u.MaxSurge = amounts[rng.IntN(len(amounts))], amounts[rng.IntN(len(amounts))]
		if u.MaxUnavailable.N+u.MaxSurge.N == 0 && u.MaxUnavailable.Set {
			u.MaxUnavailable.N = 1
		}
		if rng.IntN(4) == 0 {
			revert := false
			u.AutoRevert = &revert
		}
		c.Update = &u
		app.Components[name] = c
	}
}

// rollOracle holds roll-outs to what they may take from people at a time.
type rollOracle struct {
	w      *world
	taken  map[slotKey]bool                    // stopped for a newer version, and nowhere running since
	most   map[placement.AppKey]map[string]int // by component: what any edit allowed
	wanted map[placement.ClaimID]int           // of its component, as whoever ordered part of the claim to end knows it
}

func newRollOracle(w *world) *rollOracle {
	return &rollOracle{w: w, taken: map[slotKey]bool{}, most: map[placement.AppKey]map[string]int{}, wanted: map[placement.ClaimID]int{}}
}

// asked notes what an edit allows. One that was refused, or is not yet known
// everywhere, allows it too: this is a bound, no measure.
func (o *rollOracle) asked(app placement.App) {
	key := app.Key()
	if o.most[key] == nil {
		o.most[key] = map[string]int{}
	}
	for name, c := range app.Components {
		u := c.UpdatePolicy()
		o.most[key][name] = max(o.most[key][name], u.Unavailable, u.Surge)
	}
}

// ordered notes how many slots of a component its steward wants when it ends part
// of a claim: what it took before and is wanted no more keeps nobody waiting, and
// the claim's own peer need not have heard of that edit yet. Of several orders the
// one that wants the fewest counts, since it may be the one that is followed.
func (o *rollOracle) ordered(p *peer, to placement.PeerID, in placement.Inspection) {
	q := o.w.byID[to]
	if in.Kind != "release" || in.Deputy || q == nil {
		return
	}
	for id, r := range q.runs {
		if id.Claim != in.Claim {
			continue
		}
		v, ok := p.core.App(r.spec.Key)
		if n := v.Intent.App.Components[r.spec.Component].Wanted(); ok && v.Intent.UID == in.UID {
			if least, known := o.wanted[in.Claim]; !known || n < least {
				o.wanted[in.Claim] = n
			}
		}
		return
	}
}

// stopped looks at work that is about to end, and counts it if a steward ends it
// before its newer copy is there. What crashes or ails is not counted, nor what has not
// been healthy for min_healthy, which a roll-out takes for missed, nor what a side
// without a majority does: the two sides of a cut do not know of each other.
func (o *rollOracle) stopped(p *peer, e placement.Stop, r *run) {
	early := strings.HasPrefix(e.Reason, "stops before") || strings.HasPrefix(e.Reason, "makes room")
	if !early || strings.HasSuffix(e.Reason, "without a majority") || r.stopping || r.ails || r.state != placement.AllocRunning {
		return
	}
	key := keyOf(e.ID, r)
	for _, q := range o.w.peers {
		for id, other := range q.runs {
			if other != r && !other.stopping && other.state == placement.AllocRunning && keyOf(id, other) == key {
				return
			}
		}
	}
	v, ok := p.core.App(r.spec.Key)
	if comp, has := v.Intent.App.Components[key.component]; ok && has && o.w.now-r.ran < comp.UpdatePolicy().MinHealthy {
		return // people were missing it already
	}
	o.taken[key] = true
	if !ok || v.Conflict {
		return
	}
	n, wanted := 0, v.Intent.App.Components[key.component].Wanted()
	if least, known := o.wanted[e.ID.Claim]; known {
		wanted = min(wanted, least)
	}
	for k := range o.taken {
		switch {
		case k.uid != key.uid || k.component != key.component:
		case int(k.slot) >= wanted:
			delete(o.taken, k)
		default:
			n++
		}
	}
	if most := o.most[r.spec.Key][key.component]; n > most {
		o.w.fail("%s/%s: a roll-out keeps %d of %d slots from people, at most %d may be missed", r.spec.Key, key.component, n, wanted, most)
	}
}

// roomForAll says whether each slot of a component would fit where it may go.
func (w *world) roomForAll(v placement.AppView, name string) bool {
	comp := v.Intent.App.Components[name]
	for n := range placement.FirstSlots(comp.Wanted()).All() {
		if !w.roomFor(comp, slotKey{uid: v.Intent.UID, component: name, slot: n}) {
			return false
		}
	}
	return true
}

// waitsForRoom says whether a roll-out may go on for longer than anyone looks at a
// mesh: there is no room for one slot more, and its deadline is later.
func (w *world) waitsForRoom(v placement.AppView, name string) bool {
	return !w.roomForAll(v, name) && v.Intent.App.Components[name].UpdatePolicy().Deadline > w.plan.Settle
}

// rolledOut: what runs is what its roll-out came to, as its steward says.
func (w *world) rolledOut(note func(string, ...any)) {
	if w.forgot || w.died || w.plan.Tight {
		return
	}
	for _, p := range w.in() {
		for _, v := range p.core.Apps() {
			if v.Steward != p.id || v.Deputy || v.Conflict || v.Intent.Removed || w.oracle.orphaned(v.Intent.UID) {
				continue
			}
			for _, c := range v.Components {
				switch r := c.Rollout; {
				case r == nil:
					note("%s/%s: its steward has no record of its roll-out", v.Intent.Key, c.Name)
				case r.State == placement.RolloutGoing && w.waitsForRoom(v, c.Name) && r.Left > 0:
				case r.State == placement.RolloutGoing:
					note("%s/%s: its roll-out goes on: %d of %d healthy: %s", v.Intent.Key, c.Name, r.Settled, r.Wanted, r.Why)
				case r.State != placement.RolloutStalled && r.Settled < r.Wanted && c.Kind != "":
					if w.roomForAll(v, c.Name) && !waitsForName(v, c.Name) {
						note("%s/%s: its roll-out is %s, and %d of %d are so", v.Intent.Key, c.Name, r.State, r.Settled, r.Wanted)
					}
				}
			}
		}
	}
}
