package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hansa-mesh/hansa/node/driver"
)

// execsMax bounds the commands that run beside one task at one time.
const execsMax = 32

var errExecs = fmt.Errorf("%d commands run beside it already: let some end first", execsMax)

// Exec implements driver.Execer.
func (d *Driver) Exec(ctx context.Context, id string, x driver.Exec) (int, error) {
	code, err := d.exec(ctx, id, x)
	if err != nil {
		return 0, fmt.Errorf("exec in %q: %w", id, err)
	}
	return code, nil
}

func (d *Driver) exec(ctx context.Context, id string, x driver.Exec) (int, error) {
	if x.Console {
		return 0, fmt.Errorf("%w: a program on the bare machine has no console; its output is in its logs", driver.ErrInvalid)
	}
	if err := d.load(); err != nil {
		return 0, err
	}
	t := d.task(id)
	if t == nil || t.snapshot().State.Ended() {
		return 0, driver.ErrUnknownTask
	}
	defer t.execs.Add(-1)
	if t.execs.Add(1) > execsMax {
		return 0, errExecs
	}
	e, err := d.entry(t, x)
	if errors.Is(err, errGone) {
		return 0, driver.ErrUnknownTask
	}
	if err != nil {
		return 0, err
	}
	defer e.close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(d.ctx, cancel)()
	taskEnded := make(chan struct{})
	go func() {
		defer close(taskEnded)
		select {
		case <-t.ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	code, err := e.run(ctx, d.c.Executable, x, d.c.StartMax)
	cancel()
	<-taskEnded
	if errors.Is(err, context.Canceled) && t.snapshot().State.Ended() {
		return 128 + int(unix.SIGKILL), nil // it ended with the task
	}
	return code, err
}

// entry is what a command needs to run beside a program.
type entry struct {
	how        *os.File // memory for the launcher
	target     *os.File // pidfd of the program, in whose namespaces it goes
	namespaces int
	tool       string     // where enterTool is, if it is needed,
	toolFiles  []*os.File // and what it needs
	user       *account
}

func (e *entry) close() {
	for _, f := range append([]*os.File{e.how, e.target}, e.toolFiles...) {
		if f != nil {
			f.Close()
		}
	}
}

// entry finds out how the task's program was launched.
func (d *Driver) entry(t *task, x driver.Exec) (*entry, error) {
	t.mu.Lock()
	run := t.run
	t.mu.Unlock()
	if run.LaunchFd == 0 {
		return nil, fmt.Errorf("%w: an older version started it: restart it first", driver.ErrInvalid)
	}
	known, err := openMemory(run.Supervisor, run.LaunchFd, "order")
	if err != nil {
		return nil, err
	}
	defer known.Close()
	var how launchSpec
	if err := readMemory(known, &how); err != nil {
		return nil, err
	}
	if how.Command = x.Command; len(how.Command) == 0 {
		how.Command = []string{"/bin/sh"}
	}
	if x.TTY && !slices.ContainsFunc(how.Env, func(e string) bool { return strings.HasPrefix(e, "TERM=") }) {
		how.Env = append(how.Env, "TERM=xterm")
	}
	e := &entry{user: how.User}
	if e.target, err = run.Program.open(); err != nil {
		return nil, err
	}
	if e.namespaces, err = namespacesOf(run.Program.Pid); err == nil && e.namespaces&unix.CLONE_NEWUSER != 0 {
		e.tool, e.toolFiles, err = toolFiles(run.Program, d.c.Executable)
	}
	if err == nil {
		e.how, err = newMemory("order", how)
	}
	if err != nil {
		e.close()
		return nil, err
	}
	return e, nil
}

// namespacesOf are those of a process that this one is not in.
func namespacesOf(pid int) (int, error) {
	flags := 0
	for name, flag := range map[string]int{"mnt": unix.CLONE_NEWNS, "ipc": unix.CLONE_NEWIPC, "pid": unix.CLONE_NEWPID, "user": unix.CLONE_NEWUSER} {
		theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, name))
		if errors.Is(err, os.ErrNotExist) {
			return 0, errGone
		}
		ours, err2 := os.Readlink("/proc/self/ns/" + name)
		if err := errors.Join(err, err2); err != nil {
			return 0, fmt.Errorf("find its namespaces: %w", err)
		}
		if theirs != ours {
			flags |= flag
		}
	}
	return flags, nil
}

// run runs the command to its end.
func (e *entry) run(ctx context.Context, self string, x driver.Exec, startMax time.Duration) (int, error) {
	kind := "pipes"
	if x.TTY {
		kind = "tty"
	}
	report, reportIn, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer report.Close()
	defer reportIn.Close()
	control, order, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer control.Close()
	defer order.Close()
	cmd := exec.CommandContext(ctx, self)
	cmd.Args = []string{"hansa", enterArg, fmt.Sprint(kind, ",", e.namespaces, ",", e.tool)}
	cmd.Dir, cmd.Env, cmd.SysProcAttr = "/", supervisorEnv(), &syscall.SysProcAttr{Setsid: true}
	cmd.ExtraFiles = append([]*os.File{e.how, reportIn, control, e.target}, e.toolFiles...) // as launchSpecFd and those after it say
	cmd.Cancel = order.Close                                                                // who entered kills the command
	cmd.WaitDelay = killPatience
	streams, err := e.connect(cmd, x)
	if err != nil {
		return 0, err
	}
	err = cmd.Start()
	reportIn.Close()
	streams.started()
	if err == nil {
		_ = report.SetReadDeadline(time.Now().Add(startMax)) // pipes have deadlines
		if err = launched(report); err != nil {
			order.Close()
		} else {
			streams.feed(ctx, x)
		}
		if waited := cmd.Wait(); err == nil {
			err = waited
		}
	}
	streams.finish()
	var ended *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case err == nil || errors.Is(err, exec.ErrWaitDelay):
		return cmd.ProcessState.ExitCode(), nil
	case errors.As(err, &ended) && ended.ExitCode() >= 0:
		return ended.ExitCode(), nil
	}
	return 0, err
}

// streams are the ends of a command's that this process has.
type streams struct {
	stdin    io.WriteCloser
	terminal *terminal // or nil
	copied   chan struct{}
}

func (e *entry) connect(cmd *exec.Cmd, x driver.Exec) (s *streams, err error) {
	s = &streams{}
	if !x.TTY {
		cmd.Stdout, cmd.Stderr = x.Stdout, x.Stderr
		if x.Stdin != nil {
			s.stdin, err = cmd.StdinPipe()
		}
		return s, err
	}
	if s.terminal, err = newTerminal(x.Size, e.user); err != nil {
		return nil, err
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = s.terminal.theirs, s.terminal.theirs, s.terminal.theirs
	s.copied = make(chan struct{})
	go func() {
		defer close(s.copied)
		_, _ = io.Copy(x.Stdout, s.terminal.ours) // ends when nobody has the other end any more
	}()
	return s, nil
}

// started gives up what is now the command's.
func (s *streams) started() {
	if s.terminal != nil {
		s.terminal.theirs.Close()
	}
}

// feed passes the input on, and the sizes of the terminal. Who gave the input
// ends its reading.
func (s *streams) feed(ctx context.Context, x driver.Exec) {
	switch {
	case s.terminal != nil:
		go s.terminal.feed(x.Stdin)
		go s.terminal.resize(ctx, x.Resize)
	case s.stdin != nil:
		go func() {
			_, _ = io.Copy(s.stdin, x.Stdin) // the command may end before its input
			s.stdin.Close()
		}()
	}
}

// finish waits until what the command wrote was taken.
func (s *streams) finish() {
	if s.terminal == nil {
		return
	}
	select {
	case <-s.copied:
	case <-time.After(drainPatience): // what it left in the background has the terminal
		_ = s.terminal.ours.SetReadDeadline(aLongTimeAgo)
		<-s.copied
	}
	s.terminal.ours.Close()
}
