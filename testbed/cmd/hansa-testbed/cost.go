package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hansa-mesh/hansa/testbed/fleet"
	"github.com/hansa-mesh/hansa/testbed/plot"
	"github.com/hansa-mesh/hansa/testbed/scale"
)

// costModels are what the costs of a peer follow.
type costModels struct {
	Without int         `json:"without_peers,omitempty"` // the size that was left out, and is foretold
	Bytes   scale.Model `json:"bytes_per_second"`
	CPU     scale.Model `json:"cores"`
	Heap    scale.Model `json:"heap_bytes"`
}

func costCommand() *cobra.Command {
	var cfg scale.CostConfig
	var sizes []int
	var format, drawing, read string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "cost",
		Short: "What a peer takes as peers, apps and changes grow, and a model of it",
		Long: `Starts meshes of several sizes in this process (QUIC, memberlist and Badger real,
the network and the work pretended), and says of each what a peer sends, computes and
holds: idle, idle with apps, and while slots are started and ended. Then it fits what
each cost grows by with peers, apps and changes a second, and prints what that says
beside what was measured. Of three sizes or more the largest is left out of the fit,
so that it is foretold.

Time is real: where cores are busy peers are late, and what they send differs. The
same in virtual time, where it does not: go test ./testbed/scale -run TestCost -v
-cost.peers 10,50,100,200 -cost.apps 100 -cost.changes 1,4; --read takes its lines.`,
		Example: "  hansa-testbed cost --peers 3,10 --apps 100 --changes 1,4\n  hansa-testbed cost --read costs.json --plot costs.svg",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			print, err := printer(cmd, format)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			cfg.Progress = func(text string) { fmt.Fprintln(cmd.ErrOrStderr(), text) }
			var costs []scale.Cost
			if read != "" {
				costs, err = readCosts(read)
			} else {
				costs, err = measureCosts(ctx, cfg, sizes)
			}
			if err != nil {
				return err
			}
			models, err := modelsOf(costs)
			if err != nil {
				return err
			}
			if format == formatJSON {
				for _, c := range costs {
					print(c, "")
				}
			}
			print(models, costTable(costs, models))
			if drawing == "" {
				return nil
			}
			return draw(drawing, func(w io.Writer) error { return plot.Lines(w, costChart(costs, models)) })
		},
	}
	flags := cmd.Flags()
	flags.IntSliceVar(&sizes, "peers", []int{3, 10}, fmt.Sprintf("sizes of the meshes, each 1 to %d", fleet.PeersMax))
	flags.IntVar(&cfg.Apps, "apps", 100, "of one slot each")
	flags.Float64SliceVar(&cfg.Changes, "changes", []float64{1, 4}, "a second in the whole mesh: edits that start or end a slot")
	flags.DurationVar(&cfg.Window, "window", 30*time.Second, "over which each figure is taken")
	flags.DurationVar(&cfg.RTTMax, "rtt", 80*time.Millisecond, "round trip between the farthest peers")
	flags.Uint64Var(&cfg.Seed, "seed", 1, "where the peers lie")
	flags.DurationVar(&timeout, "timeout", time.Hour, "for all of it")
	flags.StringVar(&read, "read", "", "a file with lines of JSON that were measured before, in place of meshes")
	flags.StringVar(&drawing, "plot", "", "file to draw what a peer sends to, as SVG")
	flags.StringVarP(&format, "output", "o", formatTable, "table or json: a line for each figure, and one for the models")
	return cmd
}

func measureCosts(ctx context.Context, cfg scale.CostConfig, sizes []int) ([]scale.Cost, error) {
	var all []scale.Cost
	for _, n := range sizes {
		dir, err := os.MkdirTemp("", "hansa-cost-")
		if err != nil {
			return nil, err
		}
		cfg.Dir, cfg.Peers = filepath.Join(dir, "data"), n
		costs, err := scale.MeasureCost(ctx, cfg)
		_ = os.RemoveAll(dir) // a temporary folder
		if err != nil {
			return nil, fmt.Errorf("%d peers: %w", n, err)
		}
		all = append(all, costs...)
	}
	return all, nil
}

// readCosts reads those lines of a file that are figures.
func readCosts(path string) ([]scale.Cost, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []scale.Cost
	for lines := bufio.NewScanner(f); ; {
		if !lines.Scan() {
			return all, lines.Err()
		}
		var c scale.Cost
		if strings.HasPrefix(lines.Text(), "{") && json.Unmarshal(lines.Bytes(), &c) == nil && c.Peers > 0 {
			all = append(all, c)
		}
	}
}

func modelsOf(costs []scale.Cost) (costModels, error) {
	var m costModels
	sizes := map[int]bool{}
	most := 0
	for _, c := range costs {
		sizes[c.Peers], most = true, max(most, c.Peers)
	}
	if len(sizes) > 2 {
		m.Without = most
		costs = slices.DeleteFunc(slices.Clone(costs), func(c scale.Cost) bool { return c.Peers == most })
	}
	for _, f := range []struct {
		to *scale.Model
		of func(scale.Cost) float64
	}{
		{&m.Bytes, func(c scale.Cost) float64 { return c.Bytes }},
		{&m.CPU, func(c scale.Cost) float64 { return c.CPU }},
		{&m.Heap, func(c scale.Cost) float64 { return c.Heap }},
	} {
		var err error
		if *f.to, err = scale.Fit(costs, f.of); err != nil {
			return m, err
		}
	}
	return m, nil
}

// costTable is the figures for people, each with what its model says.
func costTable(costs []scale.Cost, m costModels) string {
	const mib = 1 << 20
	out := "PEERS  APPS  CHANGES/S  kB/S   MODEL   PACKETS/S  CORE %  MODEL  HEAP MiB  MODEL  RESIDENT MiB"
	for _, c := range costs {
		out += fmt.Sprintf("\n%-5d  %-4d  %-9.1f  %-5.1f  %-6.1f  %-9.0f  %-6.2f  %-5.2f  %-8.1f  %-5.1f  %.1f", c.Peers, c.Apps, c.Changes,
			c.Bytes/1e3, m.Bytes.At(c)/1e3, c.Packets, 100*c.CPU, 100*m.CPU.At(c), c.Heap/mib, m.Heap.At(c)/mib, c.Resident/mib)
	}
	model := func(name string, m scale.Model, unit float64) {
		out += fmt.Sprintf("\n%-8s  %.4g + %.4g × peers + %.4g × apps + %.4g × changes/s", name, m.Base/unit, m.Peer/unit, m.App/unit, m.Change/unit)
	}
	model("kB/s", m.Bytes, 1e3)
	model("core %", m.CPU, 0.01)
	model("heap MiB", m.Heap, mib)
	if m.Without > 0 {
		out += fmt.Sprintf("\nthe models are of the smaller meshes: what they say of %d peers is foretold", m.Without)
	}
	return out
}

// costChart is what a peer sends over the number of peers, for the least and the most
// changes, and what the model says.
func costChart(costs []scale.Cost, m costModels) plot.Chart {
	c := plot.Chart{Title: "What a peer sends", Unit: "kB/s", Axis: "peers", Series: []string{"idle", "model, idle", "most changes", "model, most changes"}}
	byPeers := map[int][]scale.Cost{}
	for _, cost := range costs {
		byPeers[cost.Peers] = append(byPeers[cost.Peers], cost)
	}
	for n, all := range byPeers {
		by := func(a, b scale.Cost) int {
			return cmp.Or(cmp.Compare(a.Changes, b.Changes), cmp.Compare(a.Apps, b.Apps))
		}
		least, most := slices.MinFunc(all, by), slices.MaxFunc(all, by)
		c.Points = append(c.Points, plot.Point{X: float64(n), Values: []float64{
			least.Bytes / 1e3, m.Bytes.At(least) / 1e3, most.Bytes / 1e3, m.Bytes.At(most) / 1e3,
		}})
	}
	slices.SortFunc(c.Points, func(a, b plot.Point) int { return cmp.Compare(a.X, b.X) })
	return c
}
