package artifact

import (
	"io"
	"os"
	"sync"
	"time"
)

// windowLen is how much a stream takes before it is read.
const windowLen = 256 << 10

// pipe makes both ends of a stream in memory that, unlike net.Pipe, takes some
// bytes before they are read, as those of the transport do.
func pipe() (here, there *end) {
	a, b := newHalf(), newHalf()
	return &end{in: a, out: b}, &end{in: b, out: a}
}

type end struct{ in, out *half }

func (e *end) Read(p []byte) (int, error) { return e.in.move(p, e.in.read, &e.in.readBy) }
func (e *end) Write(p []byte) (n int, err error) {
	for len(p) > 0 && err == nil {
		var k int
		k, err = e.out.move(p, e.out.write, &e.out.writeBy)
		p, n = p[k:], n+k
	}
	return n, err
}

func (e *end) Close() error {
	e.in.change(func() { e.in.closed, e.in.data = true, nil })
	e.out.change(func() { e.out.closed = true })
	return nil
}

func (e *end) SetDeadline(at time.Time) error {
	e.in.change(func() { e.in.readBy = at })
	e.out.change(func() { e.out.writeBy = at })
	return nil
}

// half is one direction.
type half struct {
	mu              sync.Mutex // guards what follows
	data            []byte
	closed          bool
	changed         chan struct{}
	readBy, writeBy time.Time
}

func newHalf() *half { return &half{changed: make(chan struct{})} }

func (h *half) change(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
	close(h.changed)
	h.changed = make(chan struct{})
}

func (h *half) read(p []byte) (int, error) {
	if len(h.data) > 0 {
		n := copy(p, h.data)
		h.data = h.data[n:]
		return n, nil
	}
	if h.closed {
		return 0, io.EOF
	}
	return 0, nil
}

func (h *half) write(p []byte) (int, error) {
	if h.closed {
		return 0, io.ErrClosedPipe
	}
	n := min(len(p), windowLen-len(h.data))
	h.data = append(h.data, p[:n]...)
	return n, nil
}

// move tries until some bytes moved, or the deadline has passed.
func (h *half) move(p []byte, try func([]byte) (int, error), by *time.Time) (n int, err error) {
	for {
		h.mu.Lock()
		deadline, changed := *by, h.changed
		late := !deadline.IsZero() && !time.Now().Before(deadline)
		if !late {
			n, err = try(p)
		}
		h.mu.Unlock()
		if late {
			return 0, os.ErrDeadlineExceeded
		}
		if n > 0 || err != nil {
			h.change(func() {})
			return n, err
		}
		var due <-chan time.Time
		if !deadline.IsZero() {
			timer := time.NewTimer(time.Until(deadline))
			defer timer.Stop()
			due = timer.C
		}
		select {
		case <-changed:
		case <-due:
		}
	}
}
