package placement

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// decisionsMax bounds the decisions remembered of one component.
const decisionsMax = 16

// consideredMax is how many candidates, the best, are remembered of a decision
// that is not the last.
const consideredMax = 32

// decisions remembers the last decisions, for explain.
type decisions struct {
	byApp map[UID]map[string][]Decision
}

func newDecisions() decisions { return decisions{byApp: map[UID]map[string][]Decision{}} }

func (d *decisions) add(x Decision) {
	if d.byApp[x.UID] == nil {
		d.byApp[x.UID] = map[string][]Decision{}
	}
	list := d.byApp[x.UID][x.Component]
	x.Since, x.Times = x.At, 1
	if at := lastOf(list, x.Slots); at >= 0 && list[at].same(&x) { // tried again, to no other end
		x.Since, x.Times = list[at].Since, list[at].Times+1
		list = slices.Delete(slices.Clone(list), at, at+1)
	}
	if n := len(list); n > 0 {
		old := &list[n-1].Considered
		*old = slices.Clone((*old)[:min(len(*old), consideredMax)])
	}
	list = append(list, x)
	if len(list) > decisionsMax {
		list = slices.Clone(list[len(list)-decisionsMax:])
	}
	d.byApp[x.UID][x.Component] = list
}

// lastOf is where the last decision about exactly these slots is, or -1.
func lastOf(list []Decision, slots string) int {
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].Slots == slots {
			return i
		}
	}
	return -1
}

// same says whether two decisions about the same slots differ in their time only.
func (d *Decision) same(o *Decision) bool {
	return d.Version == o.Version && d.Term == o.Term && d.Reason == o.Reason && d.Outcome == o.Outcome && maps.Equal(d.Taken, o.Taken)
}

func (d *decisions) forget(uid UID) { delete(d.byApp, uid) }

// Decisions is the last decisions about a component (or with "" about all
// components) of an app that this peer made, oldest first.
func (p *Peer) Decisions(key AppKey, component string) []Decision {
	a := p.find(key)
	if a == nil {
		return nil
	}
	var out []Decision
	for _, name := range sortedKeys(p.decisions.byApp[a.uid]) {
		if component == "" || component == name {
			out = append(out, p.decisions.byApp[a.uid][name]...)
		}
	}
	return out
}

// Apps is every app as this peer knows it, sorted by name. Names of images and
// policies are none: see Images and Policy.
func (p *Peer) Apps() []AppView {
	var out []AppView
	for _, uid := range p.uids() {
		if a := p.apps[uid]; !a.key.Recorded() {
			out = append(out, p.view(a))
		}
	}
	slices.SortStableFunc(out, func(a, b AppView) int {
		return strings.Compare(a.Intent.Key.String(), b.Intent.Key.String())
	})
	return out
}

// App is one app by its name.
func (p *Peer) App(key AppKey) (AppView, bool) {
	a := p.find(key)
	if a == nil || key.Recorded() {
		return AppView{}, false
	}
	return p.view(a), true
}

// Standing is what stands under a name, of whatever kind: see Recorded.
func (p *Peer) Standing(key AppKey) (AppView, bool) {
	a := p.find(key)
	if a == nil {
		return AppView{}, false
	}
	return p.view(a), true
}

// Conflicts are the names, of apps and of images, for which a person has to
// choose between versions, sorted.
func (p *Peer) Conflicts() []AppView {
	var out []AppView
	for key := range p.conflicts {
		if a := p.find(key); a != nil && p.conflict(a) {
			out = append(out, p.view(a))
		}
	}
	slices.SortFunc(out, func(a, b AppView) int {
		return strings.Compare(a.Intent.Key.String(), b.Intent.Key.String())
	})
	return out
}

func (p *Peer) view(a *app) AppView {
	v := AppView{
		Intent: a.win.intent, ETag: p.etag(a.key), Conflict: p.conflict(a),
		Keepers: a.keepers.list.ids(), Next: a.next.list.ids(), Epoch: a.keepers.list.Epoch, Term: p.knownTerm(a), Steward: p.leader(a),
	}
	if s := a.steward; s != nil {
		v.Steward, v.Deputy, v.Open = p.cfg.Self.Peer, s.deputy, slices.Clone(s.open)
		v.Term = s.term
	}
	for _, name := range a.win.intent.App.ComponentNames() {
		v.Components = append(v.Components, p.viewComponent(a, name))
	}
	return v
}

// conflict says whether more than one thing stands under an app's name.
func (p *Peer) conflict(a *app) bool {
	if a.key.Recorded() {
		return p.differs(a.key)
	}
	n := 0
	for uid := range p.byKey[a.key] {
		if o := p.apps[uid]; !o.win.intent.Removed {
			n += len(o.versions)
		}
	}
	return n > 1 || len(a.versions) > 1
}

// viewComponent counts a component's slots: from the reports that keepers and
// stewards get, and elsewhere from the summaries.
func (p *Peer) viewComponent(a *app, name string) ComponentView {
	comp := a.win.intent.App.Components[name]
	pol := comp.Policy()
	v := ComponentView{Name: name, Kind: comp.Kind(), Wanted: comp.Wanted(), States: map[AllocState]int{}, Policy: pol}
	placed, double := Slots{}, Slots{}
	known := p.keeper.records[a.uid] != nil || a.steward != nil
	v.Leases = p.viewLeases(a, name)
	v.Rollout = p.viewRollOut(a, name)
	sums := p.catalog.status[a.uid]
	peers := map[PeerID]bool{}
	for id := range sums {
		peers[id] = true
	}
	for id := range a.rows {
		peers[id] = true
	}
	has, here := map[PeerID]Slots{}, Slots{}
	for _, id := range sortedKeys(peers) {
		m := p.members.peers[id]
		row := SiteCount{Peer: id, States: map[AllocState]int{}, Cut: !p.members.live(id), Next: p.outlook(a, pol, id)}
		if m != nil {
			row.Site = m.site
		}
		if sum, ok := sums[id]; ok {
			row.Site, row.AsOf = sum.Site, sum.AsOf
			for _, c := range sum.Counts {
				if c.Component == name {
					row.States[c.State] += c.N
				}
			}
			has[id] = sum.Slots[name]
		}
		if r := a.rows[id]; r != nil && known && !p.silent(a, id, r) {
			row.AsOf = p.out.now.Wall.Add(r.at - p.out.now.Mono).UnixMilli()
			if id == p.cfg.Self.Peer {
				row.AsOf = p.out.now.Wall.UnixMilli()
			}
			row.States = map[AllocState]int{}
			slots := Slots{}
			for _, c := range r.claims() {
				if c.Component != name {
					continue
				}
				count(row.States, AllocRunning, c.Running.Len())
				count(row.States, AllocUnhealthy, c.Unhealthy.Intersect(c.Slots).Minus(c.Running).Len())
				count(row.States, AllocStarting, c.Slots.Minus(c.Running).Minus(c.Unhealthy).Len())
				count(row.States, AllocStopping, c.Stopping.Len())
				slots = slots.Union(c.Slots)
				if !row.Cut {
					double = double.Union(placed.Intersect(c.Slots))
					placed = placed.Union(c.Slots)
				}
			}
			has[id] = slots
		}
		row.Slots = has[id].String()
		if len(row.States) == 0 {
			continue
		}
		if !row.Cut {
			here = here.Union(has[id])
		}
		v.Sites = append(v.Sites, row)
	}
	wanted := FirstSlots(comp.Wanted())
	v.Sites = slices.DeleteFunc(v.Sites, func(row SiteCount) bool { // what never comes back is told of until it is replaced
		return p.members.forgotten(row.Peer) && has[row.Peer].Intersect(wanted).Minus(here).IsEmpty()
	})
	for _, row := range v.Sites {
		for state, n := range row.States {
			if row.Cut {
				state = AllocLost
			}
			v.States[state] += n
		}
	}
	if known {
		v.Missing, v.Double = wanted.Minus(placed).String(), double.String()
	}
	return v
}

// silent says whether a holder has not said for long what it has, as one that holds
// nothing any more does: its last word may have been lost, and only who drives the app
// asks for it. What it tells everyone counts then.
func (p *Peer) silent(a *app, id PeerID, r *row) bool {
	return a.steward == nil && p.members.live(id) && p.out.now.Mono-r.at > 2*p.tune.ReportEvery
}

func count(m map[AllocState]int, state AllocState, n int) {
	if n > 0 {
		m[state] += n
	}
}

// Allocations is what this peer holds, sorted by id.
func (p *Peer) Allocations() []AllocationView {
	var out []AllocationView
	for _, a := range p.work.sorted() {
		c := a.claim
		out = append(out, AllocationView{
			ID: a.id, UID: c.UID, Key: c.Key, Component: c.Component, Kind: c.Spec.Kind(), Site: p.cfg.Site,
			Peer: p.cfg.Self.Peer, Host: p.ledger.book(c.hostOf(a.id.Slot)).ID, State: a.state, Since: a.since, Restarts: a.restarts, Version: c.Version, Fence: p.fenceOf(a.id),
			Made: a.made, Last: a.last,
		})
	}
	return out
}

// RunningFunction is a function that answers calls at this peer.
type RunningFunction struct {
	Key       AppKey
	Component string
	ID        AllocationID
}

// FunctionsMoved says whether functions began or ceased to answer calls here
// since it was asked last.
func (p *Peer) FunctionsMoved() bool {
	moved := p.work.callsMoved
	p.work.callsMoved = false
	return moved
}

// Functions are those that answer calls here, sorted by id.
func (p *Peer) Functions() []RunningFunction {
	as := slices.Collect(maps.Values(p.work.calls))
	sortAllocs(as)
	out := make([]RunningFunction, len(as))
	for i, a := range as {
		out[i] = RunningFunction{a.claim.Key, a.claim.Component, a.id}
	}
	return out
}

// PlanFor says what a deploy of an app would do, with what this peer knows.
// artifacts are those of the app whose sizes the caller knows.
func (p *Peer) PlanFor(now Now, app App, artifacts ...Artifact) PlanView {
	p.out.now = now
	p.ownDigest(now)
	var view PlanView
	have := p.find(app.Key())
	names := map[string]bool{}
	for name := range app.Components {
		names[name] = true
	}
	candidates := p.members.candidates(now.Mono)
	planned := map[string]map[PeerID]bool{} // where each component would be
	intent, coming := p.sized(app, artifacts, have), map[PeerID]map[string]bool{}
	for _, name := range app.placingOrder(names) {
		comp := app.Components[name]
		kept, placed := p.kept(have, name, comp)
		in := PlanInput{
			App: app, Component: name, Slots: FirstSlots(comp.Wanted()).Minus(kept), Placed: placed,
			Candidates: candidates, Refused: map[PeerID]string{}, Rand: p.rng,
		}
		p.barSecrets(app.Key().Namespace, comp, candidates, in.Refused)
		if near := comp.Place.Near; near != nil {
			in.Near = p.nearTimes(near, planned[near.Component])
			asks, _ := p.toMeasure(in, p.there(near, planned[near.Component]))
			view.Measure = append(view.Measure, asks...)
		}
		in.Travel = p.travels(intent, comp, candidates, coming)
		planned[name] = map[PeerID]bool{}
		for id := range placed {
			planned[name][id] = true
		}
		res, why := p.planParts(have, in)
		d := Decision{
			Key: app.Key(), Component: name, At: now.Wall.UnixMilli(), Slots: in.Slots.String(), Reason: "plan only" + why + nearText(in),
			Considered: res.Considered, Outcome: res.Outcome, Taken: map[PeerID]string{},
			Travel: travelled(in, res.Assign),
		}
		p.load(coming, intent, comp, candidates, res.Assign)
		for id, s := range res.Assign {
			d.Taken[id] = s.String()
			planned[name][id] = true
		}
		view.Components = append(view.Components, PlannedComponent{
			Component: name, Wanted: comp.Wanted(), Placed: comp.Wanted() - res.Unplaced.Len(), Decision: d,
		})
	}
	slices.SortFunc(view.Components, func(a, b PlannedComponent) int { return cmp.Compare(a.Component, b.Component) })
	return view
}

// kept is the slots of a component that stay where they are, and how many of
// them are where.
func (p *Peer) kept(have *app, name string, comp Component) (Slots, map[PeerID]int) {
	kept, placed := Slots{}, map[PeerID]int{}
	if have == nil {
		return kept, placed
	}
	for id, r := range have.rows {
		for _, c := range r.claims() {
			if c.Component == name && c.Spec == SpecHash(comp) && p.members.live(id) {
				kept = kept.Union(c.Slots)
				placed[id] += c.Slots.Len()
			}
		}
	}
	return kept, placed
}

// take takes what was planned off the candidates, for what is planned next.
func take(candidates []Candidate, comp Component, need Resources, assign map[PeerID]Slots) {
	taker := takerOf(comp, need)
	for i := range candidates {
		d := &candidates[i].Digest
		n := assign[d.Peer.Peer].Len()
		d.GPUs = takeGPUs(d.GPUs, need.GPU, n)
		taker.takeOff(d, n)
	}
}

// Open is what is missing, extra or unanswered in all that this peer drives,
// in words; empty when it has settled.
func (p *Peer) Open() []string {
	var out []string
	for _, uid := range p.uids() {
		if s := p.apps[uid].steward; s != nil {
			if s.phase != phaseActing {
				out = append(out, fmt.Sprintf("%s: %s", s.a.key, s.phase))
			}
			out = append(out, s.open...)
		}
	}
	for _, id := range sortedKeys(p.edits.open) {
		out = append(out, fmt.Sprintf("%s: an edit waits for its answer", p.edits.open[id].req.key))
	}
	for _, c := range p.ledger.sorted() {
		if c.State != claimActive {
			out = append(out, fmt.Sprintf("%s: a claim of slots %s is %s", c.Key, c.holds(), c.State))
		}
	}
	return out
}

// Digest is this peer's summary of what it could still take.
func (p *Peer) Digest() Digest {
	d := p.digest()
	if b := p.digestBasis(); b != p.digestTold {
		p.digestTold = b
		p.digestSeq++
	}
	d.Sequence = p.digestSequence()
	return d
}

const (
	// digestChanges is how many digests of one start have sequences of their own.
	digestChanges = 1 << 24
	// digestEra is above the sequences of releases that took them from the clock.
	digestEra = 1 << 62
)

// digestSequence rises with each digest that differs, from start to start too,
// and whatever is done to this machine's clock meanwhile: who has a later one
// takes no earlier one.
func (p *Peer) digestSequence() uint64 {
	c := &p.counters
	start := c.boot
	if start == 0 {
		start = c.next // above all that were on disk before; the start will be above that
	}
	return digestEra + start*digestChanges + min(p.digestSeq, digestChanges-1)
}

// DigestChanged says whether the digest differs from the one last taken.
func (p *Peer) DigestChanged() bool { return p.digestBasis() != p.digestTold }

// digestBasis is all that a digest follows from.
type digestBasis struct {
	used   Resources
	gpus   uint64 // hash, or of many hosts how often something moved
	slots  int
	hosts  uint64 // how often they changed
	listed int
	ready  bool
}

func (p *Peer) digestBasis() digestBasis {
	l := p.ledger
	gpus := l.moves
	if !l.many() {
		gpus = fnvOf(l.ownHost().gpus)
	}
	return digestBasis{l.used, gpus, l.slots, l.changes, len(l.listed), p.counters.boot != 0}
}

// commonShapes are the slots that a digest counts room for.
var commonShapes = []Resources{
	{CPU: 100, Memory: 64 << 20}, {CPU: 250, Memory: 256 << 20}, {CPU: 1000, Memory: 1 << 30}, {CPU: 4000, Memory: 8 << 30},
}

func (p *Peer) digest() Digest {
	l := p.ledger
	d := Digest{
		Peer: p.cfg.Self, Name: p.cfg.Name, Site: p.cfg.Site, Labels: map[string]string{}, Lat: p.cfg.Lat, Lon: p.cfg.Lon,
		Price: p.cfg.Price, Slots: l.slots, Version: p.cfg.Version,
	}
	for k, v := range p.cfg.Labels {
		d.Labels[k] = v
	}
	full := ""
	if l.many() {
		l.describe(&d)
		full = l.full()
	} else {
		full = l.describeOwn(&d)
	}
	switch {
	case l.knownHosts == 0:
		d.Full = "the host is not known yet"
	case p.left:
		d.Full = "this peer was shut out"
	case full != "":
		d.Full = full
	case l.unbooked() != "":
		d.Full = l.unbooked()
	case p.counters.boot == 0:
		d.Full = "the disk has not answered yet"
	}
	return d
}

// describeOwn says in a digest what the only host has, and why it takes no work.
func (l *Ledger) describeOwn(d *Digest) (full string) {
	own := l.ownHost()
	free := positive(own.free())
	d.Capacity, d.Free, d.Largest, d.GPUs = own.Capacity, free, free, boundedGPUs(own.freeGPUs())
	for k, v := range own.Labels {
		d.Labels[k] = v
	}
	if own.Arch != "" {
		d.Arch = []string{own.Arch}
	}
	for _, driver := range own.Drivers {
		if l.listed[driver] {
			d.Drivers = append(d.Drivers, driver)
			if slices.Contains(own.Fences, driver) {
				d.Fences = append(d.Fences, driver)
			}
		}
	}
	d.Lacks = shortLacks(own.Lacks)
	for _, s := range commonShapes {
		d.Fits = append(d.Fits, ShapeFit{Shape: s, Count: free.Fits(s)})
	}
	if own.Cordoned {
		return "the host is cordoned"
	}
	return own.Full
}

// ownDigest enters this peer among the candidates.
func (p *Peer) ownDigest(now Now) {
	d := p.digest()
	m := p.members.get(p.cfg.Self.Peer)
	m.digest, m.digestAt, m.charged, m.chargedGPUs, m.charges, m.rtt = &d, now.Mono, Resources{}, nil, nil, 0
}

// Dump writes the state in full, sorted: what /debug/state shows and golden
// files hold.
func (p *Peer) Dump(w io.Writer) {
	fmt.Fprintf(w, "peer %s/%d site %s used %s CPU %s memory slots %d\n",
		p.cfg.Self.Peer, p.cfg.Self.Incarnation, p.cfg.Site, p.ledger.used.CPU, p.ledger.used.Memory, p.ledger.slots)
	for _, id := range sortedKeys(p.members.peers) {
		m := p.members.peers[id]
		fmt.Fprintf(w, "member %s site %s %s\n", id, m.site, m.state)
	}
	for _, uid := range p.uids() {
		a := p.apps[uid]
		fmt.Fprintf(w, "app %s uid %s etag %s removed %t versions %d keepers %v term %d\n",
			a.key, uid, etag(a.versions), a.win.intent.Removed, len(a.versions), a.keeperIDs(), p.knownTerm(a).Number)
		for _, v := range a.versions {
			fmt.Fprintf(w, "  stands %s alone %t removed %t listed %t over %v\n",
				v.intent.Version, v.intent.Alone, v.intent.Removed, p.lists(uid, v.intent.Version), v.intent.Over)
		}
		if s := a.steward; s != nil {
			fmt.Fprintf(w, "  steward %s term %d deputy %t holders %v asks %v\n", s.phase, s.term.Number, s.deputy, s.holders, sortedKeys(s.asks))
			for _, o := range s.open {
				fmt.Fprintf(w, "  open %s\n", o)
			}
		}
		if c := p.pastOf(a); c != nil {
			for _, name := range sortedKeys(c.Rolls) {
				r := c.Rolls[name]
				fmt.Fprintf(w, "  roll-out %s %s settled %d idle %dms %s\n", name, r.Verdict, r.Settled, r.Idle, r.Why)
			}
		}
		for _, id := range sortedKeys(a.rows) {
			for _, c := range a.rows[id].claims() {
				fmt.Fprintf(w, "  row %s %s %s slots %s running %s fresh %s stopping %s\n", id, c.Component, c.ID, c.Slots, c.Running, c.Fresh, c.Stopping)
			}
		}
	}
	for _, c := range p.ledger.sorted() {
		fmt.Fprintf(w, "claim %s %s %s/%s %s slots %s stopping %s held %t\n", c.ID, c.State, c.Key, c.Component, c.Version, c.Slots, c.Stopping, c.held)
	}
	for _, a := range p.work.sorted() {
		fmt.Fprintf(w, "alloc %s %s restarts %d %s\n", a.id, a.state.State, a.restarts, a.state.Reason)
	}
	p.dumpLeases(w)
}
