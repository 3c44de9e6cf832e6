package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Descriptors of the launcher beside the standard three.
const (
	launchSpecFd   = 3 // memory that holds a launchSpec
	launchReportFd = 4 // it writes why it failed; closed by a successful exec
)

// launchSpec is what the launcher is told.
type launchSpec struct {
	Command []string `json:"command"`
	Env     []string `json:"env"`
	Dir     string   `json:"dir"`
	Procs   []string `json:"procs"` // cgroup.procs files to join
	// View is what to make of the mounts of this namespace; nil leaves them.
	View *view `json:"view,omitempty"`
	// User to become; nil stays who this is.
	User *account `json:"user,omitempty"`
	// Parent is who this dies with; 0 for nobody.
	Parent int `json:"parent,omitempty"`
}

// launch is a process between the supervisor and the program: it joins the
// groups as itself and then becomes the program, so that the program is never
// outside of them, and the supervisor never inside.
func launch() int {
	report := os.NewFile(launchReportFd, "report")
	unix.CloseOnExec(launchReportFd)
	in := os.NewFile(launchSpecFd, "order")
	var s launchSpec
	err := readMemory(in, &s)
	in.Close()
	if err == nil {
		err = s.exec()
	}
	fmt.Fprint(report, err)
	return 1
}

func (s *launchSpec) exec() error {
	// What is handled here is back at its default in the program, what was
	// ignored (by whoever started the daemon) would stay ignored.
	signal.Notify(make(chan os.Signal, 1))
	var notJoined []string
	for _, file := range s.Procs {
		if err := writeFile(file, strconv.Itoa(os.Getpid())); err != nil {
			notJoined = append(notJoined, err.Error())
		}
	}
	if len(notJoined) > 0 {
		return fmt.Errorf("join the cgroups: %s", strings.Join(notJoined, "; "))
	}
	if s.View != nil {
		if err := s.View.show(); err != nil {
			return err
		}
	}
	if err := s.become(); err != nil {
		return err
	}
	if err := os.Chdir(s.Dir); err != nil {
		return fmt.Errorf("enter the working folder: %w", err)
	}
	program, err := s.find()
	if err != nil {
		return err
	}
	// A file that was just written may be held open for a moment by a process
	// that was forked meanwhile and has not executed yet.
	for deadline := time.Now().Add(2 * time.Second); ; time.Sleep(sweepInterval) {
		err = syscall.Exec(program, s.Command, s.Env)
		if errors.Is(err, unix.EACCES) && s.User != nil {
			return fmt.Errorf("execute %s as user %d: %w: it must be readable and executable for others, or \"user\" be set", s.Command[0], s.User.UID, err)
		}
		if !errors.Is(err, unix.ETXTBSY) || time.Now().After(deadline) {
			return fmt.Errorf("execute %s: %w", s.Command[0], err)
		}
	}
}

// become changes to the user, for good. The kernel forgets with whom a process
// dies when its user changes, so that is said again.
func (s *launchSpec) become() error {
	if u := s.User; u != nil {
		err := syscall.Setgroups(u.Groups)
		if err == nil {
			err = syscall.Setresgid(u.GID, u.GID, u.GID)
		}
		if err == nil {
			err = syscall.Setresuid(u.UID, u.UID, u.UID)
		}
		if err == nil && u.Bound {
			err = unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
		}
		if err != nil {
			return fmt.Errorf("become user %d: %w", u.UID, err)
		}
	}
	// Of its user namespace, if it has one; no kernel before 4.3 has any.
	_ = unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
	if s.Parent == 0 {
		return nil
	}
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("die with the supervisor: %w", err)
	}
	if os.Getppid() != s.Parent {
		return errors.New("the supervisor is gone")
	}
	return nil
}

// find looks a bare name up in the PATH of the program's environment.
func (s *launchSpec) find() (string, error) {
	name := s.Command[0]
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, e := range s.Env {
		path, ok := strings.CutPrefix(e, "PATH=")
		if !ok {
			continue
		}
		for _, dir := range filepath.SplitList(path) {
			file := filepath.Join(dir, name)
			if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
				return file, nil
			}
		}
	}
	return "", fmt.Errorf("execute %s: %w", name, exec.ErrNotFound)
}
