// Package scale measures how fast a mesh places work, and what a peer takes:
// many real peers in one process (QUIC, memberlist and Badger with its syncs are
// what a daemon has), a network in memory without delay, and pretended work.
//
//	apps, several at once ──▶ any peer ──▶ answered ──▶ every slot started ──▶ every peer knows
//	then single slots, one after another ──▶ answered ──▶ started
//
// # Usage
//
// Measure starts a mesh, measures, checks what the mesh says against what was
// started, and ends it. Each peer has Config.Hosts hosts; no host may run more than
// it has room for. MeasureCost looks at a mesh that is idle, or changes at a rate, and
// Fit says from several such meshes how the cost of a peer grows.
//
// # Concurrency
//
// Measure and MeasureCost may be called from one goroutine at a time: they count the
// CPU and the memory of the whole process.
package scale
