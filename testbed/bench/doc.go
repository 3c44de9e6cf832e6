// Package bench measures how tightly placement fills hosts, on recorded requests
// of real clusters.
//
// Each host is a peer with a ledger of its own, as it is in the product
// (placement.Book); requests are planned by placement.Plan from digests of a
// given age, and asked of the peer that was chosen, which may refuse. There is no
// network, no disk and no clock: the same input gives the same figures.
//
// # Usage
//
//	hosts, requests, err := bench.ReadOpenB(dir, "default")
//	result, err := bench.OpenB(ctx, bench.OpenBConfig{Hosts: hosts, Requests: requests, Seed: 42})
//
// The recordings are not part of this repository; docs/PERFORMANCE.md says where
// they are from and what was found. Tests that need them look in HANSA_DATA, and
// skip where it names none.
package bench
