package cli

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

const logsApp = "app: a\ncomponents:\n  x: {server: {process: {command: [run]}}}\n"

// following starts a command, and returns what ends it and tells its exit code.
func following(t *testing.T, term *terminal, line string) (end func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	run := term.start("")
	code := make(chan int, 1)
	go func() { code <- run(ctx, words(line)) }()
	return func() int {
		cancel()
		select {
		case got := <-code:
			return got
		case <-time.After(30 * time.Second):
			t.Fatalf("%s does not end", line)
			return -1
		}
	}
}

// A log that is followed by the name of a component goes on with what takes the
// place of its allocations.
func TestLogsFollowARollOut(t *testing.T) {
	term := newTerminal(t)
	key := placement.AppKey{Namespace: "default", App: "a"}
	if code := term.run(t.Context(), logsApp, "deploy", "-"); code != 0 {
		t.Fatal(term.err)
	}
	for _, line := range []string{"logs -f a", "logs -f a/x", "logs -f a/x[0]", "logs -f a/x --tail 1"} {
		term.backend.Log(key, 0, "2026-01-31T12:00:00Z stdout F before")
		end := following(t, term, line)
		term.out.await(t, "before\n")
		term.backend.Replace(key)
		term.backend.Log(key, 0, "2026-01-31T11:00:00Z stdout F first") // a clock that is late
		term.backend.Log(key, 0, "2026-01-31T11:00:01Z stdout F second")
		term.out.await(t, "second\n")
		if code := end(); code != 0 || term.out.String() != "before\nfirst\nsecond\n" || term.err.String() != "a/x[0] goes on at fra-1\n" {
			t.Errorf("%s: %d %q %q", line, code, term.out, term.err)
		}
		term.backend.Replace(key)
	}
}

// Lines begin with their slot once there are several.
func TestLogsFollowMoreSlots(t *testing.T) {
	term := newTerminal(t)
	key := placement.AppKey{Namespace: "default", App: "a"}
	if code := term.run(t.Context(), logsApp, "deploy", "-"); code != 0 {
		t.Fatal(term.err)
	}
	term.backend.Log(key, 0, "2026-01-31T12:00:00Z stdout F one")
	follow := *term // the other commands have their own output
	end := following(t, &follow, "logs -f a/x")
	follow.out.await(t, "one\n")
	if code := term.run(t.Context(), "", "scale", "a/x=2", "--wait=false"); code != 0 {
		t.Fatal(term.err)
	}
	follow.err.await(t, "a/x[1] goes on")
	term.backend.Log(key, 1, "2026-01-31T12:00:01Z stdout F two")
	follow.out.await(t, "x[1] two\n")
	if code := end(); code != 0 || follow.out.String() != "one\nx[1] two\n" {
		t.Errorf("%d %q %q", code, follow.out, follow.err)
	}
}

// It ends with the app, and does not begin with what is not there.
func TestLogsFollowEnds(t *testing.T) {
	term := newTerminal(t)
	if code := term.run(t.Context(), logsApp, "deploy", "-"); code != 0 {
		t.Fatal(term.err)
	}
	for _, line := range []string{"logs -f b", "logs -f a/y", "logs -f a/x[7]", "logs b"} {
		if code := term.run(t.Context(), "", words(line)...); code != 1 || !strings.Contains(term.err.String(), "has no allocation") {
			t.Errorf("%s: %d %s", line, code, term.err)
		}
	}
	term.backend.Log(placement.AppKey{Namespace: "default", App: "a"}, 0, "2026-01-31T12:00:00Z stdout F hello")
	follow := *term
	end := following(t, &follow, "logs -f a")
	follow.out.await(t, "hello\n")
	if code := term.run(t.Context(), "", "remove", "a", "--wait=false"); code != 0 {
		t.Fatal(term.err)
	}
	follow.err.await(t, "a is removed\n")
	if code := end(); code != 0 {
		t.Errorf("%d %s", code, follow.err)
	}
}
