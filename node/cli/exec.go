package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/hansa-mesh/hansa/node/api"
)

// detachKey ends a console session: ctrl-].
const detachKey = 0x1d

type execFlags struct {
	stdin, tty, console bool
	timeout             time.Duration
}

// commandEnded carries the exit code of a command that ran elsewhere.
type commandEnded struct{ code int }

func (e *commandEnded) Error() string { return fmt.Sprintf("the command ended with code %d", e.code) }

func (s *session) execVerb() *cobra.Command {
	var f execFlags
	cmd := &cobra.Command{
		Use: "exec ALLOCATION|APP/COMPONENT[SLOT] [flags] [-- COMMAND…]", Short: "Runs a command beside work, or opens a shell",
		Long: `Runs a command with the surroundings of an allocation (its files, environment,
user, limits), wherever it runs, and ends with the command's exit code. Without a
command it opens a shell. Of a component with several slots the first that runs is
taken.

With --console it attaches to the serial console of a virtual machine; ctrl-] leaves.

Examples:
  hansa exec -it shop/api                        # a shell
  hansa exec 'shop/api[2]' -- cat /etc/hosts
  tar c data | hansa exec -i shop/db -- tar x -C /var/lib
  hansa exec shop/api -o json -- uptime          # exit code and output as JSON
  hansa exec --console shop/vm`,
		Args:              takes(1, -1, "an allocation, or APP/COMPONENT"),
		ValidArgsFunction: s.names(1, s.componentNames("")),
		RunE: func(cmd *cobra.Command, args []string) error {
			if at := cmd.ArgsLenAtDash(); len(args) > 1 && at != 1 {
				return usagef("%s takes one allocation: write -- before the command, for instance hansa exec %s -- %s", cmd.CommandPath(), args[0], args[1])
			}
			if f.console && len(args) > 1 {
				return usagef("--console attaches to the machine's own console: it takes no command")
			}
			c, err := s.client()
			if err != nil {
				return err
			}
			a, err := s.execTarget(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			if s.structured() {
				return s.execToEnd(cmd.Context(), c, a, args[1:], f)
			}
			return s.exec(cmd.Context(), c, a, args[1:], f)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.BoolVarP(&f.stdin, "stdin", "i", false, "pass the input on")
	flags.BoolVarP(&f.tty, "tty", "t", false, "with a terminal")
	flags.BoolVar(&f.console, "console", false, "attach to the console of a virtual machine")
	flags.DurationVar(&f.timeout, "timeout", 0, "with -o json: kill it after this time (default 1m)")
	return cmd
}

// execTarget is the allocation that a person means: one that runs, where there
// is a choice.
func (s *session) execTarget(ctx context.Context, c *api.Client, text string) (api.Allocation, error) {
	if api.IsName(text) { // of an app's components a person has to say which
		_, err := parseSlotTarget(text)
		return api.Allocation{}, err
	}
	all, err := s.targets(ctx, c, text)
	if err != nil {
		return api.Allocation{}, err
	}
	for _, a := range all {
		if a.State == "running" || a.State == "unhealthy" {
			if len(all) > 1 {
				s.say("in %s, at %s", slotName(a), a.PeerName)
			}
			return a, nil
		}
	}
	if a := all[0]; a.State != "starting" { // its checks may have no success yet
		return a, fmt.Errorf("%s is %s, and does not run: %s", slotName(a), a.State, orElse(a.Reason, "hansa logs shows what it wrote"))
	}
	return all[0], nil
}

func orElse(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

func (s *session) execToEnd(ctx context.Context, c *api.Client, a api.Allocation, command []string, f execFlags) error {
	if f.tty || f.console || len(command) == 0 {
		return usagef("-o %s: give a command, and neither -t nor --console", s.output)
	}
	stdin := ""
	if f.stdin {
		data, err := io.ReadAll(s.io.In)
		if err != nil {
			return fmt.Errorf("read the input: %w", err)
		}
		stdin = string(data)
	}
	result, err := c.ExecToEnd(ctx, a.ID, command, stdin, f.timeout)
	if err != nil {
		return err
	}
	if err := s.print(result, func(io.Writer) error { return nil }); err != nil || result.ExitCode == 0 {
		return err
	}
	return &commandEnded{result.ExitCode}
}

// exec runs a command with the person's own streams.
func (s *session) exec(ctx context.Context, c *api.Client, a api.Allocation, command []string, f execFlags) error {
	term := terminalOf(s.io)
	if len(command) == 0 && term != nil { // a shell, or a console
		f.stdin, f.tty = true, true
	}
	x := api.Exec{Command: command, Console: f.console, TTY: f.tty || f.console, Stdout: s.io.Out, Stderr: s.io.Err}
	if f.stdin || f.console {
		x.Stdin = s.io.In
	}
	if f.console {
		s.say("the console of %s, at %s; ctrl-] leaves", slotName(a), a.PeerName)
		x.Stdin = &detachable{in: x.Stdin}
	}
	if x.TTY && term != nil {
		restore, err := term.raw()
		if err != nil {
			return fmt.Errorf("exec: the terminal can't be switched to raw mode: %w", err)
		}
		defer restore()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		x.Size, x.Resize = term.size(), term.resizes(ctx)
		return exitOf(c.Exec(ctx, a.ID, x))
	}
	if f.tty && term == nil && f.stdin {
		s.say("note: the input is no terminal, so the command's terminal has no size")
	}
	return exitOf(c.Exec(ctx, a.ID, x))
}

func exitOf(code int, err error) error {
	if err != nil || code == 0 {
		return err
	}
	return &commandEnded{code}
}

// detachable ends an input at the key that leaves a console.
type detachable struct {
	in   io.Reader
	left bool
}

func (d *detachable) Read(p []byte) (int, error) {
	if d.left {
		return 0, io.EOF
	}
	n, err := d.in.Read(p)
	for i, b := range p[:n] {
		if b == detachKey {
			d.left = true
			if i == 0 {
				return 0, io.EOF
			}
			return i, nil
		}
	}
	return n, err
}

// terminalOf is the terminal that input and output are, or nil.
func terminalOf(streams Streams) *tty {
	in, ok := streams.In.(*os.File)
	out, ok2 := streams.Out.(*os.File)
	if !ok || !ok2 || !isTerminal(in) || !isTerminal(out) {
		return nil
	}
	return &tty{in: in, out: out}
}
