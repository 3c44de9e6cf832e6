package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/coder/websocket"
)

// Exec runs a command beside an allocation, wherever that runs, and returns its
// exit code. It returns when the command has ended; a Read of x.Stdin that is
// under way then is left behind.
func (c *Client) Exec(ctx context.Context, id string, x Exec) (int, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conn, err := c.dialExec(ctx, id, x)
	if err != nil {
		return 0, err
	}
	defer conn.CloseNow()
	conn.SetReadLimit(execMessageMax)
	go sendExec(ctx, conn, x)
	for {
		kind, message, err := conn.Read(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return 0, ctx.Err()
			}
			return 0, fmt.Errorf("exec in %s: the connection ended before the command did: %w", id, err)
		}
		if kind != websocket.MessageBinary || len(message) == 0 {
			continue
		}
		switch message[0] {
		case execStdout:
			_, err = x.Stdout.Write(message[1:])
		case execStderr:
			_, err = x.Stderr.Write(message[1:])
		case execControls:
			var end execControl
			if err := json.Unmarshal(message[1:], &end); err != nil {
				return 0, fmt.Errorf("exec in %s: the answer can't be read: %w", id, err)
			}
			if end.Problem != nil {
				return 0, end.Problem
			}
			if end.Exit != nil {
				return *end.Exit, nil
			}
		}
		if err != nil {
			return 0, fmt.Errorf("exec in %s: %w", id, err)
		}
	}
}

// ExecToEnd runs a command without a terminal and returns what it left. A timeout
// of 0 is the peer's default.
func (c *Client) ExecToEnd(ctx context.Context, id string, command []string, stdin string, timeout time.Duration) (ExecResult, error) {
	in := map[string]any{"command": command}
	if stdin != "" {
		in["stdin"] = stdin
	}
	wait := execRunDefault
	if timeout > 0 {
		in["timeout"], wait = timeout.String(), timeout
	}
	body, err := json.Marshal(in)
	if err != nil {
		return ExecResult{}, fmt.Errorf("exec in %s: %w", id, err)
	}
	ctx, cancel := context.WithTimeout(ctx, wait+callTimeMax)
	defer cancel()
	resp, err := c.do(ctx, call{method: http.MethodPost, path: pathOf("v1", "allocations", id, "exec"),
		header: http.Header{"Content-Type": {"application/json"}}, body: bytes.NewReader(body), length: int64(len(body))})
	if err != nil {
		return ExecResult{}, err
	}
	defer resp.Body.Close()
	var out ExecResult
	if err := json.NewDecoder(io.LimitReader(resp.Body, answerBytesMax)).Decode(&out); err != nil {
		return ExecResult{}, fmt.Errorf("exec in %s: the answer can't be read: %w", id, err)
	}
	return out, nil
}

// dialExec opens the WebSocket. A refusal is the *Problem that a call would give.
func (c *Client) dialExec(ctx context.Context, id string, x Exec) (*websocket.Conn, error) {
	q := url.Values{"command": x.Command}
	for name, set := range map[string]bool{"tty": x.TTY, "console": x.Console} {
		if set {
			q.Set(name, "true")
		}
	}
	if x.Size.Rows > 0 && x.Size.Cols > 0 {
		q.Set("rows", strconv.Itoa(int(x.Size.Rows)))
		q.Set("cols", strconv.Itoa(int(x.Size.Cols)))
	}
	header := http.Header{"User-Agent": {c.agent}}
	if c.token != "" {
		header.Set("Authorization", "Bearer "+c.token)
	}
	target := c.base.String() + pathOf("v1", "allocations", id, "exec") + "?" + q.Encode()
	conn, resp, err := websocket.Dial(ctx, target, &websocket.DialOptions{
		HTTPClient: c.http, HTTPHeader: header, Subprotocols: []string{execProtocol}, CompressionMode: websocket.CompressionDisabled,
	})
	switch {
	case err == nil:
		return conn, nil
	case resp != nil && resp.StatusCode >= 400:
		return nil, readProblem(resp)
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	var uerr *url.Error
	if errors.As(err, &uerr) {
		err = uerr.Err // its text repeats the address
	}
	return nil, fmt.Errorf("%w at %s: %w", ErrNoAnswer, c.base, err)
}

// sendExec sends what the person types, and each new size of the terminal.
func sendExec(ctx context.Context, conn *websocket.Conn, x Exec) {
	control := func(c execControl) {
		if message, err := c.message(); err == nil {
			_ = conn.Write(ctx, websocket.MessageBinary, message) // a broken connection shows in Read
		}
	}
	if x.Resize != nil {
		go func() {
			for {
				select {
				case <-ctx.Done():
					return
				case size, open := <-x.Resize:
					if !open {
						return
					}
					control(execControl{Resize: &size})
				}
			}
		}()
	}
	if x.Stdin != nil {
		_, _ = io.Copy(&execWriter{ctx: ctx, conn: conn, channel: execStdin}, x.Stdin)
	}
	control(execControl{EOF: true})
}
