package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/hansa-mesh/hansa/testbed/load"
)

// killRounds bounds how often it is looked for what was just forked.
const killRounds = 100

// killAll kills every process that find finds, until it finds none.
func killAll(what string, find func() ([]int, error)) error {
	for range killRounds {
		pids, err := find()
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("kill %s: %w", what, err)
			}
		}
	}
	return fmt.Errorf("%s can't be killed", what)
}

// process is one process of this machine, as /proc tells.
type proc struct {
	pid     int
	cwd     string
	cmdline []byte // words that end with a zero
	environ []byte // likewise
	root    string // what is mounted as its root, for a container
}

// processes are those of this machine that live.
func processes() ([]proc, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var all []proc
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		dir := filepath.Join("/proc", e.Name())
		stat, err := os.ReadFile(filepath.Join(dir, "stat"))
		if err != nil || bytes.Contains(stat, []byte(") Z ")) {
			continue // gone, or dead and not yet reaped
		}
		p := proc{pid: pid}
		p.cwd, _ = os.Readlink(filepath.Join(dir, "cwd"))         // not ours to read, or gone: not ours
		p.cmdline, _ = os.ReadFile(filepath.Join(dir, "cmdline")) // the same
		p.environ, _ = os.ReadFile(filepath.Join(dir, "environ")) // the same
		p.root = rootOf(dir)
		all = append(all, p)
	}
	return all, nil
}

// rootOf is the line of a process's mounts that is about its root, which for a
// container names the folders that its image and what it writes lie in.
func rootOf(dir string) string {
	text, err := os.ReadFile(filepath.Join(dir, "mounts"))
	if err != nil {
		return "" // gone, or not ours to read
	}
	last := ""
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 3 && f[1] == "/" {
			last = line
		}
	}
	return last
}

// of says whether a process belongs to the peer with this data folder: its
// drivers' supervisors and programs name the folder in their command line or as
// their working folder, containers have their root there.
func (p proc) of(dir string) bool {
	return strings.HasPrefix(p.cwd, dir+"/") || bytes.Contains(p.cmdline, []byte(dir+"/")) || strings.Contains(p.root, dir+"/")
}

// env is a variable of a process, or "".
func (p proc) env(name string) string {
	for word := range bytes.SplitSeq(p.environ, []byte{0}) {
		if value, ok := bytes.CutPrefix(word, []byte(name+"=")); ok {
			return string(value)
		}
	}
	return ""
}

// pidsOf are the processes that a driver of the peer with this data folder
// started, and that pass.
func pidsOf(dir string, pass func(proc) bool) func() ([]int, error) {
	return func() ([]int, error) {
		all, err := processes()
		if err != nil {
			return nil, err
		}
		var pids []int
		for _, p := range all {
			if p.of(dir) && pass(p) {
				pids = append(pids, p.pid)
			}
		}
		return pids, nil
	}
}

// supervisorArg is how a supervisor is called (node/driver/process).
const supervisorArg = "internal-supervise"

// KillSupervisors kills all supervisors of a site with SIGKILL; the kernel ends
// their programs with them.
func (m *Mesh) KillSupervisors(site string) error {
	return killAll("the supervisors of "+site, pidsOf(m.daemons[site].dir, func(p proc) bool {
		return bytes.Contains(p.cmdline, []byte(supervisorArg))
	}))
}

// killWork kills all that a driver of the peer with this data folder started.
func killWork(dir string) error {
	return killAll("the work in "+dir, pidsOf(dir, func(proc) bool { return true }))
}

// Work is what really runs at all sites, as /proc tells: programs whose first
// word is command. What they forked is not counted.
func (m *Mesh) Work(command string) ([]load.Work, error) {
	all, err := processes()
	if err != nil {
		return nil, err
	}
	var found []load.Work
	for _, p := range all {
		i := slices.IndexFunc(m.cfg.Sites, func(site string) bool { return p.of(m.daemons[site].dir) })
		if first, _, _ := bytes.Cut(p.cmdline, []byte{0}); i < 0 || string(first) != command {
			continue
		}
		w := load.Work{App: p.env("HANSA_APP"), Component: p.env("HANSA_COMPONENT"), Where: m.cfg.Sites[i]}
		if w.Slot, err = strconv.Atoi(p.env("HANSA_SLOT")); err != nil {
			continue // it ended between two looks
		}
		found = append(found, w)
	}
	return found, nil
}
