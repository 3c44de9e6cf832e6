package scale_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/testbed/scale"
)

var (
	sizesFlag  = flag.String("cost.peers", "3", "sizes of the meshes that TestCost measures")
	appsFlag   = flag.Int("cost.apps", 12, "apps that it deploys")
	ratesFlag  = flag.String("cost.changes", "1", "edits a second")
	windowFlag = flag.Duration("cost.window", 10*time.Second, "of virtual time for each figure")
)

// A peer costs something, more with changes than without, and what a mesh of these
// peers costs is said of each of its states. With -v and larger meshes this is where
// the figures of docs/SCALE.md are from: in virtual time bytes do not depend on how
// busy the machine is.
func TestCost(t *testing.T) {
	var rates []float64
	for text := range strings.SplitSeq(*ratesFlag, ",") {
		rate, err := strconv.ParseFloat(text, 64)
		if err != nil {
			t.Fatalf("-cost.changes: %v", err)
		}
		rates = append(rates, rate)
	}
	for text := range strings.SplitSeq(*sizesFlag, ",") {
		peers, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("-cost.peers: %v", err)
		}
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			costs, err := scale.MeasureCost(t.Context(), scale.CostConfig{
				Dir: dir, Peers: peers, Apps: *appsFlag, Changes: rates, Window: *windowFlag, RTTMax: 80 * time.Millisecond, Seed: 1,
				Each: func(c scale.Cost) {
					if line, err := json.Marshal(c); err == nil && testing.Verbose() {
						fmt.Printf("%s\n", line) // at once, and not when all are measured
					}
				},
			})
			time.Sleep(lastProbes) // of virtual time
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range costs {
				if c.Bytes <= 0 || c.BytesMost < c.Bytes || c.Packets <= 0 || c.CPU <= 0 || c.Heap <= 0 {
					t.Errorf("a peer that costs nothing: %+v", c)
				}
			}
			if len(costs) != 2+len(rates) || costs[0].Apps != 0 || costs[1].Apps != *appsFlag || costs[1].Changes != 0 {
				t.Fatalf("%+v", costs)
			}
			for i, rate := range rates {
				if c := costs[2+i]; c.Changes < rate/2 || c.Changes > 1.01*rate || c.Bytes <= costs[1].Bytes {
					t.Errorf("at %v changes a second %+v, idle %+v", rate, c, costs[1])
				}
			}
		})
		os.RemoveAll(dir)
	}
}
