// Package dev is a whole mesh in one process, to play with and to test with:
// N sites with one peer each, over an in-memory network that simulates the
// WAN between them, and everything else real (QUIC, gossip, Badger, drivers).
//
// Usage: New and Run; Control speaks to a running mesh over its unix socket
// to partition it, heal it, and kill and restart sites.
//
// Concurrency: a Mesh's methods may be called from any goroutine while Run
// runs.
package dev
