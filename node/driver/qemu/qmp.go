package qemu

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Bounds of what is taken from a qemu, which a guest may have broken into.
const (
	qmpLineMax    = 1 << 20
	qmpTimeout    = 10 * time.Second // of one command
	qmpEventsMax  = 64               // that wait to be taken; later ones are dropped
	qmpReasonsMax = 512              // bytes of an error's text
)

var errQMPClosed = errors.New("qemu closed its control socket")

// qmp is a connection to a qemu's control socket (the QEMU Machine Protocol:
// lines of JSON). A socket serves one at a time.
type qmp struct {
	conn   net.Conn
	events chan qmpEvent // closed when the connection is
	calls  sync.Mutex    // held during a command: answers come in order
	answer chan qmpMessage
	done   chan struct{}
}

// qmpEvent is what qemu tells unasked.
type qmpEvent struct {
	Name string
	Data json.RawMessage
}

type qmpMessage struct {
	QMP    json.RawMessage `json:"QMP"`
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
	Event string          `json:"event"`
	Data  json.RawMessage `json:"data"`
}

// newQMP waits for the greeting, which a qemu sends when it has set the machine
// up, and enters the mode of commands. The connection is closed on an error.
func newQMP(ctx context.Context, conn net.Conn) (*qmp, error) {
	q := &qmp{
		conn: conn, events: make(chan qmpEvent, qmpEventsMax),
		answer: make(chan qmpMessage, 1), done: make(chan struct{}),
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	lines := bufio.NewScanner(conn)
	lines.Buffer(make([]byte, 4096), qmpLineMax)
	var hello qmpMessage
	ok := lines.Scan()
	if !stop() || !ok {
		conn.Close()
		return nil, errors.Join(fmt.Errorf("wait for qemu's greeting: %w", errQMPClosed), ctx.Err())
	}
	if err := json.Unmarshal(lines.Bytes(), &hello); err != nil || hello.QMP == nil {
		conn.Close()
		return nil, fmt.Errorf("what answers at the control socket is no qemu: %.80q", lines.Bytes())
	}
	go q.read(lines)
	if err := q.do(ctx, "qmp_capabilities", nil, nil); err != nil {
		q.close()
		return nil, err
	}
	return q, nil
}

// read takes what comes, until the connection ends.
func (q *qmp) read(lines *bufio.Scanner) {
	defer close(q.done)
	defer close(q.events)
	for lines.Scan() {
		var m qmpMessage
		if json.Unmarshal(bytes.TrimSpace(lines.Bytes()), &m) != nil {
			return
		}
		switch {
		case m.Event != "":
			select {
			case q.events <- qmpEvent{Name: m.Event, Data: m.Data}:
			default: // nobody waits for each of them; states are asked for
			}
		default:
			select {
			case q.answer <- m:
			default:
				return // an answer to nothing
			}
		}
	}
}

// do runs a command and reads its result into out, unless that is nil.
func (q *qmp) do(ctx context.Context, command string, arguments, out any) error {
	q.calls.Lock()
	defer q.calls.Unlock()
	ctx, cancel := context.WithTimeout(ctx, qmpTimeout)
	defer cancel()
	request, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
	}{command, arguments})
	if err != nil {
		return fmt.Errorf("qemu %s: %w", command, err)
	}
	_ = q.conn.SetWriteDeadline(time.Now().Add(qmpTimeout))
	if _, err := q.conn.Write(append(request, '\n')); err != nil {
		return fmt.Errorf("qemu %s: %w", command, err)
	}
	select {
	case m := <-q.answer:
		if m.Error != nil {
			return fmt.Errorf("qemu %s: %.*s", command, qmpReasonsMax, m.Error.Desc)
		}
		if out == nil {
			return nil
		}
		if err := json.Unmarshal(m.Return, out); err != nil {
			return fmt.Errorf("qemu %s: %w", command, err)
		}
		return nil
	case <-q.done:
		return fmt.Errorf("qemu %s: %w", command, errQMPClosed)
	case <-ctx.Done():
		q.conn.Close() // its answer would be taken for the next command's
		return fmt.Errorf("qemu %s: no answer: %w", command, ctx.Err())
	}
}

// close ends the connection and waits for its reader.
func (q *qmp) close() {
	q.conn.Close()
	<-q.done
}
