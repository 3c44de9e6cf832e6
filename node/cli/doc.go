// Package cli is the hansa command: one file a verb, on top of the API's
// client.
//
// # Usage
//
//	os.Exit(cli.Main(ctx, os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, os.Getenv, runners))
//
// What runs a daemon or a dev mesh is handed in as Runners, so that this
// package needs no node; a verb whose runner is nil is not offered.
//
// # Invariants
//
//   - Exit codes: 0 done, 1 failed, 2 wrong usage (api.ExitCode).
//   - With -o json or yaml nothing but that goes to stdout; progress, hints and
//     errors go to stderr.
//   - Nothing here reads the process's globals: arguments, streams,
//     environment and clock are handed in, so that tests run it in process.
package cli
