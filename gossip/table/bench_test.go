package table

import (
	"fmt"
	"testing"
)

func BenchmarkApply(b *testing.B) {
	writer := newTable(b, "aaaaaaaaaaaaaaaaaaaaaaaaaa", 1)
	rumours := make([][]byte, 10_000)
	for i := range rumours {
		rumours[i] = put(b, writer, fmt.Sprint("key/", i%2000), string(make([]byte, 300)))
	}
	b.ReportAllocs()
	b.ResetTimer()
	var tab *Table
	for i := range b.N {
		if i%len(rumours) == 0 {
			tab = newTable(b, "b", 1)
		}
		if _, err := tab.Apply(rumours[i%len(rumours)]); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "applied/s")
}

// BenchmarkDuplicate is the price of a rumour that is heard again.
func BenchmarkDuplicate(b *testing.B) {
	rumour := put(b, newTable(b, "a", 1), "key", string(make([]byte, 300)))
	tab := newTable(b, "b", 1)
	apply(b, tab, rumour)
	b.ReportAllocs()
	for b.Loop() {
		apply(b, tab, rumour)
	}
}

// BenchmarkSync exchanges tables of 10,000 records of 300 bytes, by 50
// writers, that differ by ten.
func BenchmarkSync(b *testing.B) {
	for _, what := range []string{"idle", "edits", "removals"} {
		b.Run(what, func(b *testing.B) {
			x, y := newTable(b, "x", 1), newTable(b, "y", 1)
			for i := range 10_000 {
				w := newTable(b, fmt.Sprintf("writer-%019d", i%50), 1)
				w.last = uint64(i / 50)
				raw := put(b, w, fmt.Sprint("key/", i), string(make([]byte, 300)))
				apply(b, x, raw)
				apply(b, y, raw)
			}
			b.ResetTimer()
			var bytes int64
			for i := range b.N {
				b.StopTimer()
				for j := range 10 {
					key := fmt.Sprint("key/", (i*10+j)*7%10_000)
					if what == "edits" || what == "removals" {
						put(b, x, key, string(make([]byte, 300)))
					}
				}
				if what == "removals" {
					converse(b, x, y, allFrames)
					for j := range 10 {
						remove(b, x, fmt.Sprint("key/", (i*10+j)*7%10_000))
					}
				}
				b.StartTimer()
				s, _ := converse(b, y, x, allFrames)
				bytes += s.BytesIn + s.BytesOut
			}
			b.ReportMetric(float64(bytes)/float64(b.N), "B/sync")
		})
	}
}
