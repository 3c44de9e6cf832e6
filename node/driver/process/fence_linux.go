package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hansa-mesh/hansa/node/driver/boottime"
)

// deadline is one word of memory that the supervisor, the warden and the daemon
// share: the CLOCK_BOOTTIME, in nanoseconds, until which a task may run. It is
// the whole protocol between them. Whoever sees it pass closes it, in one step
// that fails if it was moved meanwhile; and it is moved in one step that fails
// if it was closed. So no extension is lost, and none is taken for a task that
// is being killed.
//
//	open, until ──extend: a later one──▶ open, until'
//	     │ until less the margin has come: expire
//	     ▼
//	closed (the word is negative): everything is being killed; for good
//
// The memory is a memfd: there is no disk that could be full or slow, and it
// lives as long as a process of the three does. A daemon that was restarted
// finds it as a descriptor of the supervisor.
type deadline struct {
	file *os.File // of the memory
	mem  []byte
	word *atomic.Int64
}

var errClosed = errors.New("its lease ran out")

const deadlineBytes = 8

// newDeadline makes one.
func newDeadline(until time.Duration) (*deadline, error) {
	fd, err := unix.MemfdCreate("hansa-deadline", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make the deadline: %w", err)
	}
	f := os.NewFile(uintptr(fd), "deadline")
	if err := f.Truncate(deadlineBytes); err != nil {
		f.Close()
		return nil, fmt.Errorf("make the deadline: %w", err)
	}
	d, err := mapDeadline(f)
	if err != nil {
		return nil, err
	}
	d.word.Store(int64(until))
	return d, nil
}

// mapDeadline shares the deadline that f is; f belongs to it from then on.
func mapDeadline(f *os.File) (*deadline, error) {
	info, err := f.Stat()
	if err == nil && info.Size() != deadlineBytes {
		err = fmt.Errorf("%s has %d bytes and is none", f.Name(), info.Size())
	}
	var mem []byte
	if err == nil {
		mem, err = unix.Mmap(int(f.Fd()), 0, deadlineBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("share the deadline: %w", err)
	}
	// A mapping begins at a page, so the word is aligned.
	return &deadline{file: f, mem: mem, word: (*atomic.Int64)(unsafe.Pointer(&mem[0]))}, nil
}

// openDeadline shares that of a supervisor which runs, by its descriptor.
func openDeadline(who identity, fd int) (*deadline, error) {
	f, err := openMemory(who, fd, "deadline")
	if err != nil {
		return nil, err
	}
	return mapDeadline(f)
}

// close gives this process's share back. Nothing may use it after that.
func (d *deadline) close() {
	_ = unix.Munmap(d.mem) // of a mapping that is ours: can't fail
	d.file.Close()
}

// until is the deadline, and whether it is closed.
func (d *deadline) until() (until time.Duration, closed bool) {
	v := time.Duration(d.word.Load())
	return max(v, -v), v < 0
}

// extend moves the deadline to a later time; an earlier one changes nothing.
func (d *deadline) extend(until time.Duration) error {
	for {
		old := d.word.Load()
		switch {
		case old < 0:
			return errClosed
		case int64(until) <= old, d.word.CompareAndSwap(old, int64(until)):
			return nil
		}
	}
}

// expire waits until margin before the deadline, wherever that is moved to, and
// closes it; or returns the context's error.
func (d *deadline) expire(ctx context.Context, margin time.Duration) error {
	for {
		old := d.word.Load()
		if old < 0 {
			return nil
		}
		if err := boottime.Wait(ctx, time.Duration(old)-margin); err != nil {
			return err
		}
		if d.closeAt(time.Duration(old)) {
			return nil
		}
	}
}

// closeAt closes the deadline if it is at or before the given time, and reports
// whether it is closed.
func (d *deadline) closeAt(until time.Duration) bool {
	for {
		old := d.word.Load()
		if old < 0 {
			return true
		}
		if time.Duration(old) > until {
			return false
		}
		if d.word.CompareAndSwap(old, -old) {
			return true
		}
	}
}

// overrun is how long ago a deadline was.
func overrun(until time.Duration) time.Duration { return max(0, boottime.Now()-until) }
