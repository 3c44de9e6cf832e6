package artifact

import (
	"io"
	"os"
	"sync"
	"time"
)

const (
	// windowLen is how much a stream takes before it is read.
	windowLen = 256 << 10
	// segmentLen is what links take in turns of their streams.
	segmentLen = 16 << 10
)

// link is one direction between a host and the network: it takes so many bytes a
// second, of all streams together.
type link struct {
	rate int64

	mu   sync.Mutex // guards what follows
	free time.Time
	sent int64
}

// pass is when so many bytes that are there at some time are through.
func (l *link) pass(at time.Time, n int) time.Time {
	if l == nil {
		return at
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.free.Before(at) {
		l.free = at
	}
	l.free = l.free.Add(time.Duration(n) * time.Second / time.Duration(l.rate))
	l.sent += int64(n)
	return l.free
}

// host is what connects a peer; nil links have no bound.
type host struct{ up, down *link }

// pipe makes both ends of a stream in memory that, unlike net.Pipe, takes some
// bytes before they are read, as those of the transport do.
func pipe(a, b host) (here, there *end) {
	out, in := newHalf(a.up, b.down), newHalf(b.up, a.down)
	return &end{in: in, out: out}, &end{in: out, out: in}
}

type end struct{ in, out *half }

func (e *end) Read(p []byte) (int, error) { return e.in.move(p, e.in.read, &e.in.readBy) }

func (e *end) Write(p []byte) (n int, err error) {
	for len(p) > 0 && err == nil {
		var k int
		k, err = e.out.move(p[:min(len(p), segmentLen)], e.out.write, &e.out.writeBy)
		p, n = p[k:], n+k
		if e.out.up != nil { // the next one waits for its turn
			<-time.After(time.Until(e.out.up.pass(time.Now(), k)))
		}
		e.out.arrive(k)
	}
	return n, err
}

func (e *end) Close() error {
	e.in.change(func() { e.in.closed, e.in.data, e.in.marks = true, nil, nil })
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
	up, down *link

	mu              sync.Mutex // guards what follows
	data            []byte
	marks           []mark // over data, of what has left the sender
	closed          bool
	changed         chan struct{}
	readBy, writeBy time.Time
}

// mark is when so many bytes arrive.
type mark struct {
	n  int
	at time.Time
}

func newHalf(up, down *link) *half { return &half{up: up, down: down, changed: make(chan struct{})} }

func (h *half) change(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
	close(h.changed)
	h.changed = make(chan struct{})
}

func (h *half) arrive(n int) {
	at := h.down.pass(time.Now(), n)
	h.change(func() {
		if n > 0 && !h.closed {
			h.marks = append(h.marks, mark{n, at})
		}
	})
}

func (h *half) read(p []byte) (int, time.Time, error) {
	if len(h.marks) == 0 {
		if h.closed {
			return 0, time.Time{}, io.EOF
		}
		return 0, time.Time{}, nil
	}
	first := &h.marks[0]
	if first.at.After(time.Now()) {
		return 0, first.at, nil
	}
	n := copy(p, h.data[:first.n])
	h.data = h.data[n:]
	if first.n -= n; first.n == 0 {
		h.marks = h.marks[1:]
	}
	return n, time.Time{}, nil
}

func (h *half) write(p []byte) (int, time.Time, error) {
	if h.closed {
		return 0, time.Time{}, io.ErrClosedPipe
	}
	n := min(len(p), windowLen-len(h.data))
	h.data = append(h.data, p[:n]...)
	return n, time.Time{}, nil
}

// move tries until some bytes moved, or the deadline has passed.
func (h *half) move(p []byte, try func([]byte) (int, time.Time, error), by *time.Time) (n int, err error) {
	for {
		h.mu.Lock()
		deadline, changed, again := *by, h.changed, time.Time{}
		late := !deadline.IsZero() && !time.Now().Before(deadline)
		if !late {
			n, again, err = try(p)
		}
		h.mu.Unlock()
		if late {
			return 0, os.ErrDeadlineExceeded
		}
		if n > 0 || err != nil {
			h.change(func() {})
			return n, err
		}
		if again.IsZero() || !deadline.IsZero() && deadline.Before(again) {
			again = deadline
		}
		if again.IsZero() {
			<-changed
			continue
		}
		timer := time.NewTimer(time.Until(again))
		select {
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}
