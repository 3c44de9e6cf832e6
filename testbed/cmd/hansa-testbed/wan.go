package main

import (
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/testbed/bench"
	"github.com/hansa-mesh/hansa/testbed/plot"
)

// wanFigure is one run.
type wanFigure struct {
	bench.WANResult
	Matrix     string `json:"matrix"`
	Seed       uint64 `json:"seed"`
	Probes     int    `json:"probes"`
	Candidates int    `json:"candidates"`
}

func wanCommand() *cobra.Command {
	var matrix, format, drawing string
	var probes, candidates int
	var seeds []uint
	cmd := &cobra.Command{
		Use:   "wan",
		Short: "How near what is to be near really is, on recorded round trips",
		Long: `Lets peers that are as far apart as a matrix of recorded round trips says find
their network coordinates, with the product's own code, by probing each other. Then
one other peer is chosen for each, as a plan chooses what is to be near it: at
random; by coordinates alone; after the best --candidates by coordinates were
measured ("measured"); and likewise where the peer that measures also remembers
whom it probed before ("told", which is what a mesh does). It prints by how much
the chosen one is farther than the nearest that there is.

The matrix is a file of your own: a square table of milliseconds, between commas
(.csv) or tabs (.tsv), with names around it or without.`,
		Example: "  hansa-testbed wan --matrix wonder242_avg_ms.csv --seeds 1,2,3",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			print, err := printer(cmd, format)
			if err != nil {
				return err
			}
			switch {
			case matrix == "":
				return fmt.Errorf("--matrix FILE is missing: a table of round trips in milliseconds")
			case probes < 1:
				return fmt.Errorf("--probes %d: want 1 or more", probes)
			case candidates < 1 || candidates > placement.MeasureMax:
				return fmt.Errorf("--candidates %d: want 1 to %d", candidates, placement.MeasureMax)
			}
			m, err := bench.ReadMatrix(matrix)
			if err != nil {
				return fmt.Errorf("wan: %w", err)
			}
			var all []bench.WANResult
			for _, seed := range seeds {
				res, err := bench.WAN(cmd.Context(), bench.WANConfig{
					Matrix: m, Probes: probes, Candidates: candidates, Seed: uint64(seed),
					Progress: func(share float64) { fmt.Fprintf(cmd.ErrOrStderr(), "\rseed %d: %3.0f %%  ", seed, 100*share) },
				})
				fmt.Fprint(cmd.ErrOrStderr(), "\r\033[K")
				if err != nil {
					return fmt.Errorf("wan, seed %d: %w", seed, err)
				}
				print(wanFigure{WANResult: res, Matrix: matrix, Seed: uint64(seed), Probes: probes, Candidates: candidates}, wanTable(res, uint64(seed)))
				all = append(all, res)
			}
			if drawing == "" {
				return nil
			}
			return draw(drawing, func(w io.Writer) error { return plot.Bars(w, wanChart(all, filepath.Base(matrix))) })
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&matrix, "matrix", "", "file with the round trips")
	flags.IntVar(&probes, "probes", 200, "that each peer has made of others before")
	flags.IntVar(&candidates, "candidates", placement.MeasureProbes, "that are measured for one choice")
	flags.UintSliceVar(&seeds, "seeds", []uint{1}, "of the order of probes and of random choices; a run for each")
	flags.StringVar(&drawing, "plot", "", "file to draw the figures to as SVG, the mean of the seeds")
	flags.StringVarP(&format, "output", "o", formatTable, "table or json: a line for each seed")
	return cmd
}

// wanTable is one run for people.
func wanTable(res bench.WANResult, seed uint64) string {
	out := fmt.Sprintf("seed %d: %d peers, coordinates off by %.1f %% (median), %.1f %% (p90)\n", seed, res.Peers, 100*res.ErrorMedian, 100*res.ErrorP90)
	out += "RULE         FARTHER THAN THE NEAREST BY: MEDIAN  P90       MEAN      NEAREST CHOSEN  REQUESTS"
	for _, c := range res.Choices {
		out += fmt.Sprintf("\n%-11s  %35s  %-8s  %-8s  %-14s  %.1f", c.Rule, fmt.Sprintf("%.1f ms", c.Median),
			fmt.Sprintf("%.1f ms", c.P90), fmt.Sprintf("%.1f ms", c.Mean), fmt.Sprintf("%.1f %%", c.Nearest), c.Requests)
	}
	return out
}

// wanChart is the runs of all seeds as one drawing.
func wanChart(all []bench.WANResult, matrix string) plot.Chart {
	c := plot.Chart{
		Title: "How much farther than the nearest peer the chosen one is (" + matrix + ")", Unit: "ms",
		Series: []string{"median", "mean", "p90"},
	}
	for _, res := range all {
		for i, choice := range res.Choices {
			if i == len(c.Points) {
				c.Points = append(c.Points, plot.Point{Name: choice.Rule, Values: make([]float64, len(c.Series))})
			}
			for k, v := range []float64{choice.Median, choice.Mean, choice.P90} {
				c.Points[i].Values[k] += v / float64(len(all))
			}
		}
	}
	return c
}
