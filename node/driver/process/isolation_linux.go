package process

import (
	"errors"
	"fmt"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/hansa-mesh/hansa/node/driver"
)

// isolation says which namespaces a program has of its own, beside the one of
// processes that a fence needs.
type isolation string

const (
	isolatedNot    isolation = ""
	isolatedByRoot isolation = "root" // mounts and System V IPC
	isolatedByUser isolation = "user" // mounts, in a user namespace in which everybody is who they are
)

// sys is how such a program is forked; more are further namespaces.
func (i isolation) sys(more uintptr) syscall.SysProcAttr {
	sys := syscall.SysProcAttr{Setsid: true, Pdeathsig: unix.SIGKILL, Cloneflags: more}
	switch i {
	case isolatedByRoot:
		sys.Cloneflags |= unix.CLONE_NEWNS | unix.CLONE_NEWIPC
	case isolatedByUser:
		sys.Cloneflags |= unix.CLONE_NEWNS | unix.CLONE_NEWUSER
		sys.UidMappings = []syscall.SysProcIDMap{{ContainerID: syscall.Getuid(), HostID: syscall.Getuid(), Size: 1}}
		sys.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_DAC_OVERRIDE} // within it, until the program is executed
		sys.GidMappings = []syscall.SysProcIDMap{{ContainerID: syscall.Getgid(), HostID: syscall.Getgid(), Size: 1}}
	}
	return sys
}

// fork is ForkExec of such a program. A fenced one is in a process namespace,
// too.
func (i isolation) fork(path string, argv []string, attr syscall.ProcAttr, fenced bool) (pid int, err error) {
	more := uintptr(0)
	if fenced {
		more = unix.CLONE_NEWPID
	}
	sys := i.sys(more)
	attr.Sys = &sys
	return syscall.ForkExec(path, argv, &attr)
}

// isolated is the best that this machine allows, or why there is none. It tries:
// namespaces are made, in which a program that is not there is not started.
var isolated = sync.OnceValues(func() (isolation, error) {
	var err error
	for _, i := range []isolation{isolatedByRoot, isolatedByUser} {
		_, err = i.fork("/dev/null/nothing", []string{"nothing"}, syscall.ProcAttr{Dir: "/"}, true)
		if err == nil || errors.Is(err, unix.ENOTDIR) {
			return i, nil
		}
	}
	return isolatedNot, fmt.Errorf("no right to make namespaces (%w): run the daemon as root, or allow unprivileged user namespaces", err)
})

// limit says for Probe what programs have of their own.
func (i isolation) limit(why error) driver.Limit {
	const network = "the network is the machine's"
	switch i {
	case isolatedByRoot:
		return driver.Limit{Enforced: true, Detail: "a user without privileges for each app, mounts, /tmp and System V IPC of its own; " + network}
	case isolatedByUser:
		return driver.Limit{Detail: "the daemon is not root: programs run as its user, and have mounts of their own only with files, volumes or a fence; " + network}
	}
	return driver.Limit{Detail: fmt.Sprintf("programs run as the daemon's user, without files and volumes: %v", why)}
}

// canFence reports why this machine can't fence, or nil.
func canFence() error {
	_, err := isolated()
	return err
}
