// Package artifact moves files by digest between peers: the short protocol by
// which a keeper or a candidate gets a function's module or a program from a
// peer that holds it.
//
// Usage: a Mover serves what the local store holds (Serve, on a stream that
// a peer opened) and fetches what it does not (Fetch). A fetch is resumed
// where the last one ended, verified by the store before it counts, tried at
// one holder after another, and done once however many ask.
//
// On the wire: the asker sends one frame, the server answers with one frame
// and then the bytes from the offset that was asked. A frame is a 4-byte
// big-endian length and CBOR.
//
// Concurrency: all methods may be called from any goroutine.
package artifact
