package bench

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/testbed/usage"
)

// The ways in which what sites have spreads.
const (
	OneTier  = "one" // every peer knows the digest of every other
	TwoTiers = "two" // of other regions a peer knows folds
)

// RegionsConfig is one run: one peer at each site.
type RegionsConfig struct {
	Tiers    string
	Regions  int           // default 100
	Sites    int           // of each region; default 100
	Cores    int           // of each site; default 10,000
	Near     time.Duration // age of digests within a region; default 1 s
	Far      time.Duration // and between regions; default 10 s
	Every    time.Duration // a fold is made once in that time; default 5 s
	Rate     float64       // requests a second, anywhere; default 10
	Most     int           // requests after which it ends; default when one finds no room
	Seed     uint64
	Progress func(share float64)
}

func (c RegionsConfig) filled() (RegionsConfig, error) {
	for _, f := range []struct {
		v        *int
		def, max int
		name     string
	}{{&c.Regions, 100, 1000, "regions"}, {&c.Sites, 100, 1000, "sites"}, {&c.Cores, 10_000, 1_000_000, "cores"}, {&c.Most, math.MaxInt32, math.MaxInt32, "requests"}} {
		if *f.v == 0 {
			*f.v = f.def
		}
		if *f.v < 1 || *f.v > f.max {
			return c, fmt.Errorf("%s %d: 1 to %d", f.name, *f.v, f.max)
		}
	}
	for _, f := range []struct {
		v   *time.Duration
		def time.Duration
	}{{&c.Near, time.Second}, {&c.Far, 10 * time.Second}, {&c.Every, 5 * time.Second}} {
		if *f.v == 0 {
			*f.v = f.def
		}
	}
	if c.Rate == 0 {
		c.Rate = 10
	}
	if c.Regions*c.Sites > 20_000 || c.Near < 0 || c.Far < c.Near || c.Every <= 0 || !(c.Rate > 0) || c.Tiers != OneTier && c.Tiers != TwoTiers {
		return c, fmt.Errorf("regions: at most 20000 sites, ages and a rate above 0, tiers %q or %q", OneTier, TwoTiers)
	}
	return c, nil
}

// RegionsResult is what came of it, until the first request for which there was no
// room.
type RegionsResult struct {
	Tiers    string  `json:"tiers"`
	Regions  int     `json:"regions"`
	Sites    int     `json:"sites"` // of all regions
	Cores    float64 `json:"cores"` // likewise
	Requests int     `json:"requests"`
	Slots    int     `json:"slots"` // that were granted
	Full     float64 `json:"full"`  // per cent of the cores granted in the end
	NoRoom   bool    `json:"no_room"`

	AtOnce float64 `json:"at_once"`     // per cent of the requests of which no peer refused a slot
	Mean   float64 `json:"rounds_mean"` // of asks, for one request
	Rounds int     `json:"rounds_most"`
	Relays float64 `json:"relays"` // asked for one request
	Asks   int     `json:"asks"`
	Misses int     `json:"misses"` // asks of which slots were refused

	Half Even `json:"half"` // when half of the cores were granted
	End  Even `json:"end"`

	PlanOne float64 `json:"plan_one_ms"` // CPU to plan a request of one slot
	PlanAll float64 `json:"plan_all_ms"` // and any

	Changes     float64   `json:"changes_per_second"` // of digests, in the whole mesh
	DigestBytes int       `json:"digest_bytes"`
	FoldBytes   int       `json:"fold_bytes"`
	Gossip      float64   `json:"gossip_bytes_per_second"` // sent by a peer to spread them, reckoned
	Knowledge   float64   `json:"knowledge_bytes"`         // of a peer's memory, for what it knows of the others
	Used        []float64 `json:"used"`                    // per cent of the cores of sites, from the least in hundredths of the sites
}

// Even is the share of their cores that sites have granted, in per cent.
type Even struct {
	Mean float64 `json:"mean"`
	Dev  float64 `json:"deviation"`
	Min  float64 `json:"min"`
	Max  float64 `json:"max"`
}

// regionSite is a peer with its ledger, and what is known of it near and far.
type regionSite struct {
	book      *placement.Book
	near, far telling
}

// regions is one run.
type regions struct {
	cfg    RegionsConfig
	sites  []*regionSite // region by region
	at     map[placement.PeerID]int
	clock  time.Duration
	toNear []telling // in the order in which they were made
	toFar  []telling
	folds  []placement.RegionDigest // as known elsewhere, with when they were made
	foldAt []time.Duration
	toFold []foldTelling
	folded time.Duration // when the last were made
	rand   *rand.Rand
	res    RegionsResult
	got    float64 // milli-CPU granted
	cpu    [2]time.Duration
	plans  [2]int
	wanted int // requests that were made without a refusal
}

type foldTelling struct {
	region int
	due    time.Duration
	made   time.Duration
	fold   placement.RegionDigest
}

// Regions lets requests come to sites of many regions until one finds no room,
// planned with one tier of gossip or with two, and asked of real ledgers.
func Regions(ctx context.Context, cfg RegionsConfig) (RegionsResult, error) {
	cfg, err := cfg.filled()
	if err != nil {
		return RegionsResult{}, err
	}
	m := newRegions(cfg)
	total := m.res.Cores * 1000
	for n := 0; n < cfg.Most && !m.res.NoRoom; n++ {
		if err := ctx.Err(); err != nil {
			return m.res, err
		}
		m.pass(time.Duration(float64(n) / cfg.Rate * float64(time.Second)))
		m.request(n)
		if m.res.Half == (Even{}) && m.got >= total/2 {
			m.res.Half = even(m.used())
		}
		if cfg.Progress != nil {
			cfg.Progress(m.got / total)
		}
	}
	m.finish(total)
	return m.res, nil
}

func newRegions(cfg RegionsConfig) *regions {
	m := &regions{cfg: cfg, at: map[placement.PeerID]int{}, rand: rand.New(rand.NewPCG(cfg.Seed, 1)), folded: -cfg.Every}
	host := placement.Host{Arch: "amd64", Drivers: []string{placement.DriverProcess}, Capacity: placement.Resources{
		CPU: placement.CPU(cfg.Cores) * 1000, Memory: placement.Bytes(cfg.Cores) * coreMemory,
	}}
	for n := range cfg.Regions * cfg.Sites {
		id := placement.PeerID(fmt.Sprintf("p%05d", n))
		host.ID = string(id)
		site := placement.SiteID(fmt.Sprintf("s%05d", n))
		labels := map[string]string{"site": string(site), "region": regionName(n / cfg.Sites)}
		s := &regionSite{book: placement.NewBook(placement.PeerRef{Peer: id, Incarnation: 1}, string(id), site, labels, host)}
		s.near = telling{host: n, digest: s.book.Digest()}
		s.far = s.near
		m.sites = append(m.sites, s)
		m.at[id] = n
	}
	m.res = RegionsResult{Tiers: cfg.Tiers, Regions: cfg.Regions, Sites: len(m.sites), Cores: float64(cfg.Cores) * float64(len(m.sites))}
	for r := range cfg.Regions {
		m.folds, m.foldAt = append(m.folds, m.fold(r)), append(m.foldAt, 0)
	}
	return m
}

func regionName(r int) string { return fmt.Sprintf("r%03d", r) }

// What requests ask for: so many slots of so many cores, with so much memory for each
// core. A site has coreMemory for each.
const coreMemory = 4 << 30

var (
	regionReplicas = []int{1, 10, 100, 1000}
	regionCores    = []int{32, 128, 512}
	regionMemory   = []placement.Bytes{2 << 30, 4 << 30, 6 << 30}
)

// pass moves the clock, delivers what has spread by then, and folds.
func (m *regions) pass(to time.Duration) {
	m.clock = to
	deliver := func(queue *[]telling, age time.Duration, set func(*regionSite, telling)) {
		n := 0
		for n < len(*queue) && (*queue)[n].made+age <= m.clock {
			set(m.sites[(*queue)[n].host], (*queue)[n])
			n++
		}
		*queue = slices.Delete(*queue, 0, n)
	}
	deliver(&m.toNear, m.cfg.Near, func(s *regionSite, t telling) { s.near = t })
	if m.cfg.Tiers == OneTier {
		deliver(&m.toFar, m.cfg.Far, func(s *regionSite, t telling) { s.far = t })
		return
	}
	n := 0
	for n < len(m.toFold) && m.toFold[n].due <= m.clock {
		t := m.toFold[n]
		m.folds[t.region], m.foldAt[t.region] = t.fold, t.made
		n++
	}
	m.toFold = slices.Delete(m.toFold, 0, n)
	if m.clock-m.folded < m.cfg.Every {
		return
	}
	m.folded = m.clock
	for r := range m.cfg.Regions {
		m.toFold = append(m.toFold, foldTelling{region: r, made: m.clock, due: m.clock + m.cfg.Far - m.cfg.Near, fold: m.fold(r)})
	}
}

// known is a region's peers as those of the region know them.
func (m *regions) known(r int) []placement.Candidate {
	out := make([]placement.Candidate, 0, m.cfg.Sites)
	for _, s := range m.sites[r*m.cfg.Sites : (r+1)*m.cfg.Sites] {
		out = append(out, m.candidate(s.near, m.cfg.Near))
	}
	return out
}

// candidate is a site as it was so long ago: what did not change since is no older.
func (m *regions) candidate(t telling, age time.Duration) placement.Candidate {
	return placement.Candidate{Digest: t.digest, Age: min(m.clock-t.made, age).Milliseconds(), RTT: -1, Alive: true}
}

func (m *regions) fold(r int) placement.RegionDigest {
	return placement.FoldDigests(regionName(r), m.known(r))
}

// regionRounds bounds the rounds of asks of one request, in one region if there are two
// tiers. A steward has no such bound: it backs off, and tries again.
const regionRounds = 64

// attempt is one request on its way.
type attempt struct {
	uid     placement.UID
	in      placement.PlanInput
	home    int // region
	left    placement.Slots
	heard   map[int]telling // what came back with answers
	rounds  int
	relays  int
	refused bool
	cpu     time.Duration
}

// request makes one and places it.
func (m *regions) request(n int) {
	replicas := regionReplicas[m.rand.IntN(len(regionReplicas))]
	cores := regionCores[m.rand.IntN(len(regionCores))]
	memory := regionMemory[m.rand.IntN(len(regionMemory))]
	component := Request{Need: placement.Resources{CPU: placement.CPU(cores) * 1000, Memory: placement.Bytes(cores) * memory}}.component()
	component.Replicas = &replicas
	a := &attempt{
		uid: placement.UID(fmt.Sprintf("u%d", n)), home: m.rand.IntN(m.cfg.Regions), heard: map[int]telling{}, left: placement.FirstSlots(replicas),
		in: placement.PlanInput{
			App: placement.App{Name: "r", Components: map[string]placement.Component{"c": component}}, Component: "c",
			Placed: map[placement.PeerID]int{}, Refused: map[placement.PeerID]string{}, Rand: m.rand,
		},
	}
	if m.cfg.Tiers == OneTier {
		m.placeFlat(a)
	} else {
		m.placeFolded(a)
	}
	m.res.Requests++
	m.res.Slots += replicas - a.left.Len()
	m.got += float64(replicas-a.left.Len()) * float64(component.Resources.CPU)
	m.res.NoRoom = !a.left.IsEmpty()
	m.res.Rounds = max(m.res.Rounds, a.rounds)
	m.res.Mean += float64(a.rounds)
	m.res.Relays += float64(a.relays)
	if !a.refused {
		m.wanted++
	}
	m.cpu[1] += a.cpu
	m.plans[1]++
	if replicas == 1 {
		m.cpu[0] += a.cpu
		m.plans[0]++
	}
}

// placeFlat plans over all sites, of which it knows those of its region better.
func (m *regions) placeFlat(a *attempt) {
	for range regionRounds {
		began := usage.CPU()
		a.in.Candidates = make([]placement.Candidate, 0, len(m.sites))
		for n, s := range m.sites {
			t, age := s.far, m.cfg.Far
			if n/m.cfg.Sites == a.home {
				t, age = s.near, m.cfg.Near
			}
			a.in.Candidates = append(a.in.Candidates, m.candidate(a.newer(n, t), age))
		}
		a.in.Slots = a.left
		res := placement.Plan(a.in)
		a.cpu += usage.CPU() - began
		if len(res.Assign) == 0 || m.ask(a, res.Assign) {
			return
		}
	}
}

// newer is what is known of a site: what came back from it, or what has spread.
func (a *attempt) newer(n int, t telling) telling {
	if h, ok := a.heard[n]; ok && h.digest.Sequence > t.digest.Sequence {
		return h
	}
	return t
}

// ask asks peers for their slots, and says whether all are granted now. What came
// back is known to the next plan.
func (m *regions) ask(a *attempt, assign map[placement.PeerID]placement.Slots) (done bool) {
	a.rounds++
	ids := make([]placement.PeerID, 0, len(assign))
	for id := range assign {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		n := m.at[id]
		s := m.sites[n]
		_, granted, why := s.book.Ask(a.uid, a.in.App, "c", assign[id])
		m.res.Asks++
		if granted.Len() < assign[id].Len() {
			m.res.Misses++
			a.refused = true
			a.in.Refused[id] = why
		}
		a.in.Placed[id] += granted.Len()
		a.left = a.left.Minus(granted)
		t := telling{host: n, made: m.clock, digest: s.book.Digest()}
		a.heard[n] = t
		m.toNear = append(m.toNear, t)
		if m.cfg.Tiers == OneTier {
			m.toFar = append(m.toFar, t)
		}
		m.res.Changes++
	}
	return a.left.IsEmpty()
}

// placeFolded chooses regions by their folds, and has a relay of each plan over its
// sites.
func (m *regions) placeFolded(a *attempt) {
	over := a.in // the plan over regions; its maps name regions
	over.Placed, over.Refused = map[placement.PeerID]int{}, map[placement.PeerID]string{}
	for range regionRounds * m.cfg.Regions {
		began := usage.CPU()
		var all []placement.RegionCandidate
		for r, fold := range m.folds {
			age := m.clock - m.foldAt[r]
			if r == a.home {
				fold, age = m.fold(r), 0
			}
			all = append(all, placement.RegionCandidate{Digest: fold, Age: age.Milliseconds(), RTT: -1, Alive: true})
		}
		over.Slots = a.left
		plan := placement.PlanRegions(over, all)
		a.cpu += usage.CPU() - began
		if len(plan.Assign) == 0 && len(plan.May) > 0 {
			plan.Assign = map[string]placement.Slots{plan.May[0]: a.left}
		}
		if len(plan.Assign) == 0 {
			return
		}
		before, most := a.rounds, 0
		for r := range m.cfg.Regions {
			name := regionName(r)
			slots, ok := plan.Assign[name]
			if !ok {
				continue
			}
			a.relays++
			a.rounds = before // regions are asked at once
			left := m.placeInside(a, r, slots)
			most = max(most, a.rounds)
			over.Placed[placement.PeerID(name)] += slots.Len() - left
			if left > 0 {
				over.Refused[placement.PeerID(name)] = "no room for more"
			}
		}
		a.rounds = most
		if a.left.IsEmpty() {
			return
		}
	}
}

// placeInside is what a relay does with slots: it plans over the sites of its region.
// It returns how many of them found no room.
func (m *regions) placeInside(a *attempt, r int, slots placement.Slots) (left int) {
	all := a.left
	defer func() { a.left = all.Minus(slots).Union(a.left) }()
	a.left = slots
	for range regionRounds {
		began := usage.CPU()
		a.in.Candidates = m.known(r)
		for i := range a.in.Candidates {
			n := r*m.cfg.Sites + i
			a.in.Candidates[i] = m.candidate(a.newer(n, m.sites[n].near), m.cfg.Near)
		}
		a.in.Slots = a.left
		res := placement.Plan(a.in)
		a.cpu += usage.CPU() - began
		if len(res.Assign) == 0 || m.ask(a, res.Assign) {
			break
		}
	}
	return a.left.Len()
}

// used is the share of its cores that each site has granted, in per cent.
func (m *regions) used() []float64 {
	var out []float64
	for _, s := range m.sites {
		d := s.book.Digest()
		out = append(out, 100*float64(d.Capacity.CPU-d.Free.CPU)/float64(d.Capacity.CPU))
	}
	return out
}

func even(used []float64) Even {
	e := Even{Mean: mean(used), Min: slices.Min(used), Max: slices.Max(used)}
	for _, v := range used {
		e.Dev += (v - e.Mean) * (v - e.Mean) / float64(len(used))
	}
	e.Dev = math.Sqrt(e.Dev)
	return e
}

// finish makes means of the sums, and reckons what spreading takes.
func (m *regions) finish(total float64) {
	r := &m.res
	used := m.used()
	r.Full, r.End = 100*m.got/total, even(used)
	for q := range 101 {
		r.Used = append(r.Used, quantile(used, float64(q)/100))
	}
	n := float64(max(1, r.Requests))
	r.AtOnce, r.Relays, r.Mean = 100*float64(m.wanted)/n, r.Relays/n, r.Mean/n
	ms := func(i int) float64 { return 1000 * m.cpu[i].Seconds() / float64(max(1, m.plans[i])) }
	r.PlanOne, r.PlanAll = ms(0), ms(1)
	r.Changes /= max(m.clock.Seconds(), 1)
	r.DigestBytes = len(placement.Encode(m.sites[0].near.digest))
	r.FoldBytes = len(placement.Encode(m.fold(0)))
	if m.cfg.Tiers == OneTier {
		r.Gossip = r.Changes * spreadBytes(r.Sites, r.DigestBytes)
		r.Knowledge = known(m.sites, len(m.sites), nil)
		return
	}
	folds := float64(r.Regions) / m.cfg.Every.Seconds()
	r.Gossip = r.Changes/float64(r.Regions)*spreadBytes(m.cfg.Sites, r.DigestBytes) + folds*spreadBytes(m.cfg.Sites, r.FoldBytes)
	r.Knowledge = known(m.sites, m.cfg.Sites, m.folds)
}
