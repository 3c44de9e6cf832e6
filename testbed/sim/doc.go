// Package sim runs meshes of deciding cores in virtual time, from a seed.
//
// # Usage
//
// Run takes a Plan and a seed, and returns a Report: what was done, and every
// invariant that did not hold. The same seed gives the same run, event by
// event. PlanOf draws a plan; Shrink makes one that fails small. A failing seed
// of the tests prints one command that replays it with its trace:
//
//	go test ./testbed/sim -run '^TestSim$' -sim.seed=N -v
//
// A new kind of fault is a function and a line in kinds.go; what a run promises
// is the oracle's (oracle.go) and, once all has healed, settle.go's.
//
// # What is real and what is not
//
// Each peer is a real placement.Peer over real replicas of gossip/table. Links
// lose, delay, double, reorder and cut messages, in one direction too; disks
// forget what was not synced, fill up, are slow, are lost, and come back from older
// backups; machines die with or without their work; failure detection takes its
// time, differs from peer to peer, and is wrong; clocks are skewed, jump and
// drift; hosts shrink; peers join late, are shut out, and run release n-1. What a core
// publishes is in its table at once or, in half of the seeds, late, as a daemon's
// publisher writes it (writer.go). Images that apps are pinned to (pins.go) are
// with some peers, rot, and go with a disk; what nobody needs is never swept. No peer
// lies: that is placement/forged_test.go.
//
// # Invariants
//
// Checked after each step: no host over-committed, by its ledger and by what
// runs; no acknowledged intent lost; no term used by two stewards; no order
// under a lower term taken, or answered before its term is on disk; no ask
// granted twice; of edits that compare with one version one made, and a retry
// made once; no exclusive slot executing twice, or under a number that does not
// rise, and no vote on it but a keeper's; nothing starts without its bytes. Checked after healing: every
// slot placed once if it fits anywhere, each acknowledged edit standing or edited
// over by one that knew of it (edits.go), tables equal, nothing reserved,
// nothing left of what was removed.
//
// # Debugging
//
// A trace has one fixed-width line an event: t site peer what id detail.
package sim
