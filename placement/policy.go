package placement

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// What Disconnect.Replace can be: which side of a cut places anew what was at
// peers that are lost.
const (
	ReplaceMajority = "majority" // the side that has a majority of the app's keepers
	ReplaceAlways   = "always"   // each side: slots may run on both
	ReplaceNever    = "never"    // nobody: they wait for their peer
)

// What Disconnect.Reconcile can be: which of two copies of a slot stays.
const (
	KeepOriginal    = "keep_original"    // the one that ran first
	KeepReplacement = "keep_replacement" // the one that ran last
	LongestRunning  = "longest_running"  // the one whose run, without a restart, is the longest
	BestScore       = "best_score"       // the one whose place was worth most when it was granted
)

// Replaces and Reconciles are all values of these fields, the usual first.
var (
	Replaces   = []string{ReplaceMajority, ReplaceAlways, ReplaceNever}
	Reconciles = []string{KeepOriginal, KeepReplacement, LongestRunning, BestScore}
)

// Bounds of a disconnect policy.
const (
	disconnectMax = 365 * 24 * time.Hour
	stopAfterMin  = 10 * time.Second // below, a hiccup of the network would stop work
	// lostAfterDisk is how long what has a disk of its own is waited for.
	lostAfterDisk = 5 * time.Minute
)

// OrNever is a duration or, when it is 0, "never".
type OrNever time.Duration

// never is the text of an OrNever of 0.
const never = "never"

// String is Go's form of the duration, without the zeros at its end, or "never".
func (d OrNever) String() string {
	if d == 0 {
		return never
	}
	text := time.Duration(d).String()
	for _, zero := range []string{"0s", "0m"} {
		if short := strings.TrimSuffix(text, zero); short != "" && strings.TrimRight(short, "hm") != short {
			text = short
		}
	}
	return text
}

// MarshalJSON writes the text.
func (d OrNever) MarshalJSON() ([]byte, error) { return json.Marshal(d.String()) }

// UnmarshalJSON reads "10m" or "never"; 0s is neither.
func (d *OrNever) UnmarshalJSON(data []byte) error {
	if string(data) == `"`+never+`"` {
		*d = 0
		return nil
	}
	var v Duration
	if err := v.UnmarshalJSON(data); err != nil {
		return fmt.Errorf("%s is no duration: write for instance \"10m\", or \"never\"", clip(string(data)))
	}
	if v == 0 {
		return fmt.Errorf("%s would stop work at once: write for instance \"10m\", or \"never\"", clip(string(data)))
	}
	*d = OrNever(v)
	return nil
}

// Policy is what is done about a component when a site is cut off, with every
// default filled in.
type Policy struct {
	LostAfter Duration `json:"lost_after"`
	StopAfter OrNever  `json:"stop_after"`
	Replace   string   `json:"replace"`
	Reconcile string   `json:"reconcile"`
}

// Policy is what holds for a component: what its manifest says and, where it
// says nothing, what is usual for its kind.
//
//	                           lost_after  replace   reconcile      stop_after
//	function, container        0s          majority  best_score     never
//	server that is a process   0s          majority  keep_original  never
//	VM with a disk             5m          never     keep_original  never
//	any that has a volume      5m          never     keep_original  never
//	any that is exclusive      0s          majority  keep_original  never
func (c Component) Policy() Policy {
	p := Policy{StopAfter: c.Disconnect.StopAfter, Replace: ReplaceMajority, Reconcile: KeepOriginal}
	switch {
	case len(c.Volumes) > 0, c.Server != nil && c.Server.Process == nil && c.Server.Image != "":
		p.LostAfter, p.Replace = Duration(lostAfterDisk), ReplaceNever
	case c.Function != nil || c.Container != nil:
		p.Reconcile = BestScore
	}
	d := c.Disconnect
	if c.Exclusive.On { // its lease alone decides when it is lost, and which copy runs
		p = Policy{Replace: ReplaceMajority, Reconcile: KeepOriginal}
		d.LostAfter, d.Reconcile = nil, ""
		if d.Replace == ReplaceAlways {
			d.Replace = ""
		}
	}
	if d.LostAfter != nil {
		p.LostAfter = *d.LostAfter
	}
	if slices.Contains(Replaces, d.Replace) { // what only a newer release has is as if left out
		p.Replace = d.Replace
	}
	if slices.Contains(Reconciles, d.Reconcile) {
		p.Reconcile = d.Reconcile
	}
	return p
}

// waits says whether what is lost is not placed anew by the majority at once:
// then it matters which slots a peer had that is not in reach.
func (p Policy) waits() bool { return p.LostAfter > 0 || p.Replace != ReplaceMajority }

// disconnect says what is wrong with a disconnect policy. What only another
// release has is let pass when the check is lenient.
func (v *validation) disconnect(d Disconnect) {
	if d.LostAfter != nil {
		if l := time.Duration(*d.LostAfter); l < 0 || l > disconnectMax {
			v.bad(".disconnect.lost_after", l.String(), "out of range", "0s to a year")
		}
	}
	if s := time.Duration(d.StopAfter); s != 0 && (s < stopAfterMin || s > disconnectMax) {
		v.bad(".disconnect.stop_after", s.String(), "out of range", stopAfterMin.String()+" to a year, or never")
	}
	if v.lenient {
		return
	}
	if d.Replace != "" && !slices.Contains(Replaces, d.Replace) {
		v.bad(".disconnect.replace", d.Replace, "not a policy", "one of "+strings.Join(Replaces, ", "))
	}
	if d.Reconcile != "" && !slices.Contains(Reconciles, d.Reconcile) {
		v.bad(".disconnect.reconcile", d.Reconcile, "not a policy", "one of "+strings.Join(Reconciles, ", "))
	}
}
