package hansa_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Every kind of event that the code makes is in docs/API.md, and what is there as one
// is made.
func TestEventsOfTheHandbook(t *testing.T) {
	text, err := os.ReadFile("docs/API.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), "\n## Events\n")
	section, _, _ = strings.Cut(section, "\n## ")
	if !ok {
		t.Fatal("docs/API.md has no section about events")
	}
	documented := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| (`[^|]+`) \\|").FindAllStringSubmatch(section, -1) {
		for _, word := range regexp.MustCompile("`([a-z-]+)`").FindAllStringSubmatch(row[1], -1) {
			documented[word[1]] = true
		}
	}
	made := eventsMade(t)
	if len(made) < 40 {
		t.Fatalf("only %d kinds of events were found in the code: %v", len(made), slices.Sorted(maps.Keys(made)))
	}
	for kind, at := range made {
		if !documented[kind] {
			t.Errorf("%s: the event %q is not in docs/API.md", at, kind)
		}
	}
	for kind := range documented {
		if made[kind] == "" {
			t.Errorf("docs/API.md tells of the event %q, which nothing makes", kind)
		}
	}
}

// eventsMade are the kinds of events in the code, and where each is made.
func eventsMade(t *testing.T) map[string]string {
	t.Helper()
	made, set := map[string]string{}, token.NewFileSet()
	var verdicts []string
	for _, pattern := range []string{"placement/*.go", "node/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(set, name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			note := func(e ast.Expr) {
				for _, kind := range literals(e) {
					made[kind] = set.Position(e.Pos()).String()
				}
			}
			ast.Inspect(file, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.CompositeLit: // Happened{Type: …}
					for _, field := range n.Elts {
						if kv, ok := field.(*ast.KeyValueExpr); ok && nameOf(n.Type) == "Happened" && nameOf(kv.Key) == "Type" {
							note(kv.Value)
						}
					}
				case *ast.CallExpr: // of the functions that take the kind as their first or second argument
					if slices.Contains([]string{"happened", "tell", "tellVolume"}, nameOf(n.Fun)) {
						for _, arg := range n.Args[:min(2, len(n.Args))] {
							if _, ok := arg.(*ast.BasicLit); ok {
								note(arg)
							}
						}
					}
				case *ast.ValueSpec: // the kinds of edits, and states that are told as they are
					for i, value := range n.Values {
						switch {
						case n.Names[i].Name == "happens", nameOf(n.Type) == "AllocState" && n.Names[i].Name != "AllocPending" && n.Names[i].Name != "AllocLost":
							note(value)
						case nameOf(n.Type) == "RolloutState" && n.Names[i].Name != "RolloutGoing":
							verdicts = append(verdicts, literals(value)...)
						}
					}
				}
				return true
			})
		}
	}
	if at, ok := made["rollout-"]; ok {
		delete(made, "rollout-")
		for _, verdict := range verdicts {
			made["rollout-"+verdict] = at
		}
	}
	return made
}

// nameOf is the last word of a name, or "".
func nameOf(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

// literals are the texts in an expression that may be a kind of event.
func literals(e ast.Expr) (out []string) {
	kind := regexp.MustCompile(`^[a-z]+(-[a-z]*)*$`)
	ast.Inspect(e, func(n ast.Node) bool {
		if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
			if text, err := strconv.Unquote(l.Value); err == nil && kind.MatchString(text) {
				out = append(out, text)
			}
		}
		return true
	})
	return out
}
