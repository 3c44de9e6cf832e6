package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hansa-mesh/hansa/testbed/chaos"
	"github.com/hansa-mesh/hansa/testbed/failover"
	"github.com/hansa-mesh/hansa/testbed/links"
	"github.com/hansa-mesh/hansa/testbed/process"
)

// daemonFlags say on what mesh of real daemons something happens.
type daemonFlags struct {
	hansa   string
	network string
	sites   int
	delay   time.Duration
	loss    float64
	format  string
}

// sitesMax bounds the sites of a mesh of daemons on one machine.
const sitesMax = 20

// diskSize of a daemon that has a disk of its own.
const diskSize = 400 << 20

func (f *daemonFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.hansa, "hansa", "hansa", "the hansa binary")
	flags.StringVar(&f.network, "network", "auto", "namespaces (as root: each daemon on a host and a small disk of its own), loopback, or auto")
	flags.IntVar(&f.sites, "sites", 5, fmt.Sprintf("sites of one daemon, 3 to %d", sitesMax))
	flags.DurationVar(&f.delay, "delay", 10*time.Millisecond, "one way between two sites")
	flags.Float64Var(&f.loss, "loss", 0.005, "share of packets that are lost")
	flags.StringVarP(&f.format, "output", "o", formatTable, "table or json")
}

// start starts the mesh; stop ends it and removes what it left.
func (f *daemonFlags) start(ctx context.Context, args ...string) (m *process.Mesh, ownDisks bool, stop func() error, err error) {
	if f.sites < 3 || f.sites > sitesMax {
		return nil, false, nil, fmt.Errorf("--sites %d: 3 to %d", f.sites, sitesMax)
	}
	hansa, err := exec.LookPath(f.hansa)
	if err == nil {
		hansa, err = filepath.Abs(hansa)
	}
	if err != nil {
		return nil, false, nil, fmt.Errorf("no hansa binary: run 'make build' first: %w", err)
	}
	cfg := process.Config{Hansa: hansa, Args: args}
	for i := range f.sites {
		cfg.Sites = append(cfg.Sites, fmt.Sprintf("s%d", i+1))
	}
	usual := links.Link{Delay: f.delay, Jitter: f.delay / 5, Loss: f.loss}
	switch {
	case f.network == "namespaces", f.network == "auto" && os.Geteuid() == 0:
		cfg.Net, cfg.DiskSize = process.Namespaces(usual), diskSize
	case f.network == "loopback", f.network == "auto":
		cfg.Net = process.Loopback(usual)
	default:
		return nil, false, nil, fmt.Errorf("--network %q: want namespaces, loopback or auto", f.network)
	}
	if cfg.Dir, err = os.MkdirTemp("", "hansa-testbed-"); err != nil {
		return nil, false, nil, err
	}
	if m, err = process.Start(ctx, cfg); err != nil {
		return nil, false, nil, errors.Join(err, os.RemoveAll(cfg.Dir))
	}
	return m, cfg.DiskSize > 0, func() error { return errors.Join(m.Close(), os.RemoveAll(cfg.Dir)) }, nil
}

func chaosCommand() *cobra.Command {
	var f daemonFlags
	var lasts time.Duration
	var seed uint64
	cmd := &cobra.Command{
		Use:   "chaos",
		Short: "Does harm to real daemons while people deploy, and judges",
		Long: `Starts real daemons, and for a while kills them with SIGKILL, alone, with their
supervisors, and as a power failure does; cuts sites, halves, one way, and flaps;
empties and fills disks. Meanwhile people deploy, scale and remove apps. Then all
is mended: what was acknowledged must be there, every slot must run once, and no
site may ever have run more than it has room for.`,
		Example: "  hansa-testbed chaos --hansa bin/hansa --for 10m --seed 7",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			print, err := printer(cmd, f.format)
			if err != nil {
				return err
			}
			m, disks, stop, err := f.start(cmd.Context(), chaos.Args()...)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, stop()) }()
			figures, err := chaos.Run(cmd.Context(), chaos.Config{Mesh: m, Seed: seed, Lasts: lasts, Disks: disks, Say: sayTo(cmd)})
			print(figures, fmt.Sprintf(`faults          %v
acknowledged    %d (%d by two disks or more; %d refused, %d without an answer)
lost            %d
duplicated      %d
over-committed  %d
conflicts       %d, shown, and resolved by hand in %.1f s
settled         %.1f s after the last fault`, figures.Faults, figures.Acknowledged, figures.Safe, figures.Refused, figures.Unanswered,
				figures.Lost, figures.Duplicated, figures.OverCommitted, figures.Conflicts, figures.ResolvedSecs, figures.SettledSecs))
			return err
		},
	}
	f.add(cmd)
	cmd.Flags().DurationVar(&lasts, "for", time.Minute, "how long harm is done")
	cmd.Flags().Uint64Var(&seed, "seed", 1, "what harm is done")
	return cmd
}

func failoverCommand() *cobra.Command {
	var f daemonFlags
	var kills int
	cmd := &cobra.Command{
		Use:   "failover",
		Short: "How long it takes until the work of a lost site runs elsewhere, by phase",
		Long: `Starts real daemons with an app of ten programs, takes the power from one site
after the other, and reads in what the daemons remember when its death was found
out (detect), when it was decided what to do (decide; the app is taken over first
where the lost site drove it), when the last slot was granted (place) and when it
ran (start).`,
		Example: "  hansa-testbed failover --hansa bin/hansa --kills 10",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			print, err := printer(cmd, f.format)
			if err != nil {
				return err
			}
			m, _, stop, err := f.start(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, stop()) }()
			figures, err := failover.Measure(cmd.Context(), m, kills, sayTo(cmd))
			if err != nil {
				return err
			}
			var text strings.Builder
			text.WriteString("PHASE   P50     MAX")
			for _, p := range figures.Phases {
				fmt.Fprintf(&text, "\n%-6s  %.2fs  %.2fs", p.Phase, p.P50, p.Max)
			}
			print(figures, text.String())
			return nil
		},
	}
	f.add(cmd)
	cmd.Flags().IntVar(&kills, "kills", 10, "how many sites are lost, one after the other")
	return cmd
}

// sayTo tells what happens on standard error.
func sayTo(cmd *cobra.Command) func(format string, args ...any) {
	return func(format string, args ...any) { fmt.Fprintf(cmd.ErrOrStderr(), format+"\n", args...) }
}
