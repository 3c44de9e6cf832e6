package cli

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"

	"github.com/hansa-mesh/hansa/node/api"
)

// tty is the person's own.
type tty struct{ in, out *os.File }

// raw passes every key on, ctrl-c too, until restore.
func (t *tty) raw() (restore func(), err error) {
	old, err := term.MakeRaw(int(t.in.Fd()))
	if err != nil {
		return nil, err
	}
	return func() { _ = term.Restore(int(t.in.Fd()), old) }, nil
}

func (t *tty) size() api.TerminalSize {
	cols, rows, err := term.GetSize(int(t.out.Fd()))
	if err != nil {
		return api.TerminalSize{}
	}
	return api.TerminalSize{Rows: uint16(rows), Cols: uint16(cols)}
}

// resizes tells of each new size until ctx is done.
func (t *tty) resizes(ctx context.Context) <-chan api.TerminalSize {
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	sizes := make(chan api.TerminalSize)
	go func() {
		defer signal.Stop(changed)
		for {
			select {
			case <-ctx.Done():
				return
			case <-changed:
			}
			select {
			case <-ctx.Done():
				return
			case sizes <- t.size():
			}
		}
	}()
	return sizes
}
