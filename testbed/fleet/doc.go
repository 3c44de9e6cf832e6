// Package fleet is a mesh of many real peers in one process: QUIC, memberlist
// and Badger are what a daemon has, the network between the peers is in memory
// and the work is only pretended.
//
// # Usage
//
// Start, then Kill, Restart, Wipe and the faults of Network, then Close. Inside
// a synctest bubble all time is virtual, outside it is real. Peers are reached
// without HTTP (Peer.Door).
//
// # Concurrency
//
// A Fleet's methods are for one goroutine, but for Peers, Work and the peers'
// own methods, which any may call.
package fleet
