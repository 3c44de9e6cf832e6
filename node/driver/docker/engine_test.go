package docker_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/docker"
	"github.com/hansa-mesh/hansa/node/driver/drivertest"
)

// TestNoEngine is a machine without an engine: nobody waits for it, and each
// answer says what to do.
func TestNoEngine(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "engine.sock")
	p := &place{h: &host{socket: socket}, c: docker.Config{Dir: t.TempDir(), Scope: "mesh/peer", Host: "unix://" + socket}}
	d, _ := p.running(t, nil)
	info := d.Probe(t.Context())
	if info.Available || !strings.Contains(info.Reason, socket) || !strings.Contains(info.Reason, "start the engine") {
		t.Errorf("Probe says %+v", info)
	}
	if all, err := d.List(t.Context()); !errors.Is(err, driver.ErrUnavailable) {
		t.Errorf("List says %v, %v: an absent engine is not an empty one", all, err)
	}
	if _, err := d.Start(t.Context(), program("c/0", "run")); !errors.Is(err, driver.ErrUnavailable) {
		t.Errorf("Start: %v, want ErrUnavailable", err)
	}
	if err := d.Stop(t.Context(), "c/0", 0); err != nil {
		t.Errorf("Stop of what was never here: %v", err)
	}
	if _, err := d.Logs(t.Context(), "c/0", driver.LogOptions{}); !errors.Is(err, driver.ErrUnknownTask) {
		t.Errorf("Logs: %v, want ErrUnknownTask", err)
	}
}

// last is the last state of each task that a driver reported.
type last struct {
	mu  sync.Mutex
	all map[string]driver.Status
}

func (l *last) event(e driver.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all == nil {
		l.all = map[string]driver.Status{}
	}
	l.all[e.Status.ID] = e.Status
}

func (l *last) of(id string) driver.Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all[id]
}

// TestEngineDies kills an engine that lets its containers live, and brings it
// back: it is said meanwhile, nothing is started anew, what ended meanwhile is
// found, and of the output nothing is missing or there twice.
func TestEngineDies(t *testing.T) {
	h := own(t, "docker", true)
	p := newPlace(t, h)
	var states last
	d, _ := p.running(t, states.event)
	start := func(id string, verb ...string) driver.Status {
		t.Helper()
		s, err := d.Start(t.Context(), program(id, verb...))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	counts := start("c/0", "count")
	start("c/1", "on-stop", "9")
	drivertest.Eventually(t, "output", func() bool { return strings.Contains(drivertest.LogText(t, d, "c/0"), " F 20\n") })
	inside := h.pid(t, p.container(t, "c/1"))
	h.stop(syscall.SIGKILL)
	drivertest.Eventually(t, "Probe to say that the engine is gone", func() bool {
		info := d.Probe(t.Context())
		return !info.Available && strings.Contains(info.Reason, "start the engine")
	})
	if s := states.of("c/0"); s.State != driver.StateRunning {
		t.Errorf("while the engine is gone its container is %+v", s)
	}
	if err := d.Stop(t.Context(), "c/0", -1); err == nil {
		t.Error("a container was stopped without an engine")
	}
	if err := syscall.Kill(inside, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	h.start(t)
	drivertest.Eventually(t, "the end that nobody saw", func() bool { return states.of("c/1").State.Ended() })
	if s := states.of("c/1"); s.ExitCode != 9 {
		t.Errorf("it ended as %+v, want code 9", s)
	}
	drivertest.Eventually(t, "the engine to be available", func() bool { return d.Probe(t.Context()).Available })
	next := len(drivertest.LogText(t, d, "c/0"))
	drivertest.Eventually(t, "output after the engine's return", func() bool { return len(drivertest.LogText(t, d, "c/0")) > next+1000 })
	all, err := d.List(t.Context())
	if err != nil || len(all) != 2 || all[0].State != driver.StateRunning || !all[0].StartedAt.Equal(counts.StartedAt) || all[0].Starts != 1 {
		t.Errorf("after it List has %+v, %v", all, err)
	}
	if err := d.Stop(t.Context(), "c/0", time.Minute); err != nil {
		t.Fatal(err)
	}
	counted(t, d, "c/0")
}

// counted checks that the log of the verb count has every number once.
func counted(t *testing.T, d *docker.Driver, id string) {
	t.Helper()
	want := 0
	for line := range strings.Lines(drivertest.LogText(t, d, id)) {
		l, err := driver.ParseLogLine(line)
		if err != nil {
			t.Fatal(err)
		}
		if l.Stream == "hansa" {
			continue
		}
		if l.Text != strconv.Itoa(want) {
			t.Fatalf("the log has %q where %d should be", l.Text, want)
		}
		want++
	}
	t.Logf("%d lines, each once", want)
}

// TestEngineTakesItsContainersAlong is an engine without live-restore.
func TestEngineTakesItsContainersAlong(t *testing.T) {
	h := own(t, "docker", false)
	p := newPlace(t, h)
	var states last
	d, _ := p.running(t, states.event)
	if _, err := d.Start(t.Context(), program("c/0", "count")); err != nil {
		t.Fatal(err)
	}
	drivertest.Eventually(t, "output", func() bool { return strings.Contains(drivertest.LogText(t, d, "c/0"), " F 20\n") })
	h.stop(syscall.SIGTERM)
	h.start(t)
	drivertest.Eventually(t, "the end to be reported", func() bool { return states.of("c/0").State.Ended() })
	counted(t, d, "c/0")
	again, err := d.Start(t.Context(), program("c/0", "run"))
	if err != nil || again.Starts != 2 || again.State != driver.StateRunning {
		t.Errorf("started again it is %+v, %v", again, err)
	}
}

// TestLogsOverRestartsOfTheDaemon restarts the daemon again and again while a
// container writes.
func TestLogsOverRestartsOfTheDaemon(t *testing.T) {
	p := newPlace(t, engine(t, "docker"))
	d, stop := p.running(t, nil)
	if _, err := d.Start(t.Context(), program("c/0", "count")); err != nil {
		t.Fatal(err)
	}
	for range 8 {
		size := len(drivertest.LogText(t, d, "c/0"))
		drivertest.Eventually(t, "output", func() bool { return len(drivertest.LogText(t, d, "c/0")) > size+500 })
		stop()
		d, stop = p.running(t, nil)
	}
	if err := d.Stop(context.Background(), "c/0", time.Minute); err != nil {
		t.Fatal(err)
	}
	counted(t, d, "c/0")
}

// TestEngineThatHangs takes connections and answers nothing: whoever asks is
// told so, in time.
func TestEngineThatHangs(t *testing.T) {
	socket := filepath.Join(shortDir(t), "engine.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			if _, err := l.Accept(); err != nil {
				return
			}
		}
	}()
	p := &place{h: &host{socket: socket}, c: docker.Config{Dir: t.TempDir(), Scope: "mesh/peer", Host: "unix://" + socket}}
	d, _ := p.running(t, nil)
	if info := d.Probe(t.Context()); info.Available || !strings.Contains(info.Reason, "does not answer") {
		t.Errorf("Probe says %+v", info)
	}
	if all, err := d.List(t.Context()); !errors.Is(err, driver.ErrUnavailable) {
		t.Errorf("List says %v, %v", all, err)
	}
}

// TestForbiddenSocket says what to do for a user who may not use the engine.
func TestForbiddenSocket(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may use every socket")
	}
	socket := filepath.Join(shortDir(t), "engine.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Chmod(socket, 0); err != nil {
		t.Fatal(err)
	}
	p := &place{h: &host{socket: socket}, c: docker.Config{Dir: t.TempDir(), Scope: "mesh/peer", Host: "unix://" + socket}}
	d, _ := p.running(t, nil)
	if info := d.Probe(t.Context()); info.Available || !strings.Contains(info.Reason, "permission denied") || !strings.Contains(info.Reason, "group") {
		t.Errorf("Probe says %+v", info)
	}
}

// shortDir is a folder for a socket, whose path has little room.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hansa-engine")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
