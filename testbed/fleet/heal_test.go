package fleet_test

import (
	"encoding/json"
	"flag"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/testbed/fleet"
)

var healFlag = flag.String("heal", "3,10", "sizes of the meshes that TestHeal measures")

// A mesh that was cut in halves, each of which placed anew what it lost and took
// apps of its own, settles when it is healed.
func TestHeal(t *testing.T) {
	for text := range strings.SplitSeq(*healFlag, ",") {
		peers, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("-heal %q: %v", *healFlag, err)
		}
		if peers > 3 && testing.Short() {
			t.Skip("many peers for minutes of virtual time; not with -short")
		}
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			figure, err := fleet.MeasureHeal(t.Context(), fleet.Config{
				Dir: dir, Peers: peers, RTTMax: 80 * time.Millisecond, Seed: 1,
				Capacity: placement.Resources{CPU: 4000, Memory: 4 << 30, Disk: 4 << 30},
			})
			time.Sleep(lastProbes)
			if err != nil {
				t.Fatal(err)
			}
			text, err := json.Marshal(figure)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("in virtual time: %s", text)
		})
	}
}
