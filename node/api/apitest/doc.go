// Package apitest is a small real Backend in memory: apps are stored and
// "placed" at once over a few peers that are only names. Tests of the API, of
// its client and of the command run against it.
//
// # Concurrency
//
// All methods of Backend are safe for concurrent use; its exported fields are
// set before it is used.
package apitest
