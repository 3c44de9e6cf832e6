//go:build linux

package process_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/process"
)

// benchMany is the number of tasks of benchmarks that have many.
const benchMany = 100

func BenchmarkStart(b *testing.B) {
	d := running(b, process.Config{})
	task := program(b, "c/0", "stubborn")
	for b.Loop() {
		start(b, d, task)
		b.StopTimer()
		if err := d.Stop(b.Context(), "c/0", -1); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

func BenchmarkStop(b *testing.B) {
	d := running(b, process.Config{})
	task := program(b, "c/0", "stubborn")
	for b.Loop() {
		b.StopTimer()
		start(b, d, task)
		b.StartTimer()
		if err := d.Stop(b.Context(), "c/0", -1); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkExec(b *testing.B) {
	d := running(b, process.Config{})
	start(b, d, program(b, "c/0", "run"))
	for b.Loop() {
		code, err := d.Exec(b.Context(), "c/0", driver.Exec{Command: []string{"true"}, Stdout: io.Discard, Stderr: io.Discard})
		if err != nil || code != 0 {
			b.Fatal(code, err)
		}
	}
}

// BenchmarkUsage measures all of a hundred tasks.
func BenchmarkUsage(b *testing.B) {
	d := running(b, process.Config{})
	many(b, d)
	for b.Loop() {
		if all, err := d.Usage(b.Context()); err != nil || len(all) != benchMany {
			b.Fatal(len(all), err)
		}
	}
}

func many(b *testing.B, d *process.Driver) {
	b.Helper()
	for i := range benchMany {
		start(b, d, driver.Task{
			ID: fmt.Sprintf("c/%d", i), Kind: driver.KindServer, Process: &driver.Process{Command: []string{"sleep", "1000"}},
		})
	}
}

// BenchmarkAdopt has a daemon find a hundred tasks that run. It tells what their
// supervisors take, each, of memory that they share with nobody.
func BenchmarkAdopt(b *testing.B) {
	dir := dataDir(b)
	first := open(b, process.Config{Dir: dir})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- first.Run(ctx) }()
	many(b, first)
	cancel()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	own, shared := 0, 0
	for i := range benchMany {
		o, s := memoryOf(b, supervisorOf(b, dir, fmt.Sprintf("c/%d", i)))
		own, shared = own+o, shared+s
	}
	for b.Loop() {
		d := open(b, process.Config{Dir: dir})
		all, err := d.List(b.Context())
		if err != nil || len(all) != benchMany {
			b.Fatal(len(all), err)
		}
		for _, s := range all {
			if s.State != driver.StateRunning {
				b.Fatalf("%+v", s)
			}
		}
		b.StopTimer()
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := d.Run(ctx); err != nil { // gives its watchers back
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(own)/benchMany, "KiB-own/task")
	b.ReportMetric(float64(shared)/benchMany, "KiB-pss/task")
}

// memoryOf is what a process has for itself, and that with its share of what it
// has together with others, in KiB.
func memoryOf(b *testing.B, pid int) (own, share int) {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 3 {
			continue
		}
		n, _ := strconv.Atoi(f[1])
		switch f[0] {
		case "Private_Clean:", "Private_Dirty:":
			own += n
		case "Pss:":
			share = n
		}
	}
	return own, share
}

// BenchmarkLog is a program that writes as fast as it can.
func BenchmarkLog(b *testing.B) {
	d := running(b, process.Config{})
	const size = 64 << 20
	b.SetBytes(size)
	for b.Loop() {
		task := program(b, "c/0", "flood", strconv.Itoa(size))
		start(b, d, task)
		ended(b, d, "c/0")
	}
}
