package placement

import (
	"cmp"
	"hash/fnv"
	"maps"
	"slices"
)

// sortedKeys is the keys of a map in order: no effect may depend on the order
// of a map.
func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

// fnvOf is a hash of a record, to see whether it changed.
func fnvOf(v any) uint64 {
	h := fnv.New64a()
	h.Write(Encode(v))
	return h.Sum64()
}
