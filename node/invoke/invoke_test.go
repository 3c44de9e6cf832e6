package invoke

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/placement"
)

var shop = Target{Key: placement.AppKey{Namespace: "default", App: "shop"}, Component: "api"}

// echo answers with what it was asked, and which instance it was.
func echo(_ context.Context, id string, r *driver.Request) (*driver.Response, error) {
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
	}
	text := fmt.Sprintf("%s %s %s?%s %s body=%s auth=%s", id, r.Method, r.ScriptName+r.Path, r.RawQuery, r.RemoteAddr, body, r.Header.Get("X-Test"))
	return &driver.Response{Status: 201, Header: http.Header{"X-From": {id}}, Body: io.NopCloser(strings.NewReader(text))}, nil
}

// mesh connects routers by name; what is in silent takes calls and never
// answers.
type mesh struct {
	routers map[string]*Router
	silent  map[string]bool
}

func (m *mesh) add(name string, instances int, call func(context.Context, string, *driver.Request) (*driver.Response, error), elsewhere ...string) *Router {
	var ids []string
	for i := range instances {
		ids = append(ids, fmt.Sprintf("%s-%d", name, i))
	}
	r := New(Config{
		Local:     func(Target) []string { return ids },
		Call:      call,
		Elsewhere: func(Target) []string { return elsewhere },
		Open: func(ctx context.Context, peer string) (Stream, error) {
			if m.routers[peer] == nil {
				return nil, errors.New("unreachable")
			}
			here, there := net.Pipe()
			go func() {
				defer there.Close()
				if m.silent[peer] {
					_, _ = io.Copy(io.Discard, there)
					return
				}
				_ = m.routers[peer].Serve(ctx, there)
			}()
			return here, nil
		},
	})
	m.routers[name] = r
	return r
}

func newMesh() *mesh { return &mesh{routers: map[string]*Router{}, silent: map[string]bool{}} }

func ask(t *testing.T, r *Router, method, body string) (string, *driver.Response) {
	t.Helper()
	request := &driver.Request{Method: method, ScriptName: "/f", Path: "/x", RawQuery: "q=1", RemoteAddr: "1.2.3.4:5",
		Header: http.Header{"X-Test": {"yes"}}}
	if body != "" {
		request.Body, request.ContentLength = strings.NewReader(body), int64(len(body))
	}
	response, err := r.Call(t.Context(), shop, request)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	return string(text), response
}

func TestCallsPreferHereAndTakeTurns(t *testing.T) {
	m := newMesh()
	m.add("far", 1, echo)
	here := m.add("here", 2, echo, "far")
	first, _ := ask(t, here, "GET", "")
	second, _ := ask(t, here, "GET", "")
	if !strings.HasPrefix(first, "here-") || !strings.HasPrefix(second, "here-") || first == second {
		t.Fatalf("%q, %q: want the two instances here in turn", first, second)
	}
}

func TestCallElsewhereCarriesEverything(t *testing.T) {
	m := newMesh()
	m.add("far", 1, echo)
	here := m.add("here", 0, echo, "gone", "far")
	text, response := ask(t, here, "POST", "an order")
	if want := "far-0 POST /f/x?q=1 1.2.3.4:5 body=an order auth=yes"; text != want {
		t.Fatalf("the function saw %q; want %q", text, want)
	}
	if response.Status != 201 || response.Header.Get("X-From") != "far-0" {
		t.Fatalf("answer %d %v", response.Status, response.Header)
	}
	for name := range response.Header {
		if strings.HasPrefix(name, "Hansa-") {
			t.Fatalf("the header %s leaked", name)
		}
	}
}

func TestSilentPeerIsHedged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh()
		m.add("dead", 1, echo)
		m.silent["dead"] = true
		m.add("far", 1, echo)
		here := m.add("here", 0, echo, "dead", "far")
		if text, _ := ask(t, here, "GET", ""); !strings.HasPrefix(text, "far-0") {
			t.Fatalf("answered by %q", text)
		}
		if got := here.Counts().Hedged; got != 1 {
			t.Fatalf("hedged %d times, want once", got)
		}
	})
}

func TestPostIsNotRepeatedWhereItMayHaveRun(t *testing.T) {
	m := newMesh()
	ran := 0
	m.add("far", 1, func(ctx context.Context, id string, r *driver.Request) (*driver.Response, error) {
		ran++
		return echo(ctx, id, r)
	})
	// A peer that takes the request and breaks off without an answer.
	here := New(Config{
		Local:     func(Target) []string { return nil },
		Elsewhere: func(Target) []string { return []string{"breaks", "far"} },
		Open: func(ctx context.Context, peer string) (Stream, error) {
			a, b := net.Pipe()
			go func() {
				defer b.Close()
				if peer == "breaks" {
					_, _ = b.Read(make([]byte, 10))
					return
				}
				_ = m.routers[peer].Serve(ctx, b)
			}()
			return a, nil
		},
	})
	if _, err := here.Call(t.Context(), shop, &driver.Request{Method: "POST"}); err == nil || ran != 0 {
		t.Fatalf("err %v, ran elsewhere %d times; want an error and no second run", err, ran)
	}
	if _, err := here.Call(t.Context(), shop, &driver.Request{Method: "GET"}); err != nil || ran != 1 {
		t.Fatalf("err %v, ran elsewhere %d times; want a GET to be repeated", err, ran)
	}
}

func TestBusyGoesOnAndEndsBusy(t *testing.T) {
	busy := func(context.Context, string, *driver.Request) (*driver.Response, error) {
		return driver.Busy("full", 1), nil
	}
	m := newMesh()
	m.add("full", 1, busy)
	here := m.add("here", 1, busy, "full")
	if _, response := ask(t, here, "GET", ""); response.Status != http.StatusServiceUnavailable {
		t.Fatalf("status %d, want 503", response.Status)
	}
	m.add("far", 1, echo)
	here = m.add("here", 1, busy, "full", "far")
	if text, _ := ask(t, here, "POST", "x"); !strings.HasPrefix(text, "far-0") {
		t.Fatalf("answered by %q", text)
	}
}

func TestNowhere(t *testing.T) {
	m := newMesh()
	here := m.add("here", 0, echo)
	if _, err := here.Call(t.Context(), shop, &driver.Request{Method: "GET"}); !errors.Is(err, ErrNone) {
		t.Fatalf("%v; want ErrNone", err)
	}
}

func FuzzServe(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\nHansa-Target: a/b/c\r\n\r\n"))
	f.Add([]byte("GET / HTTP/1.1\r\nHost: x\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m := newMesh()
		r := m.add("here", 1, echo)
		here, there := net.Pipe()
		go func() {
			_, _ = here.Write(data)
			here.Close()
		}()
		go func() { _, _ = io.Copy(io.Discard, here) }()
		_ = r.Serve(t.Context(), there) // must end and not panic
		there.Close()
	})
}
