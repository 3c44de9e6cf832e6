package placement

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/labels"
)

// selectorMax bounds a label selector.
const selectorMax = 1024

// Selector is a condition on labels, in the syntax of Kubernetes: "tier=edge",
// "tier!=core", "gpu", "!gpu", "region in (eu, us)", "region notin (ap)", and
// any of these with commas between, which must all hold.
type Selector struct{ s labels.Selector }

// ParseSelector reads a selector; an empty one selects everything.
func ParseSelector(text string) (Selector, error) {
	if len(text) > selectorMax {
		return Selector{}, fmt.Errorf("a selector of %d bytes: at most %d", len(text), selectorMax)
	}
	s, err := labels.Parse(text)
	if err != nil {
		return Selector{}, err
	}
	return Selector{s}, nil
}

// Matches says whether the condition holds for a set of labels.
func (s Selector) Matches(set map[string]string) bool {
	return s.s == nil || s.s.Matches(labels.Set(set))
}

// matchesOver says whether the condition holds for labels over those of others.
func (s Selector) matchesOver(own, others map[string]string) bool {
	return s.s == nil || s.s.Matches(overlaid{own, others})
}

// overlaid is labels, and those of others whose names are not among them.
type overlaid struct{ own, others labels.Set }

func (o overlaid) Has(label string) bool   { return o.own.Has(label) || o.others.Has(label) }
func (o overlaid) Get(label string) string { value, _ := o.Lookup(label); return value }

func (o overlaid) Lookup(label string) (string, bool) {
	if value, ok := o.own[label]; ok {
		return value, true
	}
	value, ok := o.others[label]
	return value, ok
}

// names says whether the condition is about one of these labels.
func (s Selector) names(label ...string) bool {
	return s.speaksOf(func(of string) bool { return slices.Contains(label, of) })
}

// speaksOf says whether the condition is about a label for which of holds.
func (s Selector) speaksOf(of func(label string) bool) bool {
	if s.s == nil {
		return false
	}
	all, _ := s.s.Requirements()
	return slices.ContainsFunc(all, func(r labels.Requirement) bool { return of(r.Key()) })
}

// without is the condition but for what it says of labels for which of holds.
func (s Selector) without(of func(label string) bool) Selector {
	if !s.speaksOf(of) {
		return s
	}
	all, _ := s.s.Requirements()
	left := labels.NewSelector()
	for _, r := range all {
		if !of(r.Key()) {
			left = left.Add(r)
		}
	}
	return Selector{left}
}
