// Package signature signs images and checks their signatures, in the form that
// cosign gives them, so that either takes what the other made.
//
// A signature is over a payload, a small JSON that names the digest of a manifest
// and the repository that it was signed in. Payloads are layers of an image that
// lies beside the signed one, under the tag sha256-HEX.sig, or refers to it as its
// subject; the signature is an annotation of its layer.
//
// # Usage
//
//	key, err := signature.ParsePrivate(file, password)
//	manifest, blobs, err := signature.Sign(ctx, key, subject, old, open) // old: the signatures that it has
//	found, err := signature.Read(ctx, manifest, open)
//	err := signature.Check(found, subject, keys)
//
// # Invariants
//
// A signature counts for one digest and one repository: what was signed as
// shop/worker does not pass as shop/api. Who may add signatures can't keep the good
// ones from being found by adding bad ones, up to signaturesMax of them in an image.
// Everything that is read is bounded. No error and no text holds a private key or
// a password.
//
// What is not done: certificates, transparency logs and time stamps. A key is
// trusted because a policy names it.
//
// Concurrency: everything is functions.
package signature
