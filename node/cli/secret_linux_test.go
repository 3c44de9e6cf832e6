package cli

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// A value that is typed shows nowhere, is asked for twice, and is not set when
// the two differ.
func TestTypedSecret(t *testing.T) {
	for name, c := range map[string]struct {
		first, again string
		code         int
		want         string
	}{
		"the same": {"canary one\n", "canary one\n", 0, "secret db-password is set"},
		"differ":   {"canary one\n", "canary two\n", 1, "the two values differ: nothing was set"},
		"empty":    {"\n", "\n", 1, "the value is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			ours, tty, err := pty.Open()
			if err != nil && os.Getenv("CI") != "true" {
				t.Skipf("this machine gives no terminal: %v", err)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer ours.Close()
			defer tty.Close()
			echo := newOutput()
			go func() { // until the terminal is closed
				buf := make([]byte, 1024)
				for {
					n, err := ours.Read(buf)
					if err != nil {
						return
					}
					_, _ = echo.Write(buf[:n])
				}
			}()
			term := newTerminal(t)
			term.out, term.err = newOutput(), newOutput()
			s := &session{io: Streams{In: tty, Out: term.out, Err: term.err}, getenv: func(name string) string { return term.env[name] },
				now: func() time.Time { return noon }, runners: term.runners, uid: 1000}
			done := make(chan int, 1)
			go func() { done <- s.main(t.Context(), []string{"secret", "set", "db-password"}) }()
			term.err.await(t, "Value of db-password: ")
			typeIn(t, ours, tty, c.first)
			term.err.await(t, "Again: ")
			typeIn(t, ours, tty, c.again)
			if code := <-done; code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			all := term.out.String() + term.err.String()
			if !strings.Contains(all, c.want) {
				t.Errorf("it prints %q; want %q", all, c.want)
			}
			if shown := all + echo.String(); strings.Contains(shown, "canary") {
				t.Errorf("the value shows: %q", shown)
			}
		})
	}
}

// typeIn types a line once the terminal shows none of it.
func typeIn(t *testing.T, ours, tty *os.File, line string) {
	t.Helper()
	for limit := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		mode, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		if mode.Lflag&unix.ECHO == 0 {
			break
		}
		if time.Now().After(limit) {
			t.Fatal("the terminal goes on showing what is typed")
		}
	}
	if _, err := ours.WriteString(line); err != nil {
		t.Fatal(err)
	}
}
