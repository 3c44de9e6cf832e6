// Package hansa_test holds the rules that keep the architecture visible from
// the folders. They are few on purpose.
package hansa_test

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/hansa-mesh/hansa/"

// islands import none of each other: a seam between two of them is crossed by
// standard-library types, and only node knows both sides.
var islands = []string{"placement", "gossip", "transport", "store"}

// heavy dependencies are imported directly in one folder alone, so that each
// can be replaced by changing one folder.
var heavy = map[string]string{
	"github.com/dgraph-io/badger/":    "store",
	"github.com/hashicorp/memberlist": "gossip",
	"github.com/hashicorp/serf/":      "gossip",
	"github.com/quic-go/quic-go":      "transport",
	"github.com/moby/moby/":           "node/driver/docker",
	"k8s.io/client-go/":               "node/driver/kubernetes",
}

type goPackage struct {
	ImportPath   string
	Dir          string
	Imports      []string
	TestImports  []string
	XTestImports []string
	GoFiles      []string
}

func listPackages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,Imports,TestImports,XTestImports,GoFiles", "./...")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var packages []goPackage
	for dec := json.NewDecoder(out); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if len(packages) < 5 {
		t.Fatalf("go list found only %d packages", len(packages))
	}
	return packages
}

// within reports whether the module-relative path lies in folder.
func within(path, folder string) bool {
	return path == folder || strings.HasPrefix(path, folder+"/")
}

// mayImport says whether package from may import package to, both relative to
// the module.
func mayImport(from, to string) bool {
	if within(to, "testbed") {
		return within(from, "testbed")
	}
	for _, island := range islands {
		if within(from, island) {
			return within(to, island)
		}
	}
	toIsland := false
	for _, island := range islands {
		toIsland = toIsland || within(to, island)
	}
	switch {
	case within(from, "testbed"), within(from, "examples"):
		return true
	case within(from, "node/cmd"), within(from, "node/cli"), within(from, "node/dev"):
		return true
	case within(from, "node/api"):
		return toIsland || within(to, "node/api")
	case within(from, "node/driver"):
		return toIsland || within(to, "node/driver")
	case within(from, "node"):
		return !within(to, "node/cmd") && !within(to, "node/cli") && !within(to, "node/dev")
	}
	return true
}

func TestImportRule(t *testing.T) {
	for _, p := range listPackages(t) {
		from := strings.TrimPrefix(p.ImportPath, module)
		imports := append([]string{}, p.Imports...)
		// The tests of an island obey the rule too; elsewhere a test may
		// reach for what it needs.
		for _, island := range islands {
			if within(from, island) {
				imports = append(append(imports, p.TestImports...), p.XTestImports...)
			}
		}
		for _, to := range imports {
			if rel, ours := strings.CutPrefix(to, module); ours && !mayImport(from, rel) {
				t.Errorf("%s imports %s, which the import rule forbids", from, rel)
			}
			for dep, home := range heavy {
				if strings.HasPrefix(to, dep) && !within(from, home) {
					t.Errorf("%s imports %s, which belongs to %s alone", from, to, home)
				}
			}
		}
	}
}

func TestEveryPackageHasDoc(t *testing.T) {
	for _, p := range listPackages(t) {
		if len(p.GoFiles) == 0 || strings.HasPrefix(strings.TrimPrefix(p.ImportPath, module), "examples/") {
			continue // examples are programs that explain themselves
		}
		doc, err := os.ReadFile(filepath.Join(p.Dir, "doc.go"))
		if err != nil {
			t.Errorf("%s: every package has a doc.go: %v", p.ImportPath, err)
		} else if !strings.Contains(string(doc), "// Package ") && !strings.Contains(string(doc), "// Command ") {
			t.Errorf("%s: doc.go does not begin with a package comment", p.ImportPath)
		}
	}
}

// TestPlacementIsPure: the core has no goroutine, no channel, no lock and no
// clock, and opens nothing. So it has no race either, and `make race` leaves it
// and its simulation out.
func TestPlacementIsPure(t *testing.T) {
	files, err := filepath.Glob("placement/*.go")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	set := token.NewFileSet()
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(set, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range file.Imports {
			switch path, _ := strconv.Unquote(spec.Path.Value); path {
			case "os", "net", "net/http", "sync", "sync/atomic", "context", "syscall", "os/exec", "crypto/rand", "math/rand":
				t.Errorf("%s imports %s", set.Position(spec.Pos()), path)
			}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt, *ast.ChanType, *ast.SelectStmt, *ast.SendStmt:
				t.Errorf("%s: a %T: the core is one step after the other", set.Position(n.Pos()), n)
			case *ast.SelectorExpr:
				of, ok := n.X.(*ast.Ident)
				switch name := n.Sel.Name; {
				case !ok:
				case of.Name == "time" && slices.Contains([]string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick"}, name):
					t.Errorf("%s: time.%s: the time is an argument", set.Position(n.Pos()), name)
				case of.Name == "rand" && !slices.Contains([]string{"Rand", "New", "NewPCG", "PCG", "Source"}, name):
					t.Errorf("%s: rand.%s: randomness is an argument", set.Position(n.Pos()), name)
				}
			}
			return true
		})
	}
}
