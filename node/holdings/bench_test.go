package holdings

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// BenchmarkHolders asks who has a file in a mesh of a thousand peers, each of which
// names as many as a record takes.
func BenchmarkHolders(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	h := New(Config{})
	for i := range 1000 {
		prefixes := make([]uint32, BlobsMax)
		for j := range prefixes {
			prefixes[j] = r.Uint32()
		}
		slices.Sort(prefixes)
		h.peers[digest(i)] = prefixes
	}
	d := digest(1)
	for b.Loop() {
		h.Holders(d)
	}
}

// BenchmarkRecord writes and reads a record of as many files as it takes.
func BenchmarkRecord(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	prefixes := make([]uint32, BlobsMax)
	for j := range prefixes {
		prefixes[j] = r.Uint32()
	}
	slices.Sort(prefixes)
	prefixes = slices.Compact(prefixes)
	for b.Loop() {
		data, err := encode(prefixes, false)
		if err != nil {
			b.Fatal(err)
		}
		if _, _, err := decode(data); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(len(data)), "bytes")
	}
}
