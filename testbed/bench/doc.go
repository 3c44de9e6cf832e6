// Package bench measures how tightly placement fills hosts, on recorded requests
// of real clusters, and how near it places what is to be near, on recorded round
// trips. And what comes of plans where there is much to plan over: of regions that are
// known by folds of their digests, and of many stewards that plan at once.
//
// Each host is a peer with a ledger of its own, as it is in the product
// (placement.Book); requests are planned by placement.Plan from digests of a
// given age, and asked of the peer that was chosen, which may refuse. There is no
// network, no disk and no clock: the same input gives the same figures. (Not so of
// WAN: where two coordinates are the same, what parts them is drawn at random by the
// library that finds them.)
//
// # Usage
//
//	hosts, requests, err := bench.ReadOpenB(dir, "default")
//	result, err := bench.OpenB(ctx, bench.OpenBConfig{Hosts: hosts, Requests: requests, Seed: 42})
//
//	matrix, err := bench.ReadMatrix(path)
//	result, err := bench.WAN(ctx, bench.WANConfig{Matrix: matrix, Seed: 1})
//
//	result, err := bench.Regions(ctx, bench.RegionsConfig{Tiers: bench.TwoTiers, Seed: 1})
//	result, err := bench.Herd(ctx, bench.HerdConfig{Rule: bench.HerdPlan, Age: time.Second, Seed: 1})
//
// The recordings are not part of this repository; docs/PERFORMANCE.md says where
// they are from and what was found. Tests that need them look in HANSA_DATA, and
// skip where it names none.
package bench
