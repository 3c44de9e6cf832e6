package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"github.com/hansa-mesh/hansa/node/driver"
)

// shell is what is run where no command is given: the better of two.
var shell = []string{"/bin/sh", "-c", "command -v bash >/dev/null 2>&1 && exec bash; exec sh"}

// endOfInput is what ends the input of a terminal's programs: control-D.
const endOfInput = "\x04"

// killMax bounds the wait for an engine that is to say which process a command is.
const killMax = 15 * time.Second

// Exit codes of an engine that could not run a command at all.
const (
	codeNotRun   = 126
	codeNotFound = 127
)

// Exec implements driver.Execer.
func (d *Driver) Exec(ctx context.Context, id string, x driver.Exec) (int, error) {
	fail := func(err error) (int, error) { return -1, fmt.Errorf("exec in %q: %w", id, err) }
	if x.Console {
		return fail(fmt.Errorf("%w: a container has no console; run a command or a shell", driver.ErrInvalid))
	}
	if err := d.load(ctx); err != nil {
		return fail(err)
	}
	t := d.task(id)
	if t == nil || t.over() {
		return fail(fmt.Errorf("%w: it does not run", driver.ErrUnknownTask))
	}
	cli, err := d.engine.client()
	if err != nil {
		return fail(err)
	}
	command := x.Command
	if len(command) == 0 {
		command = shell
	}
	size := client.ConsoleSize{}
	if x.TTY {
		size = client.ConsoleSize{Height: uint(x.Size.Rows), Width: uint(x.Size.Cols)}
	}
	making, stop := call(ctx)
	defer stop()
	made, err := cli.ExecCreate(making, t.rec.Container, client.ExecCreateOptions{
		Cmd: command, TTY: x.TTY, ConsoleSize: size, AttachStdin: x.Stdin != nil, AttachStdout: true, AttachStderr: true,
	})
	if cerrdefs.IsNotFound(err) || cerrdefs.IsConflict(err) {
		return fail(fmt.Errorf("%w: it does not run", driver.ErrUnknownTask))
	}
	if err != nil {
		return fail(d.engine.lost(err))
	}
	code, err := d.attach(ctx, cli, made.ID, size, x)
	if err != nil {
		return fail(d.engine.lost(err))
	}
	if len(x.Command) == 0 && (code == codeNotRun || code == codeNotFound) {
		return fail(fmt.Errorf("%w: its image has no shell (/bin/sh); name a command that it has", driver.ErrInvalid))
	}
	return code, nil
}

// attach runs an exec that was made, and returns its exit code once all that it
// wrote was taken.
func (d *Driver) attach(ctx context.Context, cli *client.Client, id string, size client.ConsoleSize, x driver.Exec) (int, error) {
	conn, err := cli.ExecAttach(ctx, id, client.ExecAttachOptions{TTY: x.TTY, ConsoleSize: size})
	if err != nil {
		return -1, err
	}
	defer conn.Close()
	over := make(chan struct{})
	defer close(over)
	if x.Stdin != nil {
		go func() { // ends with Stdin, or with the connection
			_, _ = io.Copy(conn.Conn, x.Stdin)
			if x.TTY { // an engine whose terminal has no typist any more shows nothing more of it
				_, _ = io.WriteString(conn.Conn, endOfInput)
				return
			}
			_ = conn.CloseWrite()
		}()
	}
	if x.TTY {
		go d.resize(cli, id, size, x.Resize, over)
	}
	taken := make(chan struct{})
	go func() {
		err = takeOutput(conn, x)
		close(taken)
	}()
	select {
	case <-taken:
	case <-ctx.Done():
		d.killExec(cli, id, taken)
		conn.Close()
		<-taken
		return -1, ctx.Err()
	}
	if err != nil && ctx.Err() == nil {
		return -1, fmt.Errorf("the connection to the command broke: %w", err)
	}
	return d.exitCode(ctx, cli, id)
}

// takeOutput copies what a command writes until it has ended.
func takeOutput(conn client.ExecAttachResult, x driver.Exec) error {
	out, errs := x.Stdout, x.Stderr
	if out == nil {
		out = io.Discard
	}
	if errs == nil {
		errs = io.Discard
	}
	if x.TTY {
		_, err := io.Copy(out, conn.Reader)
		return err
	}
	var frame []byte
	for {
		var stream int
		var err error
		stream, frame, err = readFrame(conn.Reader, frame)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		to := out
		if stream == stderr {
			to = errs
		}
		if _, err := to.Write(frame); err != nil {
			return err
		}
	}
}

// resize passes on sizes of the terminal, the first one once more: old engines
// take none when a command is made.
func (d *Driver) resize(cli *client.Client, id string, first client.ConsoleSize, sizes <-chan driver.Size, over <-chan struct{}) {
	set := func(s client.ConsoleSize) {
		ctx, cancel := context.WithTimeout(d.ctx, probeMax)
		defer cancel()
		if s.Height > 0 && s.Width > 0 {
			_, _ = cli.ExecResize(ctx, id, client.ExecResizeOptions(s)) // it may have ended
		}
	}
	set(first)
	for {
		select {
		case <-over:
			return
		case s, ok := <-sizes:
			if !ok {
				return
			}
			set(client.ConsoleSize{Height: uint(s.Rows), Width: uint(s.Cols)})
		}
	}
}

// exitCode waits for the code of a command whose output has ended: engines note
// it a little later.
func (d *Driver) exitCode(ctx context.Context, cli *client.Client, id string) (int, error) {
	for wait := 2 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		seen, err := cli.ExecInspect(ctx, id, client.ExecInspectOptions{})
		if err != nil {
			return -1, err
		}
		if !seen.Running {
			return seen.ExitCode, nil
		}
		if !driver.Pause(ctx, wait) {
			over := make(chan struct{})
			close(over)
			d.killExec(cli, id, over)
			return -1, ctx.Err()
		}
	}
}

// killExec ends a command. The API has nothing for that, so it is done from the
// host, where the daemon may. An engine that has just started a command may not
// say so yet: it is asked again until all that the command wrote was taken.
func (d *Driver) killExec(cli *client.Client, id string, taken <-chan struct{}) {
	ctx, cancel := context.WithTimeout(context.Background(), killMax)
	defer cancel()
	pid := func() int {
		seen, err := cli.ExecInspect(ctx, id, client.ExecInspectOptions{})
		if err != nil || !seen.Running {
			return 0
		}
		return seen.PID
	}
	for wait := 2 * time.Millisecond; ; wait = min(2*wait, time.Second/4) {
		if pid() > 0 {
			if err := killSession(pid); err != nil {
				d.c.Log.Warn("a command in a container is not ended", "exec", id, "error", err)
			}
			return
		}
		select {
		case <-taken:
			return
		default:
		}
		if !driver.Pause(ctx, wait) {
			d.c.Log.Warn("a command in a container is not ended: its engine does not say which process it is", "exec", id)
			return
		}
	}
}
