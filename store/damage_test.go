package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// damages are the ways in which a disk or a careless hand changes a file.
var damages = map[string]func(path string, size int64) error{
	"cut in half": func(path string, size int64) error { return os.Truncate(path, size/2) },
	"emptied":     func(path string, _ int64) error { return os.Truncate(path, 0) },
	"deleted":     func(path string, _ int64) error { return os.Remove(path) },
	"flipped": func(path string, size int64) error {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for i := range data { // every used page: where the records lie differs
			if data[i] != 0 && i%64 == 0 {
				data[i] ^= 0x10
			}
		}
		return os.WriteFile(path, data, 0o600)
	},
}

// fill writes enough for tables, a value log and a log of memtables to be in
// use.
func fill(t *testing.T, dir string) (want map[string]string) {
	t.Helper()
	want = map[string]string{}
	s, err := tryOpen(dir)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		var writes []Write
		for j := range 20 {
			key, value := fmt.Sprintf("%d-%d", i, j), strings.Repeat(fmt.Sprint(i*j), 100)
			writes = append(writes, Write{"t", key, []byte(value)})
			want[key] = value
		}
		commit(t, s, writes...)
		if i == 20 { // so that there are tables and not only a log
			closeStore(t, s)
			if s, err = tryOpen(dir); err != nil {
				t.Fatal(err)
			}
		}
	}
	closeStore(t, s)
	return want
}

// Whatever happens to whichever file, the store either holds all that was
// acknowledged or says that it is damaged. It never takes loss for "not
// there", and never panics.
func TestDamageIsFound(t *testing.T) {
	reference := t.TempDir()
	all := fill(t, reference)
	var files []string
	if err := filepath.WalkDir(reference, func(path string, d fs.DirEntry, err error) error {
		name := filepath.Base(path)
		if err == nil && !d.IsDir() && name != "lock" && name != "LOCK" && name != "ballast" && name != "DISCARD" {
			rel, relErr := filepath.Rel(reference, path)
			files, err = append(files, rel), relErr
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if len(files) < 5 {
		t.Fatalf("only %v", files)
	}
	found := 0
	for _, file := range files {
		for name, damage := range damages {
			t.Run(name+" "+file, func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "copy")
				if err := os.CopyFS(dir, os.DirFS(reference)); err != nil {
					t.Fatal(err)
				}
				path := filepath.Join(dir, file)
				info, err := os.Stat(path)
				if err != nil {
					t.Fatal(err)
				}
				if err := damage(path, info.Size()); err != nil {
					t.Fatal(err)
				}
				s, err := tryOpen(dir)
				if err != nil {
					if !errors.Is(err, ErrCorrupt) {
						t.Fatalf("damage is not called that: %v", err)
					}
					found++
					setAside(t, dir, len(all))
					return
				}
				defer s.Close()
				got := 0
				if err := s.Scan("t", "", func(key string, value []byte) error {
					got++
					if all[key] != string(value) {
						t.Errorf("%s has another value", key)
					}
					return nil
				}); err != nil {
					if !errors.Is(err, ErrCorrupt) {
						t.Errorf("damage is not called that: %v", err)
					}
					return
				}
				if got != len(all) {
					t.Errorf("%d of %d keys are there, and nothing was said", got, len(all))
				}
			})
		}
	}
	if found == 0 {
		t.Error("no damage was found at all: the test damages nothing that matters")
	}
}

// setAside: with Quarantine a damaged store is put aside and the daemon
// starts, in another life; unless Badger mended it when it was opened first,
// with all of its keys.
func setAside(t *testing.T, dir string, all int) {
	t.Helper()
	s, err := tryOpen(dir, func(c *Config) { c.Quarantine = true })
	if err != nil {
		t.Fatalf("quarantine: %v", err)
	}
	defer s.Close()
	reason, path, was := s.Quarantined()
	if !was {
		n := 0
		if err := s.Scan("t", "", func(string, []byte) error { n++; return nil }); err != nil || n != all {
			t.Errorf("it was damaged and is not, with %d of %d keys: %v", n, all, err)
		}
		return
	}
	if reason == "" {
		t.Error("no reason is given")
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the damaged store was not kept: %v", err)
	}
	if err := s.Scan("t", "", func(string, []byte) error { return errors.New("a key of the damaged store") }); err != nil {
		t.Error(err)
	}
	commit(t, s, Write{"t", "new", []byte("life")})
}
