package process

import (
	"context"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/hansa-mesh/hansa/node/driver"
)

// endOfInput is what ends the input of a terminal's programs: control-D.
const endOfInput = "\x04"

// terminal is a pseudo terminal: what is written to one end is typed at the
// other.
type terminal struct {
	ours, theirs *os.File
}

func newTerminal(size driver.Size, owner *account) (*terminal, error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("make a terminal: %w", err)
	}
	t := &terminal{ours: os.NewFile(uintptr(fd), "terminal")}
	err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	n := 0
	if err == nil {
		n, err = unix.IoctlGetInt(fd, unix.TIOCGPTN)
	}
	name := fmt.Sprintf("/dev/pts/%d", n)
	if err == nil {
		t.theirs, err = os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err == nil {
		err = owner.give(name)
	}
	if err == nil {
		err = t.setSize(size)
	}
	if err != nil {
		t.ours.Close()
		if t.theirs != nil {
			t.theirs.Close()
		}
		return nil, fmt.Errorf("make a terminal: %w", err)
	}
	return t, nil
}

func (t *terminal) setSize(size driver.Size) error {
	raw, err := t.ours.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: size.Rows, Col: size.Cols})
	})
	if err == nil {
		err = failed
	}
	return err
}

// feed types the input, and its end.
func (t *terminal) feed(in io.Reader) {
	if in != nil {
		_, _ = io.Copy(t.ours, in) // the command may end before its input
	}
	_, _ = io.WriteString(t.ours, endOfInput)
}

func (t *terminal) resize(ctx context.Context, sizes <-chan driver.Size) {
	for {
		select {
		case size, ok := <-sizes:
			if !ok {
				return
			}
			_ = t.setSize(size) // the next one may be taken
		case <-ctx.Done():
			return
		}
	}
}
