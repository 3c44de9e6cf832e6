package prune_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/node/driver/prune"
)

// grow makes a folder with that many bytes in a folder of its own, changed at
// that hour.
func grow(t *testing.T, root, name string, bytes, hour int) {
	t.Helper()
	dir := filepath.Join(root, name, "logs")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "1"), make([]byte, bytes), 0o600); err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 1, 1, hour, 0, 0, 0, time.UTC)
	if err := os.Chtimes(filepath.Join(root, name), at, at); err != nil {
		t.Fatal(err)
	}
}

func TestFolders(t *testing.T) {
	for _, tc := range []struct {
		name     string
		bytesMax int64
		countMax int
		keep     string
		want     string
	}{
		{"all fit", 1000, 10, "", "a b c d"},
		{"too many bytes", 250, 10, "", "c d"},
		{"too many folders", 1000, 1, "", "d"},
		{"one is in use", 150, 10, "a", "a d"},
		{"none may stay", 0, 10, "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root := t.TempDir()
			for _, name := range []string{"c", "a", "d", "b"} {
				grow(t, root, name, 100, int(name[0]-'a'))
			}
			if err := prune.Folders(root, tc.bytesMax, tc.countMax, func(name string) bool { return name == tc.keep }); err != nil {
				t.Fatal(err)
			}
			var got []string
			entries, _ := os.ReadDir(root)
			for _, e := range entries {
				got = append(got, e.Name())
			}
			slices.Sort(got)
			if s := strings.Join(got, " "); s != tc.want {
				t.Errorf("left %q, want %q", s, tc.want)
			}
		})
	}
	if err := prune.Folders(filepath.Join(t.TempDir(), "none"), 1, 1, nil); err != nil {
		t.Errorf("a root that is not there: %v", err)
	}
}
