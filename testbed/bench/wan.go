package bench

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hansa-mesh/hansa/gossip/coords"
	"github.com/hansa-mesh/hansa/placement"
)

// wanPeersMax bounds a matrix: every peer keeps a coordinate of each that it probed.
const wanPeersMax = 4000

// Matrix is the round trips between places in milliseconds; 0 is not known.
type Matrix [][]float64

// ReadMatrix reads a square table of round trips in milliseconds: values between
// commas (.csv) or tabs (.tsv), with a head and a first column of names or without
// either. Of two directions it takes the mean; a cell may be empty.
func ReadMatrix(path string) (Matrix, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := csv.NewReader(f)
	r.FieldsPerRecord = -1
	if filepath.Ext(path) == ".tsv" {
		r.Comma = '\t'
	}
	rows, err := r.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(rows) > 0 && len(rows[0]) > 0 {
		if _, err := strconv.ParseFloat(strings.TrimSpace(rows[0][0]), 64); err != nil { // a head
			rows = rows[1:]
			for i, row := range rows {
				rows[i] = row[1:]
			}
		}
	}
	if len(rows) < 3 || len(rows) > wanPeersMax {
		return nil, fmt.Errorf("%s: %d places: want 3 to %d", path, len(rows), wanPeersMax)
	}
	m := make(Matrix, len(rows))
	for i, row := range rows {
		m[i] = make([]float64, len(rows))
		for j, cell := range row {
			if cell = strings.TrimSpace(cell); cell == "" {
				continue
			}
			v, err := strconv.ParseFloat(cell, 64)
			if err != nil || v < 0 || math.IsInf(v, 0) || math.IsNaN(v) || j >= len(rows) {
				return nil, fmt.Errorf("%s: row %d, column %d: %q is no round trip in a square table of %d", path, i+1, j+1, cell, len(rows))
			}
			m[i][j] = v
		}
	}
	m.even()
	return m, nil
}

// even gives both directions of a pair one value.
func (m Matrix) even() {
	for i := range m {
		m[i][i] = 0
		for j := range i {
			v := (m[i][j] + m[j][i]) / 2
			if m[i][j] == 0 || m[j][i] == 0 {
				v = m[i][j] + m[j][i]
			}
			m[i][j], m[j][i] = v, v
		}
	}
}

// WANConfig is one run.
type WANConfig struct {
	Matrix     Matrix
	Probes     int // of others by each peer, before anything is chosen; default 200
	Candidates int // that are measured for a choice; default placement.MeasureProbes
	Seed       uint64
	Progress   func(share float64)
}

// The ways of choosing what is near a peer.
const (
	WANRandom      = "random"
	WANCoordinates = "coordinates" // by them alone
	WANMeasured    = "measured"    // and the best by them are measured, as if none had been before
	WANTold        = "told"        // the product: likewise, and the peer knows whom it probed before
)

// WANChoice is how far the chosen peer was, over the nearest that there is, when for
// each peer another one was chosen.
type WANChoice struct {
	Rule     string  `json:"rule"`
	Median   float64 `json:"median_ms"`
	P90      float64 `json:"p90_ms"`
	Mean     float64 `json:"mean_ms"`
	Nearest  float64 `json:"nearest"`  // per cent of the choices that were the nearest
	Requests float64 `json:"requests"` // for one choice: the question, and probes
}

// WANResult is what came of it.
type WANResult struct {
	Peers       int         `json:"peers"`
	ErrorMedian float64     `json:"error_median"` // of coordinates: relative, over all pairs
	ErrorP90    float64     `json:"error_p90"`
	Choices     []WANChoice `json:"choices"`
}

// wan is peers that have probed each other.
type wan struct {
	Matrix
	rng    *rand.Rand
	peers  []*coords.Coords
	probed []map[int]bool // whom each peer did
	all    *coords.Coords // whoever plans, and knows of all where they are
}

// WAN lets peers that are as far apart as a matrix says probe each other, one after
// another as failure detection does, and then chooses for each the nearest other.
// What is drawn where two coordinates are the same is not from the seed: of big
// matrices the figures of two runs differ by some per cent.
func WAN(ctx context.Context, cfg WANConfig) (WANResult, error) {
	if len(cfg.Matrix) < 3 {
		return WANResult{}, errors.New("a matrix of fewer than three places has nothing to choose")
	}
	if cfg.Probes <= 0 {
		cfg.Probes = 200
	}
	if cfg.Candidates <= 0 {
		cfg.Candidates = placement.MeasureProbes
	}
	w := newWAN(cfg.Matrix, cfg.Seed)
	if err := w.converge(ctx, cfg); err != nil {
		return WANResult{}, err
	}
	res := WANResult{Peers: len(w.peers)}
	res.ErrorMedian, res.ErrorP90 = w.errors()
	for _, rule := range []string{WANRandom, WANCoordinates, WANMeasured, WANTold} {
		c := WANChoice{Rule: rule}
		var over []float64
		asked := 0
		for target := range w.Matrix {
			if err := ctx.Err(); err != nil {
				return res, err
			}
			chosen, requests := w.choose(rule, target, cfg.Candidates)
			if chosen < 0 {
				continue // its distance from nobody is known
			}
			asked += requests
			over = append(over, w.Matrix[target][chosen]-w.nearest(target))
		}
		c.Median, c.P90, c.Mean = quantile(over, 0.5), quantile(over, 0.9), mean(over)
		for _, v := range over {
			if v == 0 {
				c.Nearest += 100 / float64(len(over))
			}
		}
		c.Requests = float64(asked) / float64(max(1, len(over)))
		res.Choices = append(res.Choices, c)
	}
	return res, nil
}

func newWAN(m Matrix, seed uint64) *wan {
	w := &wan{Matrix: m, rng: rand.New(rand.NewPCG(seed, 1)), all: coords.New()}
	for range m {
		w.peers = append(w.peers, coords.New())
		w.probed = append(w.probed, map[int]bool{})
	}
	return w
}

func wanID(i int) string { return fmt.Sprintf("p%04d", i) }

// converge has each peer probe others, in turns of its own, and tells the planner
// where all are in the end.
func (w *wan) converge(ctx context.Context, cfg WANConfig) error {
	turns := make([][]int, len(w.peers))
	for round := range cfg.Probes {
		if err := ctx.Err(); err != nil {
			return err
		}
		for i, peer := range w.peers {
			if len(turns[i]) == 0 {
				turns[i] = w.rng.Perm(len(w.peers))
			}
			other := turns[i][0]
			turns[i] = turns[i][1:]
			rtt := w.Matrix[i][other]
			if rtt <= 0 {
				continue // itself, or no such link was recorded
			}
			peer.Observe(wanID(other), w.peers[other].Own(), duration(rtt))
			w.probed[i][other] = true
		}
		if cfg.Progress != nil {
			cfg.Progress(float64(round) / float64(cfg.Probes))
		}
	}
	for i, peer := range w.peers {
		w.all.Hearsay(wanID(i), peer.Own())
	}
	return nil
}

func duration(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }

// estimate is how far two peers seem, in milliseconds.
func (w *wan) estimate(a, b int) float64 {
	d, _, _ := w.all.Distance(wanID(a), wanID(b))
	return d.Seconds() * 1000
}

// errors is the relative errors of what coordinates tell.
func (w *wan) errors() (median, p90 float64) {
	var all []float64
	for a := range w.Matrix {
		for b := range a {
			if rtt := w.Matrix[a][b]; rtt > 0 {
				all = append(all, math.Abs(w.estimate(a, b)-rtt)/rtt)
			}
		}
	}
	return quantile(all, 0.5), quantile(all, 0.9)
}

// nearest is the round trip to the nearest other peer.
func (w *wan) nearest(target int) float64 {
	best := math.Inf(1)
	for _, rtt := range w.Matrix[target] {
		if rtt > 0 {
			best = min(best, rtt)
		}
	}
	return best
}

// choose chooses one that is near a peer, and counts the requests that it took: -1
// when there is none.
func (w *wan) choose(rule string, target, candidates int) (chosen, requests int) {
	in := w.input(target)
	if len(in.Candidates) == 0 {
		return -1, 0
	}
	if rule == WANRandom {
		return wanIndex(in.Candidates[w.rng.IntN(len(in.Candidates))].Digest.Peer.Peer), 0
	}
	if rule != WANCoordinates {
		requests = w.measure(in, target, candidates, rule == WANTold)
	}
	for id := range placement.Plan(in).Assign { // there is one slot
		return wanIndex(id), requests
	}
	return -1, requests
}

func wanIndex(id placement.PeerID) int {
	n, err := strconv.Atoi(strings.TrimPrefix(string(id), "p"))
	if err != nil {
		panic(err) // it is by wanID
	}
	return n
}

// input is a plan of one slot that is to be near a peer, at any other that is alike
// but for where it is, by what coordinates tell.
func (w *wan) input(target int) placement.PlanInput {
	there := placement.Resources{CPU: 1000, Memory: 1 << 30}
	in := placement.PlanInput{
		App: placement.App{Name: "r", Components: map[string]placement.Component{"c": {
			Server: &placement.Server{Process: &placement.Process{Command: []string{"run"}}},
			Place:  placement.Place{Near: &placement.Near{Site: wanID(target)}},
		}}},
		Component: "c", Slots: placement.FirstSlots(1), Near: map[placement.PeerID]placement.Distance{}, Rand: w.rng,
	}
	for other, rtt := range w.Matrix[target] {
		if rtt <= 0 {
			continue
		}
		id := placement.PeerID(wanID(other))
		in.Candidates = append(in.Candidates, placement.Candidate{Alive: true, RTT: -1, Digest: placement.Digest{
			Peer: placement.PeerRef{Peer: id, Incarnation: 1}, Name: string(id), Site: placement.SiteID(id),
			Drivers: []string{placement.DriverProcess}, Capacity: there, Free: there,
		}})
		in.Near[id] = placement.Distance{RTT: int64(w.estimate(target, other) * 1000)}
	}
	return in
}

// measure has a peer measured how far the candidates are that the plan turns on: those
// that it knows already if it may, and some of the rest.
func (w *wan) measure(in placement.PlanInput, target, probes int, remembers bool) (requests int) {
	requests = 1
	for _, id := range placement.ToMeasure(in) {
		other := wanIndex(id)
		if !remembers || !w.probed[target][other] {
			if requests > probes {
				continue
			}
			requests++
		}
		in.Near[id] = placement.Distance{RTT: duration(w.Matrix[target][other]).Microseconds(), Measured: true}
	}
	return requests
}

func quantile(all []float64, q float64) float64 {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	return sorted[int(q*float64(len(sorted)-1))]
}

func mean(all []float64) float64 {
	sum := 0.0
	for _, v := range all {
		sum += v
	}
	return sum / float64(max(1, len(all)))
}
