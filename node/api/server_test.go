package api_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/node/api/apitest"
	"github.com/hansa-mesh/hansa/placement"
)

// bench is a served backend, with a client.
type bench struct {
	backend *apitest.Backend
	server  *api.Server
	http    *httptest.Server
	client  *api.Client
	log     *syncBuffer
}

type syncBuffer struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func serve(t testing.TB, change func(*api.Config)) *bench {
	t.Helper()
	b := &bench{backend: apitest.New(), log: &syncBuffer{}}
	cfg := api.Config{Backend: b.backend, Log: slog.New(slog.NewTextHandler(b.log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	if change != nil {
		change(&cfg)
	}
	var err error
	if b.server, err = api.New(cfg); err != nil {
		t.Fatal(err)
	}
	b.http = httptest.NewServer(b.server)
	t.Cleanup(b.http.Close)
	if b.client, err = api.NewClient(b.http.URL, cfg.Token, api.ClientOptions{}); err != nil {
		t.Fatal(err)
	}
	return b
}

// do sends a request and gives back the answer and its body.
func (b *bench) do(t testing.TB, method, path, body string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(method, b.http.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(data)
}

// problem checks that an answer is a problem of a status and kind, and that it
// says all of what.
func problem(t *testing.T, resp *http.Response, body string, status int, kind api.Kind, what ...string) {
	t.Helper()
	var p api.Problem
	if err := json.Unmarshal([]byte(body), &p); err != nil {
		t.Fatalf("status %d, not a problem: %v: %s", resp.StatusCode, err, body)
	}
	if resp.StatusCode != status || p.Status != status || p.Kind != kind || resp.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("got %d %s (%s), want %d %s: %s", resp.StatusCode, p.Kind, resp.Header.Get("Content-Type"), status, kind, body)
	}
	for _, w := range what {
		if !strings.Contains(body, w) {
			t.Errorf("the problem does not say %q: %s", w, body)
		}
	}
}

const shop = `{"app":"shop","components":{"api":{"server":{"process":{"command":["/bin/true"]}},"replicas":3}}}`

const shopPath = "/v1/namespaces/default/apps/shop"

var shopKey = placement.AppKey{Namespace: "default", App: "shop"}

func TestPutPreconditions(t *testing.T) {
	b := serve(t, nil)
	resp, _ := b.do(t, "PUT", shopPath, shop, "If-Match", "*")
	if resp.StatusCode != 412 {
		t.Errorf("If-Match: * on nothing: %d", resp.StatusCode)
	}
	resp, body := b.do(t, "PUT", shopPath, shop, "If-None-Match", "*")
	if resp.StatusCode != 201 || !strings.Contains(body, `"created":true`) || !strings.Contains(body, `"copies":3`) {
		t.Fatalf("create: %d %s", resp.StatusCode, body)
	}
	first := resp.Header.Get("ETag")
	resp, body = b.do(t, "PUT", shopPath, shop, "If-None-Match", "*")
	problem(t, resp, body, 412, api.KindConflict)
	if resp, body = b.do(t, "PUT", shopPath, shop, "If-Match", first); resp.StatusCode != 200 {
		t.Fatalf("update: %d %s", resp.StatusCode, body)
	}
	resp, body = b.do(t, "PUT", shopPath, shop, "If-Match", first)
	problem(t, resp, body, 412, api.KindConflict)
	resp, body = b.do(t, "DELETE", shopPath, "", "If-Match", first)
	problem(t, resp, body, 412, api.KindConflict)
	resp, body = b.do(t, "PUT", shopPath, shop, "If-Match", `"a", "b"`)
	problem(t, resp, body, 422, api.KindInvalid, "If-Match", "one ETag")
	if resp, _ = b.do(t, "GET", shopPath, ""); resp.Header.Get("ETag") == "" || resp.Header.Get("ETag") == first {
		t.Errorf("GET: ETag %q after %q", resp.Header.Get("ETag"), first)
	}
	if resp, body = b.do(t, "DELETE", shopPath, "", "If-Match", resp.Header.Get("ETag")); resp.StatusCode != 200 {
		t.Errorf("delete: %d %s", resp.StatusCode, body)
	}
	resp, body = b.do(t, "GET", shopPath, "")
	problem(t, resp, body, 404, api.KindNotFound, "default/shop")
}

func TestPutIsIdempotentByKey(t *testing.T) {
	b := serve(t, nil)
	_, first := b.do(t, "PUT", shopPath, shop, "Idempotency-Key", "k1")
	_, second := b.do(t, "PUT", shopPath, shop, "Idempotency-Key", "k1")
	var r1, r2 api.PutResult
	if json.Unmarshal([]byte(first), &r1) != nil || json.Unmarshal([]byte(second), &r2) != nil || r1.Revision == "" || r1.Revision != r2.Revision {
		t.Errorf("two edits: %s %s", first, second)
	}
}

func TestPutBelowQuorum(t *testing.T) {
	b := serve(t, nil)
	b.backend.Short = true
	if resp, body := b.do(t, "PUT", shopPath, shop); resp.StatusCode != 202 || !strings.Contains(body, `"copies":1`) {
		t.Errorf("got %d %s, want 202", resp.StatusCode, body)
	}
	resp, body := b.do(t, "PUT", shopPath+"?min_copies=2", shop)
	problem(t, resp, body, 503, api.KindTooFew)
}

func TestPutWrongManifests(t *testing.T) {
	b := serve(t, nil)
	digest := "sha256:" + strings.Repeat("ab", 32)
	for _, c := range []struct {
		name, contentType, body string
		status                  int
		kind                    api.Kind
		says                    []string
	}{
		{"unknown field", "", `{"app":"shop","components":{"api":{"server":{"image":"x"},"replica":3}}}`, 422, api.KindInvalid, []string{"components.api.replica", `did you mean \"replicas\"`}},
		{"unknown top field", "", `{"app":"shop","component":{}}`, 422, api.KindInvalid, []string{`did you mean \"components\"`}},
		{"wrong type", "", `{"app":"shop","components":{"api":{"server":{"image":"x"},"replicas":"many"}}}`, 422, api.KindInvalid, []string{"components.api.replicas", "a whole number"}},
		{"bad quantity", "", `{"app":"shop","components":{"api":{"server":{"image":"x"},"resources":{"cpu":"lots"}}}}`, 422, api.KindInvalid, []string{"components.api.resources.cpu", "not a quantity"}},
		{"other app", "", `{"app":"other","components":{}}`, 422, api.KindInvalid, []string{"in the path"}},
		{"other namespace", "", `{"namespace":"x","components":{}}`, 422, api.KindInvalid, []string{"namespace"}},
		{"no components", "", `{}`, 422, api.KindInvalid, []string{"at least one component"}},
		{"two kinds", "", `{"components":{"a":{"server":{"image":"x"},"container":{"image":"y"}}}}`, 422, api.KindInvalid, []string{"components.a", "exactly one"}},
		{"negative replicas", "", `{"components":{"a":{"server":{"image":"x"},"replicas":-1}}}`, 422, api.KindInvalid, []string{"components.a.replicas", "-1"}},
		{"a file", "", `{"components":{"a":{"function":{"module":"./x.wasm"}}}}`, 422, api.KindInvalid, []string{"/v1/artifacts"}},
		{"component name", "", `{"components":{"A_b":{"server":{"image":"x"}}}}`, 422, api.KindInvalid, []string{"components.A_b", "lower-case"}},
		{"unknown artifact", "", `{"components":{"a":{"function":{"module":"` + digest + `"}}}}`, 409, api.KindMissing, []string{digest}},
		{"broken json", "", `{"components":`, 400, api.KindMalformed, []string{"ends in the midst"}},
		{"two values", "", shop + shop, 400, api.KindMalformed, []string{"more after the end"}},
		{"no body", "", ``, 400, api.KindMalformed, nil},
		{"text", "text/plain", shop, 415, api.KindMedia, []string{"application/yaml"}},
		{"broken yaml", "application/yaml", "components:\n  a: [", 400, api.KindMalformed, []string{"line "}},
		{"two documents", "application/yaml", "app: shop\n---\napp: shop\n", 422, api.KindInvalid, []string{"2 apps"}},
		{"alias bomb", "application/yaml", "a: &a [1,1]\nb: &b [*a,*a]\nc: &c [*b,*b]\n", 422, api.KindInvalid, []string{"anchor"}},
		{"deep yaml", "application/yaml", strings.Repeat("[", 100000), 400, api.KindMalformed, []string{"deep"}},
		{"deep block", "application/yaml", strings.Repeat("- ", 100000), 400, api.KindMalformed, []string{"deep"}},
		{"deep json", "", strings.Repeat("[", 100000), 400, api.KindMalformed, nil},
		{"large", "", strings.Repeat(" ", 2<<20), 413, api.KindTooLarge, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			contentType := c.contentType
			if contentType == "" {
				contentType = "application/json"
			}
			resp, body := b.do(t, "PUT", shopPath, c.body, "Content-Type", contentType)
			problem(t, resp, body, c.status, c.kind, c.says...)
		})
	}
	if l, err := b.client.Apps(t.Context(), api.AppQuery{}); err != nil || len(l.Items) != 0 {
		t.Errorf("something was stored: %v %v", l, err)
	}
}

func TestPutYAML(t *testing.T) {
	b := serve(t, nil)
	text := "# a comment\nversion: hansa/v1\ncomponents:\n  api:\n    server: {process: {command: [./x, --port, \"${port.http}\"]}}\n    ports: {http: 80}\n    resources: {cpu: 250m, memory: 64Mi}\n    replicas: 2\n"
	if resp, body := b.do(t, "PUT", shopPath, text, "Content-Type", "application/yaml; charset=utf-8"); resp.StatusCode != 201 {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	d, err := b.client.App(t.Context(), shopKey)
	if err != nil || d.Wanted != 2 || d.Spec.Components["api"].Resources.CPU != 250 {
		t.Errorf("%+v %v", d, err)
	}
}

func TestParams(t *testing.T) {
	b := serve(t, nil)
	for _, c := range []struct {
		path   string
		status int
		kind   api.Kind
		says   string
	}{
		{"/v1/apps?limit=0", 422, api.KindInvalid, "limit"},
		{"/v1/apps?limit=1001", 422, api.KindInvalid, "limit"},
		{"/v1/apps?limit=x", 422, api.KindInvalid, "limit"},
		{"/v1/apps?cursor=%00", 422, api.KindInvalid, "cursor"},
		{"/v1/apps?namspace=x", 422, api.KindInvalid, "namspace"},
		{"/v1/allocations?state=runing", 422, api.KindInvalid, "one of pending"},
		{"/v1/allocations?app=a/b&namespace=c", 422, api.KindInvalid, "two namespaces"},
		{"/v1/allocations/nope", 404, api.KindNotFound, "nope"},
		{"/v1/allocations/nope/logs?since=yesterday", 422, api.KindInvalid, "10m"},
		{"/v1/allocations/nope/logs?tail=-1", 422, api.KindInvalid, "tail"},
		{"/v1/namespaces/UPPER/apps/x", 422, api.KindInvalid, "namespace"},
		{"/v1/nothing", 404, api.KindNotFound, "/v1/nothing"},
		{"/v1/artifacts/sha256:xx", 405, api.KindMethod, "PUT"},
		{"/v1/functions/default/UP/x/", 404, api.KindNotFound, "UP"},
	} {
		resp, body := b.do(t, "GET", c.path, "")
		problem(t, resp, body, c.status, c.kind, c.says)
	}
}

func TestLists(t *testing.T) {
	b := serve(t, nil)
	for i := range 7 {
		path := fmt.Sprintf("/v1/namespaces/default/apps/app-%d", i)
		if resp, body := b.do(t, "PUT", path, strings.Replace(shop, `"app":"shop",`, "", 1)); resp.StatusCode != 201 {
			t.Fatal(resp.StatusCode, body)
		}
	}
	var names []string
	cursor := ""
	for {
		resp, body := b.do(t, "GET", "/v1/apps?limit=3&cursor="+cursor, "")
		var l api.List[api.App]
		if err := json.Unmarshal([]byte(body), &l); err != nil || resp.StatusCode != 200 || len(l.AsOf) != 3 {
			t.Fatal(resp.StatusCode, err, body)
		}
		for _, a := range l.Items {
			names = append(names, a.App)
		}
		if cursor = l.Cursor; cursor == "" {
			break
		}
	}
	if got := strings.Join(names, " "); got != "app-0 app-1 app-2 app-3 app-4 app-5 app-6" {
		t.Errorf("paged: %s", got)
	}
	l, err := b.client.Allocations(t.Context(), api.AllocationQuery{App: "app-3", States: []string{"running", "failed"}, Site: "fra"})
	if err != nil || len(l.Items) != 1 || l.Items[0].Slot != 0 {
		t.Errorf("%+v %v", l.Items, err)
	}
	if _, body := b.do(t, "GET", "/v1/conflicts", ""); !strings.Contains(body, `"items":[]`) {
		t.Errorf("an empty list is not []: %s", body)
	}
}

func digestOf(data string) string {
	sum := sha256.Sum256([]byte(data))
	return "sha256:" + hex.EncodeToString(sum[:])
}

func TestArtifacts(t *testing.T) {
	b := serve(t, func(c *api.Config) { c.ArtifactBytesMax = 1000 })
	b.backend.ArtifactSpace = 600
	good := digestOf("hello")
	if has, err := b.client.HasArtifact(t.Context(), good); has || err != nil {
		t.Errorf("before: %v %v", has, err)
	}
	resp, body := b.do(t, "PUT", "/v1/artifacts/"+good, "other")
	problem(t, resp, body, 422, api.KindInvalid, good, digestOf("other"))
	if got := b.backend.ArtifactDigests(); len(got) != 0 {
		t.Errorf("wrong bytes were kept: %v", got)
	}
	for i, status := range []int{201, 200} {
		if resp, body = b.do(t, "PUT", "/v1/artifacts/"+good, "hello"); resp.StatusCode != status {
			t.Errorf("put %d: %d %s", i, resp.StatusCode, body)
		}
	}
	if resp, _ = b.do(t, "HEAD", "/v1/artifacts/"+good, ""); resp.StatusCode != 200 || resp.ContentLength != 5 {
		t.Errorf("HEAD: %d, %d bytes", resp.StatusCode, resp.ContentLength)
	}
	large := strings.Repeat("x", 1001)
	resp, body = b.do(t, "PUT", "/v1/artifacts/"+digestOf(large), large)
	problem(t, resp, body, 413, api.KindTooLarge)
	// Of unknown length: found out on the way.
	_, err := b.client.PutArtifact(t.Context(), digestOf(large), -1, strings.NewReader(large))
	if !api.IsKind(err, api.KindTooLarge) {
		t.Errorf("chunked: %v", err)
	}
	full := strings.Repeat("y", 900)
	resp, body = b.do(t, "PUT", "/v1/artifacts/"+digestOf(full), full)
	problem(t, resp, body, 507, api.KindFull)
	for _, bad := range []string{"sha256:00", "md5:" + strings.Repeat("a", 32), "sha256:" + strings.Repeat("AB", 32)} {
		resp, body = b.do(t, "PUT", "/v1/artifacts/"+bad, "x")
		problem(t, resp, body, 422, api.KindInvalid, "64 hexadecimal digits")
	}
}

// function deploys an app with a function.
func (b *bench) function(t testing.TB) {
	t.Helper()
	if _, err := b.client.PutArtifact(context.Background(), digestOf("module"), 6, strings.NewReader("module")); err != nil {
		t.Fatal(err)
	}
	manifest := `{"components":{"f":{"function":{"module":"` + digestOf("module") + `"},"replicas":2}}}`
	if _, err := b.client.PutManifest(context.Background(), shopKey, []byte(manifest), api.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

func TestFunctions(t *testing.T) {
	b := serve(t, func(c *api.Config) { c.Token = secret })
	b.function(t)
	resp, body := b.do(t, "PATCH", "/v1/functions/default/shop/f/a%2Fb/c?q=1", "data", "Authorization", "Bearer "+secret,
		"Cookie", "s=1", "Proxy", "evil:80", "Proxy-Authorization", "Basic x", "X-Mine", "stays")
	if resp.StatusCode != 200 || !strings.Contains(body, `"method":"PATCH"`) || !strings.Contains(body, `"body":"data"`) ||
		!strings.Contains(body, `"path":"/a/b/c"`) || !strings.Contains(body, `"query":"q=1"`) {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	seen := b.backend.Invocations()[0]
	for _, name := range []string{"Authorization", "Cookie", "Proxy", "Proxy-Authorization"} {
		if seen.Get(name) != "" {
			t.Errorf("the guest saw %s: %s", name, seen.Get(name))
		}
	}
	if seen.Get("X-Mine") != "stays" {
		t.Error("a header of the caller was lost")
	}
	if csp := resp.Header.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "sandbox;") || len(resp.Header["Content-Security-Policy"]) != 1 {
		t.Errorf("CSP %q", csp)
	}
	if resp.Header.Get("X-Content-Type-Options") != "nosniff" || resp.Header.Get("Set-Cookie") != "" {
		t.Errorf("headers of the guest: %v", resp.Header)
	}
	if resp, body = b.do(t, "GET", "/v1/functions/default/shop/f", "", "Authorization", "Bearer "+secret); resp.StatusCode != 200 || !strings.Contains(body, `"path":""`) {
		t.Errorf("the function's root: %d %s", resp.StatusCode, body)
	}
	resp, body = b.do(t, "POST", "/v1/functions/default/shop/f", strings.Repeat("x", 64<<20+1), "Authorization", "Bearer "+secret)
	problem(t, resp, body, 413, api.KindTooLarge)
	resp, body = b.do(t, "GET", "/v1/functions/default/shop/none/", "", "Authorization", "Bearer "+secret)
	problem(t, resp, body, 404, api.KindNotFound, "none")
}

func TestPanicIsContained(t *testing.T) {
	b := serve(t, nil)
	b.function(t)
	resp, body := b.do(t, "GET", "/v1/functions/default/shop/f/panic", "")
	problem(t, resp, body, 500, api.KindInternal, resp.Header.Get("Hansa-Request-Id"))
	if !strings.Contains(b.log.String(), "the function's backend panics") || !strings.Contains(b.log.String(), resp.Header.Get("Hansa-Request-Id")) {
		t.Errorf("log: %s", b.log)
	}
	if resp, _ := b.do(t, "GET", "/healthz", ""); resp.StatusCode != 200 {
		t.Error("the server is gone")
	}
	if _, metrics := b.do(t, "GET", "/metrics", ""); !strings.Contains(metrics, "hansa_http_panics_total 1") {
		t.Error("the panic was not counted")
	}
}

func TestMetricsNameRoutes(t *testing.T) {
	b := serve(t, nil)
	b.do(t, "GET", shopPath, "")
	b.do(t, "GET", "/v1/made/up", "")
	_, body := b.do(t, "GET", "/metrics", "")
	for _, want := range []string{
		`hansa_http_requests_total{code="404",method="GET",route="GET /v1/namespaces/{namespace}/apps/{app}"} 1`,
		`hansa_http_requests_total{code="404",method="GET",route="other"} 1`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s in:\n%s", want, body)
		}
	}
	if strings.Contains(body, "shop") {
		t.Error("a path is in the metrics: their number must not grow with what is asked")
	}
}

func TestCareAndIndex(t *testing.T) {
	b := serve(t, nil)
	if _, body := b.do(t, "GET", "/debug/state", ""); !strings.Contains(body, "apps 0") {
		t.Error(body)
	}
	_, index := b.do(t, "GET", "/", "")
	_, spec := b.do(t, "GET", "/openapi.json", "")
	var doc struct {
		OpenAPI string         `json:"openapi"`
		Paths   map[string]any `json:"paths"`
	}
	if err := json.Unmarshal([]byte(spec), &doc); err != nil || !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Fatalf("%v %s", err, doc.OpenAPI)
	}
	for _, path := range []string{"/healthz", "/readyz", "/metrics", "/v1/version", "/v1/mesh", "/v1/peers", "/v1/sites", "/v1/hosts",
		"/v1/artifacts/{digest}", "/v1/namespaces/{namespace}/apps/{app}", "/v1/namespaces/{namespace}/apps/{app}/status",
		"/v1/namespaces/{namespace}/apps/{app}/explain", "/v1/apps", "/v1/plan", "/v1/allocations", "/v1/allocations/{id}",
		"/v1/manifest.schema.json", "/v1/allocations/{id}/logs", "/v1/functions/{namespace}/{app}/{component}/{path}", "/v1/events", "/v1/conflicts", "/v1/invites", "/v1/peers/{id}"} {
		if doc.Paths[path] == nil || !strings.Contains(index, path) {
			t.Errorf("%s is not described", path)
		}
	}
	b.backend.NotReady = fmt.Errorf("the disk is full")
	resp, body := b.do(t, "GET", "/readyz", "")
	problem(t, resp, body, 503, api.KindUnavailable, "the disk is full")
}

func TestRequestID(t *testing.T) {
	b := serve(t, nil)
	for given, kept := range map[string]bool{"abc-1.2_X": true, "a b": false, strings.Repeat("a", 65): false, "a\"b": false} {
		resp, _ := b.do(t, "GET", "/healthz", "", "Hansa-Request-Id", given)
		if got := resp.Header.Get("Hansa-Request-Id"); (got == given) != kept || got == "" {
			t.Errorf("%q became %q", given, got)
		}
	}
}

func TestTrust(t *testing.T) {
	b := serve(t, nil)
	invite, err := b.client.Invite(t.Context(), api.InviteRequest{Name: "syd-2", TTL: placement.Duration(10 * time.Minute)})
	if err != nil || invite.Token == "" || time.Until(invite.Expires) > 11*time.Minute {
		t.Errorf("%+v %v", invite, err)
	}
	for _, body := range []string{`{}`, `{"name":"-x"}`, `{"name":"a","nam":"b"}`, `{"name":"` + strings.Repeat("a", 64) + `"}`} {
		resp, text := b.do(t, "POST", "/v1/invites", body, "Content-Type", "application/json")
		problem(t, resp, text, 422, api.KindInvalid, "nam")
	}
	if resp, _ := b.do(t, "DELETE", "/v1/peers/syd-1?with_admitted=true", ""); resp.StatusCode != 204 {
		t.Errorf("forget: %d", resp.StatusCode)
	}
	if err := b.client.Forget(t.Context(), "nobody", false); !api.IsKind(err, api.KindNotFound) {
		t.Errorf("forget nobody: %v", err)
	}
}

func TestRunEndsGracefully(t *testing.T) {
	s, err := api.New(api.Config{Backend: apitest.New(), Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	c, err := api.NewClient(s.Addr(), "", api.ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Mesh(t.Context()); err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), "GET", c.URL()+"/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	stream, err := http.DefaultClient.Do(req) // returns once the stream is open
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	other, err := api.New(api.Config{Backend: apitest.New(), Addr: s.Addr()})
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "listen on "+s.Addr()) {
		t.Errorf("a port in use: %v", err)
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("Run does not end")
	}
}

// The description that programs are made from is whole: every reference leads
// somewhere, every operation has a name of its own, and says what it answers
// and which parts of its path vary.
func TestOpenAPIIsWhole(t *testing.T) {
	b := serve(t, nil)
	_, spec := b.do(t, "GET", "/openapi.json", "")
	var doc map[string]any
	if err := json.Unmarshal([]byte(spec), &doc); err != nil {
		t.Fatal(err)
	}
	var refs func(v any)
	refs = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok {
				var at any = doc
				for part := range strings.SplitSeq(strings.TrimPrefix(ref, "#/"), "/") {
					in, _ := at.(map[string]any)
					at = in[part]
				}
				if at == nil {
					t.Errorf("%s leads nowhere", ref)
				}
			}
			for _, inner := range v {
				refs(inner)
			}
		case []any:
			for _, inner := range v {
				refs(inner)
			}
		}
	}
	refs(doc)
	ids := map[string]bool{}
	for path, item := range doc["paths"].(map[string]any) {
		for method, op := range item.(map[string]any) {
			op := op.(map[string]any)
			id, _ := op["operationId"].(string)
			if id == "" || ids[id] {
				t.Errorf("%s %s: operationId %q", method, path, id)
			}
			ids[id] = true
			if responses, _ := op["responses"].(map[string]any); len(responses) < 2 {
				t.Errorf("%s %s answers only %v", method, path, responses)
			}
			params := map[string]bool{}
			list, _ := op["parameters"].([]any)
			for _, p := range list {
				p := p.(map[string]any)
				params[fmt.Sprint(p["in"], " ", p["name"])] = true
			}
			for part := range strings.SplitSeq(path, "/") {
				if name, ok := strings.CutPrefix(part, "{"); ok && !params["path "+strings.TrimSuffix(name, "}")] {
					t.Errorf("%s %s does not describe %s", method, path, part)
				}
			}
		}
	}
}
