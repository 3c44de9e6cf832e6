// Package gossip is everything that spreads by itself through the mesh: who is
// there and who is dead, how far peers are from each other, each peer's digest,
// and the rumours and anti-entropy of replicated tables. It carries bytes;
// meaning stays with the owners of digests and tables.
//
// # Usage
//
// New wires, Run blocks and owns what it starts. The network is given as
// standard types: a net.PacketConn whose addresses are peers' ids, and
// functions that dial and accept a net.Conn; a peer is a string. Join adds
// peers to begin with; every peer that was ever a member is kept, and tried
// again for ever, so that a cut of any length heals by itself. Members, RTT,
// Digest and Settled answer from memory.
//
// # Trust
//
// The transport vouches for the hop; a message may have been relayed, so what
// is said about a peer is signed by that peer: its metadata (name, site,
// address, version) and its digest. KeyOf says who is admitted; anything about
// or from anybody else is dropped. Suspicion and death cannot be signed by
// their subject. So nobody is believed about them: whoever hears that a peer is
// suspect or dead asks it, by itself, by way of others and over a stream, and holds
// it for dead once it has had no answer for two seconds, not before and on nobody's
// word; later where it is late itself, or where many were suspect for nothing (see
// lateness): members that lie can delay by some seconds what others know of a death.
// Members that lie, however many, cause questions and refutations; to have a
// live peer called dead they would have to keep it from answering. What they can do
// is hide a death, for incarnations and answers are not signed: one that sends
// answers with numbers that it guesses, or life signs of the dead with the last metadata
// that they signed, keeps them alive for others as long as it goes on; and a live peer of
// which the highest incarnation is told can be kept suspect.
// Accusations that nobody could refute are taken neither from packets nor from streams.
// Hashes for Settled are not signed either, since they only inform.
//
// One member can fill no table of what is known here with things made up: it
// is held of peers that are known, and up to a limit. Exchanges of tables are
// served to two peers at a time, one stream of each, and end when a peer stalls.
//
// # Concurrency
//
// All methods are safe for concurrent use. Config.Learn, KeyOf and RTT are
// called with locks held: they must be quick, and must not call back.
// Config.Events is called from one goroutine, in order, without locks.
//
// # Invariants
//
//   - Nothing larger than messageBytesMax is ever queued: memberlist would keep
//     it for ever without sending it. Larger operations are announced, and
//     fetched by anti-entropy.
//   - Metadata and digests only go forward: (generation, revision) of a peer's
//     metadata and the sequence of its digest never decrease.
//   - An operation of a table is relayed only after it is durable here.
//
// # Debugging
//
// Stats counts what was dropped and why, and how deep the queues are: a depth
// that stays high means that gossip is saturated. SettledView tells who differs.
package gossip
