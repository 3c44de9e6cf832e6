package docker_test

import (
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"bytes"
)

// registry is one on loopback, which an engine trusts without TLS.
type registry struct {
	*httptest.Server
	user, password string // that it wants, if it wants any

	mu        sync.Mutex // guards what follows
	blobs     map[string][]byte
	manifests map[string][]byte // by tag and by digest
	hang      bool
	asked     int
	release   chan struct{} // closed to let go who hangs
}

func newRegistry(t *testing.T) *registry {
	r := &registry{blobs: map[string][]byte{}, manifests: map[string][]byte{}, release: make(chan struct{})}
	r.Server = httptest.NewServer(http.HandlerFunc(r.serve))
	t.Cleanup(func() {
		close(r.release)
		r.Close()
	})
	return r
}

// name is that of an image in it.
func (r *registry) name(image string) string {
	return strings.TrimPrefix(r.URL, "http://") + "/" + image
}

func (r *registry) blob(b []byte) map[string]any {
	sum := sha256.Sum256(b)
	digest := "sha256:" + hex.EncodeToString(sum[:])
	r.blobs[digest] = b
	return map[string]any{"digest": digest, "size": len(b)}
}

// push puts an image with the suite's program into it; env tells images apart.
func (r *registry) push(t *testing.T, tag, env string) {
	t.Helper()
	plain, err := io.ReadAll(layer(t))
	if err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	diff := sha256.Sum256(plain)
	config, err := json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux",
		"config": map[string]any{"Env": []string{"IMAGE=" + env}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + hex.EncodeToString(diff[:])}},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c, l := r.blob(config), r.blob(packed.Bytes())
	c["mediaType"] = "application/vnd.docker.container.image.v1+json"
	l["mediaType"] = "application/vnd.docker.image.rootfs.diff.tar.gzip"
	manifest, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": manifestType, "config": c, "layers": []any{l},
	})
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(manifest)
	r.manifests[tag], r.manifests["sha256:"+hex.EncodeToString(sum[:])] = manifest, manifest
}

const manifestType = "application/vnd.docker.distribution.manifest.v2+json"

func (r *registry) serve(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	hang := r.hang
	r.asked++
	r.mu.Unlock()
	if hang {
		<-r.release
		return
	}
	if user, password, _ := q.BasicAuth(); r.user != "" && (user != r.user || password != r.password) {
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
		return
	}
	parts := strings.Split(q.URL.Path, "/")
	last, kind := parts[len(parts)-1], ""
	if len(parts) > 2 {
		kind = parts[len(parts)-2]
	}
	r.mu.Lock()
	body, ok := r.blobs[last], true
	if kind == "manifests" {
		body = r.manifests[last]
	}
	r.mu.Unlock()
	switch kind {
	case "manifests", "blobs":
		ok = body != nil
	default:
		return // GET /v2/
	}
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}`)
		return
	}
	sum := sha256.Sum256(body)
	w.Header().Set("Docker-Content-Digest", "sha256:"+hex.EncodeToString(sum[:]))
	w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	if kind == "manifests" {
		w.Header().Set("Content-Type", manifestType)
	}
	_, _ = w.Write(body)
}
