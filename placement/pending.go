package placement

import (
	"maps"
	"slices"
	"strings"
)

// unplaced is slots of a component that are wanted and have no place, as their
// steward saw in its last round.
type unplaced struct {
	slots Slots
	since int64 // Unix milliseconds
}

// PendingView is slots of a component that have no place yet, and why.
type PendingView struct {
	UID       UID
	Key       AppKey
	Component string
	Kind      string
	Driver    string
	Slots     string
	Since     int64 // Unix milliseconds
	Reason    string
	Version   Version
}

// noteUnplaced notes which slots have no place in this round.
func (s *Steward) noteUnplaced(name string, slots Slots) {
	old, was := s.unplaced[name]
	switch {
	case slots.IsEmpty():
		delete(s.unplaced, name)
	case was:
		s.unplaced[name] = unplaced{slots, old.since}
	default:
		s.unplaced[name] = unplaced{slots, s.p.out.now.Wall.UnixMilli()}
	}
}

// Pending is the slots that have no place, of the apps that this peer drives,
// sorted by app and component.
func (p *Peer) Pending() []PendingView {
	var out []PendingView
	for _, uid := range p.uids() {
		a := p.apps[uid]
		s, win := a.steward, &a.win.intent
		if s == nil || win.Removed {
			continue
		}
		for _, name := range sortedKeys(s.unplaced) {
			comp, ok := win.App.Components[name]
			if !ok {
				continue
			}
			u := s.unplaced[name]
			out = append(out, PendingView{
				UID: uid, Key: a.key, Component: name, Kind: comp.Kind(), Driver: comp.Driver(), Slots: u.slots.String(),
				Since: u.since, Reason: s.whyUnplaced(name), Version: win.Version,
			})
		}
	}
	return out
}

// whyUnplaced is why slots of a component have no place, in words.
func (s *Steward) whyUnplaced(name string) string {
	if why := s.short[name]; why != "" {
		return why
	}
	asked := map[string]bool{}
	for _, o := range s.asks {
		if o.component == name && o.m.Replaces == nil {
			asked[s.p.nameOf(o.to)] = true
		}
	}
	if len(asked) == 0 {
		return "it is to be placed in the next round"
	}
	return "asked for room: " + strings.Join(slices.Sorted(maps.Keys(asked)), ", ")
}
