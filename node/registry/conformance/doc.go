// Package conformance runs the conformance program of the OCI distribution
// specification against a registry, from a test.
//
// The program is a tool of go.mod: it is built once a test binary and runs as a
// process of its own, so that nothing of it is in any program of ours.
package conformance
