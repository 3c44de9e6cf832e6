package health

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

// Each step is a second: "." a success, "x" a failure. After each comes the state.
func TestTracker(t *testing.T) {
	h := placement.Health{StartPeriod: placement.Duration(3 * time.Second), Threshold: 2}
	for _, c := range []struct {
		name    string
		trusted bool
		checks  string
		want    string // S starting, H healthy, U unhealthy, O over
	}{
		{"works at once", false, ".", "H"},
		{"failures of the start period do not count", false, "xx.", "SSH"},
		{"after it they do", false, "xxxxx", "SSSUU"},
		{"the first success ends it", false, "x.xx", "SHHU"},
		{"one success heals", false, ".xx.xx", "HHUHHU"},
		{"a success between failures", false, ".x.x.x", "HHHHHH"},
		{"as many again", false, ".xxxx", "HHUUO"},
		{"it never worked", false, "xxxxxx", "SSSUUO"},
		{"healed in between", false, ".xxx.xxxx", "HHUUHHUUO"},
		{"what ran before is trusted", true, "xx", "HU"},
	} {
		t.Run(c.name, func(t *testing.T) {
			began := time.Unix(1_800_000_000, 0)
			tracker := NewTracker(h, began, c.trusted)
			got := ""
			for i, check := range c.checks {
				var failure error
				if check == 'x' {
					failure = errors.New("status 500")
				}
				state := tracker.Take(began.Add(time.Duration(i+1)*time.Second), failure)
				got += strings.ToUpper(string(state)[:1])
				if reason := tracker.Reason(); (state == Healthy) != (reason == "") {
					t.Errorf("check %d: %s, %q", i, state, reason)
				}
			}
			if got != c.want {
				t.Errorf("%s: %s, want %s", c.checks, got, c.want)
			}
		})
	}
}
