// Package artifact moves files by digest between peers: modules of functions,
// programs, and the blobs of images.
//
// Usage: a Mover serves what the local store holds (Serve, on a stream that a
// peer opened) and fetches what it does not (Fetch). Callers of one digest
// share a fetch. A fetch takes chunks from several holders at once, the near
// ones first; it serves what it has got so far; and it hears from those that it
// asks who else is fetching. So a file that many want spreads among them, and
// leaves the peer that had it first a few times, however many they are.
//
// Nobody is trusted: each chunk is checked against the chain of its digest
// (package store/chain), before it is kept and before it is sent. A chunk that
// fails is asked of another. Whether its sender lied, or whoever gave the
// chain, is found by having both show a chunk at the last place where they
// differ; the liar is avoided for a while, and told of (Config.Lied).
//
// Read gives out a file while it still comes, from its beginning, where two holders
// say the same of it; see Reader for what that is worth.
//
// # On the wire
//
// A stream is about one digest. The asker sends requests, each a frame: what is
// there ("have"), the states of the chain, or one chunk; it may send the next
// before it has read the answer. Each is answered by one frame, in their order,
// and the bytes that it announces. "wait" frames may come before an answer:
// their sender is reading a file through, or busy with others' chunks. A "have"
// may be held until there is more to tell. A frame is a 4-byte big-endian
// length and CBOR.
//
// # Bounds
//
// Streams, chunks in memory, chunks sent at once, the time without progress: see
// the constants. A holder that is silent for a part of a second is left behind
// by asking others too; one that sends next to nothing is given up. While a peer
// waits for its turn, chunks that stand still are broken off, and slow ones of those
// that have more than their share.
//
// Concurrency: all methods may be called from any goroutine. Each fetch has one
// goroutine, and one for each holder that it has a stream to; Fetch returns
// after they have, unless another caller still wants the file.
package artifact
