package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/runner"
	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/transport"
)

// kindExec are streams of one command that runs at another peer: a frame with
// an execRequest one way, then frames both ways, until one says how it ended.
const kindExec = "exec/1"

const (
	execRequestMax = 128 << 10
	execFrameMax   = 40 << 10
	execChunkMax   = 32 << 10
	execReasonMax  = 4 << 10
	// execsMax bounds the commands that other peers and people run here at once.
	execsMax = 128
)

type execRequest struct {
	ID      string      `json:"id"`
	Command []string    `json:"command,omitempty"`
	Console bool        `json:"console,omitempty"`
	TTY     bool        `json:"tty,omitempty"`
	Size    driver.Size `json:"size,omitzero"`
	Stdin   bool        `json:"stdin,omitempty"` // some will come
}

// execFrame is one piece of a command's streams.
type execFrame struct {
	In     []byte       `json:"i,omitempty"`
	EOF    bool         `json:"e,omitempty"` // of the input
	Resize *driver.Size `json:"r,omitempty"`

	Out    []byte `json:"o,omitempty"`
	Err    []byte `json:"x,omitempty"`
	Exit   *int   `json:"c,omitempty"`
	Reason string `json:"w,omitempty"` // why there is no exit code,
	Kind   string `json:"k,omitempty"` // and of which sort that is
}

// Kinds of execFrame.Reason.
const (
	execUnknown = "unknown" // it does not run here
	execInvalid = "invalid" // it can't be entered this way
	execBusy    = "busy"
	execFailed  = "failed"
)

// Exec runs a command beside an allocation, wherever that runs.
func (n backend) Exec(ctx context.Context, id string, x api.Exec) (int, error) {
	parsed, err := placement.ParseAllocationID(id)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", placement.ErrInvalid, err)
	}
	d := driver.Exec{
		Command: x.Command, Console: x.Console, TTY: x.TTY, Size: driver.Size(x.Size),
		Stdin: x.Stdin, Stdout: x.Stdout, Stderr: x.Stderr,
	}
	if x.Resize != nil {
		sizes := make(chan driver.Size)
		d.Resize = sizes
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		go passSizes(ctx, x.Resize, sizes)
		return n.exec(ctx, parsed, d)
	}
	return n.exec(ctx, parsed, d)
}

func passSizes(ctx context.Context, from <-chan api.TerminalSize, to chan<- driver.Size) {
	for {
		select {
		case <-ctx.Done():
			return
		case size := <-from:
			select {
			case <-ctx.Done():
				return
			case to <- driver.Size(size):
			}
		}
	}
}

func (n *Node) exec(ctx context.Context, id placement.AllocationID, d driver.Exec) (int, error) {
	if id.Claim.Owner.Peer != n.self().Peer {
		return n.execThere(ctx, id, d)
	}
	code, err := n.execHere(ctx, id, d, "a person")
	if err == nil || ctx.Err() != nil {
		return code, err
	}
	end := execEnd(id, 0, err)
	return 0, execRefusal(id, end)
}

// execRefusal is why a command did not run to its end, for people.
func execRefusal(id placement.AllocationID, end execFrame) error {
	return refusal{kindOfExec(end.Kind), fmt.Sprintf("exec in %s: %s", id, end.Reason)}
}

// execHere runs a command beside an allocation of this peer, and has that told:
// who can enter work can do all that it can.
func (n *Node) execHere(ctx context.Context, id placement.AllocationID, d driver.Exec, who string) (int, error) {
	select {
	case n.execs <- struct{}{}:
		defer func() { <-n.execs }()
	default:
		return 0, fmt.Errorf("exec in %s: %w: %d commands are run beside work here already", id, placement.ErrLimit, execsMax)
	}
	what := "a command was run in it"
	if d.Console {
		what = "its console was attached to"
	}
	n.events.add(placement.Happened{Type: "entered", Peer: n.self().Peer, Message: fmt.Sprintf("%s: %s, by %s", id, what, who)})
	return n.runner.Exec(ctx, id, d)
}

// execThere runs a command at the peer that has the allocation.
func (n *Node) execThere(ctx context.Context, id placement.AllocationID, d driver.Exec) (int, error) {
	peer := string(id.Claim.Owner.Peer)
	openCtx, cancel := context.WithTimeout(ctx, queryMax)
	defer cancel()
	s, err := n.link.Open(openCtx, peer, kindExec)
	if err != nil {
		return 0, fmt.Errorf("exec in %s: %w: %s: %w", id, api.ErrUnreachable, n.nameOf(peer), err)
	}
	defer s.Cancel()
	defer context.AfterFunc(ctx, s.Cancel)()
	q := execRequest{ID: id.String(), Command: d.Command, Console: d.Console, TTY: d.TTY, Size: d.Size, Stdin: d.Stdin != nil}
	if err := transport.WriteFrame(s, q); err != nil {
		return 0, fmt.Errorf("exec in %s: %w", id, err)
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go sendInput(ctx, &frames{w: s}, d)
	for {
		var f execFrame
		if err := transport.ReadFrame(s, &f, execFrameMax); err != nil {
			if ctx.Err() != nil {
				return 0, ctx.Err()
			}
			return 0, fmt.Errorf("exec in %s: %w: %s went away before the command ended: %w", id, api.ErrUnreachable, n.nameOf(peer), err)
		}
		var err error
		switch {
		case f.Exit != nil:
			return *f.Exit, nil
		case f.Reason != "":
			return 0, execRefusal(id, f)
		case len(f.Out) > 0:
			_, err = d.Stdout.Write(f.Out)
		case len(f.Err) > 0:
			_, err = d.Stderr.Write(f.Err)
		}
		if err != nil {
			return 0, fmt.Errorf("exec in %s: %w", id, err)
		}
	}
}

func kindOfExec(kind string) error {
	switch kind {
	case execUnknown:
		return placement.ErrNotFound
	case execInvalid:
		return placement.ErrInvalid
	case execBusy:
		return placement.ErrLimit
	}
	return api.ErrUnavailable
}

// sendInput sends what is typed and the terminal's sizes, until ctx is done. A
// Read of Stdin that is under way then is left behind.
func sendInput(ctx context.Context, out *frames, d driver.Exec) {
	if d.Resize != nil {
		go func() {
			for {
				select {
				case <-ctx.Done():
					return
				case size := <-d.Resize:
					_ = out.send(execFrame{Resize: &size}) // a broken stream shows where it is read
				}
			}
		}()
	}
	if d.Stdin == nil {
		return
	}
	_, _ = io.Copy(out.writer(func(p []byte) execFrame { return execFrame{In: p} }), d.Stdin)
	_ = out.send(execFrame{EOF: true})
}

// frames writes frames from several goroutines.
type frames struct {
	mu sync.Mutex // guards w
	w  io.Writer
}

func (f *frames) send(v execFrame) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return transport.WriteFrame(f.w, v)
}

// writer sends what is written to it in frames that wrap makes.
func (f *frames) writer(wrap func([]byte) execFrame) io.Writer {
	return writerFunc(func(p []byte) (int, error) {
		for sent := 0; sent < len(p); {
			part := p[sent:min(len(p), sent+execChunkMax)]
			if err := f.send(wrap(part)); err != nil {
				return sent, err
			}
			sent += len(part)
		}
		return len(p), nil
	})
}

type writerFunc func([]byte) (int, error)

func (w writerFunc) Write(p []byte) (int, error) { return w(p) }

// serveExec runs a command for another peer.
func (n *Node) serveExec(ctx context.Context, from string, s *transport.Stream) error {
	if err := s.SetReadDeadline(time.Now().Add(queryMax)); err != nil {
		return err
	}
	var q execRequest
	if err := transport.ReadFrame(s, &q, execRequestMax); err != nil {
		return fmt.Errorf("exec: %w", err)
	}
	if err := s.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	out := &frames{w: s}
	id, err := placement.ParseAllocationID(q.ID)
	if err != nil {
		return errors.Join(out.send(execFrame{Reason: err.Error(), Kind: execInvalid}), s.CloseWrite())
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	sizes := make(chan driver.Size, 1)
	d := driver.Exec{
		Command: q.Command, Console: q.Console, TTY: q.TTY, Size: q.Size, Resize: sizes,
		Stdout: out.writer(func(p []byte) execFrame { return execFrame{Out: p} }),
		Stderr: out.writer(func(p []byte) execFrame { return execFrame{Err: p} }),
	}
	stdin, typed := io.Pipe()
	defer stdin.Close()
	if q.Stdin {
		d.Stdin = stdin
	}
	n.work.Go(func() {
		defer cancel() // who asked is gone
		takeInput(s, typed, sizes)
	})
	code, err := n.execHere(ctx, id, d, n.nameOf(from))
	return errors.Join(out.send(execEnd(id, code, err)), s.CloseWrite())
}

func execEnd(id placement.AllocationID, code int, err error) execFrame {
	if err == nil {
		return execFrame{Exit: &code}
	}
	f := execFrame{Reason: err.Error(), Kind: execFailed}
	for _, known := range []string{fmt.Sprintf("exec in %s: ", id), fmt.Sprintf("exec in %q: ", runner.DriverID(id)), driver.ErrInvalid.Error() + ": "} {
		f.Reason = strings.TrimPrefix(f.Reason, known) // it is said beside it
	}
	f.Reason = f.Reason[:min(len(f.Reason), execReasonMax)]
	switch {
	case errors.Is(err, driver.ErrUnknownTask):
		f.Kind, f.Reason = execUnknown, "it does not run now: 'hansa ps' shows what does, and why not"
	case errors.Is(err, driver.ErrInvalid):
		f.Kind = execInvalid
	case errors.Is(err, placement.ErrLimit):
		f.Kind = execBusy
	}
	return f
}

// takeInput passes on what comes for a command, until its stream ends.
func takeInput(s io.Reader, typed *io.PipeWriter, sizes chan driver.Size) {
	defer typed.CloseWithError(io.ErrUnexpectedEOF)
	for {
		var f execFrame
		if err := transport.ReadFrame(s, &f, execFrameMax); err != nil {
			return
		}
		switch {
		case len(f.In) > 0:
			if _, err := typed.Write(f.In); err != nil && !errors.Is(err, io.ErrClosedPipe) {
				return
			}
		case f.EOF:
			_ = typed.Close()
		case f.Resize != nil:
			select { // an older size that nobody took is of no use
			case <-sizes:
			default:
			}
			sizes <- *f.Resize
		}
	}
}
