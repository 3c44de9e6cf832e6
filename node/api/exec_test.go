package api_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
)

// execBench is a server with an app, and the id of its first allocation.
func execBench(t *testing.T) (*bench, string) {
	t.Helper()
	b := serve(t, nil)
	apps, err := api.ParseManifests([]byte("app: shop\ncomponents:\n  api:\n    server: {process: {command: [run]}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.client.PutApp(t.Context(), apps[0], api.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	l, err := b.client.Allocations(t.Context(), api.AllocationQuery{App: "shop"})
	if err != nil || len(l.Items) == 0 {
		t.Fatalf("allocations: %v, %v", l.Items, err)
	}
	return b, l.Items[0].ID
}

func TestExecStreams(t *testing.T) {
	b, id := execBench(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	large := strings.Repeat("0123456789abcdef", 40_000) // more than one message, and than the pipe holds
	for _, tc := range []struct {
		command     []string
		stdin       string
		code        int
		stdout, err string
	}{
		{[]string{"echo", "hello", "there"}, "", 0, "hello there\n", ""},
		{[]string{"warn", "careful"}, "", 0, "", "careful\n"},
		{[]string{"cat"}, large, 0, large, ""},
		{[]string{"exit", "3"}, "", 3, "", ""},
		{[]string{"size"}, "", 0, "24x80\n", ""},
	} {
		var out, errs bytes.Buffer
		x := api.Exec{Command: tc.command, Stdin: strings.NewReader(tc.stdin), Stdout: &out, Stderr: &errs, Size: api.TerminalSize{Rows: 24, Cols: 80}}
		if tc.command[0] == "size" {
			sizes := make(chan api.TerminalSize, 1)
			sizes <- api.TerminalSize{Rows: 50, Cols: 132}
			x.Resize, x.TTY, tc.stdout = sizes, true, "24x80\n50x132\n"
		}
		code, err := b.client.Exec(ctx, id, x)
		if err != nil || code != tc.code || out.String() != tc.stdout || errs.String() != tc.err {
			t.Errorf("%v: code %d, %v, %d bytes of output, want %d and %d bytes; stderr %q", tc.command, code, err, out.Len(), tc.code, len(tc.stdout), errs.String())
		}
	}
}

func TestExecRefusals(t *testing.T) {
	b, id := execBench(t)
	var problem *api.Problem
	x := api.Exec{Stdout: io.Discard, Stderr: io.Discard}
	if _, err := b.client.Exec(t.Context(), id, x); !errors.As(err, &problem) || problem.Kind != api.KindInvalid {
		t.Errorf("a shell where there is none: %v", err)
	}
	x.Command = []string{"echo"}
	if _, err := b.client.Exec(t.Context(), "nobody", x); !errors.As(err, &problem) || problem.Kind != api.KindInvalid && problem.Kind != api.KindNotFound {
		t.Errorf("no such allocation: %v", err)
	}
	x.Command = []string{strings.Repeat("x", 70<<10)}
	if _, err := b.client.Exec(t.Context(), id, x); err == nil {
		t.Error("an endless command was taken")
	}
	resp, err := http.Get(b.http.URL + "/v1/allocations/" + id + "/exec?command=echo")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("a GET without a WebSocket: %s", resp.Status)
	}
	req, err := http.NewRequest(http.MethodGet, b.http.URL+"/v1/allocations/"+id+"/exec?command=echo", nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"Upgrade": "websocket", "Connection": "Upgrade", "Origin": "http://evil.example",
		"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="} {
		req.Header.Set(name, value)
	}
	if resp, err = http.DefaultClient.Do(req); err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("a page of another origin opened a command: %s", resp.Status)
	}
}

// A client that goes away ends its command.
func TestExecEndsWithItsClient(t *testing.T) {
	b, id := execBench(t)
	ctx, cancel := context.WithCancel(t.Context())
	in, typed := io.Pipe()
	defer typed.Close()
	done := make(chan error, 1)
	echoed := make(chan struct{})
	go func() {
		_, err := b.client.Exec(ctx, id, api.Exec{Console: true, Stdin: in, Stdout: onWrite(func() { close(echoed) }), Stderr: io.Discard})
		done <- err
	}()
	if _, err := typed.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	<-echoed
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Exec: %v", err)
	}
	b.http.Close() // waits for the handler
}

type onWrite func()

func (f onWrite) Write(p []byte) (int, error) {
	f()
	return len(p), nil
}

func TestExecToEnd(t *testing.T) {
	b, id := execBench(t)
	r, err := b.client.ExecToEnd(t.Context(), id, []string{"cat"}, "hello", 0)
	if err != nil || r.ExitCode != 0 || r.Stdout != "hello" {
		t.Errorf("cat: %+v, %v", r, err)
	}
	if r, err = b.client.ExecToEnd(t.Context(), id, []string{"exit", "4"}, "", time.Second); err != nil || r.ExitCode != 4 {
		t.Errorf("exit 4: %+v, %v", r, err)
	}
	var problem *api.Problem
	if _, err = b.client.ExecToEnd(t.Context(), id, []string{"wait"}, "", 20*time.Millisecond); !errors.As(err, &problem) || problem.Kind != api.KindTimeout {
		t.Errorf("a command that never ends: %v", err)
	}
	if _, err = b.client.ExecToEnd(t.Context(), id, []string{"echo"}, "", time.Hour); !errors.As(err, &problem) || problem.Kind != api.KindInvalid {
		t.Errorf("a timeout of an hour: %v", err)
	}
}
