package sim

import (
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

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
	Lists        int                    // of keepers, that followed others
	Reached      map[placement.Mark]int // rare branches of the core, how often
	Leases       int                    // that work started under
	Measured     int                    // questions how far peers are
	Together     int                    // events that were handed over with others
	Astray       int                    // slots that started without the volume that they have elsewhere
	Failed       []string
}

// Add counts another report in, but for what belongs to one seed.
func (r *Report) Add(o Report) {
	r.Virtual += o.Virtual
	r.Steps += o.Steps
	r.Messages += o.Messages
	r.Faults += o.Faults
	r.Requests += o.Requests
	r.Acknowledged += o.Acknowledged
	r.Below += o.Below
	r.Refused += o.Refused
	r.Grants += o.Grants
	r.Lists += o.Lists
	r.Leases += o.Leases
	r.Astray += o.Astray
	r.Measured += o.Measured
	r.Together += o.Together
	if r.Reached == nil {
		r.Reached = map[placement.Mark]int{}
	}
	for m, n := range o.Reached {
		r.Reached[m] += n
	}
}

func (r Report) String() string {
	return fmt.Sprintf("%.1f virtual hours, %d events (%d handed over with others), %d faults, %d requests: %d acknowledged (%d below a quorum), %d refused; %d grants, %d leases, %d slots without their volumes, %d changes of keepers, %d messages",
		r.Virtual.Hours(), r.Steps, r.Together, r.Faults, r.Requests, r.Acknowledged, r.Below, r.Refused, r.Grants, r.Leases, r.Astray, r.Lists, r.Messages)
}

// Run simulates a mesh, and writes its trace if one is wanted.
func Run(seed uint64, plan Plan, trace io.Writer) Report { return simulate(seed, plan, trace).report }

func simulate(seed uint64, plan Plan, trace io.Writer) *world {
	w := newWorld(seed, plan, trace)
	w.report = w.run()
	return w
}

func newWorld(seed uint64, plan Plan, trace io.Writer) *world {
	w := &world{
		plan: plan, seed: seed, rng: rand.New(rand.NewPCG(seed, 2)), trace: trace,
		byID: map[placement.PeerID]*peer{}, cut: map[[2]placement.PeerID]bool{}, etags: map[placement.AppKey]string{},
	}
	w.oracle = newOracle(w)
	w.oracle.stats.Reached = map[placement.Mark]int{}
	capacity := placement.Resources{CPU: 8000, Memory: 8 << 30}
	if plan.Tight {
		capacity = placement.Resources{CPU: 1500, Memory: 1500 << 20}
	}
	if plan.Volumes {
		capacity.Disk = 8 * capacity.Memory
	}
	for s := range plan.Sites {
		for i := range plan.PeersPerSite {
			p := newPeer(w, placement.SiteID(string(rune('A'+s))), placement.PeerID(fmt.Sprintf("p%d%c", s, 'a'+i)), capacity)
			w.peers = append(w.peers, p)
			w.byID[p.id] = p
		}
	}
	if plan.Ahead {
		p := w.peers[w.rng.IntN(len(w.peers))]
		p.skew, p.skewed = 10*time.Minute, 10*time.Minute
	}
	w.pushPinned()
	for i, p := range w.peers {
		p.old = i < plan.Old
		if p.absent = i >= len(w.peers)-plan.Late; !p.absent {
			w.after(w.between(0, 200*time.Millisecond), p.start)
		}
	}
	for _, a := range plan.Actions {
		w.after(a.At, func() { w.act(a) })
	}
	return w
}

// run lets it all happen, and then the mesh settle.
func (w *world) run() Report {
	w.until(w.plan.Length)
	w.heal()
	end := w.now
	w.settle()
	r := w.oracle.stats
	r.Seed, r.Virtual, r.SettledAfter, r.Steps, r.Failed = w.seed, w.now, w.now-end, w.steps, w.failed
	return r
}
