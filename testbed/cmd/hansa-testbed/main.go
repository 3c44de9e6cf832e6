package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

var version = "dev" // set by the linker

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := &cobra.Command{
		Use: "hansa-testbed", Short: "Meshes of many peers, faults and benchmarks",
		Version: version, SilenceUsage: true, SilenceErrors: true,
	}
	root.AddCommand(demoCommand(), healCommand(), chaosCommand(), failoverCommand(), guestCommand(),
		scaleCommand(), costCommand(), openbCommand(), azureCommand(), wanCommand(), regionsCommand(), herdCommand())
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "hansa-testbed:", err)
		os.Exit(1)
	}
}
