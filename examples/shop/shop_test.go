//go:build linux

package shop_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/process"
	"github.com/hansa-mesh/hansa/node/driver/wasm"
)

func TestMain(m *testing.M) {
	if process.IsSupervisor(os.Args) {
		os.Exit(process.SupervisorMain(os.Args))
	}
	os.Exit(m.Run())
}

func build(t *testing.T, what, out string, env ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), out)
	cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", path, "./"+what)
	cmd.Env = append(append(os.Environ(), "CGO_ENABLED=0"), env...)
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	return path
}

func run(t *testing.T, d driver.Driver, task driver.Task) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- d.Run(ctx) }()
	t.Cleanup(func() {
		if err := d.Stop(ctx, task.ID, 0); err != nil {
			t.Error(err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	if _, err := d.Start(ctx, task); err != nil {
		t.Fatal(err)
	}
}

func TestAPI(t *testing.T) {
	path := build(t, "api", "api.wasm", "GOOS=wasip1", "GOARCH=wasm")
	d, err := wasm.New(wasm.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	run(t, d, driver.Task{
		ID: "c/2", Kind: driver.KindFunction, Memory: 64 << 20, Function: &driver.Function{Module: "sha256:api"},
		Artifacts: map[string]string{"sha256:api": path},
		Env:       map[string]string{"HANSA_SITE": "fra", "HANSA_SLOT": "2"},
	})
	for _, tc := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/", "", 200, `"site": "fra"`},
		{"GET", "", "", 200, `"id": "rope"`},
		{"GET", "/goods/amber", "", 200, `"cents": 4200`},
		{"GET", "/goods/gold", "", 404, "we have no gold"},
		{"POST", "/order", `{"good":"rope","quantity":2}`, 201, `"cents": 2500`},
		{"POST", "/order", `{"good":"rope","quantity":-2}`, 400, "quantity"},
		{"POST", "/order", `nonsense`, 400, "not JSON"},
		{"GET", "/order", "", 405, "POST"},
		{"GET", "/elsewhere", "", 404, "elsewhere"},
	} {
		resp, err := d.Invoke(t.Context(), "c/2", &driver.Request{
			Method: tc.method, Path: tc.path, Header: http.Header{},
			Body: strings.NewReader(tc.body), ContentLength: int64(len(tc.body)),
		})
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.Status != tc.status || !strings.Contains(string(b), tc.want) || !json.Valid(b) {
			t.Errorf("%s %s: %d %s %v, want %d with %s", tc.method, tc.path, resp.Status, b, err, tc.status, tc.want)
		}
	}
}

func TestMeter(t *testing.T) {
	path := build(t, "meter", "meter")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host := l.Addr().String()
	l.Close()
	d, err := process.New(process.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	run(t, d, driver.Task{
		ID: "c/0", Kind: driver.KindServer,
		Process:   &driver.Process{Command: []string{"./meter", "--port", "${port.http}"}, Artifact: "sha256:meter"},
		Artifacts: map[string]string{"sha256:meter": path},
		Ports:     map[string]driver.Port{"http": {Inside: 9000, Host: host}},
		Env:       map[string]string{"HANSA_SITE": "fra"},
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r, err := d.Logs(ctx, "c/0", driver.LogOptions{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	scan := bufio.NewScanner(r)
	for scan.Scan() && !strings.Contains(scan.Text(), "counting on port") {
	}
	for i, tc := range []struct{ method, path, want string }{
		{"GET", "/healthz", "ok"}, {"POST", "/count", `"count":1`}, {"POST", "/count", `"count":2`}, {"GET", "/", `"site":"fra"`},
	} {
		req, err := http.NewRequestWithContext(ctx, tc.method, fmt.Sprintf("http://%s%s", host, tc.path), nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 200 || !strings.Contains(string(b), tc.want) {
			t.Errorf("call %d: %d %s, want %s", i, resp.StatusCode, b, tc.want)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	if err := d.Stop(ctx, "c/0", 10*time.Second); err != nil {
		t.Fatal(err)
	}
	for scan.Scan() {
		if strings.Contains(scan.Text(), "asked to stop") {
			return
		}
	}
	t.Error("the meter did not end in order")
}
