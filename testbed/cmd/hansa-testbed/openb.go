package main

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hansa-mesh/hansa/testbed/bench"
)

// dataFolder is the default of --data.
func dataFolder() string { return cmp.Or(os.Getenv("HANSA_DATA"), "data") }

// openbFigure is the mean over the seeds of one trace.
type openbFigure struct {
	Trace  string              `json:"trace"`
	Peers  int                 `json:"peers"`
	Age    string              `json:"age"`
	Seeds  []uint64            `json:"seeds"`
	FGD    [2]float64          `json:"published_fgd"`
	Means  map[string]openbRow `json:"rules"`
	Placed float64             `json:"placed_at_once"` // of the product's placements, those at the first asked
}

type openbRow struct {
	At100 float64 `json:"at_100"`
	At130 float64 `json:"at_130"`
}

func openbCommand() *cobra.Command {
	var data, format string
	var traces, rules []string
	var seeds []uint
	var peers int
	var age time.Duration
	var rate float64
	cmd := &cobra.Command{
		Use:   "openb",
		Short: "How tightly the requests of a real GPU cluster are packed",
		Long: `Places the requests of a production GPU cluster (openb, Alibaba 2023) on its
hosts one after the other, as the evaluation of FGD does (Weng et al., USENIX ATC
2023), and prints which share of the GPUs is allocated when 100 % and when 130 %
of them have been asked for. All hosts are one peer's, whose ledger chooses among
them as the product does; with --peers each of several peers has a part of them,
requests come to any, and are planned from digests that are as old as --age. What
that is held against sees all hosts as they are.

The recordings are not part of Hansa: --data (or HANSA_DATA) names the folder
that has them, under openb/.`,
		Example: "  hansa-testbed openb --data DIR --seeds 42,43,44,45,46\n  hansa-testbed openb --data DIR --peers 8 --age 10s --rules hansa",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			print, err := printer(cmd, format)
			if err != nil {
				return err
			}
			switch {
			case len(seeds) == 0:
				return fmt.Errorf("--seeds is empty: name at least one")
			case peers < 1:
				return fmt.Errorf("--peers %d: want 1 or more", peers)
			case !(rate > 0):
				return fmt.Errorf("--rate %v: want more than 0 requests a second", rate)
			case age < 0:
				return fmt.Errorf("--age %v: want 0 or more", age)
			}
			if err := replayable(data, rules); err != nil {
				return err
			}
			if format == formatTable {
				fmt.Fprintln(cmd.OutOrStdout(), "SHARE OF GPUS ALLOCATED AT 100 % / 130 % ASKED FOR")
				fmt.Fprintf(cmd.OutOrStdout(), "%-11s  %-11s  %s\n", "TRACE", "FGD", strings.ToUpper(columns(rules)))
			}
			for _, trace := range traces {
				f := openbFigure{Trace: trace, Peers: peers, Age: age.String(), FGD: bench.PublishedFGD[trace], Means: map[string]openbRow{}}
				for _, s := range seeds {
					f.Seeds = append(f.Seeds, uint64(s))
				}
				if err := f.measure(cmd, data, rules, rate, age); err != nil {
					return fmt.Errorf("openb %s: %w", trace, err)
				}
				row := fmt.Sprintf("%-11s  %.1f / %.1f", trace, f.FGD[0], f.FGD[1])
				for _, by := range rules {
					row += fmt.Sprintf("  %.1f / %.1f", f.Means[by].At100, f.Means[by].At130)
				}
				if peers > 1 && slices.Contains(rules, string(bench.RuleHansa)) {
					row += fmt.Sprintf("  (%.1f %% at the first peer asked)", f.Placed)
				}
				print(f, row)
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&data, "data", dataFolder(), "folder of recordings; also HANSA_DATA")
	flags.StringSliceVar(&traces, "traces", bench.Traces, "lists of requests")
	flags.StringSliceVar(&rules, "rules", []string{"hansa", "first-fit", "best-fit"}, "how hosts are chosen: the product's plan and ledgers, and what it is held against: first-fit, best-fit, fgd")
	flags.UintSliceVar(&seeds, "seeds", []uint{42, 43, 44, 45, 46}, "orders of the requests; the mean is printed")
	flags.IntVar(&peers, "peers", 1, "peers that have the hosts and take requests")
	flags.DurationVar(&age, "age", 0, "of the digests that peers plan from")
	flags.Float64Var(&rate, "rate", 10, "requests a second; it matters with --age only")
	flags.StringVarP(&format, "output", "o", formatTable, "table or json: a line for each trace")
	return cmd
}

// replayable says why a recording can't be replayed: before it is read, which
// takes its time.
func replayable(data string, rules []string) error {
	for _, name := range rules {
		if _, err := bench.ParseRule(name); err != nil {
			return fmt.Errorf("--rules: %w", err)
		}
	}
	if _, err := os.Stat(data); err != nil {
		return fmt.Errorf("--data: %w: name the folder that has the recordings, here or in HANSA_DATA", err)
	}
	return nil
}

func columns(rules []string) string {
	var out []string
	for _, by := range rules {
		out = append(out, fmt.Sprintf("%-11s", by))
	}
	return strings.Join(out, "  ")
}

// measure runs each rule with each seed.
func (f *openbFigure) measure(cmd *cobra.Command, data string, rules []string, rate float64, age time.Duration) error {
	hosts, requests, err := bench.ReadOpenB(data, f.Trace)
	if err != nil {
		return err
	}
	placed, again := 0, 0
	for _, name := range rules {
		by, err := bench.ParseRule(name)
		if err != nil {
			return err
		}
		var sum openbRow
		for _, seed := range f.Seeds {
			res, err := bench.OpenB(cmd.Context(), bench.OpenBConfig{
				Hosts: hosts, Requests: requests, Seed: seed, Rule: by, Peers: f.Peers, Age: age, Rate: rate,
				Progress: func(share float64) {
					fmt.Fprintf(cmd.ErrOrStderr(), "\r%s, %s, seed %d: %3.0f %%  ", f.Trace, name, seed, 100*share)
				},
			})
			fmt.Fprint(cmd.ErrOrStderr(), "\r\033[K")
			if err != nil {
				return err
			}
			sum.At100 += res.At100
			sum.At130 += res.At130
			if by == bench.RuleHansa {
				placed += res.Requests - res.Failed
				again += res.Again
			}
		}
		n := float64(len(f.Seeds))
		f.Means[name] = openbRow{sum.At100 / n, sum.At130 / n}
	}
	if placed > 0 {
		f.Placed = 100 * float64(placed-again) / float64(placed)
	}
	return nil
}
