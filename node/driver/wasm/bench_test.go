package wasm_test

import (
	"io"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
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

// BenchmarkInvoke is one call after another of running functions: instances of
// their own for each call (cold), or one that stays (warm).
func BenchmarkInvoke(b *testing.B) {
	for _, tc := range callers(b) {
		b.Run(tc.name, func(b *testing.B) {
			d := running(b, wasm.Config{}, tc.task)
			var took []time.Duration
			for b.Loop() {
				begin := time.Now()
				callOnce(b, d, tc.path)
				took = append(took, time.Since(begin))
			}
			report(b, d, took)
		})
	}
}

// BenchmarkInvokeAtOnce is four callers for each core, and how many calls a core
// answers then.
func BenchmarkInvokeAtOnce(b *testing.B) {
	for _, tc := range callers(b) {
		b.Run(tc.name, func(b *testing.B) {
			d := running(b, wasm.Config{}, tc.task)
			var mu sync.Mutex
			var took []time.Duration
			b.SetParallelism(4)
			b.RunParallel(func(pb *testing.PB) {
				var own []time.Duration
				for pb.Next() {
					begin := time.Now()
					callOnce(b, d, tc.path)
					own = append(own, time.Since(begin))
				}
				mu.Lock()
				defer mu.Unlock()
				took = append(took, own...)
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds()/float64(runtime.GOMAXPROCS(0)), "calls/s/core")
			report(b, d, took)
		})
	}
}

type caller struct {
	name string
	task driver.Task
	path string
}

func callers(b *testing.B) []caller {
	tiny := asm{text: okHead + "ok", code: opPrint}
	cold := task(b, "c/0", tiny.file(b))
	tiny.start = "handle"
	warm := task(b, "c/0", tiny.file(b))
	warm.Function.Handler = "handle"
	all := []caller{
		{"go/cold", task(b, "c/0", guest(b)), "/status/200"},
		{"go/warm", warmTask(b, "c/0"), "/calls"},
		{"tiny/cold", cold, "/"},
		{"tiny/warm", warm, "/"},
	}
	for _, mode := range []string{"cold", "warm"} {
		path, err := buildC(b, mode)
		if err != nil {
			b.Log(err)
			continue
		}
		job := task(b, "c/0", path)
		if mode == "warm" {
			job.Function.Handler = "handle"
		}
		all = append(all, caller{"c/" + mode, job, "/"})
	}
	return all
}

func callOnce(b *testing.B, d *wasm.Driver, path string) {
	resp, err := d.Invoke(b.Context(), "c/0", get(path))
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.Status != 200 {
		b.Fatal(resp.Status, err)
	}
}

func report(b *testing.B, d *wasm.Driver, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
	if r := d.Requests()[0]; r.Count > 0 {
		b.ReportMetric(float64(r.CPU.Microseconds())/float64(r.Count), "cpu-µs")
	}
}
