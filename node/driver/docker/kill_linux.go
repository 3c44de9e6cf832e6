package docker

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// killSession kills a process and all of its session. pid is asked twice: a
// number that still stands once the process is held is that process.
func killSession(pid func() int) error {
	n := pid()
	if n <= 0 {
		return nil
	}
	fd, err := unix.PidfdOpen(n, 0)
	if err != nil {
		if err == unix.ESRCH {
			return nil
		}
		return fmt.Errorf("process %d: %w", n, err)
	}
	defer unix.Close(fd)
	if pid() != n {
		return nil // it ended
	}
	for _, member := range session(n) {
		if member != n {
			_ = unix.Kill(member, unix.SIGKILL)
		}
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && err != unix.ESRCH {
		return fmt.Errorf("process %d: %w", n, err)
	}
	return nil
}

// session is the processes of the session that n leads.
func session(n int) []int {
	var all []int
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // it ended
		}
		fields := strings.Fields(string(b[max(0, strings.LastIndexByte(string(b), ')')):]))
		if len(fields) > 4 && fields[4] == strconv.Itoa(n) {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f))); err == nil {
				all = append(all, pid)
			}
		}
	}
	return all
}
