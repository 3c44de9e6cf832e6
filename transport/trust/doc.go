// Package trust says who belongs to a mesh: admissions, each signed by a peer
// that was admitted before, back to the mesh's root key; revocations, which
// outrank them; and invitations.
//
// Records are CBOR, signed by the peer that made them, kept and relayed as
// the original bytes. A Set takes them in any order: one whose signer is not
// known yet waits, and counts when the chain is complete.
//
// The table that carries records believes whoever removes one; so its owner
// holds it against the set (ByKey, Replaced) and puts back what it lost.
//
// Concurrency: a Set may be used from any goroutine.
//
// Invariants: what a Set says depends on the records in it, not on their
// order, up to the limits of what it holds; the shortest chain to a peer counts,
// so that no peer can push out those that let it in; a revocation is never
// taken back, and what a revoked peer signed stands, its own revocations
// included: shut a stolen key out soon. Time is an argument.
package trust
