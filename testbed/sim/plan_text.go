package sim

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

// field is one part of a plan as its text has it: "loss=0.05".
type field struct {
	name string
	at   any // pointer to int, bool, float64, string, time.Duration or placement.Fault
}

// fields are all parts of a plan but its actions and delays.
func (p *Plan) fields() []field {
	return []field{
		{"sites", &p.Sites}, {"peers", &p.PeersPerSite}, {"length", &p.Length}, {"settle", &p.Settle}, {"rtt", &p.RTT}, {"sync", &p.Sync},
		{"loss", &p.Loss}, {"double", &p.Double}, {"slow", &p.Slow}, {"replay", &p.Replay}, {"slowdisk", &p.SlowDisk}, {"workcrash", &p.WorkCrash},
		{"latetables", &p.LateTables}, {"batch", &p.Batch}, {"tight", &p.Tight}, {"ahead", &p.Ahead}, {"drift", &p.Drift}, {"old", &p.Old}, {"late", &p.Late},
		{"exclusive", &p.Exclusive}, {"policies", &p.Policies}, {"volumes", &p.Volumes}, {"archs", &p.Archs}, {"hosts", &p.Hosts}, {"gpus", &p.GPUs}, {"images", &p.Images}, {"pins", &p.Pins}, {"near", &p.Near},
		{"mutant", &p.Mutant}, {"reserve", &p.Tune.Reserve}, {"break", &p.Tune.Break},
	}
}

// String is the plan in one line: its fields that are not zero, and after each
// ";" an action, as "at what peer other lasts n".
func (p Plan) String() string {
	var out strings.Builder
	for _, f := range p.fields() {
		text := ""
		switch at := f.at.(type) {
		case *int:
			text = strconv.Itoa(*at)
		case *bool:
			text = strconv.FormatBool(*at)
		case *float64:
			text = strconv.FormatFloat(*at, 'g', -1, 64)
		case *time.Duration:
			text = at.String()
		case *string:
			text = *at
		case *placement.Fault:
			text = string(*at)
		}
		if text != "0" && text != "false" && text != "0s" && text != "" {
			fmt.Fprintf(&out, "%s=%s ", f.name, text)
		}
	}
	for _, a := range p.Actions {
		fmt.Fprintf(&out, "; %s %s %d %d %s %d", a.At, a.Do, a.Peer, a.Other, a.Lasts, a.N)
	}
	return out.String()
}

// ParsePlan reads what String wrote.
func ParsePlan(text string) (Plan, error) {
	p := Plan{Tune: tune()}
	parts := strings.Split(text, ";")
	for _, word := range strings.Fields(parts[0]) {
		name, value, _ := strings.Cut(word, "=")
		if err := p.set(name, value); err != nil {
			return p, fmt.Errorf("plan: %s: %w", word, err)
		}
	}
	for _, part := range parts[1:] {
		a, err := parseAction(strings.Fields(part))
		if err != nil {
			return p, fmt.Errorf("plan: %q: %w", strings.TrimSpace(part), err)
		}
		p.Actions = append(p.Actions, a)
	}
	if p.Sites < 1 || p.PeersPerSite < 1 || p.Sync <= 0 || p.Late >= p.peers() {
		return p, fmt.Errorf("plan: %d sites of %d peers, %d of them late, that sync every %s: it needs one of each", p.Sites, p.PeersPerSite, p.Late, p.Sync)
	}
	return p, nil
}

func (p *Plan) set(name, value string) (err error) {
	for _, f := range p.fields() {
		if f.name != name {
			continue
		}
		switch at := f.at.(type) {
		case *int:
			*at, err = strconv.Atoi(value)
		case *bool:
			*at, err = strconv.ParseBool(value)
		case *float64:
			*at, err = strconv.ParseFloat(value, 64)
		case *time.Duration:
			*at, err = time.ParseDuration(value)
		case *string:
			*at = value
		case *placement.Fault:
			*at = placement.Fault(value)
		}
		return err
	}
	return fmt.Errorf("there is no such field")
}

func parseAction(words []string) (a Action, err error) {
	if len(words) != 6 {
		return a, fmt.Errorf("%d words, 6 are wanted: at what peer other lasts n", len(words))
	}
	a.Do = words[1]
	if a.At, err = time.ParseDuration(words[0]); err != nil {
		return a, err
	}
	if a.Peer, err = strconv.Atoi(words[2]); err != nil {
		return a, err
	}
	if a.Other, err = strconv.Atoi(words[3]); err != nil {
		return a, err
	}
	if a.Lasts, err = time.ParseDuration(words[4]); err != nil {
		return a, err
	}
	if a.N, err = strconv.ParseUint(words[5], 10, 64); err != nil {
		return a, err
	}
	if a.Peer < 0 || a.Other < 0 {
		return a, fmt.Errorf("a peer below 0")
	}
	return a, nil
}
