package upstream_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/hansa-mesh/hansa/node/image"
	"github.com/hansa-mesh/hansa/node/upstream"
	"github.com/hansa-mesh/hansa/store"
)

// blobs is a real store as this package wants it.
type blobs struct{ *store.Blobs }

func (b blobs) Open(digest string) (io.ReadSeekCloser, int64, error) { return b.Blobs.Open(digest) }

func (b blobs) Create(ctx context.Context, digest string, size int64) (upstream.Writer, error) {
	return b.Blobs.Create(ctx, digest, size)
}

func newStore(t *testing.T) blobs {
	t.Helper()
	s, err := store.Open(store.Config{Dir: t.TempDir(), Mesh: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return blobs{s.Blobs()}
}

// server is a registry on loopback whose answers a test may change.
type server struct {
	*httptest.Server
	inner  http.Handler
	mu     sync.Mutex // guards what follows
	ranges []string   // that blobs were asked for by
	before func(w http.ResponseWriter, r *http.Request) (answered bool)
}

func newServer(t *testing.T) *server {
	s := &server{inner: ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)), ggcr.WithReferrersSupport(true))}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		if strings.Contains(r.URL.Path, "/blobs/") && r.Method == http.MethodGet {
			s.ranges = append(s.ranges, r.Header.Get("Range"))
		}
		before := s.before
		s.mu.Unlock()
		if before == nil || !before(w, r) {
			s.inner.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// change has requests answered by f first.
func (s *server) change(f func(w http.ResponseWriter, r *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = f
}

func (s *server) name(rest string) string { return strings.TrimPrefix(s.URL, "http://") + "/" + rest }

// push puts an index with one image for each of some platforms there.
func (s *server) push(t *testing.T, to string, platforms ...string) v1.ImageIndex {
	t.Helper()
	var index v1.ImageIndex = empty.Index
	for _, p := range platforms {
		os, arch, _ := strings.Cut(p, "/")
		img, err := random.Image(200_000, 2)
		if err != nil {
			t.Fatal(err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: os, Architecture: arch}}})
	}
	ref, err := name.ParseReference(s.name(to))
	if err == nil {
		err = remote.WriteIndex(ref, index)
	}
	if err != nil {
		t.Fatal(err)
	}
	return index
}

// pull is what a peer does.
func pull(t *testing.T, s *server, to blobs, c upstream.Credentials, cfg upstream.Config) (string, error) {
	t.Helper()
	registries := upstream.New(cfg)
	defer registries.Close()
	ref, err := upstream.Parse(s.name("shop/api:1"))
	if err != nil {
		t.Fatal(err)
	}
	repo, err := registries.Open(t.Context(), ref, c)
	if err != nil {
		return "", err
	}
	digest, err := repo.Resolve(t.Context())
	if err != nil {
		return "", err
	}
	return digest, repo.Pull(t.Context(), to, digest, []string{"amd64", "riscv64"})
}

func TestPull(t *testing.T) {
	s, to := newServer(t), newStore(t)
	index := s.push(t, "shop/api:1", "linux/amd64", "linux/arm64", "windows/amd64")
	digest, err := pull(t, s, to, upstream.Credentials{}, upstream.Config{})
	if err != nil {
		t.Fatal(err)
	}
	want, err := index.Digest()
	if err != nil || digest != want.String() {
		t.Errorf("the tag is %s, want %s (%v)", digest, want, err)
	}
	tree, err := image.Walk(to, digest, "amd64")
	if err != nil || !tree.Whole() || len(tree.Parts) != 5 { // index, manifest, config, layers
		t.Errorf("what runs on amd64 is %+v, %v", tree, err)
	}
	all, err := to.List()
	if err != nil || len(all) != 5 {
		t.Errorf("there are %d files, want the 5 that the mesh's hosts can use (%v)", len(all), err)
	}
	s.mu.Lock()
	asked := len(s.ranges)
	s.mu.Unlock()
	if _, err := pull(t, s, to, upstream.Credentials{}, upstream.Config{}); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ranges) != asked {
		t.Errorf("%d blobs were pulled again", len(s.ranges)-asked)
	}
}

// TestPullGoesOn breaks the connection in the midst of each blob: what came is not
// asked for again.
func TestPullGoesOn(t *testing.T) {
	s, to := newServer(t), newStore(t)
	s.push(t, "shop/api:1", "linux/amd64")
	var mu sync.Mutex
	cut := map[string]bool{} // of whose blob the beginning was sent
	first := func(path string) bool {
		mu.Lock()
		defer mu.Unlock()
		was := cut[path]
		cut[path] = true
		return !was
	}
	s.change(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/") || !first(r.URL.Path) {
			return false
		}
		whole := httptest.NewRecorder()
		s.inner.ServeHTTP(whole, r)
		w.Header().Set("Content-Length", fmt.Sprint(whole.Body.Len()))
		_, _ = w.Write(whole.Body.Bytes()[:100])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	digest, err := pull(t, s, to, upstream.Credentials{}, upstream.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if tree, err := image.Walk(to, digest, "amd64"); err != nil || !tree.Whole() {
		t.Errorf("%+v, %v", tree, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.ContainsFunc(s.ranges, func(r string) bool { return strings.HasPrefix(r, "bytes=100-") }) {
		t.Errorf("blobs were asked for by %q, and none from where it broke off", s.ranges)
	}
}

// TestPullFails: what a bad registry does is found, bounded and told, and nothing
// wrong is kept.
func TestPullFails(t *testing.T) {
	const password = "the-password-that-is-nowhere"
	quick := upstream.Config{AnswerMax: 200 * time.Millisecond, QuietMax: 200 * time.Millisecond}
	manifests, layers := isManifest, isLayer
	for what, tc := range map[string]struct {
		change func(s *server) func(w http.ResponseWriter, r *http.Request) bool
		is     error
		says   string
	}{
		"no such image": {func(*server) func(http.ResponseWriter, *http.Request) bool {
			return func(w http.ResponseWriter, r *http.Request) bool {
				if manifests(r) {
					http.NotFound(w, r)
				}
				return manifests(r)
			}
		}, upstream.ErrNotFound, "no such image"},
		"wrong credentials, told back": {func(*server) func(http.ResponseWriter, *http.Request) bool {
			return func(w http.ResponseWriter, r *http.Request) bool {
				w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
				w.WriteHeader(http.StatusUnauthorized)
				_, given, _ := r.BasicAuth()
				fmt.Fprintf(w, `{"errors":[{"code":"UNAUTHORIZED","message":"not %s, nor %s"}]}`, given, r.Header.Get("Authorization"))
				return true
			}
		}, upstream.ErrDenied, "credentials"},
		"hangs": {func(*server) func(http.ResponseWriter, *http.Request) bool {
			return func(w http.ResponseWriter, r *http.Request) bool {
				<-r.Context().Done()
				return true
			}
		}, nil, "127.0.0.1"},
		"hangs within a blob": {func(*server) func(http.ResponseWriter, *http.Request) bool {
			return func(w http.ResponseWriter, r *http.Request) bool {
				if !layers(r) {
					return false
				}
				w.WriteHeader(http.StatusOK)
				_ = http.NewResponseController(w).Flush()
				<-r.Context().Done()
				return true
			}
		}, nil, "says nothing"},
		"another manifest": {func(s *server) func(http.ResponseWriter, *http.Request) bool {
			return func(w http.ResponseWriter, r *http.Request) bool {
				return s.spoil(w, r, manifests(r) && r.Method == http.MethodGet, " ")
			}
		}, upstream.ErrLies, "other bytes"},
		"other bytes": {func(s *server) func(http.ResponseWriter, *http.Request) bool {
			return func(w http.ResponseWriter, r *http.Request) bool { return s.spoil(w, r, layers(r), "") }
		}, upstream.ErrLies, "other bytes"},
		"more bytes": {func(s *server) func(http.ResponseWriter, *http.Request) bool {
			return func(w http.ResponseWriter, r *http.Request) bool { return s.spoil(w, r, layers(r), "more") }
		}, upstream.ErrLies, "more than"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s, to := newServer(t), newStore(t)
			s.push(t, "shop/api:1", "linux/amd64")
			s.change(tc.change(s))
			_, err := pull(t, s, to, upstream.Credentials{User: "ann", Password: password}, quick)
			if err == nil || tc.is != nil && !errors.Is(err, tc.is) || !strings.Contains(err.Error(), tc.says) {
				t.Fatalf("the error is %v, want %v with %q", err, tc.is, tc.says)
			}
			if strings.Contains(err.Error(), password) || strings.Contains(err.Error(), "YW5uOnRoZS1wYXNz") {
				t.Errorf("the error tells the password: %v", err)
			}
			all, err := to.List()
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range all {
				if err := to.Check(b.Digest); err != nil {
					t.Errorf("what was kept of it: %v", err)
				}
			}
		})
	}
}

func isManifest(r *http.Request) bool { return strings.Contains(r.URL.Path, "/manifests/") }

func isLayer(r *http.Request) bool {
	return strings.Contains(r.URL.Path, "/blobs/") && r.Method == http.MethodGet
}

// spoil answers with a changed first byte, or with more at the end.
func (s *server) spoil(w http.ResponseWriter, r *http.Request, yes bool, more string) bool {
	if !yes {
		return false
	}
	r.Header.Del("Range")
	whole := httptest.NewRecorder()
	s.inner.ServeHTTP(whole, r)
	body := whole.Body.Bytes()
	if more == "" {
		body[0] ^= 1
	}
	_, _ = w.Write(append(body, more...))
	return true
}

// TestGuard: a registry elsewhere gets no plain HTTP, and nobody's peer to ask its
// own machine.
func TestGuard(t *testing.T) {
	for _, host := range []string{"127.0.0.1:1", "[::1]:1", "localhost", "localhost:5000", "[::ffff:127.0.0.1]:80"} {
		if err := upstream.Guarded(false, "http://"+host+"/v2/"); err == nil || !strings.Contains(err.Error(), "on this machine") {
			t.Errorf("%s of a registry elsewhere: %v", host, err)
		}
	}
	if err := upstream.Guarded(false, "http://registry.example/v2/"); err == nil || !strings.Contains(err.Error(), "plain HTTP") {
		t.Errorf("plain HTTP: %v", err)
	}
	s := newServer(t)
	if err := upstream.Guarded(true, s.URL+"/v2/"); err != nil {
		t.Errorf("a registry on loopback: %v", err)
	}
}

func TestParse(t *testing.T) {
	digest := "sha256:" + strings.Repeat("a", 64)
	for text, want := range map[string]upstream.Ref{
		"nginx":                          {Host: "docker.io", Repository: "library/nginx", Tag: "latest", Plain: "nginx"},
		"shop/api:1.4":                   {Host: "docker.io", Repository: "shop/api", Tag: "1.4", Plain: "shop/api"},
		"shop/api:1.4@" + digest:         {Host: "docker.io", Repository: "shop/api", Tag: "1.4", Digest: digest, Plain: "shop/api"},
		"registry.example:5000/shop/api": {Host: "registry.example:5000", Repository: "shop/api", Tag: "latest"},
		"localhost/api@" + digest:        {Host: "localhost", Repository: "api", Digest: digest},
		"docker.io/library/nginx:1":      {Host: "docker.io", Repository: "library/nginx", Tag: "1"},
	} {
		if got, err := upstream.Parse(text); err != nil || got != want {
			t.Errorf("%s is %+v, %v, want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "Shop/API:1", "shop/../etc", "shop/api:1@sha256:12", "a b", strings.Repeat("a/", 200) + "b"} {
		if got, err := upstream.Parse(text); err == nil {
			t.Errorf("%q is %+v", text, got)
		}
	}
	r, err := upstream.Parse("Registry.Example:5000/shop/api:1")
	if err != nil || r.Cached() != "registry.example__5000/shop/api" {
		t.Errorf("it is kept as %q, %v", r.Cached(), err)
	}
}
