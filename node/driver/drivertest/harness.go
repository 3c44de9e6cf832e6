package drivertest

import (
	"bufio"
	"context"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
)

// patience is how long the suite waits for what must happen, also on a machine that has
// ten times as much to do as it can; see Harness.Patience.
var patience = 2 * time.Minute

// Harness tells the suite how to use one driver. New returns a fresh machine
// for each test.
type Harness struct {
	New func(t *testing.T) Machine
	// Cannot maps the name of a test that can't apply to the reason.
	Cannot map[string]string
	// Patience is how long the suite waits for what must happen, and twenty times
	// as long as a start may take that has a deadline soon, for what boots a system
	// first. By default it waits for two minutes, and a start has its usual time.
	Patience time.Duration
}

// Machine is a place where tasks run, which outlives driver objects. What may be
// nil says what a driver can't do, and the tests that need it are skipped.
type Machine struct {
	// Open returns a driver over the machine's state, as the start of a
	// daemon makes one. The suite calls Run.
	Open func(t *testing.T, events func(driver.Event)) driver.Driver
	// Program returns a task that runs a verb of Guest; nil if the driver
	// runs functions only.
	Program func(t *testing.T, id string, verb ...string) driver.Task
	// Command is how Exec runs a verb of Guest within a task; nil if the driver
	// is no Execer.
	Command func(t *testing.T, verb ...string) []string
	// Function returns a task whose function answers a POST with the body it
	// got, and a GET with its environment, one NAME=value a line; nil if the
	// driver runs none.
	Function func(t *testing.T, id string) driver.Task
	// Warm is like Function, for one with a handler, which stays in memory; nil
	// if the driver knows none.
	Warm func(t *testing.T, id string) driver.Task
	// Damage does what a crash of the machine's own helpers would to a
	// running task, or nil.
	Damage func(t *testing.T, id string)
	// Leftovers counts what runs on the machine (processes), or nil.
	Leftovers func(t *testing.T) int
	// Litter leaves something behind of a task with that id, which List does not
	// name, as a crash would; Littered says whether there still is anything of
	// it. Both are nil if the driver is no Collector.
	Litter   func(t *testing.T, id string)
	Littered func(t *testing.T, id string) bool

	// Network is true if programs have one of their own: they listen on
	// Port.Inside, where others listen on the port of Port.Host.
	Network bool
	// Folder is one within tasks, not there before, in which the suite puts files
	// and volumes; default folderDefault.
	Folder string
	// Disk is the folder with all that the driver keeps on disk, where a secret
	// must never be found; empty if it has none.
	Disk string
	// LogBytes is what a task's log takes on disk, or nil.
	LogBytes func(t *testing.T, id string) int64
	// Flood is how many bytes a program writes at once, as fast as it can;
	// default floodDefault.
	Flood int64
	// MissesOOM is true if an engine tells the driver how programs end, which on a busy
	// machine may hear of an end before it hears why: one of a few has to be told right.
	MissesOOM bool
	// Many is how many starts and stops, one after the other, leave nothing behind;
	// default manyDefault. With -short it is a third of that.
	Many int
}

const (
	folderDefault = "/srv/hansa-suite"
	floodDefault  = 200 << 20
	manyDefault   = 100
)

func (m Machine) many() int {
	n := m.Many
	if n == 0 {
		n = manyDefault
	}
	if testing.Short() {
		n /= 3
	}
	return n
}

// path is a place within tasks.
func (m Machine) path(name string) string {
	if m.Folder == "" {
		return folderDefault + "/" + name
	}
	return m.Folder + "/" + name
}

// listens is the number of the port that a program must listen on.
func (m Machine) listens(p driver.Port) string {
	if m.Network || p.Host == "" {
		return strconv.Itoa(p.Inside)
	}
	_, port, _ := strings.Cut(p.Host, ":")
	return port
}

// daemon is one life of a driver object, with what it reported.
type daemon struct {
	driver.Driver
	t      *testing.T
	cancel context.CancelFunc
	done   chan error

	mu     sync.Mutex // guards events
	events []driver.Status
}

func start(t *testing.T, m Machine) *daemon {
	t.Helper()
	d := &daemon{t: t, done: make(chan error, 1)}
	d.Driver = m.Open(t, func(e driver.Event) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.events = append(d.events, e.Status)
	})
	var ctx context.Context
	ctx, d.cancel = context.WithCancel(context.Background())
	go func() { d.done <- d.Run(ctx) }()
	t.Cleanup(d.shutdown)
	return d
}

// shutdown ends the driver as a daemon's end does; work goes on where it can.
func (d *daemon) shutdown() {
	if d.done == nil {
		return
	}
	d.cancel()
	select {
	case err := <-d.done:
		if err != nil {
			d.t.Errorf("Run: %v", err)
		}
	case <-time.After(patience):
		d.t.Errorf("Run does not return")
	}
	d.done = nil
}

// waitEvent waits for an event of the task that passes ok.
func (d *daemon) waitEvent(id string, ok func(driver.Status) bool) driver.Status {
	d.t.Helper()
	var found driver.Status
	Eventually(d.t, "event of "+id, func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		for _, s := range d.events {
			if s.ID == id && ok(s) {
				found = s
				return true
			}
		}
		return false
	})
	return found
}

// waitEnd waits until the task has ended by itself, and checks that the event
// and List agree.
func (d *daemon) waitEnd(id string) driver.Status {
	d.t.Helper()
	event := d.waitEvent(id, func(s driver.Status) bool { return s.State.Ended() })
	listed, ok := d.status(id)
	if !ok {
		d.t.Fatalf("task %s ended by itself and is not listed until Stop: got nothing", id)
	}
	if listed.State != event.State || listed.ExitCode != event.ExitCode {
		d.t.Fatalf("the event says %+v, List says %+v", event, listed)
	}
	return listed
}

func (d *daemon) status(id string) (driver.Status, bool) {
	d.t.Helper()
	all, err := d.List(d.t.Context())
	if err != nil {
		d.t.Fatalf("List: %v", err)
	}
	for _, s := range all {
		if s.ID == id {
			return s, true
		}
	}
	return driver.Status{}, false
}

func (d *daemon) mustStart(task driver.Task) driver.Status {
	d.t.Helper()
	s, err := d.Start(d.t.Context(), task)
	if err != nil {
		d.t.Fatalf("Start %s: %v", task.ID, err)
	}
	if s.ID != task.ID {
		d.t.Fatalf("Start %s answered for %q", task.ID, s.ID)
	}
	return s
}

// mustRun starts the task and waits until its program says that it is ready.
func (d *daemon) mustRun(task driver.Task) driver.Status {
	d.t.Helper()
	s := d.mustStart(task)
	if s.State != driver.StateRunning {
		d.t.Fatalf("Start %s answered %+v, want running", task.ID, s)
	}
	d.waitLine(task.ID, "ready")
	return s
}

func (d *daemon) mustStop(id string, grace time.Duration) {
	d.t.Helper()
	if err := d.Stop(d.t.Context(), id, grace); err != nil {
		d.t.Fatalf("Stop %s: %v", id, err)
	}
	if s, ok := d.status(id); ok {
		d.t.Fatalf("List after Stop still has %+v", s)
	}
}

// waitLine waits for a line of the task's log that is equal to want.
func (d *daemon) waitLine(id, want string) {
	d.t.Helper()
	Eventually(d.t, "line "+want, func() bool {
		for _, l := range d.lines(id, driver.LogOptions{}) {
			if l.Text == want {
				return true
			}
		}
		return false
	})
}

// lines reads the log to its end.
func (d *daemon) lines(id string, o driver.LogOptions) []driver.LogLine {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := d.Logs(ctx, id, o)
	if err != nil {
		d.t.Fatalf("Logs %s: %v", id, err)
	}
	defer r.Close()
	return parseLines(d.t, r)
}

func parseLines(t *testing.T, r io.Reader) []driver.LogLine {
	t.Helper()
	var all []driver.LogLine
	scan := bufio.NewScanner(r)
	scan.Buffer(nil, 1<<20)
	for scan.Scan() {
		l, err := driver.ParseLogLine(scan.Text())
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, l)
	}
	if err := scan.Err(); err != nil {
		t.Fatalf("read the log: %v", err)
	}
	return all
}

func texts(lines []driver.LogLine) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l.Text + "\n")
	}
	return b.String()
}

// LogText is what an instance has written so far, in lines that
// driver.ParseLogLine reads.
func LogText(t testing.TB, d driver.Driver, id string) string {
	t.Helper()
	r, err := d.Logs(t.Context(), id, driver.LogOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Eventually asks until ok, and ends the test when it has waited in vain; what
// says for what.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<20)
			t.Fatalf("waited in vain for: %s\n%s", what, buf[:runtime.Stack(buf, true)])
		}
		<-tick.C
	}
}

// openFiles is the number of this process's descriptors, 0 where unknown.
func openFiles() int {
	entries, _ := os.ReadDir("/proc/self/fd")
	return len(entries)
}
