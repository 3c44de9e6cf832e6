package node

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/hansa-mesh/hansa/node/registry/conformance"
)

// wallMesh is a mesh in real time, for clients that are processes of their own.
func wallMesh(t *testing.T, sites int) *mesh {
	t.Helper()
	return wallMeshOf(t, nil, sites)
}

// wallMeshOf is one of nodes that made has changed before they ran.
func wallMeshOf(t *testing.T, made func(*Node), sites int) *mesh {
	t.Helper()
	m := newMeshOf(t, made, sites, 0)
	t.Cleanup(func() {
		for _, s := range m.sites {
			if s.node != nil {
				m.kill(s, true)
			}
		}
		m.net.Close()
	})
	return m
}

// TestRegistryConformance runs the specification's own program against one peer,
// and against three of which one takes what is written and another is read from:
// what is acknowledged there is found here.
func TestRegistryConformance(t *testing.T) {
	for name, sites := range map[string]int{"one peer": 1, "written to one and read from another": 3} {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && sites > 1 {
				t.Skip("thrice as long as one peer; not with -short")
			}
			m := wallMesh(t, sites)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				at := m.sites[0]
				if r.Method == http.MethodGet || r.Method == http.MethodHead {
					at = m.sites[sites-1]
				}
				if strings.Contains(r.URL.Path, "/blobs/uploads/") { // a session stays where it began
					at = m.sites[0]
				}
				at.node.registry.ServeHTTP(w, r)
			}))
			defer server.Close()
			conformance.Run(t, server.URL)
		})
	}
}

func TestMain(m *testing.M) { os.Exit(conformance.Main(m)) }

// ask sends a request to the registry of a site's peer.
func (s *testSite) ask(t *testing.T, method, path, body string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	s.node.registry.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)).WithContext(t.Context()))
	return w
}

// pushImage pushes an image of one layer to a site's peer, and is its digest.
func (s *testSite) pushImage(t *testing.T, name, layer string) string {
	t.Helper()
	repository, tag, _ := strings.Cut(name, ":")
	var digests [2]string
	for i, blob := range []string{"{}", layer} {
		digests[i] = digest.FromString(blob).String()
		if w := s.ask(t, "POST", "/v2/"+repository+"/blobs/uploads/?digest="+digests[i], blob); w.Code != http.StatusCreated {
			t.Fatalf("push of a blob: %d %s", w.Code, w.Body)
		}
	}
	manifest := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",`+
		`"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":2},`+
		`"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":%d}]}`, digests[0], digests[1], len(layer))
	w := s.ask(t, "PUT", "/v2/"+repository+"/manifests/"+tag, manifest)
	if w.Code != http.StatusCreated {
		t.Fatalf("push of %s: %d %s", name, w.Code, w.Body)
	}
	if copies := w.Header().Get("Hansa-Copies"); copies < "2" {
		t.Errorf("%s was acknowledged with %s copies", name, copies)
	}
	return digest.FromString(manifest).String()
}

// What is pushed to one peer is there at all others the moment after, is moved, and
// is gone at all of them once it is deleted.
func TestImagesArePushedAndDeletedEverywhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 3, 20*time.Millisecond)
		defer m.close()
		first := m.sites[0].pushImage(t, "shop/api:1", "layer one")
		second := m.sites[1].pushImage(t, "shop/api:1", "layer two")
		for _, s := range m.sites {
			w := s.ask(t, "GET", "/v2/shop/api/manifests/1", "")
			if got := w.Header().Get("Docker-Content-Digest"); w.Code != http.StatusOK || got != second {
				t.Errorf("%s: %d, %s; %s was pushed last, %s before", s.name, w.Code, got, second, first)
			}
			if w := s.ask(t, "GET", "/v2/shop/api/blobs/"+digest.FromString("layer two").String(), ""); w.Body.String() != "layer two" {
				t.Errorf("%s: %d %s", s.name, w.Code, w.Body)
			}
		}
		if w := m.sites[2].ask(t, "DELETE", "/v2/shop/api/blobs/"+digest.FromString("layer two").String(), ""); w.Code != http.StatusMethodNotAllowed {
			t.Errorf("a layer that a tag needs was deleted: %d", w.Code)
		}
		for _, path := range []string{"manifests/" + second, "blobs/" + digest.FromString("layer two").String()} {
			if w := m.sites[2].ask(t, "DELETE", "/v2/shop/api/"+path, ""); w.Code != http.StatusAccepted {
				t.Errorf("delete %s: %d %s", path, w.Code, w.Body)
			}
			for _, s := range m.sites {
				for _, gone := range []string{path, "manifests/1"} {
					if w := s.ask(t, "HEAD", "/v2/shop/api/"+gone, ""); w.Code != http.StatusNotFound {
						t.Errorf("%s still has %s: %d", s.name, gone, w.Code)
					}
				}
			}
		}
	})
}

// A push to a peer that is cut off from all others is taken, as a deploy is, and
// says how many copies there are; the others learn of it when the link heals.
func TestPushAtACutOffSite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 3, 20*time.Millisecond)
		defer m.close()
		far := m.sites[2]
		m.net.Partition([]string{m.sites[0].addr, m.sites[1].addr}, []string{far.addr})
		m.until("it is noticed", time.Minute, func() error {
			if n := len(far.node.others()); n > 0 {
				return fmt.Errorf("%d others seem alive", n)
			}
			return nil
		})
		w := far.ask(t, "POST", "/v2/shop/api/blobs/uploads/?digest="+digest.FromString("{}").String(), "{}")
		if w.Code != http.StatusCreated {
			t.Fatalf("push of a blob: %d %s", w.Code, w.Body)
		}
		index := `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`
		if w := far.ask(t, "PUT", "/v2/shop/api/manifests/far", index); w.Code != http.StatusCreated || w.Header().Get("Hansa-Copies") != "1" {
			t.Errorf("%d, %s copies: %s", w.Code, w.Header().Get("Hansa-Copies"), w.Body)
		}
		m.net.Heal()
		m.until("the others know it", time.Minute, func() error {
			if w := m.sites[0].ask(t, "GET", "/v2/shop/api/manifests/far", ""); w.Code != http.StatusOK || w.Body.String() != index {
				return fmt.Errorf("%d %s", w.Code, w.Body)
			}
			return nil
		})
	})
}
