package store

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// A size for which there is no room leaves what was written of a file of another, and
// nothing of a new one.
func TestAssemblyWithoutRoom(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, func(c *Config) {
		c.Free = func(string) (free, total int64, err error) { return BlobMax / 2, 1 << 41, nil }
	})
	b, data := s.Blobs(), bytes.Repeat([]byte("x"), 4096)
	a, err := b.Assemble(digestOf("x"), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.WriteAt(data, 0); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{"x", "new"} {
		if _, err := b.Assemble(digestOf(content), BlobMax); !errors.Is(err, ErrFull) {
			t.Errorf("%s: %v; want ErrFull", content, err)
		}
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(a.file.Name()), "*"+assemblySuffix))
	if err != nil || len(left) != 1 {
		t.Errorf("left: %v, %v", left, err)
	}
	if info, err := os.Stat(a.file.Name()); err != nil || info.Size() != int64(len(data)) {
		t.Fatalf("another size: %v", err)
	}
	if got, err := os.ReadFile(a.file.Name()); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes are left of %d: %v", len(got), len(data), err)
	}
}
