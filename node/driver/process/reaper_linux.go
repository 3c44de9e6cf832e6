package process

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

var aLongTimeAgo = time.Unix(1, 0)

// children are this process's children, the adopted ones included.
func children() []int {
	pids, known := childrenOf("self")
	if !known {
		return childrenByScan()
	}
	return pids
}

// childrenOf are those of a process, by its folder in /proc; false if that does
// not tell, as on kernels that were built without.
func childrenOf(process string) (pids []int, known bool) {
	files, _ := filepath.Glob("/proc/" + process + "/task/*/children")
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // that thread has ended
		}
		for s := range strings.FieldsSeq(string(b)) {
			if pid, err := strconv.Atoi(s); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids, len(files) > 0
}

// statOf is the fields of a process's stat as proc(5) numbers them, from the
// second on, which may hold anything; nil if it has ended.
func statOf(pid int) []string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	return strings.Fields(string(b[max(0, strings.LastIndexByte(string(b), ')')):]))
}

// childrenByScan serves kernels without the children file.
func childrenByScan() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	self := strconv.Itoa(os.Getpid())
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if f := statOf(pid); len(f) > 2 && f[2] == self {
			pids = append(pids, pid)
		}
	}
	return pids
}

// reapOrphans collects adopted children that have ended. The program itself
// stays a zombie.
func (s *supervisor) reapOrphans() {
	for _, pid := range children() {
		if pid != s.pid {
			var status unix.WaitStatus
			_, _ = unix.Wait4(pid, &status, unix.WNOHANG, nil) // not ended yet is fine
		}
	}
}

// killAll ends everything that belongs to the task: its process group, its
// cgroups, and what became our child by losing its parent, wherever it moved
// itself. It returns how many could not be ended.
func (s *supervisor) killAll() int {
	for deadline := time.Now().Add(killPatience); ; time.Sleep(sweepInterval) {
		_ = unix.Kill(-s.pid, unix.SIGKILL) // gone is what is wanted
		s.spec.Groups.kill()
		left := 0
		for _, pid := range children() {
			if pid == s.pid {
				continue
			}
			_ = unix.Kill(pid, unix.SIGKILL) // ours until we reap it
			var status unix.WaitStatus
			if got, err := unix.Wait4(pid, &status, unix.WNOHANG, nil); err == nil && got != pid {
				left++
			}
		}
		for _, pid := range s.spec.Groups.members() {
			if pid != s.pid {
				left++
			}
		}
		if left == 0 || time.Now().After(deadline) {
			return left
		}
	}
}

// reap collects the program, which has ended or was killed.
func (s *supervisor) reap() unix.WaitStatus {
	var status unix.WaitStatus
	for {
		pid, err := unix.Wait4(s.pid, &status, 0, nil)
		if pid == s.pid || (err != nil && err != unix.EINTR) {
			return status
		}
	}
}

// signalNumber is SIGTERM for a name that is not known.
func signalNumber(name string) unix.Signal {
	if n := unix.SignalNum(strings.ToUpper(name)); n != 0 {
		return n
	}
	if n := unix.SignalNum("SIG" + strings.ToUpper(name)); n != 0 {
		return n
	}
	return unix.SIGTERM
}
