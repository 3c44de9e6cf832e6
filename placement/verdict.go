package placement

import (
	"fmt"
	"slices"
	"time"
)

// This file is what becomes of a roll-out. What has come of it so far is derived
// from the claims; how long nothing came of it, and the verdict, are recorded at
// the keepers.
//
//	an edit                every slot healthy
//	────────▶ going ─────────────────────────────▶ done
//	           │  ▲ a slot more is healthy
//	  deadline │  └──────────────────────┐
//	           ├─ auto_revert ──▶ reverted: what was done last is wanted again
//	           └─ else ──▶ stalled ──────┘   until the next edit of the component
//
// The intent is not touched: it says what people want, and a roll-out that was
// reverted says why they do not have it. The same app once more tries again.

// RolloutState is how the roll-out of a component stands.
type RolloutState string

// The states of a roll-out.
const (
	RolloutGoing    RolloutState = "going"
	RolloutDone     RolloutState = "done"
	RolloutStalled  RolloutState = "stalled"
	RolloutReverted RolloutState = "reverted"
)

// rollout is the record of the last one of a component.
type rollout struct {
	Spec     uint64       `cbor:"s"` // SpecHash of what is rolled out
	Version  Version      `cbor:"v"` // of the last edit that it was looked at under
	App      uint64       `cbor:"a"` // hash of that
	Began    int64        `cbor:"b"` // Unix milliseconds, to be shown
	Settled  int          `cbor:"n,omitempty"`
	Idle     int64        `cbor:"i,omitempty"` // milliseconds without a slot more, as stewards counted them
	Verdict  RolloutState `cbor:"t"`
	Why      string       `cbor:"w,omitempty"`
	Good     Version      `cbor:"g,omitzero"` // the newest revision with what was done last
	GoodSpec uint64       `cbor:"h,omitempty"`
}

// wants is the component that slots are to run as, and the version that it is
// from when that is not the one that stands: the last one that was done, after a
// roll-out was reverted. How many there are, where they go and what is done about
// them is always as it stands.
func (p *Peer) wants(a *app, name string) (comp Component, spec uint64, from *version) {
	comp, spec = a.win.intent.App.Components[name], a.win.spec(name)
	c := p.pastOf(a)
	if c == nil || len(a.versions) > 1 {
		return comp, spec, nil
	}
	r, ok := c.Rolls[name]
	if !ok || r.Verdict != RolloutReverted || r.Spec != spec {
		return comp, spec, nil
	}
	v, ok := c.intentOf(p.catalog.readIntent, a.uid, r.Good)
	good, has := v.intent.App.Components[name]
	if !ok || !has {
		return comp, spec, nil
	}
	return good.withPolicyOf(comp), r.GoodSpec, &v
}

// runsAs is the intent that a component is to run as.
func (s *Steward) runsAs(name string) *Intent {
	if _, _, from := s.p.wants(s.a, name); from != nil {
		return &from.intent
	}
	return &s.a.win.intent
}

// withPolicyOf is a component with what SpecHash leaves out as another has it.
func (c Component) withPolicyOf(o Component) Component {
	c.Replicas, c.Place, c.Disconnect, c.Update, c.Restart = o.Replicas, o.Place, o.Disconnect, o.Update, o.Restart
	c.Exclusive.Keepers = o.Exclusive.Keepers
	return c
}

// asOf is an intent with one component as an earlier version of the app has it,
// or nil when it has none.
func (i *Intent) asOf(name string, from *Intent) *Intent {
	comp, ok := i.App.Components[name]
	old, had := from.App.Components[name]
	if !ok || !had || from.UID != i.UID || from.Key != i.Key || from.Version.Compare(i.Version) >= 0 {
		return nil
	}
	out := *i
	out.App = i.App.with(name, old.withPolicyOf(comp))
	out.Artifacts = slices.Concat(from.Artifacts, i.Artifacts)
	out.MinSchema = max(i.MinSchema, from.MinSchema)
	return &out
}

// with is an app with one component changed.
func (a App) with(name string, comp Component) App {
	all := make(map[string]Component, len(a.Components))
	for n, c := range a.Components {
		all[n] = c
	}
	all[name] = comp
	a.Components = all
	return a
}

// mayRoll says whether a roll-out of a component may take on slots: of a deputy
// one that its own side began, of a steward one that the keepers have on record
// and that is not over.
func (s *Steward) mayRoll(name string) bool {
	if s.deputy {
		return s.rollsSide() && s.a.win.intent.changed(name).Alone
	}
	r, ok := s.past.Rolls[name]
	if len(s.a.versions) > 1 || !ok || r.Spec != s.a.win.spec(name) || r.Verdict == RolloutStalled || !s.recorded() {
		return false
	}
	_, _, from := s.p.wants(s.a, name)
	return r.Verdict != RolloutReverted || from != nil
}

// watchRollOut brings the record of a component up to what is.
func (s *Steward) watchRollOut(name string, sit *situation) {
	comp, exists := s.a.win.intent.App.Components[name]
	if s.deputy || !exists || len(s.a.versions) > 1 || len(s.past.Past) == 0 || s.past.Past[0].Version != s.a.win.intent.Version {
		return // nobody knows yet whether this version stands
	}
	now := s.p.out.now
	spec, app := s.a.win.spec(name), s.past.Past[0].App
	r, known := s.past.Rolls[name]
	switch again := r.Version != s.a.win.intent.Version && r.App == app; {
	case !known || r.Spec != spec, again && r.Verdict != RolloutDone && r.Verdict != RolloutGoing:
		s.enter(name, rollout{
			Spec: spec, Version: s.a.win.intent.Version, App: app, Began: now.Wall.UnixMilli(), Verdict: RolloutGoing,
			Good: r.Good, GoodSpec: r.GoodSpec,
		})
		delete(s.hopeless, name) // that was the one before
		delete(s.short, name)
	case r.Version != s.a.win.intent.Version:
		r.Version, r.App = s.a.win.intent.Version, app
		s.past.set(name, r) // written with whatever comes next: it is only for telling a retry
	}
	r = s.past.Rolls[name]
	if r.Verdict == RolloutDone || r.Verdict == RolloutReverted {
		return
	}
	s.judge(name, comp, r, s.progressOf(name, spec, sit))
}

// set changes a record here; a copy of it may be on its way.
func (c *chronicle) set(name string, r rollout) {
	c.Rolls = c.clone().Rolls
	c.Rolls[name] = r
}

// enter changes a record that something is built on.
func (s *Steward) enter(name string, r rollout) {
	s.past.set(name, r)
	s.rewrite(true)
	s.wroteIdle = s.p.out.now.Mono
	delete(s.judged, name)
}

// progress is how far a roll-out has come.
type progress struct {
	settled Slots  // healthy for min_healthy, as it says
	left    Slots  // not so, or still held by an older copy
	waits   string // for a peer that is not in reach, and for nothing else
	why     string // of the first that is not healthy
	begun   bool   // some slot is placed
}

func (s *Steward) progressOf(name string, spec uint64, sit *situation) progress {
	pr := progress{}
	wanted := FirstSlots(s.a.win.intent.App.Components[name].Wanted())
	older, away, at := Slots{}, Slots{}, PeerID("")
	for _, f := range sit.claims {
		switch {
		case f.lost:
		case !f.live:
			if away = away.Union(f.Slots); at == "" {
				at = f.peer
			}
			older = older.Union(f.Slots)
		case f.Spec == spec:
			pr.settled = pr.settled.Union(f.settled().Intersect(wanted))
			pr.begun = pr.begun || !f.Slots.IsEmpty()
			if pr.why == "" && f.Why != "" {
				pr.why = fmt.Sprintf("%s, at %s", f.Why, f.peer)
			}
		default:
			older = older.Union(f.Slots)
		}
	}
	pr.left = wanted.Minus(pr.settled).Union(older.Intersect(wanted))
	if !pr.left.IsEmpty() && pr.left.Minus(away).IsEmpty() {
		pr.waits = string(at)
	}
	for _, id := range sortedKeys(s.a.rows) {
		if r := s.a.rows[id]; pr.why == "" && s.failedAt(name, id) && s.p.members.live(id) {
			pr.why = fmt.Sprintf("slots %s: %s, at %s", r.report.Failed[name], r.report.failedWhy(name), id)
		}
	}
	switch {
	case pr.why != "":
	case s.short[name] != "":
		pr.why = s.short[name]
	case !wanted.Minus(pr.settled).IsEmpty():
		pr.why = fmt.Sprintf("slots %s are not healthy", wanted.Minus(pr.settled))
	}
	return pr
}

// judge counts progress and the time without any, and comes to a verdict.
func (s *Steward) judge(name string, comp Component, r rollout, pr progress) {
	now, u := s.p.out.now.Mono, comp.UpdatePolicy()
	last, running := s.judged[name]
	s.judged[name] = now
	switch n := pr.settled.Len(); {
	case pr.left.IsEmpty():
		r.Verdict, r.Why, r.Idle, r.Settled = RolloutDone, "", 0, n
		r.Good, r.GoodSpec = s.a.win.intent.Version, r.Spec
		s.verdict(name, r)
		return
	case n > r.Settled || r.Settled > comp.Wanted():
		r.Settled, r.Idle, r.Why = n, 0, ""
		if r.Verdict == RolloutStalled {
			r.Verdict = RolloutGoing
			s.enter(name, r)
			return
		}
	case pr.waits != "":
		r.Why = "waits for " + pr.waits + ", which is not in reach"
	case running && r.Verdict == RolloutGoing:
		r.Idle += (now - last).Milliseconds()
		r.Why = ""
	}
	if left := u.Deadline - time.Duration(r.Idle)*time.Millisecond; u.Deadline > 0 && left <= 0 && r.Verdict == RolloutGoing {
		s.overdue(name, r, u, pr)
		return
	} else if s.hopeless[name] && !pr.begun && r.Verdict == RolloutGoing {
		s.undone(name, r, u, clip("it failed for good wherever it may run: "+pr.why))
		return
	} else if u.Deadline > 0 && r.Verdict == RolloutGoing {
		s.dueBy(now + left)
	}
	before := s.past.Rolls[name]
	if s.past.set(name, r); now >= s.wroteIdle+s.p.tune.RoundMax && (r.Settled != before.Settled || r.Idle != before.Idle) {
		s.wroteIdle = now // who takes over counts on from about here
		s.rewrite(false)
	}
}

// overdue ends a roll-out that came to nothing for too long.
func (s *Steward) overdue(name string, r rollout, u UpdatePolicy, pr progress) {
	s.undone(name, r, u, clip(fmt.Sprintf("%d of %d slots healthy, and none more in %s: %s", pr.settled.Len(), s.a.win.intent.App.Components[name].Wanted(), u.Deadline, pr.why)))
}

// undone ends a roll-out: what was done last comes back, or it stalls.
func (s *Steward) undone(name string, r rollout, u UpdatePolicy, why string) {
	r.Why, r.Verdict = why, RolloutStalled
	good, kept := s.past.intentOf(s.p.catalog.readIntent, s.a.uid, r.Good)
	// Who votes on leases follows from the version that stands: what is exclusive in
	// one of the two alone is for a person to bring back.
	back := good.intent.App.Components[name].Exclusive.On == s.a.win.intent.App.Components[name].Exclusive.On
	if u.AutoRevert && kept && back && r.GoodSpec != r.Spec {
		r.Verdict = RolloutReverted
		s.p.tune.mark(MarkReverted)
	} else {
		s.p.tune.mark(MarkStalled)
	}
	s.verdict(name, r)
}

// verdict records what became of a roll-out, and tells of it.
func (s *Steward) verdict(name string, r rollout) {
	s.enter(name, r)
	message := "every slot is at the version that is wanted, and healthy"
	if r.Why != "" {
		message = r.Why
	}
	s.p.out.happened(Happened{Type: "rollout-" + string(r.Verdict), UID: s.a.uid, Key: s.a.key, Component: name, Peer: s.p.cfg.Self.Peer, Message: message})
}

// RolloutView is a roll-out as people see it.
type RolloutView struct {
	State    RolloutState
	Why      string
	Version  Version // what is rolled out
	Spec     uint64  // SpecHash of what slots are to run as
	Wanted   int
	Updated  int // slots that have a copy as is wanted
	Settled  int // of them, healthy for min_healthy
	Began    int64
	Left     time.Duration // until the deadline, if nothing comes of it; 0 when it does not run
	Previous Version       // that slots went back to, or would
}

// viewRollOut is how the roll-out of a component stands, or nil where this peer
// has no record of it.
func (p *Peer) viewRollOut(a *app, name string) *RolloutView {
	c := p.pastOf(a)
	if c == nil {
		return nil
	}
	r, ok := c.Rolls[name]
	switch next := a.win.spec(name); {
	case !ok || r.Spec != next && len(a.versions) > 1:
		return nil
	case r.Spec != next: // its steward begins it with its next step: who waits for it is not too early
		r = rollout{Spec: next, Version: a.win.intent.Version, Began: a.win.intent.Version.Millis, Verdict: RolloutGoing, Good: r.Good, GoodSpec: r.GoodSpec}
	}
	comp, spec, _ := p.wants(a, name)
	v := &RolloutView{State: r.Verdict, Why: r.Why, Version: r.Version, Spec: spec, Wanted: comp.Wanted(), Began: r.Began, Previous: r.Good}
	updated, settled, wanted := Slots{}, Slots{}, FirstSlots(comp.Wanted())
	for id, row := range a.rows {
		for _, f := range row.claims() {
			if f.Component == name && f.Spec == spec && p.members.live(id) {
				updated, settled = updated.Union(f.Slots.Intersect(wanted)), settled.Union(f.settled().Intersect(wanted))
			}
		}
	}
	v.Updated, v.Settled = updated.Len(), settled.Len()
	if u := comp.UpdatePolicy(); r.Verdict == RolloutGoing && u.Deadline > 0 {
		v.Left = max(0, u.Deadline-time.Duration(r.Idle)*time.Millisecond)
	}
	return v
}
