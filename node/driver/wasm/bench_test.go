package wasm_test

import (
	"io"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/node/driver/wasm"
)

// BenchmarkStart is the time from Start to running: cold compiles, cached
// loads compiled code from disk, shared finds it in memory.
func BenchmarkStart(b *testing.B) {
	path := guest(b)
	b.Run("cold", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			d := open(b, wasm.Config{CacheDir: filepath.Join(b.TempDir(), "c")})
			b.StartTimer()
			if _, err := d.Start(b.Context(), task(b, "c/0", path)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("cached", func(b *testing.B) {
		running(b, wasm.Config{}, task(b, "c/0", path)) // fills the cache
		for b.Loop() {
			d := open(b, wasm.Config{})
			if _, err := d.Start(b.Context(), task(b, "c/0", path)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("shared", func(b *testing.B) {
		d := running(b, wasm.Config{}, task(b, "c/0", path))
		job := task(b, "c/1", path)
		for b.Loop() {
			if _, err := d.Start(b.Context(), job); err != nil {
				b.Fatal(err)
			}
			if err := d.Stop(b.Context(), "c/1", -1); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkInvoke is one call after another of running functions.
func BenchmarkInvoke(b *testing.B) {
	for name, path := range map[string]string{
		"go":   guest(b),
		"tiny": asm{text: okHead + "ok", code: opPrint}.file(b),
	} {
		b.Run(name, func(b *testing.B) {
			d := running(b, wasm.Config{}, task(b, "c/0", path))
			var took []time.Duration
			for b.Loop() {
				begin := time.Now()
				resp, err := d.Invoke(b.Context(), "c/0", get("/status/200"))
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.Status != 200 {
					b.Fatal(resp.Status, err)
				}
				resp.Body.Close()
				took = append(took, time.Since(begin))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
		})
	}
}
