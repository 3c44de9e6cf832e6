package process

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hansa-mesh/hansa/node/driver"
)

// prepare makes the task's folder ready for a start.
func (d *Driver) prepare(job driver.Task, command []string, starts int) (*task, launchSpec, error) {
	name := driver.SafeID(job.ID)
	dir := filepath.Join(d.c.Dir, "tasks", name)
	own, why := isolated()
	how := launchSpec{
		Command: command, Dir: filepath.Join(dir, workDir, filepath.Join("/", job.Process.Dir)), // never above it
		Env: environment(job, filepath.Join(dir, workDir), filepath.Join(dir, tmpDir)),
	}
	var err error
	if how.User, err = accountFor(job, own); err != nil {
		return nil, how, err
	}
	if err := mountable(job, own, why); err != nil {
		return nil, how, err
	}
	for _, p := range []string{workDir, tmpDir, stageDir} {
		if err := os.MkdirAll(filepath.Join(dir, p), 0o700); err != nil {
			return nil, how, fmt.Errorf("make the working folder: %w", err)
		}
	}
	t := &task{dir: dir, ended: make(chan struct{})}
	for _, f := range []string{specFile, runFile, stopFile, exitFile} {
		if err := os.Remove(filepath.Join(dir, f)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return t, how, fmt.Errorf("clear the working folder: %w", err)
		}
	}
	if err := fill(job, filepath.Join(dir, workDir), command); err != nil {
		return t, how, err
	}
	for _, p := range []string{filepath.Join(dir, workDir), filepath.Join(dir, tmpDir)} {
		if err := how.User.giveTree(p); err != nil {
			return t, how, fmt.Errorf("give the working folder to user %d: %w", how.User.UID, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, idFile), []byte(job.ID), 0o600); err != nil {
		return t, how, fmt.Errorf("make the working folder: %w", err)
	}
	l := detect("/")
	t.spec = spec{Task: job, Starts: starts, Processes: d.c.ProcessesMax, Groups: l.groupsFor(d.groupName(name))}
	t.spec.Task.Env, t.spec.Task.Files = nil, nil
	if t.spec.Isolation = own; own == isolatedByUser && job.Fence == nil && len(job.Files)+len(job.Volumes) == 0 {
		t.spec.Isolation = isolatedNot // programs with set-user-id work, where nothing needs more
	}
	if t.spec.Isolation != isolatedNot {
		how.View = d.viewOf(job, dir, how)
	}
	for _, v := range job.Volumes {
		if err := how.User.give(v.Source); err != nil {
			return t, how, fmt.Errorf("give the volume %s to user %d: %w", v.Name, how.User.UID, err)
		}
	}
	d.note(t, l)
	t.status = driver.Status{
		ID: job.ID, Labels: job.Labels, State: driver.StateStarting, ExitCode: -1,
		Starts: starts, Ports: job.HostPorts(),
	}
	return t, how, writeJSON(filepath.Join(dir, specFile), t.spec)
}

// mountable reports why a task's files and volumes can't be had.
func mountable(job driver.Task, own isolation, why error) error {
	paths := map[string]bool{}
	for _, f := range job.Files {
		paths[f.Path] = true
	}
	for _, v := range job.Volumes {
		paths[v.Path] = true
	}
	for path := range paths {
		clean := filepath.Clean(path)
		if !filepath.IsAbs(path) || clean == "/" || clean == "/proc" || below(clean, "/proc") {
			return fmt.Errorf("%w %q: nothing can be placed at %q: name a whole path, not within /proc", driver.ErrInvalid, job.ID, path)
		}
	}
	if len(paths) > 0 && own == isolatedNot {
		return fmt.Errorf("%w %q: it asks for files or volumes, which programs on the bare machine have only in a namespace of their own: %w", driver.ErrInvalid, job.ID, why)
	}
	return nil
}

// viewOf is what the program sees in another way than the machine does.
func (d *Driver) viewOf(job driver.Task, dir string, how launchSpec) *view {
	v := view{Stage: filepath.Join(dir, stageDir), Own: how.User}
	for _, f := range job.Files {
		v.Files = append(v.Files, viewFile{f.Path, f.Content, f.Mode})
	}
	for _, b := range job.Volumes {
		v.Binds = append(v.Binds, bind{b.Source, b.Path})
	}
	// /tmp is its own, unless what it is made of lies there.
	if !below(d.c.Dir, "/tmp") && !below(filepath.Clean(how.Command[0]), "/tmp") {
		v.Tmp = filepath.Join(dir, tmpDir)
	}
	// Who has no privileges could not pass the daemon's folders, and has no
	// business with what is in them.
	if how.User != nil {
		v.Hide = closedAbove(d.c.Dir)
		v.Keep = []string{filepath.Join(dir, workDir), filepath.Join(dir, tmpDir)}
	}
	return &v
}

// closedAbove is the first folder on the way to dir that others may not pass,
// or else dir.
func closedAbove(dir string) string {
	for _, p := range between("/", dir) {
		if info, err := os.Stat(p); err == nil && info.Mode().Perm()&0o001 == 0 {
			return p
		}
	}
	return dir
}

// note says, to the task's log and the daemon's, what is not enforced.
func (d *Driver) note(t *task, l layout) {
	limits := l.limits()
	job := t.spec.Task
	for _, c := range []string{"cpu", "memory"} {
		if asked := map[string]int64{"cpu": job.CPU, "memory": job.Memory}; asked[c] > 0 && !limits[c].Enforced {
			t.spec.Note += fmt.Sprintf("the limit on %s is not enforced: %s. ", c, limits[c].Detail)
			d.c.Log.Warn("a limit is not enforced", "task", job.ID, "limit", c, "reason", limits[c].Detail)
		}
	}
}

// fill makes the folder to run in, and places the artifact in it. What the
// program left there at an earlier start is not trusted: links lead nowhere else.
func fill(job driver.Task, work string, command []string) error {
	root, err := os.OpenRoot(work)
	if err != nil {
		return fmt.Errorf("make the working folder: %w", err)
	}
	defer root.Close()
	dir := strings.TrimPrefix(filepath.Join("/", job.Process.Dir), "/") // never above it
	if dir != "" {
		if err := root.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("make the working folder: %w", err)
		}
	}
	digest := job.Process.Artifact
	if digest == "" {
		return nil
	}
	if filepath.IsAbs(command[0]) {
		return fmt.Errorf("%w: the command is absolute (%s), so the artifact has no place", driver.ErrInvalid, command[0])
	}
	at := filepath.Join(dir, strings.TrimPrefix(filepath.Join("/", command[0]), "/"))
	if err := place(root, job.Artifacts[digest], at); err != nil {
		return fmt.Errorf("place the artifact: %w", err)
	}
	command[0] = filepath.Join(work, at)
	return nil
}

// place copies the artifact, so that the program can't change the original.
func place(root *os.Root, from, to string) error {
	if err := root.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	// A new file each time: the old one may be what a leftover executes.
	if err := root.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	out, err := root.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if e := out.Close(); err == nil {
		err = e
	}
	return err
}

func environment(job driver.Task, work, tmp string) []string {
	env := job.Environment()
	defaults := map[string]string{
		"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": work, "TMPDIR": tmp,
	}
	if len(job.Devices) > 0 {
		defaults["CUDA_VISIBLE_DEVICES"] = strings.Join(job.Devices, ",")
		defaults["NVIDIA_VISIBLE_DEVICES"] = defaults["CUDA_VISIBLE_DEVICES"]
	}
	for k, v := range defaults {
		if _, set := env[k]; !set {
			env[k] = v
		}
	}
	list := make([]string, 0, len(env))
	for _, k := range slices.Sorted(maps.Keys(env)) {
		list = append(list, k+"="+env[k])
	}
	return list
}
