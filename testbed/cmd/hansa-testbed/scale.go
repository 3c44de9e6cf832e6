package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"time"

	"github.com/spf13/cobra"

	"github.com/hansa-mesh/hansa/testbed/fleet"
	"github.com/hansa-mesh/hansa/testbed/scale"
)

func scaleCommand() *cobra.Command {
	var cfg scale.Config
	var format, dir, profile, heap string
	var quiet bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "scale",
		Short: "How fast a mesh places work, and what that takes",
		Long: `Starts a mesh in this process (QUIC, memberlist and Badger with its syncs real,
the network and the work pretended), submits apps at all peers in turn until every
slot was started and every peer counts it as running, then single slots one after
another, and holds what ledgers, decisions and status say to what was started.

CPU and memory are of the whole process: of all peers, and of the pretended work.
A peer has one host, of the size of --hosts hosts, and takes at most 16,384 slots.`,
		Example: "  hansa-testbed scale --peers 10 --hosts 100 --apps 100 --replicas 100",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			print, err := printer(cmd, format)
			if err != nil {
				return err
			}
			if dir != "" {
				if err := os.MkdirAll(dir, 0o700); err != nil {
					return fmt.Errorf("--dir: %w", err)
				}
			}
			tmp, err := os.MkdirTemp(dir, "hansa-scale-")
			if err != nil {
				return err
			}
			defer func() { _ = os.RemoveAll(tmp) }() // a temporary folder
			cfg.Dir = filepath.Join(tmp, "data")
			if began := time.Now(); !quiet {
				cfg.Log = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelError}))
				cfg.Progress = func(text string) {
					fmt.Fprintf(cmd.ErrOrStderr(), "%6.1fs %s\n", time.Since(began).Seconds(), text)
				}
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			if profile != "" {
				file, err := os.Create(profile)
				if err != nil {
					return err
				}
				defer file.Close()
				if err := pprof.StartCPUProfile(file); err != nil {
					return err
				}
				cfg.Placed = pprof.StopCPUProfile // what follows is mostly questions of this program
				defer pprof.StopCPUProfile()
			}
			if heap != "" {
				cfg.Known = func() { err = errors.Join(err, writeHeap(heap)) }
			}
			f, measured := scale.Measure(ctx, cfg)
			err = errors.Join(err, measured)
			if err != nil {
				return err
			}
			print(f, scaleTable(f))
			return nil
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&cfg.Peers, "peers", 10, fmt.Sprintf("peers, each a site of its own: 1 to %d", fleet.PeersMax))
	flags.IntVar(&cfg.Hosts, "hosts", 100, "hosts of each peer")
	flags.IntVar(&cfg.Apps, "apps", 100, "apps")
	flags.IntVar(&cfg.Replicas, "replicas", 100, "replicas of each app")
	flags.IntVar(&cfg.Singles, "singles", 100, "apps of one replica, submitted one after another at the end")
	flags.IntVar(&cfg.InFlight, "in-flight", 32, "apps that are submitted at once")
	flags.Uint64Var(&cfg.Seed, "seed", 1, "of the network in memory")
	flags.StringVar(&dir, "dir", "", "where the peers' disks are, made if it is not there; default the system's temporary folder")
	flags.DurationVar(&timeout, "timeout", 10*time.Minute, "for all of it")
	flags.StringVar(&profile, "cpuprofile", "", "a file for go tool pprof, of what passes until every slot was started")
	flags.StringVar(&heap, "memprofile", "", "a file for go tool pprof, of what is in memory with all slots")
	flags.BoolVar(&quiet, "quiet", false, "no progress on standard error")
	flags.StringVarP(&format, "output", "o", formatTable, "table or json")
	return cmd
}

// writeHeap writes what is in memory, and what was allocated until now.
func writeHeap(path string) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	runtime.GC()
	return errors.Join(pprof.WriteHeapProfile(file), file.Close())
}

// scaleTable is a figure for people.
func scaleTable(f scale.Figure) string {
	const mib = 1 << 20
	return fmt.Sprintf(`peers, hosts, apps × replicas      %d, %d, %d × %d
every slot started                 %.2f s: %.0f placements/s
every peer counts every slot       %.2f s
CPU for 1,000 placements           %.3f s, of all peers together
apps of the burst answered         p50 %.1f ms, p99 %.1f ms, %d of them asked for again
single deploys answered            p50 %.1f ms, p99 %.1f ms
single deploys started             p50 %.1f ms, p99 %.1f ms
resident memory                    %d MiB idle, %d MiB with all slots
checked                            %d slots once each, status of %d apps, decisions of %d`,
		f.Peers, f.Hosts, f.Apps, f.Replicas, f.Placed, f.Rate, f.Known, f.CPU, f.Answer.P50, f.Answer.P99, f.Late,
		f.Single.P50, f.Single.P99, f.Started.P50, f.Started.P99, f.Idle/mib, f.Loaded/mib,
		f.Checked.Slots, f.Checked.Apps, f.Checked.Decisions)
}
