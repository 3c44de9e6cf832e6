package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/hansa-mesh/hansa/node/driver/qemu/guest"
)

func guestCommand() *cobra.Command {
	var program, out string
	cmd := &cobra.Command{
		Use:   "guest",
		Short: "What a small virtual machine boots from: vmlinuz and initrd",
		Long: `Puts a Debian cloud kernel (fetched with apt-get once, or taken from the unpacked
package that ` + guest.KernelEnv + ` names) and an initial file system, whose /init is
a static program, into a folder.`,
		Example: "  hansa-testbed guest --init examples/mixed/build/machine --out examples/mixed/build",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := os.MkdirAll(out, 0o755); err != nil {
				return err
			}
			kernel, initrd, err := guest.Build(program, out)
			if err != nil {
				return fmt.Errorf("guest: %w", err)
			}
			fmt.Fprintln(cmd.OutOrStdout(), kernel+"\n"+initrd)
			return nil
		},
	}
	cmd.Flags().StringVar(&program, "init", "", "the static program")
	cmd.Flags().StringVar(&out, "out", ".", "the folder")
	_ = cmd.MarkFlagRequired("init") // there is such a flag
	return cmd
}
