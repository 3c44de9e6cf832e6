package main_test

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/wasm"
)

func TestSearch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "search.wasm")
	build := exec.Command("go", "build", "-buildmode=c-shared", "-ldflags=-s -w", "-o", path, ".")
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	d, err := wasm.New(wasm.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Start(t.Context(), driver.Task{
		ID: "c/0", Kind: driver.KindFunction, Memory: 64 << 20,
		Function:  &driver.Function{Module: "sha256:search", Handler: "handle"},
		Artifacts: map[string]string{"sha256:search": path},
		Env:       map[string]string{"HANSA_SITE": "fra"},
	}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.Stop(t.Context(), "c/0", -1); err != nil {
			t.Error(err)
		}
	}()
	for _, tc := range []struct {
		method, query string
		status        int
		want          string
	}{
		{"GET", "q=rope", 200, `"lines":["Hemp rope, 10 fathoms","Hemp rope, tarred, 20 fathoms"],"searches":1,"site":"fra"`},
		{"GET", "q=gold", 200, `"lines":[],"searches":2`},
		{"GET", "", 400, "?q=WORD"},
		{"POST", "q=rope", 405, "GET"},
		{"GET", "q=Salt", 200, `"searches":3`},
	} {
		resp, err := d.Invoke(t.Context(), "c/0", &driver.Request{Method: tc.method, Path: "/", RawQuery: tc.query, Header: http.Header{}})
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.Status != tc.status || !strings.Contains(string(b), tc.want) || !json.Valid(b) {
			t.Errorf("%s ?%s: %d %s %v, want %d with %s", tc.method, tc.query, resp.Status, b, err, tc.status, tc.want)
		}
	}
}
