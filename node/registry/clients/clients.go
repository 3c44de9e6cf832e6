package clients

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// built are the programs that the module in tools pins, each built once at the most.
var built = map[string]func() (string, error){"crane": once("crane"), "oras": once("oras")}

func once(name string) func() (string, error) {
	return sync.OnceValues(func() (string, error) { return build(name) })
}

// Path is where a program is. Without it the test is skipped; in CI, which has or
// builds them all, it fails.
func Path(t testing.TB, name string) string {
	t.Helper()
	find, ok := built[name]
	if !ok {
		find = func() (string, error) { return exec.LookPath(name) }
	}
	path, err := find()
	switch {
	case err == nil:
	case os.Getenv("CI") == "true":
		t.Fatalf("%s can't be had, and CI needs it: %v", name, err)
	default:
		t.Skipf("%s can't be had: %v", name, err)
	}
	return path
}

// build has the go command build a program, which it keeps in its cache.
func build(name string) (string, error) {
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	cmd := exec.Command("go", "tool", "-n", name)
	cmd.Dir = filepath.Join(strings.TrimSpace(string(root)), "node", "registry", "clients", "tools")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.Output()
	if failed, ok := err.(*exec.ExitError); ok {
		return "", fmt.Errorf("build it in %s: %w\n%s", cmd.Dir, err, failed.Stderr)
	}
	return strings.TrimSpace(string(out)), err
}

// Run runs a program that Path finds to its end, with more variables in its
// environment, and is what it printed.
func Run(t testing.TB, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), Path(t, name), args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}
