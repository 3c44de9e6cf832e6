package sim

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

// This file is exclusive components: apps that have one, machines that end work
// at its deadline, and what must hold of it.

const (
	// leaseTerm is shorter than a daemon's, so that more leases end.
	leaseTerm = 5 * time.Second
	// leaseDriftMax keeps any two clocks within placement.DriftMax: 1.1/0.9.
	leaseDriftMax = 0.1
	exclusiveName = "db"
)

// drawLeases decides, apart from all else that a seed draws, whether a plan has
// exclusive components.
func drawLeases(seed uint64, p *Plan) {
	rng := rand.New(rand.NewPCG(seed, 4))
	if p.Exclusive = rng.IntN(2) == 0; p.Exclusive && rng.IntN(3) == 0 {
		p.Drift = drawRate(rng, leaseDriftMax)
	}
}

// addExclusive gives an app an exclusive component; now and then one that was
// exclusive is so no more.
func addExclusive(app placement.App, rng *rand.Rand) {
	n := 1 + rng.IntN(2)
	c := placement.Component{
		Server: &placement.Server{Process: &placement.Process{Command: []string{"db"}}}, Replicas: &n,
		Resources: placement.Resources{CPU: 100, Memory: 32 << 20}, Env: map[string]string{"V": fmt.Sprint(rng.IntN(2))},
		Exclusive: placement.Exclusive{On: rng.IntN(10) > 0},
	}
	if rng.IntN(2) == 0 {
		c.Stop.Grace = placement.Duration(100 * time.Millisecond)
	}
	app.Components[exclusiveName] = c
}

func sortedRuns(runs map[placement.AllocationID]*run) []placement.AllocationID {
	return slices.SortedFunc(maps.Keys(runs), func(a, b placement.AllocationID) int { return cmpString(a.String(), b.String()) })
}

// slotKey is one slot of an app.
type slotKey struct {
	uid       placement.UID
	component string
	slot      placement.Slot
}

func keyOf(id placement.AllocationID, r *run) slotKey {
	return slotKey{r.spec.UID, r.spec.Component, id.Slot}
}

// supervise is what a machine does without its daemon: it ends exclusive work
// at the deadline, by its own clock, or when it wakes up after it.
func (p *peer) supervise(id placement.AllocationID, r *run) {
	p.w.at(p, p.until(r.deadline), func() {
		switch {
		case p.runs[id] != r:
		case p.mono() < r.deadline: // moved meanwhile
			p.supervise(id, r)
		default:
			p.w.tell(p, "work fenced", r.spec.Key.String(), id.String())
			p.end(id)
			p.step(placement.WorkChanged{ID: id, State: placement.WorkState{State: placement.AllocFailed, Reason: "its lease ran out"}})
		}
	})
}

// superviseAll looks at the deadlines of all work anew.
func (p *peer) superviseAll() {
	for _, id := range sortedRuns(p.runs) {
		if r := p.runs[id]; r.spec.Fence > 0 {
			p.supervise(id, r)
		}
	}
}

// extend moves the deadline of exclusive work.
func (p *peer) extend(e placement.Extend) {
	r := p.runs[e.ID]
	if r == nil || e.Until <= r.deadline {
		return
	}
	r.deadline = e.Until
	p.w.oracle.leases.extended(p, e.ID, r)
}

// executes says whether work can do anything now: not on a machine that is
// suspended and whose driver will end it as soon as it wakes up.
func (p *peer) executes(r *run) bool { return p.frozen <= p.w.now || p.mono() < r.deadline }

// leaseOracle knows which exclusive work ran when.
type leaseOracle struct {
	w       *world
	numbers map[slotKey]grant
	asked   map[grant]time.Duration // when first
	uids    map[placement.AllocationID]placement.UID
	history []leaseOp
}

// grant is a number that an allocation got.
type grant struct {
	id     placement.AllocationID
	number uint64
}

// leaseOp is one operation on the lease of a slot, for a checker of histories.
type leaseOp struct {
	key       slotKey
	by        grant
	what      string // "acquire", "renew" or "release"
	call, end time.Duration
}

func newLeaseOracle(w *world) *leaseOracle {
	return &leaseOracle{w: w, numbers: map[slotKey]grant{}, asked: map[grant]time.Duration{}, uids: map[placement.AllocationID]placement.UID{}}
}

// sent notes when a lease was asked for first, and looks at who grants it: a
// keeper in that life of its store.
func (o *leaseOracle) sent(p *peer, in placement.Inspection) {
	for _, id := range in.LeasesGranted() {
		if uid, ok := o.uids[id]; ok && !o.keeps(p, uid) {
			o.w.fail("%s votes on a lease of app %s in incarnation %d, which is no keeper", p.id, uid, p.inc)
		}
	}
	for _, l := range in.Leases() {
		o.uids[l.ID] = l.UID
		if g := (grant{l.ID, l.Number}); !l.Over && o.asked[g] == 0 {
			o.asked[g] = o.w.now
		}
	}
}

// keeps says whether a peer is or was a keeper of an app, in the life of its store
// that it has now, by any list that is or was on a disk: a vote that waits for the
// disk may leave when the next list counts, and counts under the last one only.
// Of an app that is on no disk it may have been.
func (o *leaseOracle) keeps(p *peer, uid placement.UID) bool {
	known, ref := false, placement.PeerRef{Peer: p.id, Incarnation: p.inc}
	for _, list := range o.w.oracle.lists[uid] {
		if slices.Contains(list.Peers, ref) {
			return true
		}
	}
	for _, q := range o.w.peers {
		if k, ok := o.w.oracle.kept(q, uid); ok && k.Keepers.UID != "" {
			known = true
			if slices.Contains(k.Keepers.Peers, ref) || slices.Contains(k.Next.Peers, ref) {
				return true
			}
		}
	}
	return !known
}

// started looks at exclusive work that starts: no other copy of its slot may
// execute, at any machine, and its number is above all that ran before.
func (o *leaseOracle) started(p *peer, id placement.AllocationID, r *run) {
	key := keyOf(id, r)
	for _, q := range o.w.peers {
		for other, or := range q.runs {
			if or.spec.Fence > 0 && other != id && keyOf(other, or) == key && q.executes(or) {
				o.w.fail("%s starts %s[%d] of %s under lease %d, and it runs at %s under lease %d", p.id, key.component, key.slot, r.spec.Key, r.spec.Fence, q.id, or.spec.Fence)
			}
		}
	}
	g := grant{id, r.spec.Fence}
	if last := o.numbers[key]; last.number > g.number || last.number == g.number && last.id != id {
		o.w.fail("%s starts %s[%d] of %s under number %d, after number %d", p.id, key.component, key.slot, r.spec.Key, g.number, last.number)
	}
	if p.mono() >= r.deadline {
		o.w.fail("%s starts %s[%d] of %s after its lease ended", p.id, key.component, key.slot, r.spec.Key)
	}
	o.numbers[key] = g
	call := o.w.now
	if at, ok := o.asked[g]; ok {
		call = at
	}
	for _, op := range o.history { // a restart in place takes the same lease again
		if op.what == "release" && op.by == g {
			call = max(call, op.end)
		}
	}
	r.since = o.w.now
	o.history = append(o.history, leaseOp{key, g, "acquire", call, o.w.now})
	o.w.oracle.stats.Leases++
}

func (o *leaseOracle) extended(_ *peer, id placement.AllocationID, r *run) {
	o.history = append(o.history, leaseOp{keyOf(id, r), grant{id, r.spec.Fence}, "renew", r.since, o.w.now})
	r.since = o.w.now
}

// ended is when exclusive work executes no more: on a machine that was suspended
// that was at its deadline.
func (o *leaseOracle) ended(p *peer, id placement.AllocationID, r *run) {
	if r.spec.Fence == 0 {
		return
	}
	at := o.w.now
	if late := p.mono() - r.deadline; late > 0 {
		at = max(r.since, at-late*million/time.Duration(million+p.drift))
	}
	o.history = append(o.history, leaseOp{keyOf(id, r), grant{id, r.spec.Fence}, "release", at, at})
}

// waitsForName says whether an exclusive component may run nowhere, though there
// is room: of two apps of one name one has the leases, until a person decides.
func waitsForName(v placement.AppView, name string) bool {
	return v.Conflict && v.Intent.App.Components[name].Exclusive.On
}
