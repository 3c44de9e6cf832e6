// Package netns is hosts with a network each, on one machine: anonymous network
// namespaces, and between them a router in this process that delays, drops and
// cuts by package links. It needs no module of the kernel but tun, no tool, and
// root.
//
//	      namespace           this process            namespace
//	┌───────────────────┐   ┌─────────────┐   ┌───────────────────┐
//	│ hansa ── hansa0 ◀─┼───┼▶ Net: delay,│   │                   │
//	│   lo   10.77.0.1  │   │  loss, cut ◀┼───┼─▶ hansa0 ── hansa │
//	└───────────────────┘   └─────────────┘   │  10.77.0.2   lo   │
//	                                          └───────────────────┘
//
// The interfaces carry IP packets, not Ethernet frames: sites of a WAN have no
// broadcast domain in common, and no neighbours to forget in a cut.
//
// # Usage
//
// New, Add for each host, Run; then Host.Start runs a command inside and
// Host.Dial connects from inside. Close frees everything: a namespace lasts as
// long as a process or a file of it.
//
// # Concurrency
//
// Everything may be called from any goroutine.
package netns
