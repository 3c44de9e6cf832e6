package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// identity names one process for good: ids are used again, but not with the
// same start time in the same boot.
type identity struct {
	Boot  string `json:"boot"`
	Pid   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks since boot
}

func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read the boot id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// identify returns the identity of a process that is there now.
func identify(pid int) (identity, error) {
	boot, err := bootID()
	if err != nil {
		return identity{}, err
	}
	start, err := startTime(pid)
	if err != nil {
		return identity{}, err
	}
	return identity{boot, pid, start}, nil
}

// startTime is the 22nd field of /proc/PID/stat; the second may hold anything,
// so fields are counted from the last ")".
func startTime(pid int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("identify process %d: %w", pid, err)
	}
	_, rest, ok := bytes.Cut(b[max(0, bytes.LastIndexByte(b, ')')):], []byte(" "))
	fields := strings.Fields(string(rest))
	if !ok || len(fields) < 20 {
		return 0, fmt.Errorf("identify process %d: its stat is malformed", pid)
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("identify process %d: %w", pid, err)
	}
	return start, nil
}

var errGone = errors.New("the process is gone")

// open returns a pidfd of the very process, or errGone. Checking after opening
// makes it certain: the pidfd holds on to whatever had the id when it was
// opened.
func (i identity) open() (*os.File, error) {
	if i.Pid <= 0 {
		return nil, errGone
	}
	fd, err := unix.PidfdOpen(i.Pid, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.EINVAL) { // before Linux 5.10
		fd, err = unix.PidfdOpen(i.Pid, 0)
	}
	if errors.Is(err, unix.ESRCH) {
		return nil, errGone
	}
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", i.Pid, err)
	}
	if now, err := identify(i.Pid); err != nil || now != i {
		unix.Close(fd)
		// It may end between the opening and the reading of its stat, too.
		if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ESRCH) {
			return nil, err
		}
		return nil, errGone
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil
}

// send signals through the pidfd; a process that is gone is no error.
func send(pidfd *os.File, s unix.Signal) error {
	raw, err := pidfd.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	if err := raw.Control(func(fd uintptr) { sent = unix.PidfdSendSignal(int(fd), s, nil, 0) }); err != nil {
		return err
	}
	if errors.Is(sent, unix.ESRCH) {
		return nil
	}
	return sent
}

// wait returns nil when the process has ended, or the context's error.
func wait(ctx context.Context, pidfd *os.File) error {
	raw, err := pidfd.SyscallConn()
	if err != nil {
		return err
	}
	// A read deadline in the past ends the wait below.
	stop := context.AfterFunc(ctx, func() { _ = pidfd.SetReadDeadline(aLongTimeAgo) })
	defer stop()
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		if err != nil && !errors.Is(err, unix.EINTR) {
			failed = err
			return true
		}
		return n > 0
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return errors.Join(failed, err)
}
