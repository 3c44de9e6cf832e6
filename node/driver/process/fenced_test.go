//go:build linux

package process_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/boottime"
	"github.com/hansa-mesh/hansa/node/driver/drivertest"
	"github.com/hansa-mesh/hansa/node/driver/process"
)

// fencedVar makes the daemon of the tests start one program, with a deadline
// so far ahead, that forked, twice, and let go of what it forked.
const fencedVar = "DAEMON_OF_THE_TEST_FENCED"

// fencedSoon is a deadline that a test waits for, with time to start programs
// on a machine that is busy. These tests wait side by side.
const fencedSoon = "10s"

func startFenced(d *process.Driver, self, in string) {
	left, _ := time.ParseDuration(in)
	_, err := d.Start(context.Background(), driver.Task{
		ID: "c/0", Kind: driver.KindServer, Fence: &driver.Fence{Number: 7, Until: boottime.Now() + left},
		Process: &driver.Process{Command: []string{self, drivertest.GuestArg, "orphan"}},
	})
	fmt.Println("started", err)
	select {}
}

func canFence(t *testing.T) {
	t.Helper()
	info := open(t, process.Config{Dir: t.TempDir()}).Probe(t.Context())
	if !info.Fence {
		t.Skipf("this machine can't fence: %s", info.Limits["fence"].Detail)
	}
}

// fencingDaemon is a daemon that has a fenced program and its descendants run.
func fencingDaemon(t *testing.T, self, dir, in string, as *syscall.Credential) *exec.Cmd {
	t.Helper()
	daemon := exec.Command(self, daemonArg, dir)
	daemon.Env = append(os.Environ(), fencedVar+"="+in)
	daemon.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	out, err := daemon.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = daemon.Process.Kill(), daemon.Wait() }) // if the test did not get to it
	if scan := bufio.NewScanner(out); !scan.Scan() || scan.Text() != "started <nil>" {
		t.Fatalf("the daemon says %q, %v", scan.Text(), scan.Err())
	}
	go io.Copy(io.Discard, out)
	drivertest.Eventually(t, "the program and what it forked", func() bool { return len(guests(t, dir)) == 2 })
	return daemon
}

// wardenOf finds the warden of a supervisor: its only child, of whichever of its
// threads.
func wardenOf(t *testing.T, supervisor int) (pid int) {
	t.Helper()
	drivertest.Eventually(t, "the warden", func() bool { // the files may leave some out, see proc(5)
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", supervisor))
		var children []string
		for _, name := range threads {
			b, _ := os.ReadFile(name) // a thread may have ended
			children = append(children, strings.Fields(string(b))...)
		}
		if len(children) != 1 {
			return false
		}
		var err error
		pid, err = strconv.Atoi(children[0])
		return err == nil
	})
	return pid
}

func signal(t *testing.T, s unix.Signal, pids ...int) {
	t.Helper()
	for _, pid := range pids {
		err := unix.Kill(pid, s)
		if s == unix.SIGCONT && errors.Is(err, unix.ESRCH) {
			continue // one that went on before it has ended it
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func gone(t *testing.T, dir string) {
	t.Helper()
	drivertest.Eventually(t, "the program and what it forked to go", func() bool { return len(guests(t, dir)) == 0 })
}

// If whoever holds the deadline dies, so does the work, long before it:
// whatever it forked, with no daemon to see to it.
func TestWorkDiesWithItsFence(t *testing.T) {
	canFence(t)
	t.Parallel()
	for _, killed := range []string{"supervisor", "warden", "supervisor, warden"} {
		for _, first := range []string{"", "daemon"} {
			t.Run(strings.Trim(first+", "+killed, ", "), func(t *testing.T) {
				dir := dataDir(t)
				daemon := fencingDaemon(t, "/proc/self/exe", dir, "1h", nil)
				supervisor := supervisorOf(t, dir, "c/0")
				pids := map[string]int{"supervisor": supervisor, "warden": wardenOf(t, supervisor)}
				if first != "" {
					daemon.Process.Kill()
					daemon.Wait()
				}
				for name := range strings.SplitSeq(killed, ", ") {
					_ = unix.Kill(pids[name], unix.SIGKILL) // the warden may be dead with its supervisor
				}
				gone(t, dir)
				daemon.Process.Kill()
				daemon.Wait()
				d := running(t, process.Config{Dir: dir})
				if s := ended(t, d, "c/0"); s.Fenced || s.Reason == "" {
					t.Errorf("it is found as %+v", s)
				}
			})
		}
	}
}

// Killed, a daemon leaves exclusive work running, which the next one adopts;
// but not past its deadline.
func TestFencedWorkOutlivesItsDaemon(t *testing.T) {
	canFence(t)
	t.Parallel()
	for _, in := range []string{"1h", fencedSoon} {
		dir := dataDir(t)
		daemon := fencingDaemon(t, "/proc/self/exe", dir, in, nil)
		daemon.Process.Kill()
		daemon.Wait()
		if in == fencedSoon {
			gone(t, dir)
			s := ended(t, running(t, process.Config{Dir: dir}), "c/0")
			if over := time.Until(s.ExitedAt) + boottime.Now() - s.Fence.Until; !s.Fenced || over > s.Overrun {
				t.Errorf("gone %v after the deadline: %+v", over, s)
			}
			continue
		}
		d := running(t, process.Config{Dir: dir})
		s := status(t, d, "c/0")
		if s.State != driver.StateRunning || s.Starts != 1 || s.Fence == nil || s.Fence.Number != 7 {
			t.Errorf("it is found as %+v", s)
		}
		if err := d.Extend(t.Context(), "c/0", s.Fence.Until+time.Second); err != nil {
			t.Error(err)
		}
	}
}

// Of three that hold a deadline any two may be stopped.
func TestFenceOfStoppedHolders(t *testing.T) {
	canFence(t)
	t.Parallel()
	for _, stopped := range [][]string{{"supervisor"}, {"warden"}, {"supervisor", "warden"}, {"daemon", "supervisor"}, {"daemon", "warden"}} {
		t.Run(strings.Join(stopped, ", "), func(t *testing.T) {
			t.Parallel()
			dir := dataDir(t)
			daemon := fencingDaemon(t, "/proc/self/exe", dir, fencedSoon, nil)
			supervisor := supervisorOf(t, dir, "c/0")
			pids := map[string]int{"supervisor": supervisor, "warden": wardenOf(t, supervisor), "daemon": daemon.Process.Pid}
			for _, name := range stopped {
				signal(t, unix.SIGSTOP, pids[name])
			}
			gone(t, dir)
			if slices.Contains(stopped, "supervisor") {
				signal(t, unix.SIGCONT, supervisor)
			}
			daemon.Process.Kill()
			daemon.Wait()
			if s := ended(t, running(t, process.Config{Dir: dir}), "c/0"); !s.Fenced {
				t.Errorf("it ended as %+v", s)
			}
		})
	}
}

// With all three stopped the program runs on, as it does for a moment when a
// machine resumes from suspend; then it is ended, and it is said for how long.
func TestOverrunIsReported(t *testing.T) {
	canFence(t)
	t.Parallel()
	dir := dataDir(t)
	daemon := fencingDaemon(t, "/proc/self/exe", dir, fencedSoon, nil)
	in, err := time.ParseDuration(fencedSoon)
	if err != nil {
		t.Fatal(err)
	}
	until := boottime.Now() + in // a little later than its deadline
	daemon.Process.Kill()
	daemon.Wait()
	supervisor := supervisorOf(t, dir, "c/0")
	holders := []int{supervisor, wardenOf(t, supervisor)}
	signal(t, unix.SIGSTOP, holders...)
	if err := boottime.Wait(t.Context(), until); err != nil {
		t.Fatal(err)
	}
	if len(guests(t, dir)) != 2 {
		t.Fatal("something else ended it: this test shows nothing")
	}
	late := boottime.Now() - until
	signal(t, unix.SIGCONT, holders...)
	gone(t, dir)
	s := ended(t, running(t, process.Config{Dir: dir}), "c/0")
	if !s.Fenced || s.Overrun < late || !strings.Contains(s.Reason, "ran on for") {
		t.Errorf("it ran on for %v or more, and is reported as %+v", late, s)
	}
}

// Who is not root fences through a user namespace, and needs no cgroups for it.
func TestFenceWithoutRoot(t *testing.T) {
	canFence(t)
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("the other tests run without root already")
	}
	nobody := &syscall.Credential{Uid: 65534, Gid: 65534}
	base, err := os.MkdirTemp("", "hansa-nobody-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	dir, self := filepath.Join(base, "work"), filepath.Join(base, "hansa.test")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = os.WriteFile(self, b, 0o755)
	}
	for path, mode := range map[string]os.FileMode{base: 0o755, dir: 0o700} {
		if err == nil {
			err = os.Chmod(path, mode)
		}
	}
	if err == nil {
		err = os.Chown(dir, int(nobody.Uid), int(nobody.Gid))
	}
	if err != nil {
		t.Fatal(err)
	}
	daemon := fencingDaemon(t, self, dir, "1h", nobody)
	supervisor := supervisorOf(t, dir, "c/0")
	daemon.Process.Kill()
	daemon.Wait()
	signal(t, unix.SIGKILL, supervisor)
	gone(t, dir)
	fencingDaemon(t, self, dir, fencedSoon, nobody)
	gone(t, dir)
}
