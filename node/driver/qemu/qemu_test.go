package qemu_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/qemu"
)

// A machine from its start to its end: it answers at its port, finds its
// environment and files, outlives the daemon, and ends at the power button.
func TestMachine(t *testing.T) {
	dir := dataDir(t)
	d := open(t, qemu.Config{Dir: dir})
	stop := run(t, d)
	task := listening(t, guest(t, "shop/0", "run"))
	task.Labels = map[string]string{"app": "shop"}
	task.Env = map[string]string{"GREETING": "it's\n\"me\" $x"}
	task.Files = []driver.File{{Path: "/etc/shop.yaml", Content: []byte("port: 1\n"), Mode: 0o640, Secret: true}}
	s := mustStart(t, d, task)
	if s.State != driver.StateRunning || s.Starts != 1 || s.StartedAt.IsZero() {
		t.Errorf("started it is %+v", s)
	}
	all := machines(dir)
	if len(all) != 1 {
		t.Fatalf("%d qemus run, want 1", len(all))
	}
	who, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", all[0]))
	if err != nil || os.Geteuid() == 0 && strings.Contains(string(who), "Uid:\t0\t") {
		t.Errorf("qemu runs as root: %v", err)
	}
	if got := ask(t, s, "/"); got != "hello" {
		t.Errorf("it answers %q", got)
	}
	if got, want := ask(t, s, "/seed/env"), "GREETING='it'\\''s\n\"me\" $x'\nHANSA_PORT_HTTP='8081'\n"; got != want {
		t.Errorf("its environment is %q, want %q", got, want)
	}
	if got := ask(t, s, "/file?path=/etc/shop.yaml"); got != "0640 port: 1\n<nil>" {
		t.Errorf("its file is %q", got)
	}
	stop()

	d = open(t, qemu.Config{Dir: dir})
	stop = run(t, d)
	defer stop()
	again, ok := status(t, d, task.ID)
	if !ok || again.State != driver.StateRunning || !again.StartedAt.Equal(s.StartedAt) || again.Labels["app"] != "shop" || again.Ports["http"] != s.Ports["http"] {
		t.Errorf("the next daemon finds %+v, want %+v", again, s)
	}
	if s := mustStart(t, d, task); s.Starts != 1 {
		t.Errorf("started once more it is %+v", s)
	}
	if err := d.Stop(t.Context(), task.ID, 0); err != nil {
		t.Fatal(err)
	}
	if !hasLine(t, d, task.ID, "guest: bye") {
		t.Errorf("it did not end by itself:\n%s", tail(d, task.ID))
	}
	if _, ok := status(t, d, task.ID); ok {
		t.Error("it is listed after its stop")
	}
}

// A kernel that panics ends in a state with the reason, with a driver for
// pvpanic and without one.
func TestPanic(t *testing.T) {
	for name, arg := range map[string]string{"told": " hansa.pvpanic=1", "on the console": "", "rebooting": " panic=-1"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // two machines on two cores
			d := open(t, qemu.Config{Dir: dataDir(t)})
			defer run(t, d)()
			task := guest(t, "c/0", "panic")
			task.Machine.Append += arg
			mustStart(t, d, task)
			s := waitEnd(t, d, "c/0")
			if s.State != driver.StateFailed || !strings.HasPrefix(s.Reason, "kernel panic: sysrq") {
				t.Errorf("it ended as %+v", s)
			}
		})
	}
}

// What is written stays over reboots and restarts in place, is parked at the
// stop, and a volume outlives it.
func TestDisks(t *testing.T) {
	dir, volume := dataDir(t), t.TempDir()
	d := open(t, qemu.Config{Dir: dir})
	defer run(t, d)()
	image := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(image, make([]byte, 1<<20), 0o400); err != nil {
		t.Fatal(err)
	}
	task := listening(t, guest(t, "shop/0", "reboot"))
	task.Machine.Image, task.Artifacts["sha256:image"] = "sha256:image", image
	task.Disk = 8 << 20
	task.Volumes = []driver.Volume{{Name: "books", Path: "/srv/books", Source: volume, Size: 2 << 20}}
	s := mustStart(t, d, task)
	if got := ask(t, s, "/disk?name=disk"); got != "8388608 here <nil>" {
		t.Errorf("after a reboot its disk holds %q", got)
	}
	if n := countLines(t, d, task.ID, "rebooting"); n != 1 {
		t.Errorf("it rebooted %d times", n)
	}
	if got := ask(t, s, "/disk?name=books&write=shelf"); got != "2097152 shelf <nil>" {
		t.Errorf("its volume is %q", got)
	}
	if got := ask(t, s, "/seed/volumes"); got != "books /srv/books\n" {
		t.Errorf("the seed says of volumes %q", got)
	}
	// A second machine on a disk that is in use is refused by qemu itself.
	other := guest(t, "other/0", "run")
	other.Volumes = task.Volumes
	if s, err := d.Start(t.Context(), other); err == nil || !strings.Contains(err.Error(), "lock") {
		t.Errorf("a second machine on one disk: %+v, %v", s, err)
	}
	if err := d.Stop(t.Context(), task.ID, -1); err != nil {
		t.Fatal(err)
	}
	parked, _ := filepath.Glob(filepath.Join(dir, "parked", "shop.0-*", "disk.qcow2"))
	if len(parked) != 1 {
		t.Errorf("%d disks are parked, want 1", len(parked))
	}
	if b, err := os.ReadFile(filepath.Join(volume, "disk.img")); err != nil || !strings.HasPrefix(string(b), "shelf") {
		t.Errorf("the volume is lost: %v", err)
	}
	if b, err := os.ReadFile(image); err != nil || len(b) != 1<<20 || strings.Trim(string(b), "\x00") != "" {
		t.Errorf("the image was written to: %v", err)
	}
}

// A machine that ended by itself is started again in place, on the disk that it
// had; its folder holds no seed.
func TestStartAgain(t *testing.T) {
	dir := dataDir(t)
	d := open(t, qemu.Config{Dir: dir})
	defer run(t, d)()
	task := guest(t, "c/0", "lines", "1")
	task.Disk = 1 << 20
	mustStart(t, d, task)
	disk := filepath.Join(dir, "machines", "c.0", "disk.qcow2")
	first, err := os.Stat(disk)
	if err != nil {
		t.Fatal(err)
	}
	if s := waitEnd(t, d, "c/0"); s.State != driver.StateExited || s.ExitCode != 0 || s.Reason != "" {
		t.Errorf("it ended as %+v", s)
	}
	task.Disk = 2 << 20
	if s := mustStart(t, d, task); s.Starts != 2 || s.State != driver.StateRunning {
		t.Errorf("started again it is %+v", s)
	}
	waitEnd(t, d, "c/0")
	if n := countLines(t, d, "c/0", "line 0"); n != 2 {
		t.Errorf("it ran %d times", n)
	}
	if now, err := os.Stat(disk); err != nil || !os.SameFile(first, now) {
		t.Errorf("it has another disk: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "machines", "c.0", "seed*")); len(left) != 0 {
		t.Errorf("the seed is left: %v", left)
	}
}

// Several people are at the console; what one types all see.
func TestConsole(t *testing.T) {
	d := open(t, qemu.Config{Dir: dataDir(t)})
	defer run(t, d)()
	task := guest(t, "c/0", "run")
	mustStart(t, d, task)
	eventually(t, "the machine", func() bool { return hasLine(t, d, "c/0", "ready") })
	if _, err := d.Exec(t.Context(), "c/0", driver.Exec{Command: []string{"ls"}}); !errors.Is(err, driver.ErrInvalid) {
		t.Errorf("a command inside: %v", err)
	}
	if _, err := d.Exec(t.Context(), "never/0", driver.Exec{Console: true}); !errors.Is(err, driver.ErrUnknownTask) {
		t.Errorf("the console of nothing: %v", err)
	}
	type person struct {
		keys *io.PipeWriter
		mu   sync.Mutex
		seen strings.Builder
		left chan error
	}
	people := make([]*person, 2)
	for i := range people {
		p := &person{left: make(chan error, 1)}
		people[i] = p
		stdin, keys := io.Pipe()
		p.keys = keys
		go func() {
			code, err := d.Exec(t.Context(), "c/0", driver.Exec{Console: true, Stdin: stdin, Stdout: writer(func(b []byte) {
				p.mu.Lock()
				defer p.mu.Unlock()
				p.seen.Write(b)
			})})
			if code != 0 && err == nil {
				err = fmt.Errorf("code %d", code)
			}
			p.left <- err
		}()
	}
	for _, p := range people {
		eventually(t, "everybody to see what is typed", func() bool {
			if _, err := io.WriteString(people[0].keys, "hello\n"); err != nil {
				t.Fatal(err)
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			return strings.Contains(p.seen.String(), `you said "hello"`)
		})
	}
	people[0].keys.Close()
	if err := <-people[0].left; err != nil {
		t.Errorf("the first left with %v", err)
	}
	if err := d.Stop(t.Context(), "c/0", -1); err != nil {
		t.Fatal(err)
	}
	if err := <-people[1].left; err != nil {
		t.Errorf("at the machine's end the second left with %v", err)
	}
	if !strings.Contains(tail(d, "c/0"), `you said "hello"`) {
		t.Error("the log lacks what the console had")
	}
}

type writer func([]byte)

func (w writer) Write(b []byte) (int, error) { w(b); return len(b), nil }

// The deadline of a machine ends it without a daemon.
func TestFencedWithoutADaemon(t *testing.T) {
	dir := dataDir(t)
	d := open(t, qemu.Config{Dir: dir})
	stop := run(t, d)
	if info := d.Probe(t.Context()); !info.Fence {
		t.Skipf("no fences here: %s", info.Limits["fence"].Detail)
	}
	task := guest(t, "c/0", "run")
	task.Fence = &driver.Fence{Number: 7, Until: d.Boottime() + 20*time.Second}
	mustStart(t, d, task)
	stop()
	eventually(t, "the machine to end with no daemon", func() bool { return len(machines(dir)) == 0 })
	d = open(t, qemu.Config{Dir: dir})
	defer run(t, d)()
	if s := waitEnd(t, d, "c/0"); !s.Fenced || s.Fence.Number != 7 {
		t.Errorf("it ended as %+v", s)
	}
}

// What qemu refuses is told in its own words, and nothing is left.
func TestRefused(t *testing.T) {
	dir := dataDir(t)
	d := open(t, qemu.Config{Dir: dir})
	defer run(t, d)()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	task := guest(t, "c/0", "run")
	task.Ports = map[string]driver.Port{"http": {Inside: 8081, Host: l.Addr().String()}}
	if s, err := d.Start(t.Context(), task); err == nil || !strings.Contains(err.Error(), "Could not set up host forwarding") {
		t.Errorf("on a port that is taken: %+v, %v", s, err)
	}
	short := filepath.Join(t.TempDir(), "short")
	if err := os.WriteFile(short, []byte("QFI\xfb"), 0o600); err != nil {
		t.Fatal(err)
	}
	task = guest(t, "c/1", "run")
	task.Machine.Image, task.Artifacts["sha256:short"] = "sha256:short", short
	if s, err := d.Start(t.Context(), task); !errors.Is(err, driver.ErrInvalid) || !strings.Contains(err.Error(), "truncated") {
		t.Errorf("on an image that is truncated: %+v, %v", s, err)
	}
	if all, err := d.List(t.Context()); err != nil || len(all) != 0 || len(machines(dir)) != 0 {
		t.Errorf("listed are %+v, %v", all, err)
	}
}
