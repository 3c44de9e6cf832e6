package placement

import (
	"cmp"
	"container/heap"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// PlanInput is what Plan decides from.
type PlanInput struct {
	App        App
	Component  string
	Slots      Slots          // to place
	Placed     map[PeerID]int // slots of the component that each peer has already
	Candidates []Candidate
	Near       map[PeerID]Distance // from what Place.Near names, where known
	Refused    map[PeerID]string   // who is not asked, and why
	Travel     map[PeerID]Travel   // bytes that would go to each; nil when that is not known
	Kept       bool                // the slots have their volumes at whom is not refused
	Rand       *rand.Rand          // breaks near-ties; the caller's, so that a seed replays
}

// PlanResult is what Plan decided.
type PlanResult struct {
	Assign     map[PeerID]Slots
	Unplaced   Slots
	Considered []Considered // every candidate, best first
	Outcome    string       // in words
}

// The weights of a score, in points. A wish of the person outweighs what the
// mesh would like. docs/PLACEMENT.md says how they were chosen.
const (
	againPoints  = 25 // off for each slot of the component that a peer has beyond its share, see shareOf
	preferPoints = 1  // for each unit of weight, -100 to 100
	nearPoints   = 60 // for the nearest; half where it is twice as far, and nearHalf
	nearHalf     = 20 * time.Millisecond
	fitPoints    = 20 // for leaving little of the scarcest resource stranded
	pricePoints  = 10 // for the cheapest
	stalePoints  = 5  // off for a digest as old as staleAfter, or older
	staleAfter   = 30 * time.Second

	// tiePoints is what counts as near-equal: of such candidates one is drawn
	// at random, by the room that they have, so that many planners with the
	// same old digests do not all ask the same peer (Mitzenmacher: The Power
	// of Two Choices; Ousterhout et al.: Sparrow).
	tiePoints = 3

	// placesMin is on how many peers a component lies, where there are so many: what
	// one of them takes with it is a sixteenth at most. More would help little, and
	// each costs its keepers, and whoever asks for the app, as much as the first.
	placesMin = 16
)

// Plan spreads slots of a component over candidates. It is a pure function of
// its input: it asks nobody, and what it says may turn out not to fit.
func Plan(in PlanInput) PlanResult {
	p := newPlanner(in)
	p.score()
	res := PlanResult{Assign: map[PeerID]Slots{}, Unplaced: in.Slots, Considered: make([]Considered, 0, len(p.all))}
	p.assign(&res)
	for i := range p.all {
		c := &p.all[i]
		c.view.Taken = res.Assign[c.view.Peer].Len()
		if c.view.Reason == "" {
			c.view.Reason = strings.Join(c.why, ", ")
		}
		res.Considered = append(res.Considered, c.view)
	}
	slices.SortStableFunc(res.Considered, func(a, b Considered) int {
		return cmp.Or(cmp.Compare(b.Taken, a.Taken), cmp.Compare(b.Score, a.Score), cmp.Compare(a.Peer, b.Peer))
	})
	res.Outcome = p.outcome(res)
	return res
}

// scoreOf is the score of a peer in a plan, spread left out, or nil.
func scoreOf(res PlanResult, id PeerID) *float64 {
	for i := range res.Considered {
		if c := &res.Considered[i]; c.Peer == id {
			return &c.Score
		}
	}
	return nil
}

type planner struct {
	in     PlanInput
	need   Component
	slot   Resources // that one slot takes
	where  Selector
	all    []option // as in.Candidates
	groups []group  // by value of the label that is spread over
}

func newPlanner(in PlanInput) *planner {
	p := &planner{in: in, need: in.App.Components[in.Component]}
	p.slot = p.need.Need()
	if in.Kept {
		p.slot = p.need.Takes()
	}
	p.filter()
	return p
}

// option is one candidate.
type option struct {
	view  Considered
	left  int     // slots that still fit
	have  int     // slots of the component that it has
	base  float64 // score without the spread
	group int
	near  Distance
	known bool // near is
	why   []string
	turn  float64 // drawn once a slot, to break near-ties
}

// nearer orders candidates by distance: one that is not known is far.
func (o *option) nearer(than *option) bool {
	if o.known != than.known {
		return o.known
	}
	return cmp.Or(cmp.Compare(o.near.RTT, than.near.RTT), cmp.Compare(o.view.Peer, than.view.Peer)) < 0
}

// eligible is the candidates that could take a slot.
func eligible(in PlanInput) []option {
	p := newPlanner(in)
	return slices.DeleteFunc(p.all, func(o option) bool { return o.view.Reason != "" })
}

// group is the candidates that share a value of the spread label.
type group struct {
	value string
	have  int
	share int // how many slots a candidate takes before the next is as good
	open  optionHeap
}

// filter notes what each candidate lacks.
func (p *planner) filter() {
	where, whereErr := ParseSelector(p.need.Place.Where)
	p.where = where
	byValue := map[string]int{}
	for _, c := range p.in.Candidates {
		o := option{view: Considered{
			Peer: c.Digest.Peer.Peer, Name: c.Digest.Name, Site: c.Digest.Site, Age: c.Age, Fits: p.fits(&c.Digest),
			Travel: p.in.Travel[c.Digest.Peer.Peer].Bytes,
		}}
		o.left = o.view.Fits
		o.near, o.known = p.in.Near[o.view.Peer]
		value := c.Digest.Labels[p.need.Place.Spread]
		if p.need.Place.Spread == "" {
			value = ""
		}
		at, ok := byValue[value]
		if !ok {
			at = len(p.groups)
			byValue[value] = at
			p.groups = append(p.groups, group{value: value})
		}
		o.group = at
		p.groups[at].have += p.in.Placed[o.view.Peer]
		switch {
		case whereErr != nil:
			o.view.Reason = "where can't be read: " + whereErr.Error()
		default:
			o.view.Reason = p.lacks(c, &o)
		}
		p.all = append(p.all, o)
	}
}

// fits is how many slots a digest leaves room for: by its count for the shape,
// where it has one, else by its largest free piece.
func (p *planner) fits(d *Digest) int {
	if len(d.Pools) > 0 {
		n, _ := p.fitsPools(d)
		return min(n, d.Free.Fits(p.slot))
	}
	n := p.fitsPlain(d)
	if p.slot.GPU.Count > 0 {
		n = min(n, gpuSlots(d.GPUs, p.slot.GPU))
	}
	return n
}

// fitsPlain is that without GPUs.
func (p *planner) fitsPlain(d *Digest) int {
	for _, f := range d.Fits {
		if f.Shape == p.slot {
			return min(f.Count, d.Free.Fits(p.slot)) // something may be taken off since
		}
	}
	if d.Hosts > 1 && d.Largest.Fits(p.slot) == 0 {
		return 0
	}
	return d.Free.Fits(p.slot)
}

// lacks is why a candidate cannot take a slot, or "".
func (p *planner) lacks(c Candidate, o *option) string {
	d, need := &c.Digest, p.need
	id := d.Peer.Peer
	switch {
	case !c.Alive:
		return "it does not answer"
	case d.Full != "":
		return "it takes no work: " + d.Full
	case !slices.Contains(d.Drivers, need.Driver()):
		if why := d.Lacks[need.Driver()]; why != "" {
			return fmt.Sprintf("it has no driver %s: %s", need.Driver(), why)
		}
		return fmt.Sprintf("it has no driver %s", need.Driver())
	case need.wrongArch(d.Arch) != "":
		return need.wrongArch(d.Arch)
	case need.Exclusive.On && !slices.Contains(d.Fences, need.Driver()):
		return noFence(need.Driver())
	case len(d.Pools) > 0 && !p.anyPool(d):
		return "none of its hosts is for this: where " + need.Place.Where
	case len(d.Pools) == 0 && !p.where.mayMatch(d, &Pool{}):
		return "where " + need.Place.Where + ": " + labelsFor(need.Place.Where, d.Labels)
	case need.Place.Near != nil && need.Place.Near.RTT > 0 && !o.known:
		return p.nowhere()
	case need.Place.Near != nil && need.Place.Near.RTT > 0 && time.Duration(o.near.RTT)*time.Microsecond > time.Duration(need.Place.Near.RTT):
		return fmt.Sprintf("too far: %.0f ms, %s", float64(o.near.RTT)/1000, o.near.how())
	case p.in.Refused[id] != "":
		return p.in.Refused[id]
	case d.Hosts > 1 && p.fits(d) == 0:
		return "no room on one of its hosts: " + cmp.Or(shortOf(p.slot, d.Largest), "none has what a slot needs free")
	case p.fitsPlain(d) > 0 && p.fits(d) == 0:
		return "no room: " + shortOfGPU(p.slot.GPU, d.GPUs)
	case p.fits(d) == 0:
		return "no room: " + shortOf(p.slot, d.Free)
	}
	return ""
}

// nowhere is why it is not known how far a candidate is.
func (p *planner) nowhere() string {
	near := p.need.Place.Near
	switch {
	case len(p.in.Near) > 0:
		return "how far it is is not known"
	case near.Component != "":
		return "near " + near.Component + ": that is placed nowhere yet"
	}
	return "near " + near.Site + ": no such site is known"
}

// labelsFor shows those labels that a selector speaks of.
func labelsFor(where string, labels map[string]string) string {
	var has []string
	for _, name := range sortedKeys(labels) {
		if strings.Contains(where, name) {
			has = append(has, name+"="+labels[name])
		}
	}
	if len(has) == 0 {
		return "it has no such label"
	}
	return "it has " + strings.Join(has, ", ")
}

// shortOf says which resources there is too little of.
func shortOf(need, free Resources) string {
	var short []string
	if need.CPU > free.CPU {
		short = append(short, fmt.Sprintf("a slot needs %s CPU, %s are free", need.CPU, max(0, free.CPU)))
	}
	if need.Memory > free.Memory {
		short = append(short, fmt.Sprintf("a slot needs %s of memory, %s are free", need.Memory, max(0, free.Memory)))
	}
	if need.Disk > free.Disk {
		short = append(short, fmt.Sprintf("a slot needs %s of disk, %s are free", need.Disk, max(0, free.Disk)))
	}
	return strings.Join(short, "; ")
}

type preference struct {
	text     string
	selector Selector
	weight   int
}

func preferences(c Component) []preference {
	var out []preference
	for _, text := range sortedKeys(c.Place.Prefer) {
		if s, err := ParseSelector(text); err == nil {
			out = append(out, preference{text, s, c.Place.Prefer[text]})
		}
	}
	return out
}

// score gives the candidates that lack nothing their points.
func (p *planner) score() {
	cheapest, nearest := math.Inf(1), math.Inf(1)
	for i, c := range p.in.Candidates {
		cheapest = min(cheapest, c.Digest.Price)
		if o := &p.all[i]; o.view.Reason == "" && o.known {
			nearest = min(nearest, o.near.ms())
		}
	}
	prefer := preferences(p.need)
	for i, c := range p.in.Candidates {
		if o := &p.all[i]; o.view.Reason == "" {
			p.scoreOne(o, c, prefer, cheapest, nearest)
		}
	}
}

// scoreOne is what a candidate is worth for one slot, spread left out.
func (p *planner) scoreOne(o *option, c Candidate, prefer []preference, cheapest, nearest float64) {
	add := func(points float64, why string, args ...any) {
		o.base += points
		if math.Abs(points) >= 1 {
			o.why = append(o.why, fmt.Sprintf("%+.0f ", points)+fmt.Sprintf(why, args...))
		}
	}
	for _, f := range prefer {
		if matchesAny(f.selector, &c.Digest) {
			add(preferPoints*float64(f.weight), "prefer %s", f.text)
		}
	}
	if o.known {
		half := float64(nearHalf.Milliseconds())
		add(nearPoints*(nearest+half)/(o.near.ms()+half), "near, %.0f ms %s", o.near.ms(), o.near.how())
	}
	add(fitPoints*balance(c.Digest, p.slot), "fits well")
	if c.Digest.Price > 0 {
		add(pricePoints*cheapest/c.Digest.Price, "price")
	} else {
		add(pricePoints, "price")
	}
	if t := p.in.Travel[o.view.Peer]; t.cost() > 0 {
		add(-t.cost(), "%s would travel", t)
	}
	if age := time.Duration(c.Age) * time.Millisecond; age > time.Second {
		add(-stalePoints*min(1, age.Seconds()/staleAfter.Seconds()), "known %s ago", age.Round(time.Second))
	}
	o.view.Score = o.base
}

// balance is how evenly the free resources would be used up after a slot: 1
// when CPU and memory are free in the same share, 0 when one is gone and the
// other is not. Uneven rests are what strands capacity.
func balance(d Digest, need Resources) float64 {
	share := func(free, need, capacity int64) float64 {
		if capacity <= 0 {
			return 0
		}
		return max(0, float64(free-need)/float64(capacity))
	}
	cpu := share(int64(d.Free.CPU), int64(need.CPU), int64(d.Capacity.CPU))
	memory := share(int64(d.Free.Memory), int64(need.Memory), int64(d.Capacity.Memory))
	return 1 - math.Abs(cpu-memory)
}

// assign gives the slots out, one at a time: to the group that has least, and
// in it to the best candidate.
func (p *planner) assign(res *PlanResult) {
	for i := range p.all {
		if o := &p.all[i]; o.view.Reason == "" && o.left > 0 {
			p.groups[o.group].open = append(p.groups[o.group].open, o)
		}
	}
	var open groupHeap
	for i := range p.groups {
		if g := &p.groups[i]; len(g.open) > 0 {
			open = append(open, g)
		}
	}
	for _, g := range open {
		g.share = p.shareOf(g, len(open))
		p.draw(g)
	}
	heap.Init(&open)
	taken := map[PeerID][]Slot{}
	for n := range p.in.Slots.All() {
		if len(open) == 0 {
			break
		}
		g := open[0]
		o := g.open[0]
		taken[o.view.Peer] = append(taken[o.view.Peer], n)
		o.left--
		o.have++
		g.have++
		switch {
		case o.left == 0:
			heap.Pop(&g.open)
		case o.have >= g.share:
			o.turn -= againPoints
			heap.Fix(&g.open, 0)
		}
		if len(g.open) == 0 {
			heap.Pop(&open)
		} else {
			heap.Fix(&open, 0)
		}
	}
	placed := Slots{}
	for id, slots := range taken {
		res.Assign[id] = SlotsOf(slots...)
		placed = placed.Union(res.Assign[id])
	}
	res.Unplaced = p.in.Slots.Minus(placed)
}

// shareOf is how many slots a candidate of one of so many groups takes before another
// is as good: so that all lie at placesMin peers or, where there are fewer, at all of
// them, evenly.
func (p *planner) shareOf(g *group, groups int) int {
	all := p.in.Slots.Len()
	for _, n := range p.in.Placed {
		all += n
	}
	places := min(len(g.open), max(1, placesMin/groups))
	return max(1, all/groups/places)
}

// draw puts a group's candidates in order: by score, near-equal ones at
// random, each as likely as it has room. Peers that have slots of the component
// already come later: of a host less the loss is a slot less.
func (p *planner) draw(g *group) {
	for _, o := range g.open {
		// The largest of such draws falls on each with its share of the room
		// (Efraimidis and Spirakis: weighted sampling without replacement).
		luck := math.Pow(p.in.Rand.Float64(), 1/float64(min(o.left, 1<<20)))
		o.have = p.in.Placed[o.view.Peer]
		o.turn = o.base + tiePoints*luck - againPoints*float64(max(0, o.have-g.share+1))
	}
	heap.Init(&g.open)
}

func (p *planner) outcome(res PlanResult) string {
	placed := p.in.Slots.Len() - res.Unplaced.Len()
	if res.Unplaced.IsEmpty() {
		return fmt.Sprintf("%d placed", placed)
	}
	reasons := map[string]int{}
	for _, c := range res.Considered {
		if c.Taken > 0 {
			reasons["no room for more"]++
		} else if c.Reason != "" && c.Fits >= 0 {
			reasons[c.Reason]++
		}
	}
	all := sortedKeys(reasons)
	slices.SortStableFunc(all, func(a, b string) int { return reasons[b] - reasons[a] })
	var why []string
	for _, r := range all[:min(len(all), 3)] {
		why = append(why, fmt.Sprintf("%d × %s", reasons[r], r))
	}
	return fmt.Sprintf("%d placed, no place for %d (%s)", placed, res.Unplaced.Len(), strings.Join(why, "; "))
}

// optionHeap has the best candidate of a group on top.
type optionHeap []*option

func (h optionHeap) Len() int { return len(h) }
func (h optionHeap) Less(i, j int) bool {
	if h[i].turn != h[j].turn {
		return h[i].turn > h[j].turn
	}
	return h[i].view.Peer < h[j].view.Peer
}
func (h optionHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *optionHeap) Push(x any)   { *h = append(*h, x.(*option)) }
func (h *optionHeap) Pop() any {
	old := *h
	o := old[len(old)-1]
	*h = old[:len(old)-1]
	return o
}

// groupHeap has the group with the fewest slots on top; of such the one with
// the best candidate.
type groupHeap []*group

func (h groupHeap) Len() int { return len(h) }
func (h groupHeap) Less(i, j int) bool {
	if h[i].have != h[j].have {
		return h[i].have < h[j].have
	}
	if a, b := h[i].open[0].turn, h[j].open[0].turn; a != b {
		return a > b
	}
	return h[i].value < h[j].value
}
func (h groupHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *groupHeap) Push(x any)   { *h = append(*h, x.(*group)) }
func (h *groupHeap) Pop() any {
	old := *h
	g := old[len(old)-1]
	*h = old[:len(old)-1]
	return g
}
