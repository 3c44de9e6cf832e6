package placement

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Exclusive says that of each slot at most one copy runs at a time, by leases
// (lease.go). In a manifest it is true, false, or an object with Keepers.
type Exclusive struct {
	On bool `json:"on,omitempty"`
	// Keepers is a label selector of the peers that hold the votes; empty for
	// any.
	Keepers string `json:"keepers,omitempty"`
}

// LeaseDefault is how long a lease lasts, from when it is asked for.
const LeaseDefault = 10 * time.Second

// graceShare is the part of a lease that may be left for stopping its work.
const graceShare = 4

const (
	// exclusiveSlotsMax bounds the slots of an exclusive component: each has a
	// lease of its own at each keeper.
	exclusiveSlotsMax = 1024
	// exclusiveGraceMax is what stop.grace may be: stopping must be over before
	// the lease is.
	exclusiveGraceMax = LeaseDefault / graceShare
)

// MarshalJSON writes true or false, or the object.
func (e Exclusive) MarshalJSON() ([]byte, error) {
	if e.Keepers == "" {
		return json.Marshal(e.On)
	}
	return json.Marshal(struct {
		Keepers string `json:"keepers"`
	}{e.Keepers})
}

// UnmarshalJSON reads true, false, or {keepers: SELECTOR}.
func (e *Exclusive) UnmarshalJSON(data []byte) error {
	*e = Exclusive{}
	if data = bytes.TrimSpace(data); len(data) > 0 && data[0] != '{' {
		if err := json.Unmarshal(data, &e.On); err != nil {
			return fmt.Errorf("%s is not true or false: write true, or an object with keepers", clip(string(data)))
		}
		return nil
	}
	var object struct {
		Keepers *string `json:"keepers"`
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&object); err != nil || object.Keepers == nil || *object.Keepers == "" {
		return fmt.Errorf("an object with keepers alone is wanted: write for instance true, or {keepers: \"tier=core\"}")
	}
	e.On, e.Keepers = true, *object.Keepers
	return nil
}

// exclusive checks what stands beside exclusive.
func (v *validation) exclusive(c Component) {
	if !c.Exclusive.On {
		return
	}
	if _, err := ParseSelector(c.Exclusive.Keepers); err != nil {
		v.bad(".exclusive.keepers", c.Exclusive.Keepers, "not a selector: "+err.Error(), `for instance "tier=core", "region in (eu, us)"`)
	}
	if n := c.Wanted(); n > exclusiveSlotsMax {
		v.bad(".replicas", n, "too many for an exclusive component", fmt.Sprintf("at most %d", exclusiveSlotsMax))
	}
	if v.lenient {
		return
	}
	if g := time.Duration(c.Stop.Grace); g > exclusiveGraceMax {
		v.bad(".stop.grace", g.String(), fmt.Sprintf("an exclusive slot must have stopped before its lease of %s ends", LeaseDefault),
			fmt.Sprintf("at most %s, or leave it out", exclusiveGraceMax))
	}
	if c.Disconnect.StopAfter != 0 {
		v.bad(".disconnect.stop_after", c.Disconnect.StopAfter.String(), "an exclusive slot stops when its lease runs out", "leave it out")
	}
	if c.Disconnect.Reconcile != "" {
		v.bad(".disconnect.reconcile", c.Disconnect.Reconcile, "of an exclusive slot only one copy ever runs, so there is nothing to choose", "leave it out")
	}
}

// oneSelector says that the keepers of an app are one list.
func (v *validation) oneSelector(a App) {
	first, by := "", ""
	for _, name := range a.ComponentNames() {
		switch s := a.Components[name].Exclusive.Keepers; {
		case s == "" || s == first:
		case first == "":
			first, by = s, name
		default:
			v.bad("components."+clip(name)+".exclusive.keepers", s, "an app has one list of keepers, and "+by+" asks for "+first, "write the same for both")
		}
	}
}

// exclusive says whether any component is.
func (a App) exclusive() bool {
	for _, c := range a.Components {
		if c.Exclusive.On {
			return true
		}
	}
	return false
}

// voters selects the keepers of an exclusive app: what a component says, of
// several that differ the first.
func (a App) voters() string {
	for _, name := range a.ComponentNames() {
		if e := a.Components[name].Exclusive; e.On && e.Keepers != "" {
			return e.Keepers
		}
	}
	return ""
}

// minSchema is the oldest schema whose peers may drive the app: one that knows
// of no leases would run exclusive slots twice, one that knows of no volumes
// would part slots from theirs.
func (a App) minSchema() int {
	if a.recorded() {
		return schemaRecorded
	}
	for _, c := range a.Components {
		if len(c.Volumes) > 0 || c.Resources.GPU.Count > 0 || len(c.RunsOn()) > 0 {
			return schemaVolumes
		}
	}
	if a.exclusive() {
		return schemaExclusive
	}
	return 1
}

// minSchema is that of an intent of this peer's release.
func (p *Peer) minSchema(a App) int {
	if p.tune.Future {
		return p.tune.Schema
	}
	return a.minSchema()
}

// farKeepers warns of exclusive components most of whose keepers are where the
// component may not run: a cut between the two stops it.
func (p *Peer) farKeepers(a *app) []string {
	var notes []string
	for _, name := range a.win.intent.App.ComponentNames() {
		c := a.win.intent.App.Components[name]
		where, err := ParseSelector(c.Place.Where)
		if !c.Exclusive.On || c.Place.Where == "" || err != nil {
			continue
		}
		var far []string
		for _, ref := range a.keepers.list.Peers {
			if m := p.members.peers[ref.Peer]; m != nil && m.digest != nil && !where.Matches(m.digest.Labels) {
				far = append(far, string(m.site))
			}
		}
		if len(far) >= a.keepers.list.Majority() {
			notes = append(notes, fmt.Sprintf("%s is exclusive and runs where %s, but its keepers sit at %s: cut off from them it stops; exclusive: {keepers: SELECTOR} chooses others",
				name, c.Place.Where, strings.Join(far, ", ")))
		}
	}
	return notes
}

// noFence is why a host takes no exclusive slot.
func noFence(driver string) string {
	return "driver " + driver + " can't end work at a deadline by itself there, which exclusive slots need"
}
