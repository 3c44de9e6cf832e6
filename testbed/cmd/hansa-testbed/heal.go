package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/testbed/fleet"
)

// healCapacity is ample: what is measured is agreement, not want of room.
var healCapacity = placement.Resources{CPU: 4000, Memory: 4 << 30, Disk: 4 << 30}

func healCommand() *cobra.Command {
	var peers []int
	var rtt time.Duration
	var seed uint64
	var format string
	cmd := &cobra.Command{
		Use:   "heal",
		Short: "How long a mesh takes to settle after a cut",
		Long: `Starts meshes in this process (QUIC, memberlist and Badger real, the network
and the work pretended), deploys apps, cuts each mesh in halves until both sides
have placed anew what they lost and taken apps of their own, heals it, and
measures until every peer calls the mesh settled and every slot runs once.

Time is real: on a busy machine many peers are slower than the protocol is. The
same in virtual time: go test ./testbed/fleet -run TestHeal -v`,
		Example: "  hansa-testbed heal --peers 3,10,50",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			print, err := printer(cmd, format)
			if err != nil {
				return err
			}
			if format == formatTable {
				fmt.Fprintln(cmd.OutOrStdout(), "PEERS  APPS  SLOTS  DUPLICATES  SETTLED")
			}
			for _, n := range peers {
				dir, err := os.MkdirTemp("", "hansa-heal-")
				if err != nil {
					return err
				}
				f, err := fleet.MeasureHeal(cmd.Context(), fleet.Config{Dir: filepath.Join(dir, "data"), Peers: n, RTTMax: rtt, Seed: seed, Capacity: healCapacity})
				_ = os.RemoveAll(dir) // a temporary folder
				if err != nil {
					return fmt.Errorf("%d peers: %w", n, err)
				}
				print(f, fmt.Sprintf("%-5d  %-4d  %-5d  %-10d  %.1fs", f.Peers, f.Apps, f.Slots, f.Duplicates, f.Settled))
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.IntSliceVar(&peers, "peers", []int{3, 10, 50}, fmt.Sprintf("sizes of the meshes, each 2 to %d", fleet.PeersMax))
	flags.DurationVar(&rtt, "rtt", 80*time.Millisecond, "round trip between the farthest peers")
	flags.Uint64Var(&seed, "seed", 1, "where the peers lie")
	flags.StringVarP(&format, "output", "o", formatTable, "table or json: a line for each mesh")
	return cmd
}
