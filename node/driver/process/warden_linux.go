package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/hansa-mesh/hansa/node/driver"
)

// Descriptors of the warden beside those that it passes on to the launcher.
const wardenDeadlineFd = 5

// wardenFailed is its exit code where it could not start the program.
const wardenFailed = 125

// A warden is process 1 of a process namespace that a fenced task has for
// itself, between the supervisor and the launcher. When process 1 ends, the
// kernel kills all others in the namespace, whatever they forked and wherever
// they moved themselves, and its parent is told only after the last of them is
// gone (pid_namespaces(7)). It ends
//
//   - when the program ends, with its exit code;
//   - when the supervisor is killed, by the kernel (PR_SET_PDEATHSIG);
//   - at the deadline, which it holds beside the supervisor, so that one of the
//     two may be stopped (SIGSTOP) or slow.
//
// Everything else it only passes on: the launch, and signals.
func warden() int {
	unix.CloseOnExec(wardenDeadlineFd)
	held, err := mapDeadline(os.NewFile(wardenDeadlineFd, "deadline"))
	if err != nil {
		return refuse(err)
	}
	go func() {
		if held.expire(context.Background(), driver.FenceMargin) == nil {
			os.Exit(128 + int(unix.SIGKILL)) // and the kernel kills the rest
		}
	}()
	ownProc()
	signals := make(chan os.Signal, 16)
	signal.Notify(signals) // without a handler process 1 does not get them
	pid, err := syscall.ForkExec("/proc/self/exe", []string{"hansa", launchArg}, &syscall.ProcAttr{
		Dir: "/", Env: []string{},
		Files: []uintptr{0, 1, 2, launchSpecFd, launchReportFd},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return refuse(fmt.Errorf("fork: %w", err))
	}
	// The launcher's alone: the supervisor waits for their end.
	unix.Close(launchSpecFd)
	unix.Close(launchReportFd)
	go func() {
		for s := range signals {
			if n, ok := s.(syscall.Signal); ok && passedOn(n) {
				_ = unix.Kill(-pid, n) // gone is what is wanted
			}
		}
	}()
	return reapUntil(pid)
}

// refuse reports why there is no program, as the launcher would.
func refuse(err error) int {
	report := os.NewFile(launchReportFd, "report")
	fmt.Fprint(report, err)
	report.Close()
	return wardenFailed
}

// passedOn is false for signals that this program causes itself.
func passedOn(s syscall.Signal) bool {
	return s != unix.SIGCHLD && s != unix.SIGURG && s != unix.SIGPIPE
}

// reapUntil collects whatever ends in the namespace, until that is the program,
// and returns its exit code as driver.Status has it.
func reapUntil(program int) int {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return wardenFailed // no children: can't be before the program was reaped
		case pid == program && status.Signaled():
			return 128 + int(status.Signal())
		case pid == program:
			return status.ExitStatus()
		}
	}
}

// ownProc shows the namespace its own processes in /proc; mounts of the machine
// still come through, those made here stay here. Where that is not allowed (in
// many containers) /proc keeps showing the numbers of the machine, which only
// programs that look for other processes notice.
func ownProc() {
	if unix.Mount("none", "/", "", unix.MS_REC|unix.MS_SLAVE, "") == nil {
		_ = unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NOEXEC|unix.MS_NODEV, "")
	}
}
