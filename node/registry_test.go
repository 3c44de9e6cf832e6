package node

import (
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/hansa-mesh/hansa/node/registry/conformance"
)

// wallMesh is a mesh in real time, for clients that are processes of their own.
func wallMesh(t *testing.T, sites int) *mesh {
	t.Helper()
	m := newMesh(t, sites, 0)
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
