package cli

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hansa-mesh/hansa/placement"
)

const shopText = `app: shop
components:
  api:
    function: {module: ./api.wasm}
`

// shopFolder is a folder with an app of one function.
func shopFolder(t *testing.T, module string) (manifest string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"api.wasm": module, "shop.yaml": shopText} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "shop.yaml")
}

// ok runs a command that must succeed, and gives what it printed.
func (term *terminal) ok(t *testing.T, args ...string) string {
	t.Helper()
	if code := term.run(t.Context(), "", args...); code != 0 {
		t.Fatalf("hansa %s ended with %d: %s", strings.Join(args, " "), code, term.err)
	}
	return term.out.String()
}

// fails runs a command that must end with a code and say something.
func (term *terminal) fails(t *testing.T, code int, says string, args ...string) {
	t.Helper()
	if got := term.run(t.Context(), "", args...); got != code || !strings.Contains(term.err.String(), says) {
		t.Errorf("hansa %s ended with %d and said %q: want %d and %q", strings.Join(args, " "), got, term.err, code, says)
	}
}

func (term *terminal) packed(t *testing.T, args ...string) Packed {
	t.Helper()
	var p Packed
	if err := json.Unmarshal([]byte(term.ok(t, args...)), &p); err != nil {
		t.Fatal(err)
	}
	return p
}

// A package is made, carried over a tar file to another mesh, and deployed there
// as it was when it was deployed, wherever its tag goes.
func TestPackageIsCarriedAndDeployed(t *testing.T) {
	here, there := newTerminal(t), newTerminal(t)
	dir := t.TempDir()
	manifest, file := shopFolder(t, "first"), filepath.Join(dir, "shop.tar")
	made := here.packed(t, "pack", manifest, "-t", "shop:1.4", "-o", "json")
	if made.Name != "shop:1.4" || made.Sent == 0 || made.There != 0 {
		t.Errorf("it was packed as %+v", made)
	}
	if again := here.packed(t, "pack", manifest, "-t", "shop:1.4", "-o", "json"); again.Digest != made.Digest || again.Sent != 0 {
		t.Errorf("the same again is %+v", again)
	}
	direct := filepath.Join(dir, "direct.tar")
	if p := here.packed(t, "pack", manifest, "-t", "shop:1.4", "--output", direct, "-o", "json"); p.Digest != made.Digest || p.Output != direct {
		t.Errorf("written it is %+v", p)
	}
	here.ok(t, "pull", "shop:1.4", "--output", file)
	if got := there.ok(t, "push", file); !strings.Contains(got, "shop:1.4@"+made.Digest) {
		t.Errorf("pushed it is %q", got)
	}
	module := fmt.Sprintf("sha256:%x", sha256.Sum256([]byte("first")))
	// The fake keeps files and the registry's blobs apart; a peer has them in one place.
	if _, err := there.backend.PutArtifact(t.Context(), module, 5, strings.NewReader("first")); err != nil {
		t.Fatal(err)
	}
	there.ok(t, "deploy", "shop:1.4", "--wait=false")
	key := placement.AppKey{Namespace: "default", App: "shop"}
	deployed := func() string {
		app, err := there.backend.GetApp(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		return app.Spec.Components["api"].Function.Module
	}
	if got := deployed(); got != module {
		t.Errorf("the module is %s", got)
	}
	there.ok(t, "pack", shopFolder(t, "second"), "-t", "shop:1.4") // the tag moves
	if got := deployed(); got != module {
		t.Errorf("the module is %s after the tag was moved", got)
	}
	there.ok(t, "plan", "shop@"+made.Digest)
}

func TestMistakesOfPackages(t *testing.T) {
	term := newTerminal(t)
	manifest, dir := shopFolder(t, "module"), t.TempDir()
	term.fails(t, 2, "-t shop:1.0", "pack", manifest)
	term.fails(t, 2, "no name of a package", "pack", manifest, "-t", "Shop:../x")
	term.fails(t, 2, "name a tag", "pack", manifest, "-t", "shop@sha256:"+strings.Repeat("a", 64))
	term.fails(t, 1, "neither empty nor a layout", "pack", manifest, "-t", "shop:1", "--output", filepath.Dir(manifest))
	term.fails(t, 1, "package shop:1.4: not found", "deploy", "shop:1.4")
	term.fails(t, 1, "hansa push nowhere.example/shop:1.4", "deploy", "nowhere.example/shop:1.4")
	term.fails(t, 1, "no such file", "deploy", "none.yaml")
	term.fails(t, 2, "--output says where", "pull", "shop:1.4")
	term.fails(t, 1, "hansa images lists", "pull", "shop:1.4", "--output", filepath.Join(dir, "x.tar"))
	term.fails(t, 1, "no such file", "push", "./none.tar")
	term.fails(t, 1, "as an OCI image layout has", "push", filepath.Dir(manifest))
	term.fails(t, 2, "-t NAME:TAG says what", "push", "nowhere.example/shop:1.4")
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%d files are left of what failed: %v", len(left), err)
	}
	if err := os.WriteFile(manifest, []byte(strings.Replace(shopText, "api:\n    function: {module: ./api.wasm}", "web:\n    container: {image: ./web.tar}", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	term.fails(t, 1, "make a package of the app", "deploy", manifest)
	term.fails(t, 1, "no such file", "pack", manifest, "-t", "shop:1")
}
