package qemu_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/process"
	"github.com/hansa-mesh/hansa/node/driver/qemu"
	files "github.com/hansa-mesh/hansa/node/driver/qemu/guest"
)

func TestMain(m *testing.M) {
	if process.IsSupervisor(os.Args) {
		os.Exit(process.SupervisorMain(os.Args))
	}
	code := m.Run()
	if built.dir != "" {
		os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

var built struct {
	sync.Once
	dir            string
	kernel, initrd string
	err            error
}

// guestFiles are a kernel and an initial file system whose /init is testdata/guest.
// A machine that can't have them skips the test, but in CI it fails.
func guestFiles(t testing.TB) (kernel, initrd string) {
	t.Helper()
	if testing.Short() {
		t.Skip("it boots machines")
	}
	built.Do(func() { built.err = buildGuest() })
	if built.err != nil {
		lacks(t, "no guest: %v", built.err)
	}
	return built.kernel, built.initrd
}

func lacks(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

func buildGuest() (err error) {
	if built.dir, err = os.MkdirTemp("", "hansa-guest-"); err != nil {
		return err
	}
	program := filepath.Join(built.dir, "init")
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", program, "./testdata/guest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-trimpath")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the guest: %w: %s", err, out)
	}
	built.kernel, built.initrd, err = files.Build(program, built.dir)
	return err
}

// guest is a machine that does what testdata/guest has for the verb.
func guest(t testing.TB, id string, do ...string) driver.Task {
	t.Helper()
	kernel, initrd := guestFiles(t)
	return driver.Task{
		ID: id, Kind: driver.KindServer, Memory: 128 << 20, Grace: 2 * time.Minute,
		Machine:   &driver.Machine{Kernel: "sha256:kernel", Initrd: "sha256:initrd", Append: "quiet no_timer_check hansa.do=" + strings.Join(do, ",")},
		Artifacts: map[string]string{"sha256:kernel": kernel, "sha256:initrd": initrd},
	}
}

func open(t testing.TB, c qemu.Config) *qemu.Driver {
	t.Helper()
	for _, name := range []string{"qemu-system-x86_64", "qemu-img"} {
		if _, err := exec.LookPath(name); err != nil {
			lacks(t, "%v: apt install qemu-system-x86 qemu-utils", err)
		}
	}
	if c.Accel == "" {
		c.Accel = "tcg"
	}
	d, err := qemu.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// dataDir is a folder for a driver, cleared of machines at the end.
func dataDir(t testing.TB) string {
	dir := t.TempDir()
	t.Cleanup(func() {
		d := open(t, qemu.Config{Dir: dir})
		stop := run(t, d)
		defer stop()
		all, err := d.List(context.Background())
		if err != nil {
			t.Error(err)
		}
		for _, s := range all {
			if t.Failed() {
				t.Logf("%s was %+v; its log:\n%s", s.ID, s, tail(d, s.ID))
			}
			if err := d.Stop(context.Background(), s.ID, -1); err != nil {
				t.Error(err)
			}
		}
	})
	return dir
}

func tail(d driver.Driver, id string) string {
	r, err := d.Logs(context.Background(), id, driver.LogOptions{Tail: 40})
	if err != nil {
		return err.Error()
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// run runs a driver until the function that it returns is called.
func run(t testing.TB, d driver.Driver) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop) // also of a test that is skipped or fails: before its folder goes
	return stop
}

// patience is what the boot of a machine takes where ten share a core.
const patience = 4 * time.Minute

// eventually is like the suite's, with more patience.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for: %s", what)
		}
	}
}

func mustStart(t testing.TB, d driver.Driver, task driver.Task) driver.Status {
	t.Helper()
	s, err := d.Start(t.Context(), task)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func status(t testing.TB, d driver.Driver, id string) (driver.Status, bool) {
	t.Helper()
	all, err := d.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		if s.ID == id {
			return s, true
		}
	}
	return driver.Status{}, false
}

func waitEnd(t testing.TB, d driver.Driver, id string) (s driver.Status) {
	t.Helper()
	eventually(t, "the end of "+id, func() bool {
		var ok bool
		s, ok = status(t, d, id)
		return ok && s.State.Ended()
	})
	return s
}

// hasLine says whether the log has a line that is equal to want.
func hasLine(t testing.TB, d driver.Driver, id, want string) bool {
	return countLines(t, d, id, want) > 0
}

func countLines(t testing.TB, d driver.Driver, id, want string) (n int) {
	t.Helper()
	r, err := d.Logs(t.Context(), id, driver.LogOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if l, err := driver.ParseLogLine(line); err == nil && l.Text == want {
			n++
		}
	}
	return n
}

// freePort is one of this host that nobody listens on.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// listening gives a task the port that guests answer at.
func listening(t testing.TB, task driver.Task) driver.Task {
	task.Ports = map[string]driver.Port{"http": {Inside: 8081, Host: freePort(t)}}
	return task
}

// ask is a page of the guest's, once it answers.
func ask(t testing.TB, s driver.Status, path string) (answer string) {
	t.Helper()
	client := http.Client{Timeout: 30 * time.Second}
	eventually(t, "an answer to "+path, func() bool {
		r, err := client.Get("http://" + s.Ports["http"] + path)
		if err != nil {
			return false
		}
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		answer = string(b)
		return err == nil && r.StatusCode == http.StatusOK
	})
	return answer
}
