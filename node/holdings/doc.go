// Package holdings is which peer has which files, as all peers tell each other:
// one record a peer, in a replicated table, with the first 32 bits of the digest
// of each file, sorted, as differences. That is some three bytes a file.
//
// Usage: Open with the table, List to say what is here (it is published at most
// every two seconds, when it changed), Holders to ask who has a file.
//
// What it says is a hint. Two digests may begin alike, what a peer had it may have
// dropped since, and a peer with more files than a record takes names some of them
// only. So whoever asks a holder in vain asks the next, and then everybody in
// reach; nothing is deleted on the word of a record.
//
// A manifest of which parts are missing is not listed: a peer that lists the root
// of an image has all of it.
//
// Invariants: a record is taken only with the signature of the peer that it is
// about; its form and length are checked before it is kept.
//
// Concurrency: all methods may be called from any goroutine.
package holdings
