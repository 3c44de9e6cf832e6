package process

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// newMemory is a file without a disk that holds v, for processes of ours to
// read: what it holds may be secret.
func newMemory(name string, v any) (*os.File, error) {
	fd, err := unix.MemfdCreate("hansa-"+name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make memory for the %s: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	if err := writeMemory(f, v); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// writeMemory replaces what f holds.
func writeMemory(f *os.File, v any) error {
	b, err := json.Marshal(v)
	if err == nil && len(b) > jsonBytesMax {
		err = fmt.Errorf("%d bytes are over %d", len(b), jsonBytesMax)
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt(b, 0)
	}
	if err != nil {
		return fmt.Errorf("write the %s: %w", f.Name(), err)
	}
	return nil
}

// readMemory reads it, wherever others that share f have read to.
func readMemory(f *os.File, v any) error {
	if err := json.NewDecoder(io.NewSectionReader(f, 0, jsonBytesMax)).Decode(v); err != nil {
		return fmt.Errorf("read the %s: %w", f.Name(), err)
	}
	return nil
}

// openMemory opens the memory that a process which runs has as that descriptor.
func openMemory(who identity, fd int, name string) (*os.File, error) {
	pidfd, err := who.open()
	if err != nil {
		return nil, err
	}
	defer pidfd.Close()
	f, err := os.OpenFile(fmt.Sprintf("/proc/%d/fd/%d", who.Pid, fd), os.O_RDWR, 0)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, errGone
		}
		return nil, fmt.Errorf("open the %s: %w", name, err)
	}
	if now, err := identify(who.Pid); err != nil || now != who {
		f.Close()
		return nil, errGone // it ended, and what was opened may be another's
	}
	return f, nil
}
