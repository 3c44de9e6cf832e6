package qemu_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/node/driver/qemu"
)

// BenchmarkMachine is the life of a machine: until qemu executes it, until its
// system answers, until the next daemon has found it, and its stop by the power
// button. With -short it is none: a boot takes seconds.
func BenchmarkMachine(b *testing.B) {
	sum := map[string]time.Duration{}
	var resident int64
	for range b.N {
		dir := dataDir(b)
		d := open(b, qemu.Config{Dir: dir})
		stop := run(b, d)
		lap := time.Now()
		took := func(what string) {
			sum[what] += time.Since(lap)
			lap = time.Now()
		}
		task := listening(b, guest(b, "c/0", "run"))
		lap = time.Now()
		s := mustStart(b, d, task)
		took("start")
		ask(b, s, "/")
		took("answer")
		eventually(b, "the guest's readiness", func() bool { return hasLine(b, d, "c/0", "ready") })
		resident += rss(b, machines(dir)[0])
		stop()
		d = open(b, qemu.Config{Dir: dir})
		stop = run(b, d)
		lap = time.Now()
		if _, ok := status(b, d, "c/0"); !ok {
			b.Fatal("it is lost")
		}
		took("adopt")
		if err := d.Stop(b.Context(), "c/0", 0); err != nil {
			b.Fatal(err)
		}
		took("stop")
		stop()
	}
	for what, t := range sum {
		b.ReportMetric(1000*t.Seconds()/float64(b.N), what+"-ms")
	}
	b.ReportMetric(float64(resident>>20)/float64(b.N), "rss-MiB")
	b.ReportMetric(0, "ns/op")
}

// rss is what a process has in memory.
func rss(b *testing.B, pid int) (n int64) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		b.Fatal(err)
	}
	if _, err := fmt.Sscan(strings.Fields(string(text))[1], &n); err != nil {
		b.Fatal(err)
	}
	return n * int64(os.Getpagesize())
}
