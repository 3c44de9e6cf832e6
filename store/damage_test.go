package store

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
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

// crashed is what a crash leaves of a store with tables and a log in use, and
// all that was acknowledged.
func crashed(t *testing.T) (dir string, want map[string]string) {
	t.Helper()
	source, want := t.TempDir(), map[string]string{}
	s, err := tryOpen(source)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 60 {
		var writes []Write
		for j := range 20 {
			key, value := fmt.Sprintf("%d-%d", i%50, j), strings.Repeat(fmt.Sprint(i*j), 100)
			writes = append(writes, Write{"t", key, []byte(value)})
			want[key] = value
		}
		commit(t, s, writes...)
		if i == 20 || i == 40 { // so that there are tables and not only a log
			closeStore(t, s)
			if s, err = tryOpen(source); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := untilAtRest(s); err != nil { // a crash is at one moment, a copy is not
		t.Fatal(err)
	}
	dir = filepath.Join(t.TempDir(), "crashed")
	copyStore(t, dir, source)
	closeStore(t, s)
	return dir, want
}

// copyStore copies a folder; the files stay as sparse as Badger makes them.
func copyStore(t *testing.T, to, from string) {
	t.Helper()
	if err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		rel, relErr := filepath.Rel(from, path)
		if err = errors.Join(err, relErr); err != nil || d.IsDir() {
			return errors.Join(err, os.MkdirAll(filepath.Join(to, rel), 0o700))
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		used := bytes.TrimRight(data, "\x00")
		return errors.Join(os.WriteFile(target, used, 0o600), os.Truncate(target, int64(len(data))))
	}); err != nil {
		t.Fatal(err)
	}
}

// filesOf are the files of a store that hold anything of it.
func filesOf(t *testing.T, dir string) (files []string) {
	t.Helper()
	if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		name := filepath.Base(path)
		if err == nil && !d.IsDir() && name != "lock" && name != "LOCK" && name != "ballast" && name != "DISCARD" {
			rel, relErr := filepath.Rel(dir, path)
			files, err = append(files, rel), relErr
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for _, ext := range []string{".sst", ".mem", ".vlog"} {
		if !slices.ContainsFunc(files, func(f string) bool { return filepath.Ext(f) == ext }) {
			t.Fatalf("no %s among %v", ext, files)
		}
	}
	return files
}

// Whatever happens to whichever file, the store either holds all that was
// acknowledged or says that it is damaged. It never takes loss for "not
// there", and never panics.
func TestDamageIsFound(t *testing.T) {
	reference, all := crashed(t)
	var found tally
	t.Run("of", func(t *testing.T) {
		for _, file := range filesOf(t, reference) {
			for name, damage := range damages {
				t.Run(name+" "+file, func(t *testing.T) {
					t.Parallel()
					found.add(file, judge(t, reference, file, all, damage))
				})
			}
		}
	})
	for _, ext := range []string{".sst", ".mem"} {
		if n := found.of(ext); n < len(damages)-1 { // half of a log may hold all of it
			t.Errorf("of damage to %s files only %d cases were found", ext, n)
		}
	}
}

// tally counts the damages that were found, by the extension of the file.
type tally struct {
	mu sync.Mutex // guards n
	n  map[string]int
}

func (c *tally) add(file string, found bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = map[string]int{}
	}
	if found {
		c.n[filepath.Ext(file)]++
	}
}

func (c *tally) of(ext string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[ext]
}

var flipsFlag = flag.Int("flips", 3, "how many bytes of each file TestOneFlippedByte flips, one at a time")

// One flipped bit anywhere in what a file holds. The last bytes of a file are
// tried one by one: that is where formats keep lengths and checksums.
func TestOneFlippedByte(t *testing.T) {
	flips := *flipsFlag
	if testing.Short() {
		flips = 1
	}
	reference, all := crashed(t)
	var found tally
	t.Run("of", func(t *testing.T) {
		for _, file := range filesOf(t, reference) {
			data, err := os.ReadFile(filepath.Join(reference, file))
			if err != nil {
				t.Fatal(err)
			}
			used := len(bytes.TrimRight(data, "\x00"))
			if used == 0 {
				continue // made ahead, and not written to yet
			}
			places := map[int]bool{}
			for i := range flips {
				places[rand.IntN(used)] = true
				places[max(0, used-1-i)] = true
			}
			for at := range places {
				bit := byte(1) << rand.IntN(8)
				t.Run(fmt.Sprintf("%s byte %d of %d bit %#x", file, at, used, bit), func(t *testing.T) {
					t.Parallel()
					found.add(file, judge(t, reference, file, all, func(path string, _ int64) error {
						changed := bytes.Clone(data[:used])
						changed[at] ^= bit
						return errors.Join(os.WriteFile(path, changed, 0o600), os.Truncate(path, int64(len(data))))
					}))
				})
			}
		}
	})
	for _, ext := range []string{".sst", ".mem", ".json"} {
		if found.of(ext) == 0 {
			t.Errorf("no flipped byte of a %s file was found", ext)
		}
	}
}

// TestFlippedVersion: a version that nobody wrote is damage, and no newer format.
func TestFlippedVersion(t *testing.T) {
	reference, all := crashed(t)
	data, err := os.ReadFile(filepath.Join(reference, formatFile))
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.Replace(data, []byte(`"version":1`), []byte(`"version":3`), 1)
	if !judge(t, reference, formatFile, all, func(path string, _ int64) error { return os.WriteFile(path, changed, 0o600) }) {
		t.Error("it was opened")
	}
}

// judge damages a file of a copy of the store, opens that and says whether the
// damage was called that. If not, all must be there.
func judge(t *testing.T, reference, file string, all map[string]string, damage func(path string, size int64) error) (found bool) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "copy")
	copyStore(t, dir, reference)
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
		setAside(t, dir, len(all))
		return true
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
		t.Errorf("it opened, and can't be read: %v", err)
	}
	if got != len(all) {
		t.Errorf("%d of %d keys are there, and nothing was said", got, len(all))
	}
	return false
}

// A crash in the middle of a flush leaves a table that the MANIFEST does not
// list, torn: that is no damage, since its content is still in the log.
func TestTornTableOfACrash(t *testing.T) {
	dir, all := crashed(t)
	if err := os.WriteFile(filepath.Join(dir, "db", "000099.sst"), make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	s, n := open(t, dir), 0
	if err := s.Scan("t", "", func(string, []byte) error { n++; return nil }); err != nil || n != len(all) {
		t.Errorf("%d of %d keys: %v", n, len(all), err)
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

// A disk that goes on breaking does not fill itself with what it broke.
func TestQuarantinesAreBounded(t *testing.T) {
	dir := t.TempDir()
	quarantine := func(c *Config) { c.Quarantine = true }
	var kept []string
	for i := range quarantinesMax + 2 {
		s := open(t, dir, quarantine)
		if _, path, was := s.Quarantined(); was {
			kept = append(kept, path)
		} else if i > 0 {
			t.Fatal("the damage was not found")
		}
		commit(t, s, Write{"t", "k", []byte("v")})
		closeStore(t, s)
		if err := os.Remove(filepath.Join(dir, "head")); err != nil {
			t.Fatal(err)
		}
	}
	there, err := filepath.Glob(filepath.Join(dir, "quarantine-*"))
	if err != nil || !slices.Equal(there, kept[len(kept)-quarantinesMax:]) {
		t.Errorf("kept %v of %v: %v", there, kept, err)
	}
}
