// Package store is durable local state: Badger behind tables, and files by
// digest beside it.
//
// Usage: Open, then Commit (or CommitAsync) batches and Get or Scan; Run
// watches the disk meanwhile; Close ends it. What Commit acknowledged is on
// disk: it survives a kill at any moment.
//
// A batch is atomic. Badger syncs once a transaction and groups nothing, so
// one committer drains a queue into one transaction and one sync, and then
// acknowledges all of it.
//
// # What is guarded, and how
//
// Badger opens normally after damage to its log and serves what is left; it
// may serve a wrong value, or say "not found" of a key that was written. For a
// ledger "not found" means to promise the same capacity twice. So:
//
//   - every value carries a checksum over its table, key and value;
//   - every batch has a sequence number and a hash that is chained to the one
//     before; the last of them stands in the file head as well, which is
//     written and synced before the acknowledgement. A store that is behind
//     its head has lost something;
//   - an additive hash over the live keys of each table is kept with each
//     batch and checked at open: lost, changed and resurrected keys show.
//
// A store that fails a check is not opened. It is put aside as a whole
// (Config.Quarantine), and the peer starts with an empty store and a new
// incarnation, or Open says ErrCorrupt.
//
// Badger dies of SIGBUS on a full disk, so writes are refused (ErrFull) below
// a floor of free space, which is looked at before every batch and is above
// what Badger may still write by itself. The ballast is kept for opening and
// closing a store on a disk that others filled to the last byte; there it is
// opened without merging, until there is room. What no floor can guard against
// is a disk that loses the whole floor in the fractions of a second that one
// merge takes.
//
// # Layout
//
//	format.json   version of the layout, mesh, highest incarnation
//	lock          held while open
//	db/           Badger
//	head          the last batch: two slots, written in turn
//	ballast       space to give back
//	blobs/        files by digest: sha256/ and sha512/; partial/ and upload/,
//	              unfinished; quarantine/, rotten
//	quarantine-…  a store that was damaged
//
// Concurrency: all methods may be called from any goroutine.
//
// Invariants: batches are applied in the order in which they were queued; an
// incarnation is never used twice by one data folder.
package store
