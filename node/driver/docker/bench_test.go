package docker_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/drivertest"
)

// BenchmarkStart is from Start to running, with the image present and on a
// network that others of its app use already.
func BenchmarkStart(b *testing.B) {
	p := newPlace(b, engine(b, "docker"))
	d, _ := p.running(b, nil)
	task := func(id string) driver.Task {
		t := program(id, "run")
		t.Container.Network = "app"
		return t
	}
	if _, err := d.Start(b.Context(), task("c/first")); err != nil {
		b.Fatal(err)
	}
	for i := 0; b.Loop(); i++ {
		if _, err := d.Start(b.Context(), task(fmt.Sprint("c/", i))); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := d.Stop(b.Context(), fmt.Sprint("c/", i), -1); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// BenchmarkStop is from Stop to removed, of a program that heeds its signal.
func BenchmarkStop(b *testing.B) {
	p := newPlace(b, engine(b, "docker"))
	d, _ := p.running(b, nil)
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		id := fmt.Sprint("c/", i)
		if _, err := d.Start(b.Context(), program(id, "run")); err != nil {
			b.Fatal(err)
		}
		drivertest.Eventually(b, "the program", func() bool { return strings.Contains(drivertest.LogText(b, d, id), "ready") })
		b.StartTimer()
		if err := d.Stop(b.Context(), id, 0); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkReadopt is from the start of a daemon to the first List, with 100
// containers that run; it also tells what one that idles takes.
func BenchmarkReadopt(b *testing.B) {
	const n = 100
	p := newPlace(b, engine(b, "docker"))
	d, stop := p.running(b, nil)
	for i := range n {
		if _, err := d.Start(b.Context(), program(fmt.Sprint("c/", i), "run")); err != nil {
			b.Fatal(err)
		}
	}
	shims, resident := 0, 0
	for _, pid := range processesOf(p.h.dir + "/") {
		if line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil && strings.Contains(string(line), "shim") {
			shims++
			resident += memory(pid)
		}
	}
	usage, err := d.Usage(b.Context())
	if err != nil || len(usage) == 0 {
		b.Fatalf("usage of %d containers, %v", len(usage), err)
	}
	var inside int64
	for _, u := range usage {
		inside += u.Memory
	}
	stop()
	for b.Loop() {
		d := p.open(b, nil)
		all, err := d.List(b.Context())
		if err != nil || len(all) != n {
			b.Fatalf("List has %d, %v", len(all), err)
		}
		b.StopTimer()
		end(b, d.Run)
		b.StartTimer()
	}
	b.ReportMetric(float64(resident)/float64(max(shims, 1))/1024, "KiB-shim/container")
	b.ReportMetric(float64(inside)/float64(len(usage))/1024, "KiB-inside/container")
}

// memory is the resident bytes of a process.
func memory(pid int) int {
	b, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(pid), "statm"))
	var size, resident int
	if err == nil {
		_, _ = fmt.Sscan(string(b), &size, &resident)
	}
	return resident * os.Getpagesize()
}

// BenchmarkLogs is output from a container to the log on disk.
func BenchmarkLogs(b *testing.B) {
	const size = 32 << 20
	p := newPlace(b, engine(b, "docker"))
	d, _ := p.running(b, nil)
	b.SetBytes(size)
	for i := 0; b.Loop(); i++ {
		id := fmt.Sprint("c/", i)
		task := program(id, "flood", fmt.Sprint(size))
		task.LogMax = 4 * size
		if _, err := d.Start(b.Context(), task); err != nil {
			b.Fatal(err)
		}
		for over := false; !over; time.Sleep(10 * time.Millisecond) {
			all, err := d.List(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			for _, s := range all {
				over = over || s.ID == id && s.State.Ended()
			}
		}
		b.StopTimer()
		if got := len(drivertest.LogText(b, d, id)); got < size {
			b.Fatalf("%d bytes of %d are in the log", got, size)
		}
		if err := d.Stop(b.Context(), id, 0); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
