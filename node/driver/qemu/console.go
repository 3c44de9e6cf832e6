package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
)

const (
	consoleBacklog = 256     // pieces of output that wait for one who reads slowly
	consolePiece   = 4 << 10 // bytes
	consolesMax    = 32      // people at one console
	consoleWrite   = 10 * time.Second
)

// hub is a machine's console for those who are attached: qemu serves one
// connection, which all of them share. It is there while somebody is attached,
// and always read, for a guest waits for whoever does not.
type hub struct {
	mu    sync.Mutex // guards what follows
	conn  net.Conn   // nil while nobody is attached
	seats map[*seat]bool
	shut  bool
}

// seat is one who is attached.
type seat struct {
	output chan []byte // closed when the console is gone
	lost   int         // bytes that were dropped, since it reads slowly; guarded by hub.mu
}

// attach takes a seat; the first dials, and the reader runs as one of the driver's
// goroutines.
func (h *hub) attach(dial func() (net.Conn, error), spawn func(func()) bool) (*seat, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.shut {
		return nil, driver.ErrUnknownTask
	}
	if len(h.seats) >= consolesMax {
		return nil, fmt.Errorf("%d are at its console already", consolesMax)
	}
	if h.conn == nil {
		conn, err := dial()
		if err != nil {
			return nil, fmt.Errorf("open the console: %w", err)
		}
		if !spawn(func() { h.read(conn) }) {
			conn.Close()
			return nil, driver.ErrShutdown
		}
		h.conn, h.seats = conn, map[*seat]bool{}
	}
	s := &seat{output: make(chan []byte, consoleBacklog)}
	h.seats[s] = true
	return s, nil
}

// detach gives a seat back; the last one hangs up.
func (h *hub) detach(s *seat) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.seats[s] {
		return
	}
	delete(h.seats, s)
	close(s.output)
	if len(h.seats) == 0 && h.conn != nil {
		h.conn.Close()
		h.conn = nil
	}
}

// close ends the console for all.
func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.shut = true
	h.hangUp()
}

func (h *hub) hangUp() {
	for s := range h.seats {
		close(s.output)
	}
	h.seats = nil
	if h.conn != nil {
		h.conn.Close()
		h.conn = nil
	}
}

// read gives what the machine writes to all seats.
func (h *hub) read(conn net.Conn) {
	buf := make([]byte, consolePiece)
	for {
		n, err := conn.Read(buf)
		h.mu.Lock()
		if h.conn != conn { // the last seat was given back
			h.mu.Unlock()
			return
		}
		if n > 0 {
			piece := append([]byte(nil), buf[:n]...)
			for s := range h.seats {
				s.offer(piece)
			}
		}
		if err != nil {
			h.hangUp()
			h.mu.Unlock()
			return
		}
		h.mu.Unlock()
	}
}

// offer never waits. The caller holds the hub's mu.
func (s *seat) offer(piece []byte) {
	if s.lost > 0 {
		note := fmt.Sprintf("\r\n[%d bytes were left out: this connection is too slow]\r\n", s.lost)
		select {
		case s.output <- []byte(note):
			s.lost = 0
		default:
		}
	}
	select {
	case s.output <- piece:
	default:
		s.lost += len(piece)
	}
}

// write types on the console.
func (h *hub) write(b []byte) error {
	h.mu.Lock()
	conn := h.conn
	h.mu.Unlock()
	if conn == nil {
		return net.ErrClosed
	}
	_ = conn.SetWriteDeadline(time.Now().Add(consoleWrite)) // of a guest that does not read
	_, err := conn.Write(b)
	return err
}

// Exec implements driver.Execer: it attaches to the console. There is no other
// way into a machine from outside.
func (d *Driver) Exec(ctx context.Context, id string, x driver.Exec) (int, error) {
	fail := func(err error) (int, error) { return -1, fmt.Errorf("console of %q: %w", id, err) }
	if !x.Console {
		return fail(fmt.Errorf("%w: no command can be run inside a machine from outside: attach to its console (hansa exec --console), or use ssh", driver.ErrInvalid))
	}
	if err := d.load(ctx); err != nil {
		return fail(err)
	}
	m := d.machine(id)
	if m == nil {
		return fail(driver.ErrUnknownTask)
	}
	s, err := m.console.attach(func() (net.Conn, error) { return d.dial(ctx, id, consoleSock) }, d.crew.Go)
	if err != nil {
		return fail(err)
	}
	defer m.console.detach(s)
	typed := make(chan error, 1)
	go func() { typed <- m.typeFrom(x.Stdin) }() // ends with Stdin
	for {
		select {
		case <-ctx.Done():
			return fail(ctx.Err())
		case <-d.ctx.Done():
			return fail(driver.ErrShutdown)
		case err := <-typed:
			if err != nil {
				return fail(err)
			}
			return 0, nil
		case piece, ok := <-s.output:
			if !ok {
				return 0, nil // the machine has ended
			}
			if x.Stdout == nil {
				continue
			}
			if _, err := x.Stdout.Write(piece); err != nil {
				return fail(err)
			}
		}
	}
}

// typeFrom types what is read until that ends.
func (m *machine) typeFrom(stdin io.Reader) error {
	if stdin == nil {
		return nil
	}
	buf := make([]byte, 1024)
	for {
		n, err := stdin.Read(buf)
		if n > 0 {
			if err := m.console.write(buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
