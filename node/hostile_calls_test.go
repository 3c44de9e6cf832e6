package node

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/transport"
)

// What peers ask each other on behalf of people answers garbage with an error, in
// bounded time, and goes on to answer what is well formed.
func TestGarbageInCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, b, id := execMesh(t)
		defer m.close()
		from, to := m.sites[0].node, m.sites[1].node.ID()
		long := strings.Repeat("x", 1<<20)
		garbage := map[string][]byte{
			"nothing": nil, "a byte": {0xff}, "text": []byte("hello"), "an open map": {0xbf},
			"deep": []byte(strings.Repeat("\x81", 10_000)), "a map of 2^60": {0xbb, 0x10, 0, 0, 0, 0, 0, 0, 0}, "long": []byte(long),
		}
		// Those whose questions say something; the others take anything for "all".
		for _, method := range []string{methodRestart, methodSeen, methodDecisions, methodApp, methodEvents, methodHistory, methodSides} {
			for name, body := range garbage {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				if answer, err := from.link.Call(ctx, to, method, body); err == nil {
					t.Errorf("%s of %s is answered with %.40q", method, name, answer)
				} else if ctx.Err() != nil {
					t.Errorf("%s of %s is not answered", method, name)
				}
				cancel()
			}
		}
		for _, bad := range []string{"", "x", "../../etc/passwd", long[:2000], id + "99"} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			if a, err := transport.CallTyped[restartOrder, restartAnswer](ctx, from.link, to, methodRestart, restartOrder{bad}); err == nil && !a.Gone {
				t.Errorf("a restart of %.40q is taken: %+v", bad, a)
			}
			cancel()
		}
		if _, err := b.Restart(t.Context(), id); err != nil {
			t.Errorf("after all that, a restart: %v", err)
		}
	})
}

// A log is opened by a small frame that comes soon, or not at all.
func TestGarbageForLogs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, b, id := execMesh(t)
		defer m.close()
		from, to := m.sites[0].node, m.sites[1].node.ID()
		for name, frame := range map[string]any{
			"too long": logsRequest{ID: strings.Repeat("x", logRequestMax)}, "no id": logsRequest{}, "not one": "x", "nothing": nil,
			"another": logsRequest{ID: "a-1-1-b-1.0"}, "a path": logsRequest{ID: "../../etc/passwd"},
			"tail": logsRequest{ID: id + "9", Tail: -1 << 62, Since: -1 << 62},
		} {
			s, err := from.link.Open(t.Context(), to, kindLogs)
			if err != nil {
				t.Fatal(err)
			}
			if frame != nil { // else it says nothing, and is not waited for for ever
				_ = transport.WriteFrame(s, frame)
			}
			if err := s.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			var status [1]byte
			if n, err := s.Read(status[:]); n == 1 && err == nil && status[0] == logsFollow {
				t.Errorf("%s: a log is opened", name)
			}
			if time.Since(began) > 30*time.Second {
				t.Errorf("%s: let go of after %v", name, time.Since(began))
			}
			s.Cancel()
		}
		for _, o := range []api.LogOptions{{}, {Tail: 1}, {Tail: -5}, {Tail: 1 << 40}, {Since: time.Unix(1<<40, 0)}} {
			logs, err := b.Logs(t.Context(), id, o)
			if err != nil {
				t.Errorf("after all that, a log with %+v: %v", o, err)
				continue
			}
			if err := logs.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}
