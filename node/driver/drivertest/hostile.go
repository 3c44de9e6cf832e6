package drivertest

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
)

// enforced skips the test if this machine does not hold that limit.
func (d *daemon) enforced(limit string) {
	d.t.Helper()
	if l := d.Probe(d.t.Context()).Limits[limit]; !l.Enforced {
		d.t.Skipf("the limit on %s is not enforced here: %s", limit, l.Detail)
	}
}

// usage is what the task uses now.
func (d *daemon) usage(id string) (driver.Usage, bool) {
	d.t.Helper()
	all, err := d.Driver.(driver.Meter).Usage(d.t.Context())
	if err != nil {
		d.t.Fatalf("Usage: %v", err)
	}
	u, ok := all[id]
	return u, ok
}

func (d *daemon) meters() {
	d.t.Helper()
	if _, ok := d.Driver.(driver.Meter); !ok {
		d.t.Skip("this driver measures nothing")
	}
}

// hostileTests are of programs that take all that they can get.
var hostileTests = []test{
	{"MemoryHogIsReportedAsOOM", func(t *testing.T, m Machine) {
		d := start(t, m)
		d.enforced("memory")
		tries := 1
		if m.MissesOOM {
			tries = 5
		}
		for try := range tries {
			id := fmt.Sprint("hog/", try)
			hog := m.Program(t, id, "hog", strconv.Itoa(400<<20))
			hog.Memory = 128 << 20
			d.mustStart(hog)
			s := d.waitEnd(id)
			if s.OOM && s.ExitCode == 137 && strings.Contains(s.Reason, "memory") {
				break
			}
			if s.ExitCode != 137 || try == tries-1 {
				t.Errorf("a hog of 400 MiB with 128 MiB ended as %+v", s)
				break
			}
		}
		modest := m.Program(t, "c/1", "hog", strconv.Itoa(20<<20))
		modest.Memory = 256 << 20
		d.mustStart(modest)
		d.waitLine("c/1", fmt.Sprint("done ", 20<<20))
		// What is killed by others is not out of memory, nor is what ends by itself.
		end := m.Program(t, "c/2", "exit", "137")
		end.Memory = 128 << 20
		d.mustStart(end)
		if s := d.waitEnd("c/2"); s.OOM {
			t.Errorf("an exit with code 137 is %+v", s)
		}
	}},
	{"CPUHogIsHeldToItsShare", func(t *testing.T, m Machine) {
		d := start(t, m)
		d.enforced("cpu")
		task := m.Program(t, "c/0", "burn", "400")
		task.CPU = 200
		d.mustStart(task)
		d.waitEnd("c/0")
		took, err := strconv.Atoi(strings.TrimPrefix(strings.TrimSpace(texts(d.lines("c/0", driver.LogOptions{}))), "took "))
		if err != nil {
			t.Fatal(err)
		}
		// At a fifth of a core they take 2 s, on a busy machine longer.
		if took < 1000 {
			t.Errorf("400 ms of CPU took %d ms at a limit of 200m", took)
		}
	}},
	{"UsageIsMeasured", func(t *testing.T, m Machine) {
		d := start(t, m)
		d.meters()
		const size = 32 << 20
		d.mustStart(m.Program(t, "c/0", "spin"))
		d.mustStart(m.Program(t, "c/1", "hog", strconv.Itoa(size)))
		d.waitLine("c/1", fmt.Sprint("done ", size))
		var first driver.Usage
		Eventually(t, "the CPU of a task to be measured", func() bool {
			var ok bool
			first, ok = d.usage("c/0")
			return ok && first.CPU > 0
		})
		Eventually(t, "the CPU of a task to rise", func() bool {
			u, ok := d.usage("c/0")
			return ok && u.CPU >= first.CPU+100*time.Millisecond && u.At.After(first.At)
		})
		Eventually(t, "the memory of a task to show", func() bool {
			u, ok := d.usage("c/1")
			return ok && u.Memory >= size
		})
		d.mustStop("c/0", -1)
		if u, ok := d.usage("c/0"); ok {
			t.Errorf("a task that was stopped uses %+v", u)
		}
	}},
	{"LogFloodIsBounded", func(t *testing.T, m Machine) {
		d := start(t, m)
		size := m.Flood
		if size == 0 {
			size = floodDefault
		}
		if testing.Short() {
			size /= 8
		}
		task := m.Program(t, "c/0", "flood", strconv.FormatInt(size, 10))
		task.LogMax = 1 << 20
		d.mustStart(task)
		// Meanwhile others are served.
		d.mustStart(m.Program(t, "c/1", "lines", "3"))
		d.waitEnd("c/1")
		if got := texts(d.lines("c/1", driver.LogOptions{})); got != "line 0\nline 1\nline 2\n" {
			t.Errorf("beside a flood the log is %q", got)
		}
		if s := d.waitEnd("c/0"); s.ExitCode != 0 {
			t.Errorf("the flood ended as %+v", s)
		}
		if got := texts(d.lines("c/0", driver.LogOptions{Tail: 1})); got != "the end\n" {
			t.Errorf("the newest line is %q", got)
		}
		if m.LogBytes == nil {
			return
		}
		if n := m.LogBytes(t, "c/0"); n == 0 || n > task.LogMax {
			t.Errorf("of %d bytes the log keeps %d, over %d", size, n, task.LogMax)
		}
	}},
	{"EscapedChildrenEnd", func(t *testing.T, m Machine) {
		if m.Leftovers == nil {
			t.Skip("what runs on this machine can't be counted")
		}
		d := start(t, m)
		for i, verb := range []string{"fork", "orphan"} {
			id := fmt.Sprintf("c/%d", i)
			task := m.Program(t, id, verb)
			task.Grace = 100 * time.Millisecond
			d.mustRun(task)
			if n := m.Leftovers(t); n < 2 {
				t.Errorf("%s: %d processes run, want 2", verb, n)
			}
			d.mustStop(id, 0)
			if n := m.Leftovers(t); n != 0 {
				t.Errorf("%s: %d processes are left after Stop", verb, n)
			}
		}
	}},
}
