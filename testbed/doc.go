// Package testbed holds meshes of many peers: simulated (sim), as real
// processes behind a user-space relay (relay, process), and the scenarios
// that run on them. Nothing outside testbed imports it.
package testbed
