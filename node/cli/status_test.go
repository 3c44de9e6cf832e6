package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
)

func TestWriteLeases(t *testing.T) {
	var out strings.Builder
	writeLeases(&out, api.Status{Components: []api.ComponentStatus{
		{Name: "web"},
		{Name: "db", Leases: []api.LeaseStatus{
			{Slot: 0, Holder: &api.PeerRef{ID: "p", Name: "fra-1"}, Number: 7, LeftMS: 8600},
			{Slot: 1, Waits: "held by syd-1 for 3s more"},
		}},
	}})
	const want = `
leases:
  db[0] is fra-1's, number 7, for 9s unless it is renewed
  db[1] waits: held by syd-1 for 3s more
`
	if out.String() != want {
		t.Errorf("%s", out.String())
	}
	out.Reset()
	if writeLeases(&out, api.Status{Components: []api.ComponentStatus{{Name: "web"}}}); out.Len() > 0 {
		t.Errorf("without leases: %q", out.String())
	}
}

// Status says of each slot that does not run why, and ps of which app nothing runs.
func TestStatusSaysWhatDoesNotRun(t *testing.T) {
	term := newTerminal(t)
	term.backend.Crashing = map[string]string{"bad": "exited with code 3"}
	if code := term.run(t.Context(), "app: bad\ncomponents: {x: {server: {process: {command: [x]}}}}\n", "deploy", "-", "--wait=false"); code != 0 {
		t.Fatal(term.err)
	}
	code := term.run(t.Context(), "", "status", "bad")
	if said := term.out.String(); code != 0 || !strings.Contains(said, "what does not run:\n  bad/x[0] is pending at fra-1: exited with code 3\n") {
		t.Errorf("%d %s", code, said)
	}
	if code := term.run(t.Context(), "", "ps", "none"); code != 0 || term.err.String() != "nothing of none runs: hansa status none says why\n" {
		t.Errorf("%d %s", code, term.err)
	}
}

// Why a roll-out came to nothing is long, and stands below the table.
func TestStatusOfAFailedRollOut(t *testing.T) {
	s := &session{getenv: func(string) string { return "" }, now: func() time.Time { return noon }, io: Streams{Out: &bytes.Buffer{}}}
	var b bytes.Buffer
	why := strings.Repeat("the registry does not answer ", 10)
	st := api.Status{App: "a", Components: []api.ComponentStatus{{Name: "x", Rollout: &api.RolloutStatus{State: "stalled", Why: why}}}}
	if err := s.writeStatus(&b, st); err != nil {
		t.Fatal(err)
	}
	table, list, ok := strings.Cut(b.String(), "roll-outs that came to nothing:\n")
	if !ok || !strings.Contains(table, "roll-out: stalled\n") && !strings.Contains(table, "roll-out: stalled ") || strings.Contains(table, "registry") || !strings.Contains(list, "x stalled: the registry") {
		t.Error(b.String())
	}
}
