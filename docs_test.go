package hansa_test

import (
	"context"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
)

var fence = regexp.MustCompile("(?ms)^```console\n(.*?)^```")

// TestReadmeRuns runs every command that the README shows with its output, in
// order, as a reader would: each must succeed, and print the same headings. Those of
// the app of all kinds need engines: TestMixed of testbed/process does what they do.
func TestReadmeRuns(t *testing.T) {
	switch {
	case testing.Short():
		t.Skip("it runs a mesh for half a minute; not with -short")
	case runtime.GOOS != "linux":
		t.Skip("the README's tour runs programs, which this release does on Linux")
	}
	dir := t.TempDir()
	build(t, filepath.Join(dir, "hansa"), "./node/cmd/hansa")
	build(t, "examples/shop/build/api.wasm", "./examples/shop/api", "GOOS=wasip1", "GOARCH=wasm")
	build(t, "examples/shop/build/meter", "./examples/shop/meter")
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	env := append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "HANSA_DEV_SOCKET="+filepath.Join(dir, "dev.sock"))
	ports := startMesh(t, dir, env)
	env = append(env, "HANSA_API=127.0.0.1:"+ports[0])
	// The README's ports are the usual ones, which may be in use here.
	here := strings.NewReplacer("127.0.0.1:7602", "127.0.0.1:"+ports[1], "127.0.0.1:7603", "127.0.0.1:"+ports[2])
	commands := 0
	for _, block := range fence.FindAllStringSubmatch(string(text), -1) {
		for command := range strings.SplitSeq("\n"+block[1], "\n$ ") {
			line, shown, _ := strings.Cut(command, "\n")
			if line == "" || strings.HasPrefix(line, "hansa dev --sites") {
				continue
			}
			commands++
			runShown(t, env, here.Replace(line), shown)
		}
	}
	if commands < 10 {
		t.Errorf("only %d commands were found", commands)
	}
}

// startMesh starts a dev mesh that ends with the test, and returns the ports of
// its three peers.
func startMesh(t *testing.T, dir string, env []string) []string {
	t.Helper()
	mesh := exec.Command(filepath.Join(dir, "hansa"), "dev", "--sites", "3", "--api-port", "0", "-o", "json")
	mesh.Env = env
	out, err := os.Create(filepath.Join(dir, "dev.out"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = out.Close() })
	mesh.Stdout, mesh.Stderr = out, out
	if err := mesh.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = mesh.Process.Signal(os.Interrupt)
		_ = mesh.Wait()
	})
	port := regexp.MustCompile(`"api":"http://127.0.0.1:([0-9]+)"`)
	for begin := time.Now(); ; <-time.After(100 * time.Millisecond) {
		data, err := os.ReadFile(out.Name())
		if err != nil {
			t.Fatal(err)
		}
		if found := port.FindAllStringSubmatch(string(data), -1); len(found) == 3 {
			return []string{found[0][1], found[1][1], found[2][1]}
		}
		if time.Since(begin) > time.Minute {
			t.Fatalf("no mesh: %s", data)
		}
	}
}

// TestMetricsAreDocumented keeps the table of metrics in docs/API.md as the code
// has them.
func TestMetricsAreDocumented(t *testing.T) {
	names := func(file, pattern string) map[string]bool {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]bool{}
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(string(text), -1) {
			found["hansa_"+m[1]] = true
		}
		if len(found) == 0 {
			t.Fatalf("%s names no metric", file)
		}
		return found
	}
	documented := names("docs/API.md", "(?m)^\\| `hansa_([a-z_]+)`")
	inCode := names("node/metrics.go", `desc\("([a-z_]+)"`)
	for _, file := range []string{"node/metrics_functions.go", "node/metrics_images.go"} {
		maps.Copy(inCode, names(file, `desc\("([a-z_]+)"`))
	}
	maps.Copy(inCode, names("node/api/observe.go", `Name: "hansa_([a-z_]+)"`))
	for name := range inCode {
		if !documented[name] {
			t.Errorf("%s is not in docs/API.md", name)
		}
	}
	for name := range documented {
		if !inCode[name] {
			t.Errorf("docs/API.md speaks of %s, which is no metric", name)
		}
	}
}

func build(t *testing.T, out, pkg string, env ...string) {
	t.Helper()
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, pkg)
	cmd.Env = append(append(os.Environ(), "CGO_ENABLED=0"), env...)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", pkg, err, text)
	}
}

// runShown runs a command until it succeeds (after a fault a mesh needs some
// seconds) and compares the heading of a table with the one that is shown.
func runShown(t *testing.T, env []string, line, shown string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	heading, _, _ := strings.Cut(shown, "\n")
	for {
		cmd := exec.CommandContext(ctx, "sh", "-c", line)
		cmd.Env = env
		text, err := cmd.CombinedOutput()
		if err == nil && (strings.HasPrefix(heading, "SLOT ") || strings.HasPrefix(heading, "PEER ")) {
			first, _, _ := strings.Cut(string(text), "\n")
			if strings.Join(strings.Fields(first), " ") != strings.Join(strings.Fields(heading), " ") {
				err = errors.New("the heading is another one than the README's")
			}
		}
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: %v\n%s", line, err, text)
		case <-time.After(500 * time.Millisecond):
		}
	}
}
