package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/hansa-mesh/hansa/node/cli"
	"github.com/hansa-mesh/hansa/node/driver/process"
)

func main() {
	if process.IsSupervisor(os.Args) { // of one program, re-executed by the daemon
		os.Exit(process.SupervisorMain(os.Args))
	}
	os.Exit(run())
}

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	streams := cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}
	return cli.Main(ctx, os.Args[1:], streams, os.Getenv, runners())
}
