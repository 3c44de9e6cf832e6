// Package table is a replicated observed-remove map: every peer holds a copy,
// any peer writes, and copies that exchange what they have become equal.
//
// # Model
//
// A write is an operation with a dot: the writer's id, the incarnation of its
// store, and a counter. A put adds a record under a key and supersedes the
// records that its writer had seen there; a removal names the dots that it
// removes and leaves no tombstone. Records that neither supersedes stay side
// by side as siblings, so that an edit beats a concurrent removal, and two
// concurrent edits are both kept until somebody writes over both.
//
// Each copy keeps a causal context: the dots that it has seen. A record that
// is absent while its dot is covered was removed (positive evidence); a dot
// that is not covered is new. That one rule tells a rumour that is new from
// one that is not, and lets two copies settle every difference. Nothing is
// ever deleted because a list does not mention it.
//
// # Layers
//
// [Table] is the pure core: bytes in, effects out, no goroutine, clock or
// random source, and the same steps give the same bytes; a simulation drives
// it directly. [Session] is the exchange between two copies, a message at a
// time, speaking in turns. [Replica] is the shell for a daemon: a mutex, a
// durable [Log], group commit, rumours that leave only after their batch is
// durable, and [Replica.Sync] over a stream.
//
// # Invariants
//
//   - The dot of a live record is covered by the context.
//   - A dot is covered only if its record was applied, or is known to be
//     superseded or removed. A refused record (Config.Check, a limit) is not
//     covered, so it is offered again and never mistaken for a removed one.
//   - A writer never reuses a counter, not even that of a write which failed.
//   - Records travel and are stored as the bytes that their writer made.
//
// # Trust
//
// Config.Check verifies what a record says. That a dot was removed cannot be
// verified: an admitted peer is believed when it says so, just as it would be
// if it wrote the removal itself, or said beforehand that what another one
// writes next is gone. Who can't live with that puts back what was removed.
// No peer can make a copy outgrow its limits, its context a frame, or a writer
// run out of counters.
//
// # Debugging
//
// Two copies are equal exactly if their [Table.Hash] is equal. [Table.Counts]
// and [Stats] tell what was refused and why copies stay apart.
package table
