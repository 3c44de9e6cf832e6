//go:build linux

package process_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/drivertest"
	"github.com/hansa-mesh/hansa/node/driver/process"
)

// noWait makes programs built with the race detector end at once.
const noWait = "atexit_sleep_ms=0"

func TestMain(m *testing.M) {
	os.Setenv("GORACE", noWait)
	if process.IsSupervisor(os.Args) {
		os.Exit(process.SupervisorMain(os.Args))
	}
	drivertest.GuestMain()
	if len(os.Args) == 3 && os.Args[1] == daemonArg {
		os.Exit(daemonMain(os.Args[2]))
	}
	os.Exit(withGuest(m))
}

// guest is this test binary where everybody can execute it: programs run as
// users without privileges.
var guest = os.Getenv(guestVar)

const guestVar = "GUEST_OF_THE_TEST"

func withGuest(m *testing.M) int {
	dir, err := os.MkdirTemp("", "hansa-process-")
	if err == nil {
		defer os.RemoveAll(dir)
		err = os.Chmod(dir, 0o755)
	}
	var self string
	if err == nil {
		self, err = os.Executable()
	}
	if guest = filepath.Join(dir, "guest"); err == nil {
		err = linkOrCopy(self, guest)
	}
	if err == nil {
		err = os.Setenv(guestVar, guest) // for daemons of the tests
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

func linkOrCopy(from, to string) error {
	if os.Link(from, to) == nil {
		return nil
	}
	b, err := os.ReadFile(from) // of another disk, or another's
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o755)
}

func open(t testing.TB, c process.Config) *process.Driver {
	t.Helper()
	d, err := process.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func program(t testing.TB, id string, verb ...string) driver.Task {
	t.Helper()
	return driver.Task{
		ID: id, Kind: driver.KindServer, Env: map[string]string{"GORACE": noWait},
		Process: &driver.Process{Command: append([]string{guest, drivertest.GuestArg}, verb...)},
	}
}

// dataDir is a folder for a driver, cleared of programs at the end.
func dataDir(t testing.TB) string {
	dir := t.TempDir()
	t.Cleanup(func() {
		d := open(t, process.Config{Dir: dir})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- d.Run(ctx) }()
		all, err := d.List(ctx)
		if err != nil {
			t.Error(err)
		}
		for _, s := range all {
			if err := d.Stop(ctx, s.ID, -1); err != nil {
				t.Error(err)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return dir
}

// guests are the processes that run as the suite's programs out of dir's
// driver: their working folder tells.
func guests(t testing.TB, dir string) []int {
	t.Helper()
	var pids []int
	links, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, l := range links {
		to, err := os.Readlink(l)
		if err != nil || !strings.HasPrefix(to, dir+"/") {
			continue
		}
		var pid int
		for _, c := range strings.Split(l, "/")[2] {
			pid = pid*10 + int(c-'0')
		}
		pids = append(pids, pid)
	}
	return pids
}

// supervisorOf finds the supervisor of a task by its arguments.
func supervisorOf(t testing.TB, dir, id string) int {
	t.Helper()
	want := filepath.Join(dir, "tasks", driver.SafeID(id))
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		args := strings.Split(strings.TrimRight(string(b), "\x00"), "\x00")
		if len(args) == 3 && args[2] == want {
			var pid int
			for _, c := range strings.Split(f, "/")[2] {
				pid = pid*10 + int(c-'0')
			}
			return pid
		}
	}
	return 0
}

// littered is a file of a stopped task that could not be deleted.
func littered(dir, id string) string {
	return filepath.Join(dir, "stopped", driver.SafeID(id), "work", "left")
}

func litter(t *testing.T, dir, id string) {
	t.Helper()
	file := littered(dir, id)
	err := os.MkdirAll(filepath.Dir(file), 0o700)
	if err == nil {
		err = os.WriteFile(file, nil, 0o600)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "stopped", driver.SafeID(id), "id"), []byte(id), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// logBytes is what the log of a task that was not stopped takes.
func logBytes(t testing.TB, dir, id string) (size int64) {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(dir, "tasks", driver.SafeID(id), "logs", "*"))
	for _, f := range files {
		if st, err := os.Stat(f); err == nil {
			size += st.Size()
		}
	}
	return size
}

func TestConformance(t *testing.T) {
	drivertest.Run(t, drivertest.Harness{New: func(t *testing.T) drivertest.Machine {
		dir := dataDir(t)
		return drivertest.Machine{
			Open: func(t *testing.T, events func(driver.Event)) driver.Driver {
				return open(t, process.Config{Dir: dir, Events: events})
			},
			Program: func(t *testing.T, id string, verb ...string) driver.Task { return program(t, id, verb...) },
			Command: func(t *testing.T, verb ...string) []string {
				return append([]string{guest, drivertest.GuestArg}, verb...)
			},
			Litter:   func(t *testing.T, id string) { litter(t, dir, id) },
			Littered: func(t *testing.T, id string) bool { return exists(littered(dir, id)) },
			Damage: func(t *testing.T, id string) {
				pid := supervisorOf(t, dir, id)
				if pid == 0 {
					t.Fatalf("no supervisor of %s", id)
				}
				if err := unix.Kill(pid, unix.SIGKILL); err != nil {
					t.Fatal(err)
				}
			},
			Leftovers: func(t *testing.T) int { return len(guests(t, dir)) },
			Disk:      dir,
			LogBytes:  func(t *testing.T, id string) int64 { return logBytes(t, dir, id) },
		}
	}})
}
