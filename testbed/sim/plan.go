package sim

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

// Plan is all that a simulation does to its mesh, beside what its seed makes of
// the delays. It is explicit, so that a part of it can be run as well: shrink
// leaves out what a failure does not need. Its text (String, ParsePlan) is one
// line.
type Plan struct {
	Sites, PeersPerSite int
	Length              time.Duration // of the faults
	Settle              time.Duration // at most, after them
	RTT                 time.Duration // between sites
	Sync                time.Duration // between anti-entropy rounds of a peer
	// Rates are probabilities: of messages that are lost, doubled, slow (up to
	// slowMax) or replayed (up to replayMax later), of syncs that are slow, and
	// of work that ends by itself.
	Loss, Double, Slow, Replay, SlowDisk, WorkCrash float64

	LateTables time.Duration // so much later records are written into tables, at most
	Batch      time.Duration // for so long events wait for others to be handed over with, at most

	Tight bool    // capacity is scarce
	Ahead bool    // one peer's clock is ten minutes ahead
	Drift float64 // peers' clocks run this much faster or slower, at most
	Old   int     // so many peers run release n-1 until they are upgraded
	Late  int     // so many peers join during the faults

	Exclusive bool // apps have an exclusive component
	Policies  bool // components have disconnect policies of their own
	Volumes   bool // apps have a component with a volume
	GPUs      bool // machines have GPUs, and apps want some
	Images    bool // people push images too, which take long from peer to peer
	Pins      bool // apps have a container whose image is pinned, which some peers hold
	Near      bool // apps have a component that is to be near another, or a site
	Archs     bool // machines are of two architectures, and some files for one
	Hosts     int  // so many hosts has each peer beside its own machine

	Mutant  string // what is broken on purpose in the world under the cores: one of mutants
	Tune    placement.Tuning
	Actions []Action // by time
}

// Action is one thing that happens to a mesh at a time: a person's request or a
// fault. What is random in it follows from N alone, so that it stays the same
// when others are left out.
type Action struct {
	At    time.Duration
	Do    string // the name of a kind
	Peer  int    // of the peers, modulo how many there are
	Other int
	Lasts time.Duration
	N     uint64
}

// What can be broken on purpose in the world; Tuning.Break is the same inside
// the core.
const (
	dropSync  = "drop-sync"             // a disk says that it has written what it has not
	sameLife  = "new-life-old-name"     // an empty store goes on under its incarnation: it votes, and grants
	skipStop  = "stopped-but-running"   // a driver says that it has ended what it has not
	fullStart = "listed-without-asking" // a driver says that nothing runs, whatever does
)

// mutants are all of them.
func mutants() []string { return []string{dropSync, sameLife, skipStop, fullStart} }

// Bounds of a plan that is drawn.
const (
	sitesMin, sitesMax = 2, 5
	lengthMin          = 20 * time.Second
	lengthMax          = 60 * time.Second
	settleMax          = 150 * time.Second
	slowMax            = 3 * time.Second
	replayMax          = 2 * time.Minute
	lastsMin           = time.Second
	lastsMax           = 20 * time.Second
	driftMax           = 0.05
	// kindsOn is the share of the fault kinds that one plan has: a mesh that
	// suffers everything at once never comes to the states that a few faults
	// lead to (Groce, Zhang, Eide, Chen and Regehr: Swarm Testing, 2012).
	kindsOn = 0.3
)

// tune is the delays of a simulation: shorter than a daemon's where only
// patience is at stake.
func tune() placement.Tuning {
	return placement.Tuning{
		Calm: 15 * time.Second, KeeperLost: 12 * time.Second, ConfirmExpiry: 20 * time.Second, PinExpiry: 8 * time.Second, Grace: 6 * time.Second,
		RoundMax: 4 * time.Second, ReportEvery: 8 * time.Second, MassWait: 20 * time.Second, RestartWindow: 20 * time.Second,
		RestartBudget: 3, Lease: leaseTerm, VolumeKeep: 15 * time.Second,
	}
}

// PlanOf draws a plan from a seed.
func PlanOf(seed uint64) Plan {
	rng := rand.New(rand.NewPCG(seed, 1))
	between := func(lo, hi time.Duration) time.Duration { return drawTime(rng, lo, hi) }
	p := Plan{
		Sites: sitesMin + rng.IntN(sitesMax-sitesMin+1), PeersPerSite: 1,
		Length: between(lengthMin, lengthMax), Settle: settleMax,
		RTT: between(5*time.Millisecond, 155*time.Millisecond), Sync: 2 * time.Second, Tune: tune(),
	}
	if p.Sites <= 3 && rng.IntN(3) == 0 {
		p.PeersPerSite = 2
	}
	pick := func(v float64) float64 {
		if rng.IntN(2) == 0 {
			return 0
		}
		return drawRate(rng, v)
	}
	p.Loss, p.Double, p.Slow, p.SlowDisk, p.WorkCrash = pick(0.1), pick(0.2), pick(0.1), pick(0.2), pick(0.3)
	one := func(n int) bool { return rng.IntN(n) == 0 }
	p.Tight, p.Tune.Reserve, p.Ahead = one(5), one(4), one(8)
	if one(4) {
		p.Replay = drawRate(rng, 0.2)
	}
	if one(4) {
		p.Drift = drawRate(rng, driftMax)
	}
	drawLeases(seed, &p)
	drawNouns(seed, &p)
	peers := p.Sites * p.PeersPerSite
	if one(8) {
		p.Old = 1 + rng.IntN(peers)
	}
	if peers > sitesMin && one(6) {
		p.Late = 1 + rng.IntN(peers-sitesMin)
	}
	p.Policies = rand.New(rand.NewPCG(seed, 3)).IntN(3) == 0
	p.Actions = slices.Concat(drawRequests(rng, p), drawFaults(rng, p))
	if forgets := func(a Action) bool { return a.Do == doAmnesia }; slices.ContainsFunc(p.Actions, forgets) && one(2) {
		p.Replay = drawRate(rng, 0.4) // what an earlier life said comes when there is another
	}
	drawPins(seed, &p)
	drawHosts(seed, &p)
	drawLateTables(seed, &p)
	drawBatch(seed, &p)
	slices.SortStableFunc(p.Actions, func(a, b Action) int { return int(a.At - b.At) })
	return p
}

// drawRequests is people at work from the third second on.
func drawRequests(rng *rand.Rand, p Plan) []Action {
	var out []Action
	mean := time.Duration(2+rng.IntN(6)) * time.Second
	for at := 2 * time.Second; at < p.Length; at += drawTime(rng, mean/2, mean*3/2) {
		out = append(out, Action{At: at, Do: doRequest, Peer: rng.IntN(p.peers()), N: uint64(rng.Uint32())})
	}
	return out
}

// drawFaults is some kinds of faults, now and then.
func drawFaults(rng *rand.Rand, p Plan) []Action {
	var on []kind
	for _, k := range kinds {
		if n := k.weight; n > 0 && rng.Float64() < kindsOn {
			for range n {
				on = append(on, k)
			}
		}
	}
	if len(on) == 0 {
		on = kinds[:1]
	}
	var out []Action
	mean := time.Duration(3+rng.IntN(8)) * time.Second
	for at := 4 * time.Second; at < p.Length; at += drawTime(rng, mean/2, mean*3/2) {
		k := on[rng.IntN(len(on))]
		out = append(out, Action{
			At: at, Do: k.name, Peer: rng.IntN(p.peers()), Other: rng.IntN(p.peers()),
			Lasts: drawTime(rng, lastsMin, lastsMax), N: uint64(rng.Uint32()),
		})
	}
	for i := range p.Late {
		out = append(out, Action{At: drawTime(rng, 3*time.Second, p.Length), Do: doJoin, Peer: p.peers() - 1 - i})
	}
	return out
}

// drawTime is a time in [lo, hi), and drawRate a rate in [0, most), of few
// digits: they are read by people.
func drawTime(rng *rand.Rand, lo, hi time.Duration) time.Duration {
	return lo + time.Duration(rng.Int64N(int64((hi-lo)/time.Millisecond)))*time.Millisecond
}

func drawRate(rng *rand.Rand, most float64) float64 { return float64(rng.IntN(int(most*1000))) / 1000 }

func (p Plan) peers() int { return p.Sites * p.PeersPerSite }
