package sim

import (
	"bufio"
	"bytes"
	_ "embed"
	"strconv"
	"strings"
	"testing"
)

//go:embed testdata/regressions
var regressions []byte

// TestRegressions replays what failed once.
func TestRegressions(t *testing.T) {
	about := ""
	for lines := bufio.NewScanner(bytes.NewReader(regressions)); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if text, comment := strings.CutPrefix(line, "#"); comment || line == "" {
			about = strings.TrimSpace(text)
			continue
		}
		number, text, planned := strings.Cut(line, " ")
		seed, err := strconv.ParseUint(number, 10, 64)
		if err != nil {
			t.Fatalf("%q begins with no seed: %v", line, err)
		}
		plan := PlanOf(seed)
		if planned {
			if plan, err = ParsePlan(text); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
		}
		t.Run(about, func(t *testing.T) {
			r := Run(seed, plan, nil)
			report(t, r)
			if len(r.Failed) > 0 {
				t.Error(Replay(seed, plan))
			}
		})
	}
}
