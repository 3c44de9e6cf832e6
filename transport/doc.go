// Package transport is peers reaching each other over QUIC, on one UDP port.
//
// Usage: New, then Handle and HandleStream for what this peer answers, then
// Run; Call and Open reach other peers by id. PacketConn, DialGossip and
// AcceptGossip are the same port and the same trust as gossip wants them. Join
// is how a newcomer gets in.
//
// # Trust
//
// TLS 1.3, mutual, keys pinned: a dialler checks that the key at the other end
// is the one that it dials. Each end opens a connection with a hello, its
// chain of admissions back to the root, and takes nothing from the other end
// before that one is known to belong to the mesh. (In TLS 1.3 a dialler may
// believe that it is connected while the other end has not decided yet; so it
// is the accepting end that holds streams and datagrams back, and a dialler
// that it turns away learns why from the calls that it made: "refused: ...",
// of kind forbidden.) A stranger's hello can bring its own chain, whole, and
// nothing else. A connection is closed with the reason when its peer is shut
// out. There are no session tickets and no 0-RTT, under which an old
// certificate could outlive its peer's revocation.
//
// A newcomer has a protocol of its own (hansa-join/1): one request of at most
// 4 KiB and its answer. It shows its invitation only after the other end has
// proved that it belongs to the invitation's mesh. (It can't know of
// revocations yet, so an invitation that is redeemed at the address of a peer
// that was shut out is shown to that peer.)
//
// # Frames
//
// A stream begins with padding (zeros, so that its first packet is large
// enough to be answered with a stateless reset) and a byte for its kind. A
// call is a head (method, timeout, length) and a request; the answer is a
// status and a response. Everything is bounded, and each peer has its share
// of it (limit.go), so that one that floods, stalls or fetches no answer harms
// itself; an error crosses with its Kind.
//
// A call is made at most once: whether one that ended as unavailable or
// timed out was done is not known, so what must be done once says so itself.
//
// # Connections
//
// They are dialled on demand, one attempt at a time for each peer, shared by
// all that speak to it, kept alive, and closed when nothing used them for a
// while. After a failed dial a peer is not tried again for a moment, and its
// last error is the answer; hearing from it, or a new address, ends that wait.
// A peer that restarted at its port resets what belongs to its former life:
// the call that meets this fails at once, the next one connects.
//
// # Debugging
//
// Peers lists the live connections, Stats counts what was done, refused and
// dropped. For bulk over long links raise net.core.rmem_max and wmem_max to
// some 8 MiB.
//
// Concurrency: all methods may be called from any goroutine; Handle and
// HandleStream before Run. Run owns every goroutine.
package transport
