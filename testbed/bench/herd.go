package bench

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

// How a steward chooses when many choose at once.
const (
	HerdPlan = "hansa" // the product's plan
	HerdBest = "best"  // what it scores best, always
	HerdTwo  = "two"   // of two drawn at random that have room the one with more of it
)

const (
	herdCPU   = 64_000 // milli, of a host
	herdKinds = 3
	herdMost  = 1_000_000 // requests, in case nothing ever fills
)

// HerdRules are all of them.
var HerdRules = []string{HerdPlan, HerdBest, HerdTwo}

// HerdConfig is one run.
type HerdConfig struct {
	Rule     string
	Stewards int           // that plan at once; default 50
	Sites    int           // with a host each; default 100
	Kinds    int           // of hosts: with how much memory for each core; default 1, at most 3
	Age      time.Duration // of what they plan from
	Every    time.Duration // all of them plan; default 200 ms
	Seed     uint64
}

// HerdResult is what came of it, until the first request that found no room.
type HerdResult struct {
	Rule     string  `json:"rule"`
	Age      string  `json:"age"`
	Stewards int     `json:"stewards"`
	Sites    int     `json:"sites"`
	Requests int     `json:"requests"`
	AtOnce   float64 `json:"at_once"`     // per cent of them granted by the first peer asked
	Rounds   float64 `json:"rounds_mean"` // of asks, of those that were granted
	Most     int     `json:"rounds_most"`
	Late     float64 `json:"late"`  // per cent of them that the rounds of one wave were not enough for
	Crowd    float64 `json:"crowd"` // asks that the most asked peer got in one round, the mean
	Half     Even    `json:"half"`  // when half of the cores were granted
	Full     float64 `json:"full"`  // per cent of the cores granted in the end
}

// wish is a request that waits for a peer.
type wish struct {
	planner int
	uid     placement.UID
	request Request
	app     placement.App
	refused map[placement.PeerID]string
	rounds  int
}

// Herd lets stewards plan at once from the same digests of some age, each one slot,
// again and again; those that are refused plan again at once.
func Herd(ctx context.Context, cfg HerdConfig) (HerdResult, error) {
	if cfg.Stewards == 0 {
		cfg.Stewards = 50
	}
	if cfg.Sites == 0 {
		cfg.Sites = 100
	}
	cfg.Kinds = max(1, min(cfg.Kinds, herdKinds))
	if cfg.Every == 0 {
		cfg.Every = 200 * time.Millisecond
	}
	if cfg.Stewards < 1 || cfg.Stewards > 10_000 || cfg.Sites < 1 || cfg.Sites > 10_000 || cfg.Age < 0 || !slices.Contains(HerdRules, cfg.Rule) {
		return HerdResult{}, fmt.Errorf("herd: 1 to 10000 stewards and sites, an age of 0 or more, a rule of %v", HerdRules)
	}
	h := &herd{cfg: cfg, mesh: newMesh(cfg.Stewards, cfg.Age, cfg.Seed)}
	for n := range cfg.Sites {
		h.mesh.add(Shape{Capacity: placement.Resources{CPU: herdCPU, Memory: herdCPU / 1000 * coreMemory * placement.Bytes(2+n%cfg.Kinds) / 2}}, n)
	}
	h.res = HerdResult{Rule: cfg.Rule, Age: cfg.Age.String(), Stewards: cfg.Stewards, Sites: cfg.Sites}
	for wave := 0; !h.full && h.res.Requests < herdMost; wave++ {
		if err := ctx.Err(); err != nil {
			return h.res, err
		}
		h.mesh.pass(time.Duration(wave) * cfg.Every)
		h.wave()
		if used := h.used(); h.res.Half == (Even{}) && mean(used) >= 50 {
			h.res.Half = even(used)
		}
	}
	h.res.Full = mean(h.used())
	h.res.AtOnce = 100 * float64(h.once) / float64(max(1, h.granted))
	h.res.Rounds /= float64(max(1, h.granted))
	h.res.Late *= 100 / float64(max(1, h.res.Requests))
	h.res.Crowd /= float64(max(1, h.rounds))
	return h.res, nil
}

type herd struct {
	cfg     HerdConfig
	mesh    *mesh
	res     HerdResult
	full    bool
	granted int
	once    int // of them at the first peer
	late    []*wish
	rounds  int // of all stewards together
}

// wave is one request of each steward: all choose, then all ask, and those that were
// refused choose again. What is left then waits for the next wave, as a steward's back
// off has it.
func (h *herd) wave() {
	open := h.late
	for p := range h.mesh.planners {
		cores := []placement.CPU{1000, 2000, 4000}[h.mesh.planners[p].rand.IntN(3)]
		memory := regionMemory[h.mesh.planners[p].rand.IntN(len(regionMemory))]
		r := Request{Need: placement.Resources{CPU: cores, Memory: placement.Bytes(cores/1000) * memory}}
		h.res.Requests++
		open = append(open, &wish{
			planner: p, uid: placement.UID(fmt.Sprintf("u%d", h.res.Requests)), request: r, refused: map[placement.PeerID]string{},
			app: placement.App{Name: "r", Components: map[string]placement.Component{"c": r.component()}},
		})
	}
	for round := 0; len(open) > 0 && round < roundsMax; round++ {
		chosen, crowd := make([]int, len(open)), map[int]int{}
		for i, w := range open {
			if chosen[i] = h.choose(w); chosen[i] >= 0 {
				crowd[chosen[i]]++
			}
		}
		most := 0
		for _, n := range crowd {
			most = max(most, n)
		}
		h.res.Crowd += float64(most)
		h.rounds++
		var again []*wish
		for i, w := range open {
			switch n := chosen[i]; {
			case n < 0:
				h.full = true
			case !h.ask(w, n):
				again = append(again, w)
			}
		}
		open = again
	}
	h.late = open
	for _, w := range open {
		clear(w.refused)
		h.res.Late++
	}
}

// ask asks a peer, and says whether it granted the slot.
func (h *herd) ask(w *wish, n int) bool {
	x := h.mesh.hosts[n]
	w.rounds++
	_, granted, why := x.book.Ask(w.uid, w.app, "c", placement.FirstSlots(1))
	h.mesh.planners[w.planner].heard[n] = h.mesh.changed(n)
	if granted.IsEmpty() {
		w.refused[x.now.Peer.Peer] = why
		return false
	}
	h.granted++
	if w.rounds == 1 {
		h.once++
	}
	h.res.Rounds += float64(w.rounds)
	h.res.Most = max(h.res.Most, w.rounds)
	return true
}

// choose is the host that a steward asks, or -1.
func (h *herd) choose(w *wish) int {
	m, p := h.mesh, &h.mesh.planners[w.planner]
	var near []placement.Candidate
	for n := range m.hosts {
		if d, made := m.known(p, n); w.request.fits(d) && w.refused[d.Peer.Peer] == "" {
			near = append(near, placement.Candidate{Digest: *d, Age: min(m.clock-made, h.cfg.Age).Milliseconds(), RTT: -1, Alive: true})
		}
	}
	if len(near) == 0 {
		return -1
	}
	if h.cfg.Rule == HerdTwo {
		share := func(c placement.Candidate) float64 {
			return float64(c.Digest.Free.CPU) / float64(c.Digest.Capacity.CPU)
		}
		a, b := near[p.rand.IntN(len(near))], near[p.rand.IntN(len(near))]
		if share(b) > share(a) {
			a = b
		}
		return m.at[a.Digest.Peer.Peer]
	}
	res := placement.Plan(placement.PlanInput{App: w.app, Component: "c", Slots: placement.FirstSlots(1), Candidates: near, Rand: p.rand})
	if h.cfg.Rule == HerdPlan {
		for id := range res.Assign { // one at most
			return m.at[id]
		}
		return -1
	}
	best, score := placement.PeerID(""), math.Inf(-1)
	for _, c := range res.Considered {
		if c.Score > score || c.Score == score && c.Peer < best {
			best, score = c.Peer, c.Score
		}
	}
	return m.at[best]
}

// used is the share of its cores that each host has granted, in per cent.
func (h *herd) used() []float64 {
	var out []float64
	for _, x := range h.mesh.hosts {
		out = append(out, 100*float64(x.now.Capacity.CPU-x.now.Free.CPU)/float64(x.now.Capacity.CPU))
	}
	return out
}
