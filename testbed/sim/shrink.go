package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// shrinkRunsMax bounds the runs that one shrinking takes: about a minute.
const shrinkRunsMax = 500

// Shrink looks for a smaller plan that fails in the same way: without some of
// the actions, rates and peers, and shorter. It is deterministic. What it found
// is a seed and a plan, since another order of events may need another seed.
func Shrink(seed uint64, plan Plan) (uint64, Plan) {
	s := &shrinker{seed: seed, plan: plan}
	s.why = class(Run(seed, plan, nil))
	if s.why == "" {
		return seed, plan
	}
	for before := -1; s.size() != before && s.runs < shrinkRunsMax; {
		before = s.size()
		s.cutOff()
		s.dropActions()
		s.calm()
		s.fewer()
		s.shorten()
	}
	return s.seed, s.plan
}

// Replay is the command that runs a case with its trace.
func Replay(seed uint64, plan Plan) string {
	text := ""
	if plan.String() != PlanOf(seed).String() {
		text = fmt.Sprintf(" -sim.plan='%s'", plan)
	}
	return fmt.Sprintf("go test ./testbed/sim -run '^TestSim$' -sim.seed=%d%s -v", seed, text)
}

// class is what sort of failure a report tells of first: its words, without
// those that have a number, a name or a time in them; "" when nothing failed.
func class(r Report) string {
	if len(r.Failed) == 0 {
		return ""
	}
	words := slices.DeleteFunc(strings.Fields(r.Failed[0]), func(word string) bool {
		return strings.ContainsAny(word, "0123456789/[")
	})
	return strings.Join(words, " ")
}

// shrinker holds the smallest case so far.
type shrinker struct {
	seed uint64
	plan Plan
	why  string // the class of the failure
	runs int
}

func (s *shrinker) size() int {
	n := len(s.plan.Actions) + s.plan.peers() + int(s.plan.Length/time.Second)
	for _, f := range s.plan.fields() {
		if at, ok := f.at.(*float64); ok && *at > 0 {
			n++
		}
	}
	return n
}

// seedsTried is how many seeds a smaller plan is given to fail under: leaving
// something out shifts all that is random after it.
const seedsTried = 3

// try takes a plan if it fails in the same way.
func (s *shrinker) try(plan Plan) bool {
	for i := range uint64(seedsTried) {
		if s.runs++; s.runs > shrinkRunsMax {
			return false
		}
		if class(Run(s.seed+i, plan, nil)) == s.why {
			s.seed, s.plan = s.seed+i, plan
			return true
		}
	}
	return false
}

// with is the plan with something changed in it.
func (s *shrinker) with(change func(p *Plan)) Plan {
	p := s.plan
	p.Actions = slices.Clone(p.Actions)
	change(&p)
	return p
}

// cutOff drops what comes after the failure.
func (s *shrinker) cutOff() {
	r := Run(s.seed, s.plan, nil)
	s.runs++
	if at := r.Virtual; at < s.plan.Length {
		s.try(s.with(func(p *Plan) {
			p.Length = at.Truncate(time.Millisecond) + time.Millisecond
			p.Actions = slices.DeleteFunc(p.Actions, func(a Action) bool { return a.At > at })
		}))
	}
}

// dropActions leaves out ever smaller parts of the actions (Zeller and
// Hildebrandt: Simplifying and Isolating Failure-Inducing Input, 2002).
func (s *shrinker) dropActions() {
	for part := max(1, len(s.plan.Actions)/2); ; part /= 2 {
		for i := 0; i < len(s.plan.Actions); {
			if !s.try(s.with(func(p *Plan) { p.Actions = slices.Delete(p.Actions, i, min(i+part, len(p.Actions))) })) {
				i += part
			}
		}
		if part <= 1 {
			return
		}
	}
}

// calm turns off rates and conditions one by one.
func (s *shrinker) calm() {
	keep := []string{"sites", "peers", "length", "settle", "rtt", "sync", "mutant", "break"}
	for i, f := range s.plan.fields() {
		if slices.Contains(keep, f.name) {
			continue
		}
		p := s.with(func(p *Plan) {
			switch at := p.fields()[i].at.(type) {
			case *int:
				*at = 0
			case *bool:
				*at = false
			case *float64:
				*at = 0
			case *time.Duration:
				*at = 0
			}
		})
		if p.String() != s.plan.String() {
			s.try(p)
		}
	}
}

// fewer drops peers and sites.
func (s *shrinker) fewer() {
	for s.plan.PeersPerSite > 1 && s.try(s.with(func(p *Plan) { p.PeersPerSite--; p.Late = min(p.Late, p.peers()-1) })) {
	}
	for s.plan.Sites > 1 && s.try(s.with(func(p *Plan) { p.Sites--; p.Late = min(p.Late, max(0, p.peers()-1)) })) {
	}
}

// shorten ends faults, and the run, earlier.
func (s *shrinker) shorten() {
	for i := range s.plan.Actions {
		for s.plan.Actions[i].Lasts > lastsMin && s.try(s.with(func(p *Plan) { p.Actions[i].Lasts = (p.Actions[i].Lasts / 2).Truncate(time.Millisecond) })) {
		}
	}
	for s.plan.Length > time.Second && s.try(s.with(func(p *Plan) {
		p.Length = (p.Length * 3 / 4).Truncate(time.Millisecond)
		p.Actions = slices.DeleteFunc(p.Actions, func(a Action) bool { return a.At > p.Length })
	})) {
	}
}
