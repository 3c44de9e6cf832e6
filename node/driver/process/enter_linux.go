package process

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/hansa-mesh/hansa/node/driver"
)

// Descriptors of who enters, beside the standard three and the launcher's.
const (
	enterControlFd = 5 // its end is the order to kill the command
	enterTargetFd  = 6 // pidfd of the program

	// Of enterTool, as toolFiles opens them: this program, and namespaces.
	enterSelfFd      = 7
	enterUserFd      = 8
	enterMountsFd    = 9
	enterProcessesFd = 10
)

// enter is a process between the daemon and a command that is run beside a
// program: it moves into the program's namespaces, has a launcher start the
// command, and ends with its exit code. how is "tty" or "pipes", the namespaces to
// move into, as a number, and where enterTool is, with commas between.
func enter(how string) int {
	unix.CloseOnExec(enterControlFd)
	unix.CloseOnExec(enterTargetFd)
	kind, rest, _ := strings.Cut(how, ",")
	flags, tool, _ := strings.Cut(rest, ",")
	attr := syscall.ProcAttr{
		Dir: "/", Env: []string{},
		Files: []uintptr{0, 1, 2, launchSpecFd, launchReportFd},
		Sys:   &syscall.SysProcAttr{Setsid: true, Setctty: kind == "tty"},
	}
	program, argv := "/proc/self/exe", []string{"hansa", launchArg}
	namespaces, err := strconv.Atoi(flags)
	switch {
	case err != nil || namespaces == 0:
	case namespaces&unix.CLONE_NEWUSER != 0:
		program, argv = tool, toolArguments(namespaces)
		attr.Files = append(attr.Files, enterControlFd, enterTargetFd, enterSelfFd, enterUserFd, enterMountsFd, enterProcessesFd)
	default:
		err = moveInto(namespaces)
	}
	if err != nil {
		return refuse(fmt.Errorf("enter its namespaces: %w", err))
	}
	pid, err := syscall.ForkExec(program, argv, &attr)
	unix.Close(enterTargetFd)
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

// A process with threads, as every Go program is one, can't move into a user
// namespace. Where a program has one, because the daemon is not root, nsenter(1)
// of util-linux does it, and becomes the launcher there.

// enterTool is what it is called.
const enterTool = "nsenter"

// toolFiles opens what enterTool needs, and says where that is.
func toolFiles(program identity, self string) (path string, files []*os.File, err error) {
	if path, err = exec.LookPath(enterTool); err != nil {
		return "", nil, fmt.Errorf("%w: it has a user namespace of its own, since this daemon is not root, and %s, which could enter it, is not on this machine (it is in util-linux)", driver.ErrInvalid, enterTool)
	}
	names := []string{self}
	for _, ns := range []string{"user", "mnt", "pid"} {
		names = append(names, fmt.Sprintf("/proc/%d/ns/%s", program.Pid, ns))
	}
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			return path, files, fmt.Errorf("enter its namespaces: %w", err)
		}
		files = append(files, f)
	}
	if now, err := identify(program.Pid); err != nil || now != program {
		return path, files, errGone // it ended, and what was opened may be another's
	}
	return path, files, nil
}

// toolArguments have the tool become the launcher in those namespaces.
func toolArguments(namespaces int) []string {
	fd := func(n int) string { return fmt.Sprintf("/proc/self/fd/%d", n) }
	argv := []string{enterTool, "--preserve-credentials", "--user=" + fd(enterUserFd), "--mount=" + fd(enterMountsFd)}
	if namespaces&unix.CLONE_NEWPID != 0 {
		argv = append(argv, "--pid="+fd(enterProcessesFd))
	}
	return append(argv, "--", fd(enterSelfFd), launchArg)
}
