package node

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/store"
)

// Whatever happens to one of the files that say which mesh a peer is in, it knows
// it still; with both gone it says what to do, and never takes itself for another.
func TestMembershipSurvives(t *testing.T) {
	damages := map[string]func(path string, data []byte) error{
		"deleted":     func(path string, _ []byte) error { return os.Remove(path) },
		"emptied":     func(path string, _ []byte) error { return os.Truncate(path, 0) },
		"cut in half": func(path string, data []byte) error { return os.WriteFile(path, data[:len(data)/2], 0o600) },
		"flipped": func(path string, data []byte) error {
			changed := []byte(strings.Replace(string(data), `"site": "fra"`, `"site": "fsa"`, 1))
			if string(changed) == string(data) {
				return errors.New("nothing was changed")
			}
			return os.WriteFile(path, changed, 0o600)
		},
		"scribbled over": func(path string, _ []byte) error { return os.WriteFile(path, []byte("\x00\xff{}"), 0o600) },
	}
	for what, damage := range damages {
		for _, files := range [][]string{{meshFile}, {meshCopy}, {meshFile, meshCopy}} {
			t.Run(what+" "+strings.Join(files, " and "), func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "data")
				if _, err := Init(InitConfig{DataDir: dir, Name: "fra-1", Site: "fra"}); err != nil {
					t.Fatal(err)
				}
				first := opened(t, dir)
				if err := first.close(); err != nil {
					t.Fatal(err)
				}
				for _, name := range files {
					path := filepath.Join(dir, identityDir, name)
					data, err := os.ReadFile(path)
					if err != nil {
						t.Fatal(err)
					}
					if err := damage(path, data); err != nil {
						t.Fatal(err)
					}
				}
				if len(files) == 2 {
					_, err := New(t.Context(), Config{DataDir: dir, Listen: "127.0.0.1:0", API: apiNone}, Deps{})
					if err == nil || !strings.Contains(err.Error(), "token") && !strings.Contains(err.Error(), "invitation") {
						t.Errorf("both are gone: %v", err)
					}
					return
				}
				again := opened(t, dir)
				if again.ID() != first.ID() || again.member.Site != "fra" || again.member.Mesh != first.member.Mesh {
					t.Errorf("it takes itself for %+v", again.member)
				}
				for _, name := range []string{meshFile, meshCopy} { // both are there again
					if _, err := readMembership(filepath.Join(dir, identityDir, name)); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
}

// A key that is not the one that was let in is told, not used.
func TestAnotherKeyIsTold(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if _, err := Init(InitConfig{DataDir: dir, Name: "fra-1", Site: "fra"}); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, identityDir, "key.pem")); err != nil {
		t.Fatal(err)
	}
	if _, err := New(t.Context(), Config{DataDir: dir, Listen: "127.0.0.1:0", API: apiNone}, Deps{}); err == nil || !strings.Contains(err.Error(), "fra-1") || !strings.Contains(err.Error(), "hansa invite") {
		t.Errorf("without its key: %v", err)
	}
}

// What the disk refuses is 507 for people, whatever the system called it.
func TestDiskErrorsAreNoSpace(t *testing.T) {
	for _, err := range []error{
		store.ErrFull, store.ErrFailed,
		&os.PathError{Op: "write", Path: "x", Err: errIO}, &os.PathError{Op: "open", Path: "x", Err: errReadOnly},
	} {
		if got := storeError(err); !errors.Is(got, placement.ErrFull) || !errors.Is(got, err) {
			t.Errorf("%v: %v", err, got)
		}
	}
	if got := storeError(store.ErrInvalid); errors.Is(got, placement.ErrFull) {
		t.Errorf("a wrong batch: %v", got)
	}
}
