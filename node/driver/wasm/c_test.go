package wasm_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hansa-mesh/hansa/node/driver/wasm"
)

// buildC compiles the guest in C, "cold" or "warm". The error says what the
// machine lacks.
func buildC(t testing.TB, mode string) (string, error) {
	t.Helper()
	clang, err := exec.LookPath("clang")
	if err != nil {
		return "", fmt.Errorf("no guest in C: %w (Debian: clang lld wasi-libc libclang-rt-dev-wasm32)", err)
	}
	path := filepath.Join(t.TempDir(), mode+".wasm")
	args := []string{"--target=wasm32-wasi", "-O2", "-o", path, "testdata/c/guest.c"}
	if mode == "warm" {
		args = append(args, "-DWARM", "-mexec-model=reactor")
	}
	if out, err := exec.Command(clang, args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("no guest in C: %v: %s", err, out)
	}
	return path, nil
}

// A guest in C needs no library of ours for either way to be called.
func TestGuestInC(t *testing.T) {
	for _, mode := range []string{"cold", "warm"} {
		path, err := buildC(t, mode)
		if err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
		job := task(t, "c/0", path)
		if mode == "warm" {
			job.Function.Handler = "handle"
		}
		d := running(t, wasm.Config{}, job)
		for call := 1; call <= 3; call++ {
			want := fmt.Sprintf("PUT /a/b, call %d\n", call)
			if mode == "cold" {
				want = "PUT /a/b, call 1\n"
			}
			r := post("/a/b", strings.NewReader("a body"), 6)
			r.Method = "PUT"
			if got := invoke(t, d, "c/0", r); got.status != 200 || got.body != want {
				t.Errorf("%s: %+v, want %q", mode, got, want)
			}
		}
	}
}
