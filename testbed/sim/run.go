package sim

import (
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/hansa-mesh/hansa/gossip/table"
	"github.com/hansa-mesh/hansa/placement"
)

// Plan says what a simulation does to its mesh.
type Plan struct {
	Sites, PeersPerSite int
	Length              time.Duration // of the faults
	Settle              time.Duration // at most, after them
	RTT                 time.Duration
	Sync                time.Duration // between anti-entropy rounds of a peer
	Loss, Double, Slow  float64       // of messages
	SlowDisk, WorkCrash float64
	Faults              time.Duration // mean time between faults
	Requests            time.Duration // mean time between requests
	Amnesia             bool          // one disk may be lost for good
	Tight               bool          // capacity is scarce
	Ahead               bool          // one peer's clock is ten minutes ahead
	Tune                placement.Tuning
}

// Report is what came of a simulation.
type Report struct {
	Seed         uint64
	Virtual      time.Duration
	SettledAfter time.Duration
	Steps        int
	Messages     int
	Faults       int
	Requests     int
	Acknowledged int
	Below        int // acknowledged with fewer copies than a quorum
	Refused      int
	Grants       int
	Failed       []string
}

// tune is the delays of a simulation: shorter than a daemon's where only
// patience is at stake.
func tune() placement.Tuning {
	return placement.Tuning{
		Calm: 15 * time.Second, ConfirmExpiry: 20 * time.Second, PinExpiry: 8 * time.Second, Grace: 6 * time.Second,
		RoundMax: 4 * time.Second, ReportEvery: 8 * time.Second, MassWait: 20 * time.Second, RestartWindow: 20 * time.Second,
	}
}

// PlanOf draws a plan from a seed.
func PlanOf(seed uint64) Plan {
	rng := rand.New(rand.NewPCG(seed, 1))
	p := Plan{
		Sites: 2 + rng.IntN(4), PeersPerSite: 1, Length: time.Duration(20+rng.IntN(40)) * time.Second,
		Settle: 150 * time.Second, RTT: time.Duration(5+rng.IntN(150)) * time.Millisecond, Sync: 2 * time.Second,
		Faults: time.Duration(3+rng.IntN(8)) * time.Second, Requests: time.Duration(2+rng.IntN(6)) * time.Second,
		Tune: tune(),
	}
	if p.Sites <= 3 && rng.IntN(3) == 0 {
		p.PeersPerSite = 2
	}
	pick := func(v float64) float64 {
		if rng.IntN(2) == 0 {
			return 0
		}
		return v * rng.Float64()
	}
	p.Loss, p.Double, p.Slow, p.SlowDisk, p.WorkCrash = pick(0.1), pick(0.2), pick(0.1), pick(0.2), pick(0.3)
	p.Amnesia, p.Tight = rng.IntN(6) == 0, rng.IntN(5) == 0
	p.Tune.Reserve, p.Ahead = rng.IntN(4) == 0, rng.IntN(8) == 0
	return p
}

// Run simulates a mesh, and writes its trace if one is wanted.
func Run(seed uint64, plan Plan, trace io.Writer) Report {
	w := &world{
		plan: plan, seed: seed, rng: rand.New(rand.NewPCG(seed, 2)), trace: trace,
		byID: map[placement.PeerID]*peer{}, cut: map[[2]placement.PeerID]bool{}, etags: map[placement.AppKey]string{},
	}
	w.oracle = newOracle(w)
	capacity := placement.Resources{CPU: 8000, Memory: 8 << 30}
	if plan.Tight {
		capacity = placement.Resources{CPU: 1500, Memory: 1500 << 20}
	}
	for s := range plan.Sites {
		for i := range plan.PeersPerSite {
			p := &peer{
				w: w, id: placement.PeerID(fmt.Sprintf("p%d%c", s, 'a'+i)), site: placement.SiteID(string(rune('A' + s))),
				inc: 1, skew: w.between(-200*time.Millisecond, 200*time.Millisecond), capacity: capacity,
				disk: newDisk(), blobs: map[string]bool{}, runs: map[placement.AllocationID]*run{},
			}
			w.peers = append(w.peers, p)
			w.byID[p.id] = p
		}
	}
	if plan.Ahead {
		w.peers[w.rng.IntN(len(w.peers))].skew = 10 * time.Minute
	}
	for _, p := range w.peers {
		w.after(w.between(0, 200*time.Millisecond), p.start)
	}
	w.after(2*time.Second, w.request)
	w.after(4*time.Second+w.between(0, plan.Faults), w.fault)
	w.until(plan.Length)
	w.heal()
	end := w.now
	w.settle()
	r := w.oracle.stats
	r.Seed, r.Virtual, r.SettledAfter, r.Steps, r.Failed = seed, w.now, w.now-end, w.steps, w.failed
	return r
}

// settleEvery is how often a mesh is looked at for being settled.
const settleEvery = 2 * time.Second

// settle waits until everything is as it should be.
func (w *world) settle() {
	end := w.now + w.plan.Settle
	for len(w.failed) == 0 {
		w.until(w.now + settleEvery)
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
		for i, p := range w.peers {
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
	views := w.peers[0].core.Apps()
	conflict := false
	for _, v := range views {
		conflict = conflict || v.Conflict
	}
	w.acknowledgedStand(note)
	w.placedOnce(views, note)
	for _, p := range w.peers {
		for _, o := range p.core.Open() {
			if strings.HasSuffix(o, " is reserved") {
				note("%s: %s", p.id, o)
			}
			if !conflict || !strings.Contains(o, "conflict") {
				if !(w.plan.Tight || conflict || w.forgot) {
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
	for _, p := range w.peers {
		views := p.core.Apps()
		for uid, a := range w.oracle.acked {
			if w.oracle.removed[uid] || w.oracle.lostOf[uid] {
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
	type slotKey struct {
		uid       placement.UID
		component string
		slot      placement.Slot
	}
	running := map[slotKey][]placement.PeerID{}
	for _, p := range w.peers {
		for id, r := range p.runs {
			k := slotKey{r.spec.UID, r.spec.Component, id.Slot}
			running[k] = append(running[k], p.id)
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
				case len(at) == 0 && w.roomFor(comp):
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
		if !conflict && !orphans[k.uid] && !w.forgot { // work of before an amnesia waits for a person
			note("%s %s[%d] runs at %v, and nobody wants it", k.uid, k.component, k.slot, at)
		}
	}
}

func (w *world) roomFor(c placement.Component) bool {
	return slices.ContainsFunc(w.peers, func(p *peer) bool {
		if w.forgot { // what was booked again holds room until a person looks at it
			used, capacity := p.core.Used()
			return capacity.Sub(used).Fits(c.Resources) > 0
		}
		return p.capacity.Sub(p.used).Fits(c.Resources) > 0
	})
}
