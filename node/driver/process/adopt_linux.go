package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hansa-mesh/hansa/node/driver"
)

// supervise spawns the task's supervisor and waits for its report.
func (d *Driver) supervise(ctx context.Context, t *task, how launchSpec) error {
	told, err := newMemory("order", order{t.spec, how})
	if err != nil {
		return err
	}
	defer told.Close()
	out, in, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make a pipe: %w", err)
	}
	defer out.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		in.Close()
		return err
	}
	lock, err := takeLock(t.dir)
	if err != nil {
		in.Close()
		null.Close()
		return err
	}
	pidfd := -1
	pid, err := syscall.ForkExec(d.c.Executable, []string{"hansa", superviseArg, t.dir}, &syscall.ProcAttr{
		Dir: "/", Env: supervisorEnv(),
		Files: []uintptr{null.Fd(), null.Fd(), null.Fd(), in.Fd(), lock.Fd(), told.Fd()}, // as reportFd and those after it say
		Sys:   &syscall.SysProcAttr{Setsid: true, PidFD: &pidfd},
	})
	null.Close()
	in.Close()
	lock.Close() // the supervisor has it
	if err != nil {
		return fmt.Errorf("spawn the supervisor: %w", err)
	}
	if pidfd < 0 {
		if pidfd, err = unix.PidfdOpen(pid, 0); err != nil { // our child, not reaped: it is the one
			return fmt.Errorf("watch the supervisor: %w", err)
		}
	}
	_ = unix.SetNonblock(pidfd, true) // without it the wait takes a thread
	watch := os.NewFile(uintptr(pidfd), "pidfd")
	r, err := d.readReport(ctx, out)
	if err == nil && r.Error != "" {
		err = errors.New(r.Error)
	}
	if err != nil {
		_ = send(watch, unix.SIGKILL)
		_ = wait(context.Background(), watch)
		reap(pid)
		watch.Close()
		d.sweep(t)
		return err
	}
	t.mu.Lock()
	t.run = *r.Run
	d.shareNow(t)
	t.status.State, t.status.StartedAt = driver.StateRunning, t.run.StartedAt
	s := t.current()
	t.mu.Unlock()
	d.mu.Lock()
	d.tasks[t.spec.Task.ID] = t
	d.mu.Unlock()
	d.outbox.Post(s)
	if !d.crew.Go(func() { d.watch(t, watch) }) {
		watch.Close() // shutting down: the next daemon adopts it
	}
	return nil
}

// supervisorEnv is small: a supervisor does little, and there are many. What
// steers the Go runtime for those who look for a fault is passed on.
func supervisorEnv() []string {
	env := []string{"GOMAXPROCS=2", "GOGC=50"}
	for _, name := range []string{"GODEBUG", "GORACE", "GOTRACEBACK", "GOCOVERDIR"} {
		if v := os.Getenv(name); v != "" {
			env = append(env, name+"="+v)
		}
	}
	return env
}

func (d *Driver) readReport(ctx context.Context, out *os.File) (report, error) {
	stop := context.AfterFunc(ctx, func() { _ = out.SetReadDeadline(aLongTimeAgo) })
	defer stop()
	_ = out.SetReadDeadline(time.Now().Add(d.c.StartMax)) // pipes have deadlines
	var r report
	err := json.NewDecoder(io.LimitReader(out, jsonBytesMax)).Decode(&r)
	if ctx.Err() != nil {
		return r, ctx.Err()
	}
	if errors.Is(err, io.EOF) {
		return r, errors.New("the supervisor died before it reported")
	}
	if err == nil && r.Run == nil && r.Error == "" {
		err = errors.New("the supervisor's report is empty")
	}
	return r, err
}

// reap collects a supervisor that was our child.
func reap(pid int) (unix.WaitStatus, bool) {
	var status unix.WaitStatus
	got, err := unix.Wait4(pid, &status, unix.WNOHANG, nil)
	return status, err == nil && got == pid
}

// watch waits for the supervisor's end and settles the task.
func (d *Driver) watch(t *task, pidfd *os.File) {
	defer pidfd.Close()
	ctx, cancel := context.WithCancel(d.ctx)
	defer cancel()
	if t.spec.Task.Fence != nil {
		d.crew.Go(func() { d.oversee(ctx, t) })
	}
	if err := wait(d.ctx, pidfd); err != nil {
		if d.ctx.Err() == nil {
			d.c.Log.Error("a supervisor can't be watched", "task", t.spec.Task.ID, "error", err)
			d.pollEnd(t)
		}
		if d.ctx.Err() != nil {
			return
		}
	}
	t.mu.Lock()
	pid := t.run.Supervisor.Pid
	t.mu.Unlock()
	status, ours := reap(pid)
	state, e := d.verdict(t)
	if state == driver.StateFailed && ours && status.Exited() && status.ExitStatus() > 0 {
		// It ended in order but could not write that down (a full disk).
		state, e.ExitCode, e.Reason = driver.StateExited, status.ExitStatus(), driver.ExitReason(status.ExitStatus())
	}
	d.end(t, state, e)
}

// pollEnd looks at the lock where no pidfd can be waited for.
func (d *Driver) pollEnd(t *task) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-d.ctx.Done():
			return
		case <-tick.C:
		}
		if held, err := locked(t.dir); err == nil && !held {
			return
		}
	}
}

// verdict reads how a task ended whose supervisor is gone, and clears away
// what it left.
func (d *Driver) verdict(t *task) (driver.State, exitRecord) {
	var e exitRecord
	ok, err := readJSON(filepath.Join(t.dir, exitFile), &e)
	if err == nil && ok && e.Starts == t.spec.Starts {
		return driver.StateExited, e
	}
	d.sweep(t)
	e = exitRecord{ExitCode: -1, ExitedAt: time.Now(), Reason: "its supervisor was killed, and the program with it"}
	boot, bootErr := bootID()
	t.mu.Lock()
	until, fenced := t.unshare()
	t.mu.Unlock()
	switch {
	case fenced:
		e.Fenced, e.Overrun = true, overrun(until)
		e.Reason = driver.FencedReason(e.Overrun)
	case err != nil:
		e.Reason = fmt.Sprintf("its exit record can't be read: %v", err)
	case t.run.Starts != t.spec.Starts:
		e.Reason = "it never ran: the daemon or the machine went down while it was starting"
	case bootErr == nil && t.run.Supervisor.Boot != boot:
		e.Reason = "the machine was restarted"
	}
	return driver.StateFailed, e
}

// sweep kills what a dead supervisor left: its groups carry the task's name,
// and the program is known by its identity.
func (d *Driver) sweep(t *task) {
	t.mu.Lock()
	program := t.run.Program
	t.mu.Unlock()
	if pidfd, err := program.open(); err == nil {
		// It leads a session: its id is that of its group as long as it lives.
		_ = unix.Kill(-program.Pid, unix.SIGKILL)
		_ = send(pidfd, unix.SIGKILL)
		pidfd.Close()
	}
	d.clear(t.spec.Task.ID, t.spec.Groups)
}

// clear kills what is in a task's groups, and removes them.
func (d *Driver) clear(id string, g groups) {
	for deadline := time.Now().Add(killPatience); len(g.members()) > 0 && time.Now().Before(deadline); time.Sleep(sweepInterval) {
		g.kill()
	}
	if err := g.remove(time.Second); err != nil {
		d.c.Log.Warn("cgroups of a task are not removed", "task", id, "error", err)
	}
}

// load reads the tasks folder once: what an earlier daemon left.
func (d *Driver) load() error {
	d.loading.Lock()
	defer d.loading.Unlock()
	d.mu.Lock()
	loaded := d.loaded
	d.mu.Unlock()
	if loaded {
		return nil
	}
	root := filepath.Join(d.c.Dir, "tasks")
	if err := os.MkdirAll(root, 0o700); err != nil {
		return fmt.Errorf("read tasks: %w", err)
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		return fmt.Errorf("read tasks: %w", err)
	}
	var found []*task
	for _, e := range entries {
		t, err := d.adopt(filepath.Join(root, e.Name()))
		if err != nil {
			return fmt.Errorf("read task %s: %w", e.Name(), err)
		}
		if t != nil {
			found = append(found, t)
		}
	}
	d.mu.Lock()
	for _, t := range found {
		d.tasks[t.spec.Task.ID] = t
	}
	d.loaded = true
	d.mu.Unlock()
	for _, t := range found {
		d.follow(t)
	}
	return nil
}

// adopt reads one task's folder; nil if there never was a task in it.
func (d *Driver) adopt(dir string) (*task, error) {
	t := &task{dir: dir, ended: make(chan struct{})}
	ok, err := readJSON(filepath.Join(dir, specFile), &t.spec)
	if err != nil {
		return nil, err
	}
	if !ok || t.spec.Task.ID == "" {
		// No supervisor is spawned without a spec, which is written whole or
		// not at all: a start that was cut short, or a spec that was damaged.
		// What runs without one is nobody's.
		d.c.Log.Warn("a task that can't be read is cleared away", "folder", filepath.Base(dir))
		if err := evict(dir); err != nil {
			return nil, err
		}
		d.clear(filepath.Base(dir), detect("/").groupsFor(d.groupName(filepath.Base(dir))))
		return nil, os.RemoveAll(dir)
	}
	t.status = driver.Status{
		ID: t.spec.Task.ID, Labels: t.spec.Task.Labels, State: driver.StateStarting, ExitCode: -1,
		Starts: t.spec.Starts, Ports: t.spec.Task.HostPorts(),
	}
	// A supervisor that lives may not have written run.json yet, for a moment.
	for deadline := time.Now().Add(d.c.StartMax); ; time.Sleep(sweepInterval) {
		held, err := locked(dir)
		if err != nil {
			return nil, err
		}
		ok, err := readJSON(filepath.Join(dir, runFile), &t.run)
		if err != nil {
			return nil, err
		}
		if ok && t.run.Starts == t.spec.Starts {
			t.status.StartedAt = t.run.StartedAt
			if held {
				t.status.State = driver.StateRunning
			}
			return t, nil
		}
		if !held {
			return t, nil
		}
		if time.Now().After(deadline) { // it hangs: its program never ran
			return t, evict(dir)
		}
	}
}

// evict kills the supervisor that holds the folder's lock, if there is one,
// and the kernel its program. The lock, in a folder of ours, is the evidence
// that it is a supervisor of ours.
func evict(dir string) error {
	for deadline := time.Now().Add(killPatience); ; time.Sleep(sweepInterval) {
		held, err := locked(dir)
		if err != nil || !held {
			return err
		}
		var holder identity
		if ok, err := readJSON(filepath.Join(dir, lockFile), &holder); err == nil && ok {
			if pidfd, err := holder.open(); err == nil {
				_ = send(pidfd, unix.SIGKILL)
				pidfd.Close()
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("a supervisor of %s can't be ended", filepath.Base(dir))
		}
	}
}

// follow watches an adopted task, or settles it if it has ended.
func (d *Driver) follow(t *task) {
	if t.status.State == driver.StateRunning {
		pidfd, err := t.run.Supervisor.open()
		if err == nil {
			t.mu.Lock()
			d.shareNow(t)
			t.mu.Unlock()
			d.outbox.Post(t.snapshot())
			if !d.crew.Go(func() { d.watch(t, pidfd) }) {
				pidfd.Close()
			}
			return
		}
		if !errors.Is(err, errGone) {
			d.c.Log.Error("a supervisor can't be watched", "task", t.spec.Task.ID, "error", err)
			d.crew.Go(func() {
				d.pollEnd(t)
				if d.ctx.Err() == nil {
					state, e := d.verdict(t)
					d.end(t, state, e)
				}
			})
			return
		}
	}
	state, e := d.verdict(t)
	d.end(t, state, e)
}

// archive keeps the logs of a task that was stopped, and deletes the rest.
func (d *Driver) archive(t *task) error {
	if err := t.spec.Groups.remove(time.Second); err != nil {
		d.c.Log.Warn("cgroups of a task are not removed", "task", t.spec.Task.ID, "error", err)
	}
	to := filepath.Join(d.c.Dir, "stopped", filepath.Base(t.dir))
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return fmt.Errorf("archive the logs: %w", err)
	}
	if err := os.RemoveAll(to); err != nil {
		return fmt.Errorf("archive the logs: %w", err)
	}
	// The rename is the acknowledgement: before it the task is listed after a
	// restart, after it it is not.
	if err := os.Rename(t.dir, to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("archive the logs: %w", err)
	}
	if err := strip(to); err != nil { // Collect tries again
		d.c.Log.Warn("what a stopped task left is not deleted", "task", t.spec.Task.ID, "error", err)
	}
	return nil
}
