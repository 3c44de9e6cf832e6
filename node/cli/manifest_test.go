package cli

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/hansa-mesh/hansa/placement"
)

// Of a package with a file for each architecture each is uploaded, and the
// manifest that was read stays as it was.
func TestEachArchitectureIsUploaded(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"meter-amd64", "meter-arm64"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	paths := placement.PackageOf(map[string]string{"amd64": "./meter-amd64", "arm64": "./meter-arm64"})
	server := &placement.Server{Process: &placement.Process{Command: []string{"meter"}, Artifact: paths}}
	doc := document{app: placement.App{Name: "a", Components: map[string]placement.Component{"c": {Server: server}}}}
	if err := doc.resolve(dir); err != nil {
		t.Fatal(err)
	}
	if len(doc.files) != 2 {
		t.Fatalf("%d files are to be uploaded", len(doc.files))
	}
	for _, f := range doc.files {
		arch := filepath.Base(f.path)[len("meter-"):]
		if got := doc.app.Components["c"].Server.Process.Artifact.For(arch); got != f.digest {
			t.Errorf("%s has %q, and not %q", arch, got, f.digest)
		}
	}
	if server.Process.Artifact != paths {
		t.Errorf("the manifest was changed to %s", server.Process.Artifact)
	}
	if err := doc.app.Validate(); err != nil {
		t.Error(err)
	}
}
