// Package image reads manifests of images and other OCI artifacts: which blobs a
// manifest is made of, and so what whoever holds it must hold.
//
// Usage: Parse reads one manifest. A Tree is a manifest and all that it is made
// of, down to the layers: Walk says what of one is here and what is missing, Fetch
// brings it here, and Trees remembers what it found, for those that ask often.
//
// What a tree does not hold: the subject that a manifest refers to, and layers
// that by their type are not distributed with an image.
//
// Invariants: what a manifest names is believed only for the blob with exactly
// that digest; a tree is bounded in depth and in parts, whoever made it.
//
// Concurrency: Trees may be used from any goroutine; everything else is functions.
package image
