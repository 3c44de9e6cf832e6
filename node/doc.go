// Package node is the daemon: it wires placement, gossip, transport and store,
// and is the only package that knows all four.
//
// # Usage
//
//	n, err := node.New(ctx, cfg, deps)   // opens, wires and starts nothing
//	err = n.Run(ctx)                     // blocks until ctx ends
//
// Init founds a mesh and Join enters one: both prepare the data folder that New
// opens, and start nothing. What a data folder holds is in home.go.
//
// # Where things are
//
//   - loop.go steps the core (package placement) on one goroutine; carry.go
//     carries its effects out: batches to the store, messages to outbox.go,
//     records to publish.go, work to package runner, answers to people.
//   - feed.go tells the core what it cannot see: this machine, other peers,
//     round trips, the disk (disk.go); collect.go has drivers delete what is left
//     of work that is over.
//   - network.go wires the one UDP port; tables.go the replicated tables;
//     trust.go and trust_keep.go who belongs to the mesh.
//   - backend_*.go answer the admin API; query.go asks other peers for what only
//     they know.
//
// # Concurrency
//
// Run owns every goroutine and returns after the last. The core belongs to the
// loop's goroutine: others post an event, or look at it between two steps.
// carry runs on that goroutine and never waits for the loop. Methods of the
// backend may be called from any goroutine once Started is closed.
//
// # Invariants
//
//   - Batches reach the store in the order in which the core asked for them, and
//     the core is told of each when it is on disk, or that it is not.
//   - What the core publishes is over what it was told of, and over no edit that
//     it has not seen.
//   - Nothing is granted on a driver before it has said what it runs.
//   - A failure of New leaves nothing open; a failure of a part ends Run.
//
// # Debugging
//
// /debug/state (DebugState) shows all parts as text; Deps.Trace takes a line
// for each step of the core; a panic that the core contained is logged with its
// stack and counted.
package node
