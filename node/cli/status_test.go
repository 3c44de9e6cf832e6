package cli

import (
	"strings"
	"testing"

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
