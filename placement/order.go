package placement

import (
	"cmp"
	"hash/fnv"
	"maps"
	"slices"
)

// sortedKeys is the keys of a map in order: no effect may depend on the order
// of a map.
func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	if len(m) == 0 {
		return nil
	}
	keys := slices.AppendSeq(make([]K, 0, len(m)), maps.Keys(m))
	slices.Sort(keys)
	return keys
}

// fnvOf is a hash of a record, to see whether it changed.
func fnvOf(v any) uint64 {
	h := fnv.New64a()
	h.Write(Encode(v))
	return h.Sum64()
}
