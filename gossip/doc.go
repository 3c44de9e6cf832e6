// Package gossip is everything that spreads by itself through the mesh:
// membership, failure detection, network coordinates and digests.
package gossip
