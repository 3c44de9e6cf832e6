package registry_test

import (
	"net/http/httptest"
	"os"
	"testing"

	"github.com/hansa-mesh/hansa/node/registry"
	"github.com/hansa-mesh/hansa/node/registry/conformance"
)

// TestConformance runs the specification's own program, with everything that it
// can ask for, against a peer with all in memory.
func TestConformance(t *testing.T) {
	m := newMemory()
	server := httptest.NewServer(registry.New(registry.Config{Blobs: m, Mesh: m, Names: m}))
	defer server.Close()
	conformance.Run(t, server.URL)
	if n := len(m.names); n > 0 {
		t.Errorf("%d names are left", n)
	}
}

func TestMain(m *testing.M) { os.Exit(conformance.Main(m)) }
