package invoke

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
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

// stream is one end of a connection in memory.
type stream struct {
	net.Conn
	ctx    context.Context // done when the other end was closed
	closed func()          // tells the other end
}

func (s *stream) Context() context.Context { return s.ctx }

func (s *stream) Close() error {
	s.closed()
	return s.Conn.Close()
}

func pair() (here, there *stream) {
	a, b := net.Pipe()
	aCtx, aDone := context.WithCancel(context.Background())
	bCtx, bDone := context.WithCancel(context.Background())
	return &stream{a, aCtx, bDone}, &stream{b, bCtx, aDone}
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
			here, there := pair()
			go func() {
				defer there.Close()
				if m.silent[peer] {
					_, _ = io.Copy(io.Discard, there)
					return
				}
				_ = m.routers[peer].Serve(context.WithoutCancel(ctx), there) // ctx is of opening
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
			a, b := pair()
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
	here = m.add("here", 0, nil, "full", "gone")
	if _, response := ask(t, here, "GET", ""); response.Status != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" {
		t.Fatalf("one full and one gone: status %d, want 503", response.Status)
	}
	m.add("far", 1, echo)
	here = m.add("here", 1, busy, "full", "far")
	if text, _ := ask(t, here, "POST", "x"); !strings.HasPrefix(text, "far-0") {
		t.Fatalf("answered by %q", text)
	}
}

// What the function sees does not depend on where it runs.
func TestHereAndElsewhereAreTheSame(t *testing.T) {
	seen := func(got *driver.Request) func(context.Context, string, *driver.Request) (*driver.Response, error) {
		return func(ctx context.Context, id string, r *driver.Request) (*driver.Response, error) {
			*got = *r
			got.Header = r.Header.Clone()
			return echo(ctx, id, r)
		}
	}
	var local, far driver.Request
	m := newMesh()
	m.add("far", 1, seen(&far))
	here := m.add("here", 1, seen(&local))
	away := m.add("away", 0, nil, "far")
	for _, tc := range []struct{ script, path, agent string }{
		{"/v1/functions/default/shop/api", "", ""}, {"/f", "/", "curl/8"}, {"/f", "/a b/%2F/ü?#", ""}, {"", "/x", ""}, {"", "//x", ""},
	} {
		for _, r := range []*Router{here, away} {
			request := &driver.Request{
				Method: "GET", ScriptName: tc.script, Path: tc.path, RawQuery: "a=%20b", Proto: "HTTP/2.0", Host: "shop.example:443",
				Scheme: "https", RemoteAddr: "[fe80::1%eth0]:5", Header: http.Header{
					"Accept": {"a", "b"}, "Connection": {"X-Hop, close"}, "X-Hop": {"1"}, "Te": {"trailers"}, "Hansa-Target": {"x/y/z"},
				},
			}
			if tc.agent != "" {
				request.Header.Set("User-Agent", tc.agent)
			}
			if _, err := r.Call(t.Context(), shop, request); err != nil {
				t.Fatal(err)
			}
		}
		want := http.Header{"Accept": {"a", "b"}}
		if tc.agent != "" {
			want.Set("User-Agent", tc.agent)
		}
		if !reflect.DeepEqual(far.Header, want) {
			t.Errorf("elsewhere it sees the headers %v, want %v", far.Header, want)
		}
		local.Header, far.Header, local.Body, far.Body = nil, nil, nil, nil
		if !reflect.DeepEqual(local, far) {
			t.Errorf("elsewhere it sees\n%+v, here\n%+v", far, local)
		}
	}
}

// Answers without a body arrive as such.
func TestAnswersWithoutBody(t *testing.T) {
	for _, tc := range []struct {
		method string
		status int
		length string
	}{{"HEAD", 200, "7"}, {"HEAD", 200, ""}, {"GET", 204, ""}, {"GET", 304, ""}} {
		m := newMesh()
		m.add("far", 1, func(context.Context, string, *driver.Request) (*driver.Response, error) {
			h := http.Header{"X-A": {"1"}}
			if tc.length != "" {
				h.Set("Content-Length", tc.length)
			}
			return &driver.Response{Status: tc.status, Header: h, Body: http.NoBody}, nil
		})
		text, response := ask(t, m.add("away", 0, nil, "far"), tc.method, "")
		if text != "" || response.Status != tc.status || response.Header.Get("X-A") != "1" || response.Header.Get("Content-Length") != tc.length {
			t.Errorf("%+v: %d %v %q", tc, response.Status, response.Header, text)
		}
	}
}

// A caller that goes away ends the call where it runs.
func TestCallerGoesAway(t *testing.T) {
	m := newMesh()
	began, ended := make(chan struct{}), make(chan struct{})
	m.add("far", 1, func(ctx context.Context, _ string, _ *driver.Request) (*driver.Response, error) {
		close(began)
		<-ctx.Done()
		close(ended)
		return nil, ctx.Err()
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := m.add("away", 0, nil, "far").Call(ctx, shop, &driver.Request{Method: "POST"})
		done <- err
	}()
	<-began
	cancel()
	if err := <-done; err == nil {
		t.Error("a call that was cancelled has an answer")
	}
	<-ended
}

// A call that a stop ended midway may have done something: it is repeated only
// if that does not matter.
func TestStoppedMidway(t *testing.T) {
	stopped := func(context.Context, string, *driver.Request) (*driver.Response, error) {
		resp := driver.Busy("stopped", 1)
		resp.Cause = driver.CauseStopped
		return resp, nil
	}
	for _, local := range []int{0, 1} {
		m := newMesh()
		m.add("stopped", 1, stopped)
		m.add("far", 1, echo)
		r := m.add("here", local, stopped, "stopped", "far")
		if _, response := ask(t, r, "POST", "x"); response.Status != http.StatusServiceUnavailable {
			t.Errorf("a POST was repeated: %d", response.Status)
		}
		if text, _ := ask(t, r, "GET", ""); !strings.HasPrefix(text, "far-0") {
			t.Errorf("a GET was answered by %q", text)
		}
	}
}

// Calls are bounded, and one that is over makes room.
func TestCallsAreBounded(t *testing.T) {
	m := newMesh()
	here := m.add("here", 1, echo)
	var open []*driver.Response
	for range CallsMax {
		response, err := here.Call(t.Context(), shop, &driver.Request{Method: "GET"})
		if err != nil || response.Status != 201 {
			t.Fatal(response, err)
		}
		open = append(open, response)
	}
	if _, response := ask(t, here, "GET", ""); response.Status != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" {
		t.Errorf("one too many: %d", response.Status)
	}
	open[0].Body.Close()
	open[0].Body.Close() // twice is once
	if _, response := ask(t, here, "GET", ""); response.Status != 201 {
		t.Errorf("after one is over: %d", response.Status)
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
		here, there := pair()
		go func() {
			_, _ = here.Write(data)
			here.Close()
		}()
		go func() { _, _ = io.Copy(io.Discard, here) }()
		_ = r.Serve(t.Context(), there) // must end and not panic
		there.Close()
	})
}
