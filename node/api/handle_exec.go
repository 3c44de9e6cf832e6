package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"github.com/danielgtaylor/huma/v2"
)

const (
	// execPingEvery is how often the client of a quiet command is asked whether
	// it is still there.
	execPingEvery = 20 * time.Second
	// execRunMax bounds a command that is run without a terminal.
	execRunMax     = 4 * time.Minute
	execRunDefault = time.Minute
)

type execInput struct {
	ID   string `path:"id" minLength:"1" maxLength:"512"`
	Body struct {
		Command []string `json:"command" minItems:"1" maxItems:"256"`
		Stdin   string   `json:"stdin,omitempty" maxLength:"65536"`
		Timeout string   `json:"timeout,omitempty" doc:"After which it is killed: 1m by default, at most 4m"`
	}
}

func (s *Server) registerExec() {
	const path = "/v1/allocations/{id}/exec"
	op := operation(http.MethodPost, path, "exec-allocation",
		"Run a command beside an allocation, to its end. With a GET and a WebSocket: with a terminal, or streams")
	register(s, op, func(ctx context.Context, in *execInput) (*bodyOutput[ExecResult], error) {
		return answer(s.execToEnd(ctx, in))
	})
	ws := operation(http.MethodGet, path, "exec-allocation-stream",
		"A WebSocket ("+execProtocol+") with a command that runs beside an allocation, or its console: docs/API.md says what its messages are")
	ws.Parameters = []*huma.Param{
		{Name: "command", In: "query", Description: "A word of it; once for each word. Without any a shell", Schema: &huma.Schema{Type: huma.TypeArray, Items: &huma.Schema{Type: huma.TypeString}}},
		{Name: "tty", In: "query", Description: "With a terminal", Schema: &huma.Schema{Type: huma.TypeBoolean}},
		{Name: "console", In: "query", Description: "The allocation's own console", Schema: &huma.Schema{Type: huma.TypeBoolean}},
		{Name: "rows", In: "query", Schema: &huma.Schema{Type: huma.TypeInteger}},
		{Name: "cols", In: "query", Schema: &huma.Schema{Type: huma.TypeInteger}},
	}
	s.raw(ws, "application/octet-stream", s.execStream)
	s.streams["GET "+path] = true
}

func (s *Server) execToEnd(ctx context.Context, in *execInput) (ExecResult, error) {
	if err := checkCommand(in.Body.Command); err != nil {
		return ExecResult{}, err
	}
	most := execRunDefault
	if in.Body.Timeout != "" {
		d, err := time.ParseDuration(in.Body.Timeout)
		if err != nil || d <= 0 || d > execRunMax {
			return ExecResult{}, &Problem{Kind: KindInvalid, Detail: "timeout " + short(in.Body.Timeout) + " is not a duration up to " + execRunMax.String(),
				Errors: []FieldProblem{{Field: "timeout", Value: short(in.Body.Timeout), Message: "out of range", Fix: "for instance 30s, at most " + execRunMax.String()}}}
		}
		most = d
	}
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	var out, errs keptOutput
	code, err := s.backend.Exec(ctx, in.ID, Exec{Command: in.Body.Command, Stdin: strings.NewReader(in.Body.Stdin), Stdout: &out, Stderr: &errs})
	if err != nil {
		return ExecResult{}, err
	}
	return ExecResult{ExitCode: code, Stdout: string(out.data), Stderr: string(errs.data), Truncated: out.more || errs.more}, nil
}

// execStream runs a command whose streams are a WebSocket.
func (s *Server) execStream(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	x := Exec{Command: q["command"], TTY: q.Get("tty") == "true", Console: q.Get("console") == "true"}
	x.Size = TerminalSize{Rows: dimension(q.Get("rows")), Cols: dimension(q.Get("cols"))}
	if err := checkCommand(x.Command); err != nil {
		WriteProblem(w, r, err)
		return
	}
	if r.Header.Get("Upgrade") == "" {
		WriteProblem(w, r, &Problem{Kind: KindInvalid, Detail: "a GET here opens a WebSocket: to run a command to its end, POST it"})
		return
	}
	unbounded(r.Context())
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{execProtocol}, CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		return // Accept has answered
	}
	defer conn.CloseNow()
	conn.SetReadLimit(execMessageMax)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	session := newExecSession(conn, cancel)
	x.Stdin, x.Resize = session.stdin, session.resize
	x.Stdout, x.Stderr = session.writer(ctx, execStdout), session.writer(ctx, execStderr)
	var reading sync.WaitGroup
	reading.Go(func() { session.read(ctx) })
	reading.Go(func() { session.ping(ctx) })
	code, err := s.backend.Exec(ctx, r.PathValue("id"), x)
	end := execControl{Exit: &code}
	if err != nil {
		p := NewProblem(err)
		p.locate(r)
		end = execControl{Problem: p}
	}
	if message, err := end.message(); err == nil && conn.Write(ctx, websocket.MessageBinary, message) == nil {
		_ = conn.Close(websocket.StatusNormalClosure, "")
	}
	cancel()
	_ = session.stdin.Close()
	reading.Wait()
}

func dimension(text string) uint16 {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return 0
	}
	return uint16(n)
}

// execSession is the server's end of a command's WebSocket.
type execSession struct {
	conn   *websocket.Conn
	cancel context.CancelFunc // of the command
	stdin  *io.PipeReader
	in     *io.PipeWriter
	resize chan TerminalSize // holds the last one
	stuck  atomic.Bool       // the command does not take what was sent to it, so nothing more is read
}

func newExecSession(conn *websocket.Conn, cancel context.CancelFunc) *execSession {
	s := &execSession{conn: conn, cancel: cancel, resize: make(chan TerminalSize, 1)}
	s.stdin, s.in = io.Pipe()
	return s
}

// read takes what the client sends. A client that is gone ends the command.
func (s *execSession) read(ctx context.Context) {
	for {
		kind, message, err := s.conn.Read(ctx)
		if err != nil || kind != websocket.MessageBinary || len(message) == 0 {
			s.cancel()
			_ = s.in.CloseWithError(io.ErrUnexpectedEOF)
			return
		}
		switch message[0] {
		case execStdin:
			s.stuck.Store(true)
			_, err := s.in.Write(message[1:])
			s.stuck.Store(false)
			if err != nil && !errors.Is(err, io.ErrClosedPipe) {
				s.cancel()
				return
			}
		case execControls:
			var c execControl
			if json.Unmarshal(message[1:], &c) != nil {
				continue // of a newer release
			}
			if c.EOF {
				_ = s.in.Close()
			}
			if c.Resize != nil {
				select { // an older size that nobody took is of no use
				case <-s.resize:
				default:
				}
				s.resize <- *c.Resize
			}
		}
	}
}

// ping ends the command of a client that is gone. While the command takes no
// input the client's answer waits behind that, so that there is none says nothing.
func (s *execSession) ping(ctx context.Context) {
	for pause(ctx, execPingEvery) == nil {
		late, cancel := context.WithTimeout(ctx, execPingEvery)
		err := s.conn.Ping(late)
		waited := late.Err() != nil
		cancel()
		if err != nil && !(waited && s.stuck.Load()) {
			s.cancel()
			return
		}
	}
}

func (s *execSession) writer(ctx context.Context, channel byte) io.Writer {
	return &execWriter{ctx: ctx, conn: s.conn, channel: channel}
}

// execWriter sends what is written on one channel of a WebSocket.
type execWriter struct {
	ctx     context.Context
	conn    *websocket.Conn
	channel byte
}

func (w *execWriter) Write(p []byte) (int, error) {
	for sent := 0; ; {
		part := p[sent:min(len(p), sent+execChunkMax)]
		if len(part) == 0 {
			return sent, nil
		}
		if err := w.conn.Write(w.ctx, websocket.MessageBinary, append([]byte{w.channel}, part...)); err != nil {
			return sent, err
		}
		sent += len(part)
	}
}
