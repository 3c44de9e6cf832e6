package store

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// BenchmarkCommit is durable batches of one value of 300 bytes. head=off
// leaves out the sync of the second witness, to show what it costs.
func BenchmarkCommit(b *testing.B) {
	for _, head := range []string{"on", "off"} {
		for _, callers := range []int{1, 64, 1024} {
			b.Run(fmt.Sprintf("head=%s/callers=%d", head, callers), func(b *testing.B) {
				s := open(b, b.TempDir(), func(c *Config) { c.skipHead = head == "off" })
				value := bytes.Repeat([]byte("v"), 300)
				var next atomic.Int64
				var wg sync.WaitGroup
				b.ResetTimer()
				for range callers {
					wg.Go(func() {
						for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
							if err := s.Commit(b.Context(), []Write{{"t", fmt.Sprint(i), value}}); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				b.StopTimer()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "batches/s")
				b.ReportMetric(float64(b.N)/float64(max(1, s.Stats().Syncs)), "batches/sync")
			})
		}
	}
}

// BenchmarkOpen opens, and so verifies, 100,000 records of 300 bytes, and says
// what that leaves in memory.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	s, err := tryOpen(dir)
	if err != nil {
		b.Fatal(err)
	}
	value := bytes.Repeat([]byte("v"), 300)
	for i := 0; i < 100_000; i += 1000 {
		var writes []Write
		for j := range 1000 {
			writes = append(writes, Write{"t", fmt.Sprint(i + j), value})
		}
		commit(b, s, writes...)
	}
	closeStore(b, s)
	for b.Loop() {
		if s, err = tryOpen(dir); err != nil {
			b.Fatal(err)
		}
		closeStore(b, s)
	}
	if text, err := os.ReadFile("/proc/self/status"); err == nil {
		for line := range strings.Lines(string(text)) {
			var kb float64
			if _, err := fmt.Sscanf(line, "VmRSS: %f kB", &kb); err == nil {
				b.ReportMetric(kb/1024, "MiB-resident")
			}
		}
	}
}
