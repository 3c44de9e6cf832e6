package trust

import (
	"fmt"
	"testing"

	"github.com/hansa-mesh/hansa/transport/identity"
)

// BenchmarkLoad is a start: a thousand peers let in by ten, of which three
// were shut out again. What it costs is the signatures.
func BenchmarkLoad(b *testing.B) {
	root := newIdentity(b)
	var inviters []*identity.Identity
	var records [][]byte
	for i := range 10 {
		id := newIdentity(b)
		inviters = append(inviters, id)
		records = append(records, admit(b, root, id, fmt.Sprint(i), 1))
	}
	full := NewSet(root.Public())
	addAll(b, full, records...)
	for i := range 1000 {
		r := admit(b, inviters[i%10], newIdentity(b), fmt.Sprint("p", i), 2)
		records = append(records, r)
		addAll(b, full, r)
	}
	for _, id := range inviters[:3] {
		records = append(records, ok(b)(Revoke(root, Revocation{Peer: id.ID(), Knew: full.AdmittedBy(id.ID())})))
	}
	b.ResetTimer()
	for range b.N {
		s := NewSet(root.Public())
		addAll(b, s, records...)
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/float64(len(records)), "µs/record")
}
