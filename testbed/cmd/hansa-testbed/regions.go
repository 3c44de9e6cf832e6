package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/hansa-mesh/hansa/testbed/bench"
	"github.com/hansa-mesh/hansa/testbed/plot"
)

func regionsCommand() *cobra.Command {
	var cfg bench.RegionsConfig
	var tiers []string
	var format, drawing string
	cmd := &cobra.Command{
		Use:   "regions",
		Short: "What two tiers of gossip cost and lose, against one",
		Long: `Fills --regions × --sites sites of --cores cores each with requests that come
anywhere, until one finds no room, by the product's plan and ledgers. With one tier
every peer plans from the digests of all others, those of its region as old as
--near, the others as old as --far. With two it plans over regions, whose relays
fold their digests every --every, and a relay of each plans over its sites.

It prints how full and how even the sites are, refusals, the CPU of a plan, and what
a peer holds and sends for it; what it sends is reckoned from the sizes of digests
and folds, by the rules of today's gossip.`,
		Example: "  hansa-testbed regions --regions 100 --sites 100 --cores 10000",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			print, err := printer(cmd, format)
			if err != nil {
				return err
			}
			var all []bench.RegionsResult
			for _, t := range tiers {
				cfg.Tiers = t
				told := -1
				cfg.Progress = func(share float64) {
					if now := int(100 * share); now > told {
						told = now
						fmt.Fprintf(cmd.ErrOrStderr(), "\r%s tier(s): %3d %%  ", t, now)
					}
				}
				r, err := bench.Regions(cmd.Context(), cfg)
				fmt.Fprint(cmd.ErrOrStderr(), "\r\033[K")
				if err != nil {
					return err
				}
				print(r, regionsTable(r))
				all = append(all, r)
			}
			if drawing == "" {
				return nil
			}
			return draw(drawing, func(w io.Writer) error { return plot.Lines(w, regionsChart(all)) })
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&cfg.Regions, "regions", 100, "regions")
	flags.IntVar(&cfg.Sites, "sites", 100, "sites of each")
	flags.IntVar(&cfg.Cores, "cores", 10_000, "cores of each site")
	flags.DurationVar(&cfg.Near, "near", time.Second, "age of digests within a region")
	flags.DurationVar(&cfg.Far, "far", 10*time.Second, "and from others")
	flags.DurationVar(&cfg.Every, "every", 5*time.Second, "a region is folded")
	flags.Float64Var(&cfg.Rate, "rate", 10, "requests a second")
	flags.IntVar(&cfg.Most, "requests", 0, "to end after; 0 is when one finds no room")
	flags.Uint64Var(&cfg.Seed, "seed", 1, "of requests and draws")
	flags.StringSliceVar(&tiers, "tiers", []string{bench.OneTier, bench.TwoTiers}, "of gossip")
	flags.StringVar(&drawing, "plot", "", "file to draw how full the sites are to, as SVG")
	flags.StringVarP(&format, "output", "o", formatTable, "table or json: a line for each")
	return cmd
}

// regionsTable is one run for people.
func regionsTable(r bench.RegionsResult) string {
	return fmt.Sprintf(`%s TIER(S): %d regions, %d sites, %.0f cores
requests, slots granted     %d, %d: %.2f %% of the cores
no peer refused             %.1f %% of the requests; %.2f rounds of asks, %d at most; %.1f relays asked for one
asks, refused in part       %d, %d
sites at half               %.1f %% used, deviation %.2f, %.1f to %.1f %%
sites in the end            %.1f %% used, deviation %.2f, %.1f to %.1f %%
CPU of a plan               %.2f ms for one slot, %.2f ms for any request
digests changed             %.0f a second in all; a digest has %d bytes, a fold %d
a peer sends, and holds     %.1f kB/s (reckoned), %.2f MB`,
		r.Tiers, r.Regions, r.Sites, r.Cores, r.Requests, r.Slots, r.Full, r.AtOnce, r.Mean, r.Rounds, r.Relays, r.Asks, r.Misses,
		r.Half.Mean, r.Half.Dev, r.Half.Min, r.Half.Max, r.End.Mean, r.End.Dev, r.End.Min, r.End.Max,
		r.PlanOne, r.PlanAll, r.Changes, r.DigestBytes, r.FoldBytes, r.Gossip/1e3, r.Knowledge/1e6)
}

// regionsChart is how full the sites are, from the emptiest.
func regionsChart(all []bench.RegionsResult) plot.Chart {
	c := plot.Chart{Title: "How full sites are when a request first finds no room", Unit: "% used", Axis: "per cent of the sites, from the emptiest"}
	for q := range 101 {
		c.Points = append(c.Points, plot.Point{X: float64(q)})
	}
	for _, r := range all {
		c.Series = append(c.Series, r.Tiers+" tier(s)")
		for q, v := range r.Used {
			c.Points[q].Values = append(c.Points[q].Values, v)
		}
	}
	return c
}
