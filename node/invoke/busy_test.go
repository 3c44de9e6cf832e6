package invoke

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
)

// A request that one instance has no room for goes to the next one here, with
// its body, and leaves the peer only when several have none.
func TestBusyInstanceHandsOver(t *testing.T) {
	for _, tc := range []struct {
		name      string
		instances int
		busy      int // of the first that are asked
		want      string
		asked     int
	}{
		{"one of two", 2, 1, "here-", 2},
		{"all of two", 2, 2, "far-0", 2},
		{"more than are asked", 10, 10, "far-0", busyMax},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := newMesh()
			m.add("far", 1, echo)
			asked, refusals := 0, 0
			here := m.add("here", tc.instances, func(ctx context.Context, id string, r *driver.Request) (*driver.Response, error) {
				if asked++; asked <= tc.busy {
					_, _ = io.Copy(io.Discard, r.Body) // as one that read ahead
					refusals++
					response := driver.Busy("full", time.Second)
					response.Body = &closing{ReadCloser: response.Body, then: func() { refusals-- }}
					return response, nil
				}
				return echo(ctx, id, r)
			}, "far")
			got, response := ask(t, here, http.MethodPost, "word")
			if !strings.HasPrefix(got, tc.want) || !strings.Contains(got, "body=word") || response.Status != 201 {
				t.Errorf("%d %q", response.Status, got)
			}
			if asked != tc.asked || refusals != 0 {
				t.Errorf("%d were asked, want %d; %d refusals are open", asked, tc.asked, refusals)
			}
		})
	}
	// One that can't be sent again stays with its refusal.
	m := newMesh()
	asked := 0
	here := m.add("here", 2, func(context.Context, string, *driver.Request) (*driver.Response, error) {
		asked++
		return driver.Busy("full", time.Second), nil
	})
	if _, response := ask(t, here, http.MethodPost, strings.Repeat("x", BodyKept+1)); response.Status != 503 || asked != 1 {
		t.Errorf("a large body: %d after %d", response.Status, asked)
	}
	if _, response := ask(t, here, http.MethodPost, "x"); response.Status != 503 || asked != 3 {
		t.Errorf("nobody has room: %d after %d", response.Status, asked)
	}
}
