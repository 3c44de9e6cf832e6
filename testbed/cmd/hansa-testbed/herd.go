package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/hansa-mesh/hansa/testbed/bench"
)

func herdCommand() *cobra.Command {
	var cfg bench.HerdConfig
	var format string
	var rules []string
	var ages []time.Duration
	cmd := &cobra.Command{
		Use:   "herd",
		Short: "What comes of many stewards that plan at once from the same old digests",
		Long: `Lets --stewards plan one slot each at the same moment, every --every, from digests
of an age, until a request finds no room; those that were refused plan again at
once. With several --kinds hosts have more or less memory for each core, and to all
stewards those of one kind seem best. Plans and ledgers are the product's; it is
held against planners that always take what is scored best, and such that take the
emptier one of two drawn at random.`,
		Example: "  hansa-testbed herd --stewards 50 --ages 0s,1s,5s",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			print, err := printer(cmd, format)
			if err != nil {
				return err
			}
			if format == formatTable {
				fmt.Fprintln(cmd.OutOrStdout(), "AGE    RULE   GRANTED BY THE FIRST  ROUNDS: MEAN  MOST  LATE   ASKS AT ONE PEER  AT HALF: LEAST  MOST    DEVIATION  FULL")
			}
			for _, age := range ages {
				for _, rule := range rules {
					cfg.Rule, cfg.Age = rule, age
					r, err := bench.Herd(cmd.Context(), cfg)
					if err != nil {
						return err
					}
					print(r, fmt.Sprintf("%-5v  %-5s  %-20s  %-12.2f  %-4d  %-5s  %-16.1f  %-14s  %-6s  %-9s  %.1f %%", age, rule, fmt.Sprintf("%.1f %%", r.AtOnce),
						r.Rounds, r.Most, fmt.Sprintf("%.1f %%", r.Late), r.Crowd, fmt.Sprintf("%.0f %%", r.Half.Min), fmt.Sprintf("%.0f %%", r.Half.Max), fmt.Sprintf("%.1f", r.Half.Dev), r.Full))
				}
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&cfg.Stewards, "stewards", 50, "that plan at once")
	flags.IntVar(&cfg.Sites, "sites", 100, "with a host of 64 cores each")
	flags.IntVar(&cfg.Kinds, "kinds", 1, "of hosts, at most 3: with 4, 6 and 8 GiB of memory for each core")
	flags.DurationVar(&cfg.Every, "every", 200*time.Millisecond, "all of them plan")
	flags.DurationSliceVar(&ages, "ages", []time.Duration{0, time.Second, 5 * time.Second}, "of the digests")
	flags.StringSliceVar(&rules, "rules", bench.HerdRules, "how a host is chosen")
	flags.Uint64Var(&cfg.Seed, "seed", 1, "of requests and draws")
	flags.StringVarP(&format, "output", "o", formatTable, "table or json: a line for each age and rule")
	return cmd
}
