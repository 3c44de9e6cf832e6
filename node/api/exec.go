package api

import (
	"encoding/json"
	"fmt"
	"io"
)

// Exec is a command to run beside an allocation, or its console.
type Exec struct {
	Command []string // empty is a shell
	Console bool     // attach to the allocation's own console instead
	TTY     bool     // with a terminal: all output comes on Stdout
	Size    TerminalSize
	Resize  <-chan TerminalSize // nil for never
	Stdin   io.Reader           // nil is empty
	Stdout  io.Writer
	Stderr  io.Writer
}

// TerminalSize is in characters.
type TerminalSize struct {
	Rows uint16 `json:"rows"`
	Cols uint16 `json:"cols"`
}

// ExecResult is what a command left that was run without a terminal.
type ExecResult struct {
	ExitCode  int    `json:"exit_code"`
	Stdout    string `json:"stdout"`
	Stderr    string `json:"stderr"`
	Truncated bool   `json:"truncated,omitempty" doc:"There was more than 1 MiB of either"`
}

// The messages of a command's WebSocket are binary. The first byte is the
// channel, and the rest is bytes or, on the last of them, an execControl.
//
//	client ── stdin, control (resize, eof) ──▶ server
//	client ◀── stdout, stderr, control (exit or problem, once, at the end) ── server
const (
	execStdin byte = iota
	execStdout
	execStderr
	execControls
)

// execProtocol is the WebSocket's subprotocol.
const execProtocol = "hansa.exec.v1"

// Limits of a command's streams.
const (
	execMessageMax = 64 << 10
	execChunkMax   = 32 << 10
	execWordsMax   = 256
	execBytesMax   = 64 << 10 // of all words
	execResultMax  = 1 << 20  // of each of stdout and stderr, kept
)

type execControl struct {
	Resize  *TerminalSize `json:"resize,omitempty"`
	EOF     bool          `json:"eof,omitempty"`
	Exit    *int          `json:"exit,omitempty"`
	Problem *Problem      `json:"problem,omitempty"`
}

func (c execControl) message() ([]byte, error) {
	data, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("exec: %w", err)
	}
	return append([]byte{execControls}, data...), nil
}

// checkCommand says what is wrong with a command's words.
func checkCommand(words []string) error {
	size := 0
	for _, word := range words {
		size += len(word)
	}
	if len(words) > execWordsMax || size > execBytesMax {
		return &Problem{Kind: KindInvalid, Detail: "the command is too long", Errors: []FieldProblem{{
			Field: "command", Value: len(words), Message: "too long", Fix: fmt.Sprintf("at most %d words of %d bytes in all", execWordsMax, execBytesMax)}}}
	}
	return nil
}

// keptOutput keeps the first bytes of what is written to it.
type keptOutput struct {
	data []byte
	more bool
}

func (k *keptOutput) Write(p []byte) (int, error) {
	room := min(len(p), execResultMax-len(k.data))
	k.data = append(k.data, p[:room]...)
	k.more = k.more || room < len(p)
	return len(p), nil
}
