package api

import (
	"strings"
	"testing"
)

// A handler is a name that a module can export, and nothing is guessed of
// another.
func TestHandlersInWords(t *testing.T) {
	for handler, want := range map[string]string{
		"handle":                  "",
		"_ZN3app6handle17h0E":     "",
		"'a b'":                   `components.c.function.handler "a b": not the name of an exported function (at most 255 letters, digits and signs, as the module exports it)`,
		strings.Repeat("a", 1000): "not the name of an exported function",
	} {
		apps, err := ParseManifests([]byte("app: a\ncomponents:\n  c: {function: {module: sha256:" + strings.Repeat("a", 64) + ", handler: " + handler + "}}\n"))
		if err == nil {
			err = apps[0].Validate()
		}
		var lines []string
		for _, f := range fieldErrorsOf(err) {
			lines = append(lines, f.String())
		}
		if got := strings.Join(lines, "\n"); (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%.40s: %s, want %q", handler, got, want)
		}
	}
}
