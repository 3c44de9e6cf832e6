package wasm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/sys"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/logs"
)

// suiteEnv names a folder with the built programs of the public suite for WASI,
// github.com/WebAssembly/wasi-testsuite, branch prod/testsuite-base.
const suiteEnv = "HANSA_WASI_TESTSUITE"

// wazeroDiffers are the programs of preview 1 of which wazero itself says that
// it does otherwise: the suite's expectations/wazero/linux.toml. All are about
// files and about descriptors, of which a function has none but three.
var wazeroDiffers = map[string]bool{
	"pwrite-with-append": true, "sock_shutdown-not_sock": true, // in C

	"dir_fd_op_failures": true, "fd_fdstat_set_rights": true, "overwrite_preopen": true, // in Rust
	"path_filestat": true, "path_link": true, "path_open_read_write": true, "poll_oneoff_stdio": true,
	"readlink": true, "renumber": true, "stdio": true, "symlink_filestat": true, "truncation_rights": true,
}

// program is what the suite says of one, in a JSON file beside it.
type program struct {
	Args     []string          `json:"args"`
	Env      map[string]string `json:"env"`
	Root     string            `json:"root"` // folder that is "/"
	Dirs     []string          `json:"dirs"` // the same in older versions: folders under their own names
	ExitCode uint32            `json:"exit_code"`
	Stdout   *string           `json:"stdout"`
}

// The programs of the public suite do what they should on functions' runtime,
// as far as wazero says that they do: compiled, limited and configured as each
// function is, and beside that given the folders and arguments that they want.
func TestWASITestsuite(t *testing.T) {
	dir := os.Getenv(suiteEnv)
	if dir == "" {
		t.Skipf("%s does not name a folder with the programs of github.com/WebAssembly/wasi-testsuite (branch prod/testsuite-base)", suiteEnv)
	}
	var all []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "wasm32-wasip3" || d.Name() == "proposals"):
			return fs.SkipDir
		case filepath.Ext(path) == ".wasm":
			all = append(all, path)
		}
		return nil
	})
	if err != nil || len(all) == 0 {
		t.Fatalf("%s=%s has no programs: %v", suiteEnv, dir, err)
	}
	d, err := New(Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	passed, differ, asToldDiffer := 0, 0, 0
	for _, path := range all {
		name := strings.TrimSuffix(filepath.Base(path), ".wasm")
		t.Run(name, func(t *testing.T) {
			problem := runProgram(t, d, path)
			switch {
			case problem == "":
				passed++
			case wazeroDiffers[name]:
				asToldDiffer++
				t.Skipf("as wazero says: %s", problem)
			default:
				differ++
				t.Error(problem)
			}
		})
	}
	t.Logf("%d programs: %d do what the suite wants, %d don't and wazero says so, %d don't against what wazero says", len(all), passed, asToldDiffer, differ)
}

// runProgram runs one and returns what was wrong.
func runProgram(t *testing.T, d *Driver, path string) string {
	var p program
	spec, err := os.ReadFile(strings.TrimSuffix(path, ".wasm") + ".json")
	if err == nil {
		err = json.Unmarshal(spec, &p)
	} else if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		t.Fatal(err)
	}
	mod, err := d.modules.get(t.Context(), path, path)
	if err == nil {
		err = mod.serves("")
	}
	if err != nil {
		t.Fatal(err)
	}
	w, err := logs.Open(t.TempDir(), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	f := newFunction(d, driver.Task{ID: path, Env: p.Env, Function: &driver.Function{}}, mod, w, MemoryDefault)
	defer f.free(d)

	folders := wazero.NewFSConfig()
	mount := func(from, to string) {
		copied := t.TempDir()
		if err := os.CopyFS(copied, os.DirFS(filepath.Join(filepath.Dir(path), from))); err != nil {
			t.Fatal(err)
		}
		folders = folders.WithDirMount(copied, to)
	}
	if p.Root != "" {
		mount(p.Root, "/")
	}
	for _, folder := range p.Dirs {
		mount(folder, folder)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var stdout, stderr bytes.Buffer
	config := f.config(stdio{in: strings.NewReader(""), out: &stdout, err: &stderr, sleep: sleeper(ctx)}, "_start").
		WithArgs(append([]string{"function"}, p.Args...)...).WithFSConfig(folders)
	a := &account{limiter: f.memory}
	f.memory.take(0)
	instance, err := f.instantiate(ctx, a, config)
	if instance != nil {
		_ = instance.Close(context.Background())
	}
	a.release()
	var exit *sys.ExitError
	code := uint32(0)
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		return fmt.Sprintf("%v, on standard error: %s", err, stderr.String())
	}
	switch {
	case code != p.ExitCode:
		return fmt.Sprintf("exit code %d, not %d, on standard error: %s", code, p.ExitCode, stderr.String())
	case p.Stdout != nil && stdout.String() != *p.Stdout:
		return "on standard output: " + stdout.String()
	}
	return ""
}
