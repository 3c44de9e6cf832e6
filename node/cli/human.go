package cli

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
)

// staleMark ends what is only what was last heard.
const staleMark = " (stale)"

// age is how long ago at was: "12s ago". The zero time is "never".
func (s *session) age(at time.Time) string {
	if at.IsZero() {
		return "never"
	}
	d := s.now().Sub(at)
	if d < -time.Second {
		return "in " + span(-d)
	}
	if d < time.Second {
		return "now"
	}
	return span(d) + " ago"
}

// span is a duration in its largest unit.
func span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return strconv.Itoa(int(d/time.Second)) + "s"
	case d < time.Hour:
		return strconv.Itoa(int(d/time.Minute)) + "m"
	case d < 48*time.Hour:
		return strconv.Itoa(int(d/time.Hour)) + "h"
	}
	return strconv.Itoa(int(d/(24*time.Hour))) + "d"
}

// cores is an amount of CPU in cores: "3.5".
func cores(c placement.CPU) string {
	return strconv.FormatFloat(float64(c)/1000, 'f', -1, 64)
}

// rtt is a round trip in milliseconds.
func rtt(millis *float64) string {
	switch {
	case millis == nil:
		return "-"
	case *millis < 10:
		return strconv.FormatFloat(*millis, 'f', 1, 64) + "ms"
	}
	return strconv.FormatFloat(*millis, 'f', 0, 64) + "ms"
}

// size is an amount of bytes.
func size(n int64) string {
	const unit = 1024
	if n < unit {
		return strconv.FormatInt(n, 10) + " B"
	}
	div, exp := int64(unit), 0
	for m := n / unit; m >= unit && exp < 5; m /= unit {
		div *= unit
		exp++
	}
	return fmt.Sprintf("%.1f %ciB", float64(n)/float64(div), "KMGTPE"[exp])
}

// pairs is a map as "a=1,b=2", sorted.
func pairs(m map[string]string) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, k+"="+m[k])
	}
	return strings.Join(parts, ",")
}

// counts is states and how many, "2 running, 1 starting", running first.
func counts(m map[string]int) string {
	keys := slices.SortedFunc(maps.Keys(m), func(a, b string) int {
		if (a == "running") != (b == "running") {
			if a == "running" {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	var parts []string
	for _, k := range keys {
		if m[k] != 0 {
			parts = append(parts, strconv.Itoa(m[k])+" "+k)
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

// peerName is a peer for people: its name, or the start of its id.
func peerName(p api.PeerRef) string { return nameOr(p.Name, p.ID) }

const shortIDLen = 10

func nameOr(name, id string) string {
	switch {
	case name != "":
		return name
	case len(id) > shortIDLen:
		return id[:shortIDLen]
	case id == "":
		return "-"
	}
	return id
}

func peerNames(peers []api.PeerRef) string {
	var names []string
	for _, p := range peers {
		names = append(names, peerName(p))
	}
	if len(names) == 0 {
		return "-"
	}
	return strings.Join(names, ", ")
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// plural is "1 slot" or "2 slots".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if strings.HasSuffix(noun, "y") {
		return strconv.Itoa(n) + " " + strings.TrimSuffix(noun, "y") + "ies"
	}
	return strconv.Itoa(n) + " " + noun + "s"
}
