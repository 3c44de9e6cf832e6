// Package image reads manifests of images and other OCI artifacts: which blobs a
// manifest is made of, and so what whoever holds it must hold.
//
// Concurrency: functions only.
package image
