// Package identity is a peer's key: its id, its signatures and its
// certificate.
//
// A peer's id is the lower-case base32, without padding, of the first 16 bytes
// of the SHA-256 of its Ed25519 public key. Certificates are self-signed and
// carry the key, nothing else: keys are pinned, dates are not looked at, so
// that a clock that starts in 1970 locks nobody out.
//
// Concurrency: an Identity does not change and may be used from anywhere.
package identity
