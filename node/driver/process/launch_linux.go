package process

import (
	"encoding/json"
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
	launchSpecFd   = 3 // it reads a launchSpec
	launchReportFd = 4 // it writes why it failed; closed by a successful exec
)

// launchSpec is what the launcher is told.
type launchSpec struct {
	Command []string `json:"command"`
	Env     []string `json:"env"`
	Dir     string   `json:"dir"`
	Procs   []string `json:"procs"` // cgroup.procs files to join
}

// launch is a process between the supervisor and the program: it joins the
// groups as itself and then becomes the program, so that the program is never
// outside of them, and the supervisor never inside.
func launch() int {
	report := os.NewFile(launchReportFd, "report")
	unix.CloseOnExec(launchReportFd)
	in := os.NewFile(launchSpecFd, "spec")
	var s launchSpec
	err := json.NewDecoder(in).Decode(&s)
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
		if !errors.Is(err, unix.ETXTBSY) || time.Now().After(deadline) {
			return fmt.Errorf("execute %s: %w", s.Command[0], err)
		}
	}
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
