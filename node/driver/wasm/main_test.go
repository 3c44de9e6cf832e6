package wasm_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/drivertest"
	"github.com/hansa-mesh/hansa/node/driver/wasm"
)

// shared is a folder for what is built and compiled once for all tests.
var shared string

func TestMain(m *testing.M) {
	var err error
	if shared, err = os.MkdirTemp("", "hansa-wasm-"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(shared)
	os.Exit(code)
}

// build compiles a guest of testdata once.
func build(name string, flags ...string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		path := filepath.Join(shared, name+".wasm")
		args := append([]string{"build", "-ldflags=-s -w", "-o", path}, flags...)
		cmd := exec.Command("go", append(args, "./testdata/"+name)...)
		cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%v: %s", err, out)
		}
		return path, nil
	})
}

var (
	buildGuest = build("guest")
	buildWarm  = build("warm", "-buildmode=c-shared")
)

func guest(t testing.TB) string {
	t.Helper()
	path, err := buildGuest()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// warmTask is one of the guest that stays in memory.
func warmTask(t testing.TB, id string) driver.Task {
	t.Helper()
	path, err := buildWarm()
	if err != nil {
		t.Fatal(err)
	}
	job := task(t, id, path)
	job.Function.Handler = "handle"
	return job
}

func task(t testing.TB, id, path string) driver.Task {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	digest := "sha256:" + hex.EncodeToString(sum[:])
	return driver.Task{
		ID: id, Kind: driver.KindFunction, Memory: 64 << 20,
		Function:  &driver.Function{Module: digest, Timeout: 20 * time.Second},
		Artifacts: map[string]string{digest: path},
	}
}

func open(t testing.TB, c wasm.Config) *wasm.Driver {
	t.Helper()
	if c.Dir == "" {
		c.Dir = t.TempDir()
	}
	if c.CacheDir == "" {
		c.CacheDir = filepath.Join(shared, "compiled")
	}
	d, err := wasm.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// running opens a driver, runs it, and starts the task.
func running(t testing.TB, c wasm.Config, task driver.Task) *wasm.Driver {
	t.Helper()
	d := open(t, c)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- d.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	if _, err := d.Start(ctx, task); err != nil {
		t.Fatalf("Start: %v", err)
	}
	return d
}

func TestConformance(t *testing.T) {
	drivertest.Run(t, drivertest.Harness{New: func(t *testing.T) drivertest.Machine {
		dir := t.TempDir()
		return drivertest.Machine{
			Open: func(t *testing.T, events func(driver.Event)) driver.Driver {
				return open(t, wasm.Config{Dir: dir, Events: events})
			},
			Function: func(t *testing.T, id string) driver.Task { return task(t, id, guest(t)) },
			Warm:     func(t *testing.T, id string) driver.Task { return warmTask(t, id) },
			Many:     30,
		}
	}})
}

type answer struct {
	status int
	cause  driver.Cause
	header http.Header
	body   string
	err    error // of reading the body
}

func invoke(t testing.TB, d *wasm.Driver, id string, r *driver.Request) answer {
	t.Helper()
	if r.Header == nil {
		r.Header = http.Header{}
	}
	resp, err := d.Invoke(t.Context(), id, r)
	if err != nil {
		t.Fatalf("Invoke: %v", err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return answer{resp.Status, resp.Cause, resp.Header, string(b), err}
}

func get(path string) *driver.Request { return &driver.Request{Method: "GET", Path: path} }

func post(path string, body io.Reader, length int64) *driver.Request {
	return &driver.Request{Method: "POST", Path: path, Body: body, ContentLength: length}
}

func contains(t *testing.T, what, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%s lacks %q: %s", what, p, text)
		}
	}
}
