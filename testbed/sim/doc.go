// Package sim runs meshes of deciding cores in virtual time, from a seed.
//
// # Usage
//
// Run takes a Plan and a seed, and returns a Report: what was done, and every
// invariant that did not hold. The same seed gives the same run, event by
// event. A failing seed of the tests prints one command that replays it with
// its trace:
//
//	go test ./testbed/sim -run '^TestSim$' -sim.seed=N -v
//
// # What is real and what is not
//
// Each peer is a real placement.Peer over real replicas of gossip/table. Links
// lose, delay, double, reorder and cut messages, in one direction too; disks
// forget what was not synced and fill up; machines die with or without their
// work; failure detection takes its time and differs from peer to peer; clocks
// are skewed, one by ten minutes. No peer lies: that is placement/forged_test.go.
//
// # Invariants
//
// Checked after each step: no host over-committed, by its ledger and by what
// runs; no acknowledged intent lost; no term used by two stewards; no order
// under a lower term taken, or answered before its term is on disk; no ask
// granted twice; of edits that compare with one version one made, and a retry
// made once. Checked after healing: every
// slot placed once if it fits anywhere, tables equal, nothing reserved,
// nothing left of what was removed.
//
// # Debugging
//
// A trace has one fixed-width line an event: t site peer what id detail.
package sim
