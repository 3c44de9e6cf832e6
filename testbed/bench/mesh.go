package bench

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

// modelLabel is the label of a peer that names the model of its GPUs.
const modelLabel = "gpu"

// Shape is what a host has.
type Shape struct {
	Capacity placement.Resources
	GPUs     int
	Model    string
}

// Request asks for one slot.
type Request struct {
	Need   placement.Resources
	Models []string // of its GPUs, one of these; any when empty
}

// component is the request as a person would write it.
func (r Request) component() placement.Component {
	c := placement.Component{
		Server:    &placement.Server{Process: &placement.Process{Command: []string{"run"}}},
		Resources: r.Need,
	}
	if len(r.Models) > 0 {
		c.Place.Where = modelLabel + " in (" + strings.Join(r.Models, ",") + ")"
	}
	return c
}

// fits says whether a host as a digest describes it has room for the request. It
// leaves hosts without room out before a plan is made, which would do the same
// and explain it; and it is all that the simple rules go by.
func (r Request) fits(d *placement.Digest) bool {
	if r.Need.CPU > d.Free.CPU || r.Need.Memory > d.Free.Memory || len(r.Models) > 0 && !slices.Contains(r.Models, d.Labels[modelLabel]) {
		return false
	}
	need := r.Need.GPU.Count
	if need <= 0 {
		return true
	}
	if need < wholeGPU {
		return slices.ContainsFunc(d.GPUs, func(g placement.FreeGPU) bool { return g.Free >= need })
	}
	whole := 0
	for _, g := range d.GPUs {
		if g.Free == wholeGPU {
			whole++
		}
	}
	return placement.GPUShare(whole)*wholeGPU >= need
}

const wholeGPU placement.GPUShare = 1000

// host is one peer with its ledger, and what the others know of it. It has one
// host, or in a mesh of pools all of its site.
type host struct {
	book   *placement.Book
	site   int
	pool   bool
	now    placement.Digest
	told   placement.Digest // as gossip has it everywhere by now
	toldAt time.Duration    // when that was so

	fragments   float64 // by fgd.go, of the digest with the sequence
	fragmentsOf uint64
}

// mesh is hosts, and planners that know of them by digests of some age.
type mesh struct {
	hosts    []*host
	at       map[placement.PeerID]int
	age      time.Duration // of what gossip tells
	planners []planner
	queue    []telling
	clock    time.Duration
	asked    int
	typical  []typical
	pools    []*host // by site, in a mesh whose peers have many hosts
	pooled   bool
	shapes   int   // hosts that there are
	rounds   []int // how many requests took how many rounds of asks; 0: none was made
}

// planner is a peer that takes requests. What it was answered itself is newer than
// what gossip says.
type planner struct {
	heard map[int]telling
	rand  *rand.Rand
}

// telling is a digest under way.
type telling struct {
	host   int
	due    time.Duration
	made   time.Duration
	digest placement.Digest
}

// grant is a slot that was granted.
type grant struct {
	host  int
	claim placement.ClaimID
}

func newMesh(planners int, age time.Duration, seed uint64) *mesh {
	m := &mesh{age: age, at: map[placement.PeerID]int{}, rounds: make([]int, roundsMax+1)}
	for i := range planners {
		m.planners = append(m.planners, planner{heard: map[int]telling{}, rand: rand.New(rand.NewPCG(seed, uint64(i)+1))})
	}
	return m
}

// add brings one host more, known everywhere at once.
func (m *mesh) add(s Shape, site int) {
	id := fmt.Sprintf("h%05d", m.shapes)
	m.shapes++
	h := placement.Host{ID: id, Arch: "amd64", Drivers: []string{placement.DriverProcess}, Capacity: s.Capacity, Labels: map[string]string{}}
	for i := range s.GPUs {
		h.GPUs = append(h.GPUs, placement.Device{ID: fmt.Sprintf("g%d", i), Model: s.Model})
	}
	if s.Model != "" {
		h.Labels[modelLabel] = s.Model
	}
	x := m.peerFor(site, h)
	x.now = x.book.Digest()
	x.told, x.toldAt = x.now, m.clock
}

// peerFor is the peer that a new host belongs to: one of its own, or its site's.
func (m *mesh) peerFor(site int, h placement.Host) *host {
	for m.pooled && len(m.pools) <= site {
		m.pools = append(m.pools, nil)
	}
	if m.pooled && m.pools[site] != nil {
		m.pools[site].book.Add(h)
		return m.pools[site]
	}
	id := placement.PeerID(h.ID)
	name := placement.SiteID(fmt.Sprintf("s%03d", site))
	labels := map[string]string{"site": string(name), "peer": string(id)}
	x := &host{book: placement.NewBook(placement.PeerRef{Peer: id, Incarnation: 1}, string(id), name, labels, h), site: site, pool: m.pooled}
	if m.pooled {
		m.pools[site] = x
	}
	m.at[id] = len(m.hosts)
	m.hosts = append(m.hosts, x)
	return x
}

// pass moves the clock, and delivers what gossip has brought by then.
func (m *mesh) pass(to time.Duration) {
	m.clock = max(m.clock, to)
	n := 0
	for n < len(m.queue) && m.queue[n].due <= m.clock {
		t := m.queue[n]
		m.hosts[t.host].told, m.hosts[t.host].toldAt = t.digest, t.made
		n++
	}
	m.queue = slices.Delete(m.queue, 0, n)
}

// changed takes the digest of a host anew, and sends it on its way.
func (m *mesh) changed(n int) telling {
	h := m.hosts[n]
	h.now = h.book.Digest()
	t := telling{host: n, made: m.clock, due: m.clock + m.age, digest: h.now}
	m.queue = append(m.queue, t)
	m.pass(m.clock)
	return t
}

// known is the digest of a host at a planner, and when it was made.
func (m *mesh) known(p *planner, n int) (*placement.Digest, time.Duration) {
	h := m.hosts[n]
	if t, ok := p.heard[n]; ok {
		if cmp.Compare(t.digest.Sequence, h.told.Sequence) > 0 {
			return &t.digest, t.made
		}
		delete(p.heard, n)
	}
	return &h.told, h.toldAt
}

// roundsMax bounds the rounds of one request.
const roundsMax = 8

// place plans a request at a planner and asks, until it is granted, nothing is left
// to ask, or the rounds are used up.
func (m *mesh) place(at int, r Request) (grant, bool) {
	p := &m.planners[at]
	app := placement.App{Name: "r", Components: map[string]placement.Component{"c": r.component()}}
	refused := map[placement.PeerID]string{}
	m.asked++
	uid := placement.UID(fmt.Sprintf("u%d", m.asked))
	for round := range roundsMax {
		var near []placement.Candidate
		for n := range m.hosts {
			if d, made := m.known(p, n); m.hosts[n].pool || r.fits(d) {
				near = append(near, placement.Candidate{Digest: *d, Age: (m.clock - made).Milliseconds(), RTT: -1, Alive: true})
			}
		}
		res := placement.Plan(placement.PlanInput{
			App: app, Component: "c", Slots: placement.FirstSlots(1), Candidates: near, Refused: refused, Rand: p.rand,
		})
		for id, slots := range res.Assign { // one at most
			n := m.at[id]
			claim, granted, why := m.hosts[n].book.Ask(uid, app, "c", slots)
			p.heard[n] = m.changed(n)
			if !granted.IsEmpty() {
				m.rounds[round+1]++
				return grant{n, claim}, true
			}
			refused[id] = why
		}
		if len(res.Assign) == 0 {
			break
		}
	}
	m.rounds[0]++
	return grant{}, false
}

// give asks one host, as the simple rules choose it.
func (m *mesh) give(n int, r Request) (grant, bool) {
	m.asked++
	app := placement.App{Name: "r", Components: map[string]placement.Component{"c": r.component()}}
	claim, granted, _ := m.hosts[n].book.Ask(placement.UID(fmt.Sprintf("u%d", m.asked)), app, "c", placement.FirstSlots(1))
	m.changed(n)
	return grant{n, claim}, !granted.IsEmpty()
}

// free ends a slot.
func (m *mesh) free(g grant) {
	m.hosts[g.host].book.Free(g.claim)
	m.changed(g.host)
}

// Rule is how a host is chosen.
type Rule string

// The rules: the product's own plan, and those that it is held against, which
// see all hosts as they are.
const (
	RuleHansa    Rule = "hansa"
	RuleFirstFit Rule = "first-fit"
	RuleBestFit  Rule = "best-fit"
	RuleFGD      Rule = "fgd"
)

// ParseRule reads the name of one.
func ParseRule(name string) (Rule, error) {
	all := []Rule{RuleHansa, RuleFirstFit, RuleBestFit, RuleFGD}
	if slices.Contains(all, Rule(name)) {
		return Rule(name), nil
	}
	return "", fmt.Errorf("%q is no rule: want one of %s", name, all)
}

// choose places a request by a rule.
func (m *mesh) choose(by Rule, at int, r Request) (grant, bool) {
	switch by {
	case RuleHansa:
		return m.place(at, r)
	case RuleFGD:
		return m.descent(r)
	}
	best, least := -1, 0.0
	for n, h := range m.hosts {
		if !r.fits(&h.now) {
			continue
		}
		if by == RuleFirstFit {
			return m.give(n, r)
		}
		if left := leftover(&h.now, r); best < 0 || left < least {
			best, least = n, left
		}
	}
	if best < 0 {
		return grant{}, false
	}
	return m.give(best, r)
}

// leftover is the sum of the shares of each resource that would be left.
func leftover(d *placement.Digest, r Request) float64 {
	sum := float64(d.Free.CPU-r.Need.CPU)/float64(max(1, d.Capacity.CPU)) +
		float64(d.Free.Memory-r.Need.Memory)/float64(max(1, d.Capacity.Memory))
	if len(d.GPUs) > 0 {
		free := -r.Need.GPU.Count
		for _, g := range d.GPUs {
			free += g.Free
		}
		sum += float64(free) / float64(len(d.GPUs)*int(wholeGPU))
	}
	return sum
}
