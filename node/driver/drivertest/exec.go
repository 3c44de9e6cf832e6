package drivertest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
)

// execer is a daemon whose driver can enter tasks.
type execer struct {
	*daemon
	driver.Execer
	m Machine
}

func startExec(t *testing.T, m Machine) execer {
	t.Helper()
	d := start(t, m)
	x, ok := d.Driver.(driver.Execer)
	if !ok {
		t.Fatalf("driver %s has commands for Exec and is no Execer", d.Name())
	}
	return execer{d, x, m}
}

// run runs a verb in a task to its end.
func (x execer) run(id, stdin string, verb ...string) (code int, out, errs string) {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(x.t.Context(), patience)
	defer cancel()
	var stdout, stderr output
	code, err := x.Exec(ctx, id, driver.Exec{
		Command: x.m.Command(x.t, verb...), Stdin: strings.NewReader(stdin), Stdout: &stdout, Stderr: &stderr,
	})
	if err != nil {
		x.t.Fatalf("Exec %v: %v", verb, err)
	}
	return code, stdout.String(), stderr.String()
}

// output is a buffer that is read while it is written.
type output struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

func (o *output) has(text string) func() bool {
	return func() bool { return strings.Contains(o.String(), text) }
}

// background runs an Exec, and gives back what it answers.
func (x execer) background(ctx context.Context, id string, e driver.Exec) <-chan execAnswer {
	answer := make(chan execAnswer, 1)
	go func() {
		code, err := x.Exec(ctx, id, e)
		answer <- execAnswer{code, err}
	}()
	return answer
}

type execAnswer struct {
	code int
	err  error
}

func (x execer) wait(answer <-chan execAnswer) execAnswer {
	x.t.Helper()
	select {
	case a := <-answer:
		return a
	case <-time.After(patience):
		x.t.Fatal("Exec does not return")
		return execAnswer{}
	}
}

var execTests = []test{
	{"ExecExitCodeAndStreams", func(t *testing.T, m Machine) {
		x := startExec(t, m)
		x.mustRun(m.Program(t, "c/0", "run"))
		if code, out, errs := x.run("c/0", "", "both"); code != 3 || out != "out\n" || errs != "err\n" {
			t.Errorf("it answers %d, %q, %q", code, out, errs)
		}
		for _, want := range []int{0, 1, 255} {
			if code, _, _ := x.run("c/0", "", "exit", strconv.Itoa(want)); code != want {
				t.Errorf("exit %d answers %d", want, code)
			}
		}
		if got := texts(x.lines("c/0", driver.LogOptions{})); got != "ready\n" {
			t.Errorf("the task's log has what was run beside it: %q", got)
		}
		if s, ok := x.status("c/0"); !ok || s.State != driver.StateRunning || s.Starts != 1 {
			t.Errorf("after it the task is %+v", s)
		}
	}},
	{"ExecStdinToStdout", func(t *testing.T, m Machine) {
		x := startExec(t, m)
		x.mustRun(m.Program(t, "c/0", "run"))
		for _, text := range []string{"", "hello\n", strings.Repeat("0123456789abcdef", 1<<16)} {
			if code, out, _ := x.run("c/0", text, "cat"); code != 0 || out != text {
				t.Errorf("of %d bytes %d come back, with code %d", len(text), len(out), code)
			}
		}
		// Nobody who waits for input keeps a command from ending.
		r, w := io.Pipe()
		defer w.Close()
		a := x.wait(x.background(t.Context(), "c/0", driver.Exec{Command: m.Command(t, "exit", "4"), Stdin: r, Stdout: io.Discard, Stderr: io.Discard}))
		if a.err != nil || a.code != 4 {
			t.Errorf("with input that does not end it answers %+v", a)
		}
	}},
	{"ExecTerminal", func(t *testing.T, m Machine) {
		x := startExec(t, m)
		x.mustRun(m.Program(t, "c/0", "run"))
		var out output
		r, w := io.Pipe()
		defer w.Close()
		sizes := make(chan driver.Size)
		answer := x.background(t.Context(), "c/0", driver.Exec{
			Command: m.Command(t, "tty"), TTY: true, Size: driver.Size{Rows: 24, Cols: 80}, Resize: sizes,
			Stdin: r, Stdout: &out, Stderr: io.Discard,
		})
		Eventually(t, "the first size of the terminal", out.has("size 24 80"))
		sizes <- driver.Size{Rows: 40, Cols: 100}
		Eventually(t, "the next size of the terminal", out.has("size 40 100"))
		if _, err := io.WriteString(w, "quit\n"); err != nil {
			t.Fatal(err)
		}
		if a := x.wait(answer); a.err != nil || a.code != 7 {
			t.Errorf("it answers %+v after %q", a, out.String())
		}
	}},
	{"ExecTerminalWithoutInput", func(t *testing.T, m Machine) {
		x := startExec(t, m)
		x.mustRun(m.Program(t, "c/0", "run"))
		ended := func() io.Reader { return strings.NewReader("") }
		for _, c := range []struct {
			verb, want string
			stdin      io.Reader
			code       int
		}{
			{"both", "out", nil, 3}, {"both", "out", ended(), 3},
			{"cat", "", ended(), 0}, // it reads to an end that there is
			{"cat", "typed", strings.NewReader("typed\n"), 0},
		} {
			var out output
			a := x.wait(x.background(t.Context(), "c/0", driver.Exec{Command: m.Command(t, c.verb), TTY: true, Stdin: c.stdin, Stdout: &out, Stderr: io.Discard}))
			if a.err != nil || a.code != c.code || !strings.Contains(out.String(), c.want) {
				t.Errorf("%s answers %+v and %q, want code %d and %q", c.verb, a, out.String(), c.code, c.want)
			}
		}
	}},
	{"ExecIsKilledWithItsCaller", func(t *testing.T, m Machine) {
		x := startExec(t, m)
		x.mustRun(m.Program(t, "c/0", "run"))
		for _, tty := range []bool{false, true} {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var out output
			answer := x.background(ctx, "c/0", driver.Exec{Command: m.Command(t, "stubborn"), TTY: tty, Stdout: &out, Stderr: io.Discard})
			Eventually(t, "the command", out.has("ready"))
			cancel()
			if a := x.wait(answer); !errors.Is(a.err, context.Canceled) {
				t.Errorf("with a terminal %v: it answers %+v, want the context's error", tty, a)
			}
			if m.Leftovers != nil {
				Eventually(t, "the command to go", func() bool { return m.Leftovers(t) == 1 })
			}
		}
	}},
	{"ExecEndsWithItsTask", func(t *testing.T, m Machine) {
		x := startExec(t, m)
		x.mustRun(m.Program(t, "c/0", "run"))
		var out output
		answer := x.background(t.Context(), "c/0", driver.Exec{Command: m.Command(t, "stubborn"), Stdout: &out, Stderr: io.Discard})
		Eventually(t, "the command", out.has("ready"))
		x.mustStop("c/0", -1)
		if a := x.wait(answer); a.err == nil && a.code == 0 {
			t.Errorf("with its task stopped it answers %+v", a)
		}
		if m.Leftovers != nil && m.Leftovers(t) != 0 {
			t.Errorf("%d processes are left", m.Leftovers(t))
		}
	}},
	{"ExecWhereNothingRuns", func(t *testing.T, m Machine) {
		x := startExec(t, m)
		try := func(what, id string) {
			t.Helper()
			_, err := x.Exec(t.Context(), id, driver.Exec{Command: m.Command(t, "exit", "0"), Stdout: io.Discard, Stderr: io.Discard})
			if !errors.Is(err, driver.ErrUnknownTask) {
				t.Errorf("%s: %v, want ErrUnknownTask", what, err)
			}
		}
		try("a task that never was", "never/0")
		x.mustStart(m.Program(t, "c/0", "exit", "0"))
		x.waitEnd("c/0")
		try("a task that ended", "c/0")
		x.mustRun(m.Program(t, "c/1", "run"))
		x.mustStop("c/1", -1)
		try("a task that was stopped", "c/1")
	}},
	{"ExecOfNoProgram", func(t *testing.T, m Machine) {
		x := startExec(t, m)
		x.mustRun(m.Program(t, "c/0", "run"))
		var out output
		code, err := x.Exec(t.Context(), "c/0", driver.Exec{Command: []string{"/no/such/program"}, Stdout: &out, Stderr: &out})
		if err == nil && code != 126 && code != 127 {
			t.Errorf("a program that is not there answers %d, %q", code, out.String())
		}
		if code, _, _ := x.run("c/0", "", "exit", "5"); code != 5 {
			t.Errorf("the next command answers %d", code)
		}
	}},
	{"ExecSeesWhatItsTaskSees", func(t *testing.T, m Machine) {
		t.Setenv("SECRET_OF_THE_DAEMON", "leaks")
		x := startExec(t, m)
		task := m.Program(t, "c/0", "run")
		if task.Env == nil {
			task.Env = map[string]string{}
		}
		task.Env["HANSA_SITE"] = "fra"
		file := driver.File{Path: m.path("shop.yaml"), Content: []byte("a: 1\n"), Mode: 0o640}
		task.Files = []driver.File{file}
		x.mustRun(task)
		if _, out, _ := x.run("c/0", "", "env"); !strings.Contains(out, "HANSA_SITE=fra\n") || strings.Contains(out, "SECRET_OF_THE_DAEMON") {
			t.Errorf("its environment is\n%s", out)
		}
		if code, out, _ := x.run("c/0", "", "read", file.Path); code != 0 || !strings.Contains(out, `"a: 1\n"`) {
			t.Errorf("the task's file reads %q, with code %d", out, code)
		}
	}},
	{"ExecIsWithinTheLimits", func(t *testing.T, m Machine) {
		x := startExec(t, m)
		x.enforced("memory")
		task := m.Program(t, "c/0", "run")
		task.Memory = 128 << 20
		x.mustRun(task)
		if code, out, _ := x.run("c/0", "", "hog", strconv.Itoa(400<<20)); code != 137 {
			t.Errorf("with 128 MiB a command that takes 400 MiB answers %d, %q", code, out)
		}
	}},
	{"ExecOfAnAdoptedTask", func(t *testing.T, m Machine) {
		first := start(t, m)
		if !first.Probe(t.Context()).Survives {
			t.Skip("this driver's tasks end with the daemon")
		}
		task := m.Program(t, "c/0", "run")
		if task.Env == nil {
			task.Env = map[string]string{}
		}
		task.Env["HANSA_SITE"] = "fra"
		first.mustRun(task)
		first.shutdown()
		second := startExec(t, m)
		if _, out, _ := second.run("c/0", "", "env"); !strings.Contains(out, "HANSA_SITE=fra\n") {
			t.Errorf("after a restart of the daemon its environment is\n%s", out)
		}
		second.mustStop("c/0", -1)
	}},
}
