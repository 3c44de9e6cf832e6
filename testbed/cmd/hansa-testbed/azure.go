package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/hansa-mesh/hansa/testbed/bench"
)

// azureFigure is one run.
type azureFigure struct {
	bench.AzureResult
	Rule  string  `json:"rule"`
	Sites int     `json:"sites"`
	Age   string  `json:"age"`
	Over  float64 `json:"over"` // per cent of hosts above the bound
}

func azureCommand() *cobra.Command {
	var data, format string
	var rules []string
	var sites int
	var seed uint64
	var age, span time.Duration
	cmd := &cobra.Command{
		Use:   "azure",
		Short: "How many hosts the machines of a real cloud take over many sites",
		Long: `Places recorded virtual machines (Azure 2017) as they came and went, on hosts of
48 cores and 256 GB at many sites. Each machine is planned at the site that its
tenant asks, over the hosts of all sites, by digests as old as --age; where no
host has room one is added. It prints how many hosts that took, beside the number
that no packing gets below, and how many machines were granted in one round trip.

The recording is not part of Hansa: --data (or HANSA_DATA) names the folder that
has it, under azure-vm/.`,
		Example: "  hansa-testbed azure --data DIR --age 1s",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			print, err := printer(cmd, format)
			if err != nil {
				return err
			}
			switch {
			case sites < 1:
				return fmt.Errorf("--sites %d: want 1 or more", sites)
			case age < 0:
				return fmt.Errorf("--age %v: want 0 or more", age)
			case span <= 0:
				return fmt.Errorf("--span %v: want more than 0", span)
			}
			if err := replayable(data, rules); err != nil {
				return err
			}
			vms, err := bench.ReadAzure(cmd.Context(), data, span)
			if err != nil {
				return fmt.Errorf("azure: %w", err)
			}
			if format == formatTable {
				fmt.Fprintln(cmd.OutOrStdout(), "RULE       SITES  AGE    MACHINES  HOSTS  BOUND  OVER    IN ONE ROUND TRIP  ROUNDS AT WORST")
			}
			for _, name := range rules {
				by, err := bench.ParseRule(name)
				if err != nil {
					return err
				}
				res, err := bench.Azure(cmd.Context(), bench.AzureConfig{
					VMs: vms, Sites: sites, Seed: seed, Rule: by, Age: age,
					Progress: func(share float64) { fmt.Fprintf(cmd.ErrOrStderr(), "\r%s: %3.0f %%  ", name, 100*share) },
				})
				fmt.Fprint(cmd.ErrOrStderr(), "\r\033[K")
				if err != nil {
					return fmt.Errorf("azure, %s: %w", name, err)
				}
				f := azureFigure{AzureResult: res, Rule: name, Sites: sites, Age: age.String(), Over: 100 * (float64(res.Hosts)/float64(max(1, res.Bound)) - 1)}
				rounds := "-"
				if by == bench.RuleHansa {
					rounds = fmt.Sprintf("%-17s  %d", fmt.Sprintf("%.1f %%", f.AtOnce), f.AtWorst)
				}
				print(f, fmt.Sprintf("%-9s  %-5d  %-5s  %-8d  %-5d  %-5d  %-6s  %s", name, sites, age, f.VMs, f.Hosts, f.Bound, fmt.Sprintf("%.1f %%", f.Over), rounds))
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&data, "data", dataFolder(), "folder of recordings; also HANSA_DATA")
	flags.StringSliceVar(&rules, "rules", []string{"hansa", "first-fit", "best-fit"}, "how hosts are chosen: the product's plan, and what it is held against (which see all hosts as they are)")
	flags.IntVar(&sites, "sites", 16, "that take requests and have the hosts")
	flags.Uint64Var(&seed, "seed", 1, "of the random choices")
	flags.DurationVar(&age, "age", time.Second, "of the digests that sites plan from")
	flags.DurationVar(&span, "span", 24*time.Hour, "how much of the recording is replayed")
	flags.StringVarP(&format, "output", "o", formatTable, "table or json: a line for each rule")
	return cmd
}
