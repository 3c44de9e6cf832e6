package process

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Descriptors of who enters, beside the standard three and the launcher's.
const (
	enterControlFd = 5 // its end is the order to kill the command
	enterTargetFd  = 6 // pidfd of the program
)

// enter is a process between the daemon and a command that is run beside a
// program: it moves into the program's namespaces, has a launcher start the
// command, and ends with its exit code. how is "tty" or "pipes", a comma, and
// the namespaces to move into, as a number.
func enter(how string) int {
	unix.CloseOnExec(enterControlFd)
	unix.CloseOnExec(enterTargetFd)
	kind, flags, _ := strings.Cut(how, ",")
	namespaces, err := strconv.Atoi(flags)
	if err == nil && namespaces != 0 {
		err = moveInto(namespaces)
	}
	unix.Close(enterTargetFd)
	if err != nil {
		return refuse(fmt.Errorf("enter its namespaces: %w", err))
	}
	pid, err := syscall.ForkExec("/proc/self/exe", []string{"hansa", launchArg}, &syscall.ProcAttr{
		Dir: "/", Env: []string{},
		Files: []uintptr{0, 1, 2, launchSpecFd, launchReportFd},
		Sys:   &syscall.SysProcAttr{Setsid: true, Setctty: kind == "tty"},
	})
	if err != nil {
		return refuse(fmt.Errorf("fork: %w", err))
	}
	for fd := range launchReportFd + 1 { // the command's alone: the daemon waits for their end
		unix.Close(fd)
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.NewFile(enterControlFd, "control")) // ends when the daemon does, at the latest
		_ = unix.Kill(-pid, unix.SIGKILL)                                 // gone is what is wanted
	}()
	for {
		var status unix.WaitStatus
		_, err := unix.Wait4(pid, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return wardenFailed
		case status.Signaled():
			return 128 + int(status.Signal())
		default:
			return status.ExitStatus()
		}
	}
}

// moveInto moves this thread, which forks, into namespaces of the program. For
// that it must not share its working folder with the other threads.
func moveInto(namespaces int) error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	return unix.Setns(enterTargetFd, namespaces)
}
