package process

import (
	"os"
	"path/filepath"
	"testing"
)

// What files take is counted once, by blocks, and below the folder alone.
func TestCounting(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "work")
	write := func(name string, size int) {
		t.Helper()
		at := filepath.Join(top, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("elsewhere/big", 8<<20)
	write("work/a/b/file", 1<<20)
	if err := os.Link(filepath.Join(dir, "a/b/file"), filepath.Join(dir, "again")); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{"../elsewhere", "../elsewhere/big", "nowhere"} {
		if err := os.Symlink(to, filepath.Join(dir, "to-"+filepath.Base(to))); err != nil {
			t.Fatal(err)
		}
	}
	sparse, err := os.Create(filepath.Join(dir, "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	defer sparse.Close()
	if err := sparse.Truncate(1 << 30); err != nil {
		t.Fatal(err)
	}
	c := counting{linked: map[uint64]bool{}}
	if err := c.folder(t.Context(), dir); err != nil || c.bytes < 1<<20 || c.bytes > 2<<20 {
		t.Errorf("of 1 MiB it counts %d bytes, %v", c.bytes, err)
	}
	if err := c.folder(t.Context(), filepath.Join(top, "none")); err != nil {
		t.Errorf("no folder: %v", err)
	}
}
