// Package chain tells whether a part of a file is right before the whole file
// is there.
//
// Usage: Sum reads a file and gives its digest and its Chain; whoever wants the
// file asks anyone for the Chain's states (Chain.States, Parse), and may then
// take chunks from anybody, in any order: Chain.Check says of each whether it
// is right.
//
// A digest of sha256 or sha512 is made from one end of a file to the other, so
// it says nothing of a part. But the state of the hash at each boundary of
// chunks does: chunk i is right when it takes state i to state i+1. State 0 is
// the hash's own beginning, and the last chunk must give the digest. Nobody
// needs to be trusted: a chain of which every link holds ends in the digest,
// and then the file is the digest's. A chain with wrong states has a link that
// no bytes can make hold, since that would be a collision; of two chains the
// one that is wrong at the last place where they differ shows it at that chunk
// (Differ).
//
// States are what the hash computes with between blocks, 32 bytes for sha256
// and 64 for sha512: 164 kB for 5 GiB.
//
// Concurrency: a Chain does not change.
package chain
