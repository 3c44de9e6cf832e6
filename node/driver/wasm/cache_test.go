package wasm_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/hansa-mesh/hansa/node/driver/wasm"
)

// compiledIn is the one folder of compiled code in dir, and its files.
func compiledIn(t *testing.T, dir string) (folder string, files []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("the cache has %v, %v", entries, err)
	}
	folder = filepath.Join(dir, entries[0].Name())
	err = filepath.WalkDir(folder, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, path)
		}
		return err
	})
	if err != nil || len(files) != 2 { // code and seal
		t.Fatalf("%s has %v, %v", folder, files, err)
	}
	return folder, files
}

// Compiled code is used again after a restart. Whatever is done to it on disk
// costs a compilation, and neither the start nor the daemon: wazero has no
// checksum over the offsets of functions, and jumps to what it reads.
func TestCacheSurvives(t *testing.T) {
	dir := t.TempDir()
	job := task(t, "c/0", asm{text: okHead + "ok", code: opPrint}.file(t))
	serve := func() {
		t.Helper()
		d := open(t, wasm.Config{CacheDir: dir})
		if _, err := d.Start(t.Context(), job); err != nil {
			t.Fatal(err)
		}
		if got := invoke(t, d, "c/0", get("/")); got.status != 200 || got.body != "ok" {
			t.Fatalf("%+v", got)
		}
		if err := d.Stop(t.Context(), "c/0", -1); err != nil {
			t.Fatal(err)
		}
	}
	serve()
	folder, files := compiledIn(t, dir)
	before, err := os.Stat(folder)
	if err != nil {
		t.Fatal(err)
	}
	serve()
	if after, err := os.Stat(folder); err != nil || !os.SameFile(before, after) {
		t.Errorf("compiled anew, though nothing was damaged: %v", err)
	}
	damage := func(file string, change func([]byte) []byte) {
		t.Helper()
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, change(b), 0o600); err != nil {
			t.Fatal(err)
		}
		serve()
		folder, files = compiledIn(t, dir)
	}
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		for at := range info.Size() {
			if at < 64 || at%61 == 0 { // all of the head, some of the code
				damage(file, func(b []byte) []byte { b[at] ^= 0x55; return b })
			}
		}
		damage(file, func(b []byte) []byte { return b[:len(b)/2] })
		damage(file, func([]byte) []byte { return nil })
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		serve()
	}
}

// A cache that can't be written costs time, not the start.
func TestCacheThatIsNoFolder(t *testing.T) {
	job := task(t, "c/0", asm{text: okHead + "ok", code: opPrint}.file(t))
	d := running(t, wasm.Config{CacheDir: write(t, "a file")}, job)
	if got := invoke(t, d, "c/0", get("/")); got.status != 200 {
		t.Errorf("%+v", got)
	}
}
