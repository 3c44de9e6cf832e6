package api_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hansa-mesh/hansa/node/api"
)

var errEnough = errors.New("enough")

// cutting serves h and cuts every stream after so many bytes of its body, as
// long as cuts are left.
func cutting(t *testing.T, h http.Handler, bytes int, cuts int32) (*api.Client, *atomic.Int32) {
	t.Helper()
	var left atomic.Int32
	left.Store(cuts)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/logs") && !strings.HasSuffix(r.URL.Path, "/events") || left.Load() <= 0 {
			h.ServeHTTP(w, r)
			return
		}
		h.ServeHTTP(&cutWriter{ResponseWriter: w, left: bytes, cuts: &left}, r)
	}))
	t.Cleanup(srv.Close)
	c, err := api.NewClient(srv.URL, "", api.ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return c, &left
}

type cutWriter struct {
	http.ResponseWriter
	left int
	cuts *atomic.Int32
}

func (w *cutWriter) Write(p []byte) (int, error) {
	n := min(len(p), w.left)
	w.left -= n
	if _, err := w.ResponseWriter.Write(p[:n]); err != nil {
		return 0, err
	}
	if n < len(p) {
		_ = http.NewResponseController(w.ResponseWriter).Flush()
		w.cuts.Add(-1)
		panic(http.ErrAbortHandler)
	}
	return n, nil
}

func (w *cutWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func TestLogsResumeWithoutLossOrRepetition(t *testing.T) {
	b := serve(t, nil)
	if _, err := b.client.PutManifest(t.Context(), shopKey, []byte(shop), api.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	l, err := b.client.Allocations(t.Context(), api.AllocationQuery{App: "shop"})
	if err != nil || len(l.Items) != 3 {
		t.Fatal(l.Items, err)
	}
	var want []string
	for i := range 40 {
		// Several lines share an instant, and some of those their text.
		text := fmt.Sprintf("line %d", i/2)
		want = append(want, text)
		b.backend.Log(shopKey, 0, fmt.Sprintf("2026-01-31T12:00:%02d.5Z stdout F %s", i/5, text))
	}
	client, left := cutting(t, b.server, 333, 8)
	var got []string
	breaks := 0
	err = client.Logs(t.Context(), l.Items[0].ID, api.LogOptions{Follow: true}, func(line api.LogLine) error {
		got = append(got, line.Text)
		if len(got) == len(want) {
			return errEnough
		}
		return nil
	}, func(error) { breaks++ })
	if !errors.Is(err, errEnough) {
		t.Fatal(err)
	}
	if breaks == 0 || left.Load() == 8 {
		t.Error("the stream never broke")
	}
	if !slices.Equal(got, want) {
		t.Errorf("after %d breaks got\n%q\nwant\n%q", breaks, got, want)
	}
}

func TestLogsEnd(t *testing.T) {
	b := serve(t, nil)
	if _, err := b.client.PutManifest(t.Context(), shopKey, []byte(shop), api.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	l, err := b.client.Allocations(t.Context(), api.AllocationQuery{App: "shop"})
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"2026-01-31T12:00:00Z stdout F one", "2026-01-31T12:00:01Z stderr P two", "no time"} {
		b.backend.Log(shopKey, 0, line)
	}
	var got []api.LogLine
	keep := func(l api.LogLine) error { got = append(got, l); return nil }
	if err := b.client.Logs(t.Context(), l.Items[0].ID, api.LogOptions{Tail: 2}, keep, nil); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0].Text != "two" || got[0].Stream != "stderr" || !got[0].Part || got[1].Text != "no time" {
		t.Errorf("%+v", got)
	}
	if err := b.client.Logs(t.Context(), "none", api.LogOptions{Follow: true}, keep, nil); !api.IsKind(err, api.KindNotFound) {
		t.Errorf("logs of nothing: %v", err)
	}
}

func TestEventsResume(t *testing.T) {
	b := serve(t, nil)
	b.backend.Happen(api.Event{Type: "old", Message: "before"})
	client, left := cutting(t, b.server, 700, 3)
	const total = 30
	var got []string
	go func() {
		for i := range total {
			b.backend.Happen(api.Event{Type: "new", App: "shop", Message: fmt.Sprintf("multi\nline %d", i)})
		}
	}()
	err := client.WatchEvents(t.Context(), api.EventQuery{App: "shop", Page: api.Page{After: "1"}}, func(e api.Event) error {
		got = append(got, e.Message)
		if len(got) == total {
			return errEnough
		}
		return nil
	}, nil)
	if !errors.Is(err, errEnough) || left.Load() == 3 {
		t.Fatalf("%v after %d cuts", err, 3-left.Load())
	}
	for i, text := range got {
		if text != fmt.Sprintf("multi\nline %d", i) {
			t.Fatalf("event %d is %q", i, text)
		}
	}
	l, err := client.Events(t.Context(), api.EventQuery{Newest: true, Page: api.Page{Limit: 2}})
	if err != nil || len(l.Items) != 2 || l.Items[1].ID != "31" {
		t.Errorf("%+v %v", l, err)
	}
}

func TestScaleKeepsConcurrentEdits(t *testing.T) {
	b := serve(t, nil)
	ctx := context.Background()
	if _, err := b.client.PutManifest(ctx, shopKey, []byte(shop), api.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	// Between Scale's GET and its PUT someone else edits, twice.
	edits := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut && edits < 2 {
			edits++
			manifest := strings.Replace(shop, "/bin/true", fmt.Sprintf("/bin/edit-%d", edits), 1)
			if _, err := b.client.PutManifest(ctx, shopKey, []byte(manifest), api.PutOptions{}); err != nil {
				t.Error(err)
			}
		}
		b.server.ServeHTTP(w, r)
	}))
	defer srv.Close()
	c, err := api.NewClient(srv.URL, "", api.ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Scale(ctx, shopKey, "api", 7); err != nil {
		t.Fatal(err)
	}
	d, err := c.App(ctx, shopKey)
	if err != nil || d.Wanted != 7 || d.Spec.Components["api"].Server.Process.Command[0] != "/bin/edit-2" {
		t.Errorf("%+v %v", d.Spec, err)
	}
	if _, err := c.Scale(ctx, shopKey, "none", 7); !api.IsKind(err, api.KindNotFound) || !strings.Contains(err.Error(), "it has api") {
		t.Errorf("unknown component: %v", err)
	}
}

func TestClientErrors(t *testing.T) {
	for _, addr := range []string{"ftp://x", "http://", "http://[", "a b"} {
		if _, err := api.NewClient(addr, "", api.ClientOptions{}); err == nil {
			t.Errorf("%q is taken", addr)
		}
	}
	for addr, want := range map[string]string{"": "http://127.0.0.1:7601", ":9": "http://127.0.0.1:9", "h:1": "http://h:1", "https://h/x/?a=b": "https://h/x"} {
		if c, err := api.NewClient(addr, "", api.ClientOptions{}); err != nil || c.URL() != want {
			t.Errorf("%q: %v, want %s", addr, err, want)
		}
	}
	c, err := api.NewClient("127.0.0.1:1", "", api.ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Mesh(t.Context()); !errors.Is(err, api.ErrNoAnswer) {
		t.Errorf("nobody there: %v", err)
	}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "apps") {
			http.Error(w, "<html>", http.StatusBadGateway)
			return
		}
		_, _ = io.WriteString(w, "<html>a router's page</html>")
	}))
	defer web.Close()
	if c, err = api.NewClient(web.URL, "", api.ClientOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Mesh(t.Context()); err == nil || !strings.Contains(err.Error(), "is that a Hansa peer") {
		t.Errorf("a web page: %v", err)
	}
	if _, err := c.Apps(t.Context(), api.AppQuery{}); !api.IsKind(err, api.KindUnreachable) {
		t.Errorf("a proxy's 502: %v", err)
	}
}

func BenchmarkStatus(b *testing.B) {
	x := serve(b, nil)
	if _, err := x.client.PutManifest(context.Background(), shopKey, []byte(shop), api.PutOptions{}); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", shopPath+"/status", nil)
		r.Host = "localhost"
		x.server.ServeHTTP(w, r)
		if w.Code != 200 {
			b.Fatal(w.Code)
		}
	}
}

func BenchmarkAllocationsPage(b *testing.B) {
	x := serve(b, nil)
	manifest := strings.Replace(shop, `"replicas":3`, `"replicas":5000`, 1)
	if _, err := x.client.PutManifest(context.Background(), shopKey, []byte(manifest), api.PutOptions{}); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := x.client.Allocations(context.Background(), api.AllocationQuery{Page: api.Page{Limit: 1000}}); err != nil {
			b.Fatal(err)
		}
	}
}
