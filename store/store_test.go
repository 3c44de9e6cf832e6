package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// plenty is a disk with room.
func plenty(string) (free, total int64, err error) { return 1 << 40, 1 << 41, nil }

func open(t testing.TB, dir string, change ...func(*Config)) *Store {
	t.Helper()
	s, err := tryOpen(dir, change...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func tryOpen(dir string, change ...func(*Config)) (*Store, error) {
	cfg := Config{Dir: dir, Mesh: "mesh", Memory: 8 << 20, Free: plenty}
	for _, c := range change {
		c(&cfg)
	}
	return Open(cfg)
}

func commit(t testing.TB, s *Store, writes ...Write) {
	t.Helper()
	if err := s.Commit(context.Background(), writes); err != nil {
		t.Fatal(err)
	}
}

func want(t testing.TB, s *Store, table, key, value string) {
	t.Helper()
	got, ok, err := s.Get(table, key)
	if err != nil || ok != (value != "") || string(got) != value {
		t.Errorf("%s %q: %q %t %v; want %q", table, key, got, ok, err, value)
	}
}

func closeStore(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestReadsWhatWasWritten(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	first := s.Incarnation()
	commit(t, s, Write{"a", "1", []byte("one")}, Write{"a", "2", []byte("two")}, Write{"ab", "1", []byte("other")})
	commit(t, s, Write{"a", "1", nil}, Write{"a", "3", []byte("three")}, Write{"a", "absent", nil})
	check := func(s *Store) {
		t.Helper()
		want(t, s, "a", "1", "")
		want(t, s, "a", "2", "two")
		want(t, s, "ab", "1", "other")
		var keys []string
		if err := s.Scan("a", "", func(key string, value []byte) error {
			keys = append(keys, key+"="+string(value))
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(keys, " "); got != "2=two 3=three" {
			t.Errorf("scan: %s", got)
		}
	}
	check(s)
	closeStore(t, s)
	if err := s.Commit(t.Context(), []Write{{"a", "x", []byte("y")}}); !errors.Is(err, ErrClosed) {
		t.Errorf("commit after close: %v", err)
	}
	if _, _, err := s.Get("a", "2"); !errors.Is(err, ErrClosed) {
		t.Errorf("get after close: %v", err)
	}
	again := open(t, dir)
	check(again)
	if again.Incarnation() != first {
		t.Errorf("the incarnation was %d and is %d", first, again.Incarnation())
	}
}

func TestManyCallersShareASync(t *testing.T) {
	s := open(t, t.TempDir())
	const callers, each = 64, 20
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := range each {
				if err := s.Commit(t.Context(), []Write{{"t", fmt.Sprintf("%d-%d", c, i), []byte("v")}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	stats := s.Stats()
	if stats.Batches != callers*each {
		t.Errorf("%d batches, not %d", stats.Batches, callers*each)
	}
	if stats.Syncs > stats.Batches/2 {
		t.Errorf("%d syncs for %d batches", stats.Syncs, stats.Batches)
	}
	n := 0
	if err := s.Scan("t", "", func(string, []byte) error { n++; return nil }); err != nil || n != callers*each {
		t.Errorf("%d keys: %v", n, err)
	}
}

func TestCloseKeepsWhatWasQueued(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	var acknowledged, failed atomic.Int64
	const n = 500
	for i := range n {
		if err := s.CommitAsync([]Write{{"t", fmt.Sprint(i), []byte("v")}}, func(err error) {
			if err != nil {
				failed.Add(1)
			} else {
				acknowledged.Add(1)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	closeStore(t, s)
	if acknowledged.Load() != n || failed.Load() != 0 {
		t.Errorf("%d acknowledged, %d failed", acknowledged.Load(), failed.Load())
	}
	again, found := open(t, dir), 0
	if err := again.Scan("t", "", func(string, []byte) error { found++; return nil }); err != nil || found != n {
		t.Errorf("%d keys: %v", found, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if _, err := tryOpen(dir); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "--data-dir") {
		t.Errorf("in use: %v", err)
	}
	closeStore(t, s)
	if _, err := tryOpen(dir, func(c *Config) { c.Mesh = "other" }); !errors.Is(err, ErrMesh) {
		t.Errorf("another mesh: %v", err)
	}
	format := filepath.Join(dir, formatFile)
	text, err := os.ReadFile(format)
	if err != nil {
		t.Fatal(err)
	}
	newer := strings.Replace(string(text), `"version":1`, `"version":2`, 1)
	newer = strings.Replace(newer, `"check":"`, `"check":"2-`, 1) // its own
	if err := os.WriteFile(format, []byte(newer), 0o600); err != nil {
		t.Fatal(err)
	}
	// A newer format is no damage: quarantine must not touch it.
	if _, err := tryOpen(dir, func(c *Config) { c.Quarantine = true }); !errors.Is(err, ErrVersion) || errors.Is(err, ErrCorrupt) {
		t.Errorf("a newer format: %v", err)
	}
	if err := os.WriteFile(format, text, 0o600); err != nil {
		t.Fatal(err)
	}
	open(t, dir)
}

func TestCommitRefuses(t *testing.T) {
	s := open(t, t.TempDir())
	for name, writes := range map[string][]Write{
		"no table":       {{"", "k", []byte("v")}},
		"NUL in a table": {{"a\x00b", "k", []byte("v")}},
		"a long key":     {{"t", strings.Repeat("k", KeyMax), []byte("v")}},
		"a long value":   {{"t", "k", make([]byte, ValueMax+1)}},
		"many writes":    make([]Write, BatchWritesMax+1),
		"many bytes":     {{"t", "1", make([]byte, ValueMax)}, {"t", "2", make([]byte, ValueMax)}, {"t", "3", []byte("v")}},
	} {
		for i := range writes {
			if name == "many writes" {
				writes[i] = Write{"t", fmt.Sprint(i), []byte("v")}
			}
		}
		if err := s.Commit(t.Context(), writes); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	commit(t, s, Write{"t", "k", []byte("still works")})
}

// A full disk refuses writes, keeps what it has, and takes writes again by
// itself.
func TestFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // readings of free space age in virtual time
		var free atomic.Int64
		free.Store(1 << 40)
		dir := t.TempDir()
		s := open(t, dir, func(c *Config) {
			c.FreeFloor = 256 << 20
			c.Free = func(string) (int64, int64, error) { return free.Load(), 1 << 41, nil }
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		synctest.Wait()
		commit(t, s, Write{"t", "before", []byte("v")})
		pass := func() { timePasses(2 * watchEvery) }
		pass()
		if _, err := os.Stat(filepath.Join(dir, "ballast")); err != nil {
			t.Errorf("no ballast was laid in: %v", err)
		}
		free.Store(100 << 20)
		pass()
		if err := s.Commit(t.Context(), []Write{{"t", "while", []byte("v")}}); !errors.Is(err, ErrFull) {
			t.Errorf("commit on a full disk: %v", err)
		}
		if err := s.Health(); !errors.Is(err, ErrFull) {
			t.Errorf("health on a full disk: %v", err)
		}
		want(t, s, "t", "before", "v")
		want(t, s, "t", "while", "")
		if _, err := s.Blobs().Create(t.Context(), digestOf("x"), 1); !errors.Is(err, ErrFull) {
			t.Errorf("a file on a full disk: %v", err)
		}
		free.Store(1 << 40)
		pass()
		commit(t, s, Write{"t", "after", []byte("v")})
		if err := s.Health(); err != nil {
			t.Errorf("health after: %v", err)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// Batches that are allowed one by one are acknowledged whatever waits beside
// them: a group is never larger than one transaction of Badger can be.
func TestLargeBatchesWaitTogether(t *testing.T) {
	s := open(t, t.TempDir())
	const n = 24
	answers := make(chan error, n)
	large := make([]byte, ValueMax)
	for i := range n {
		writes := []Write{{"t", fmt.Sprint(i, "a"), large}, {"t", fmt.Sprint(i, "b"), large[:ValueMax-1<<10]}}
		if i%2 == 0 { // many small ones instead
			writes = nil
			for j := range BatchWritesMax {
				writes = append(writes, Write{"table-" + strings.Repeat("x", 60), fmt.Sprint(j), []byte(strings.Repeat("v", 150))})
			}
		}
		if err := s.CommitAsync(writes, func(err error) { answers <- err }); err != nil {
			t.Fatal(err)
		}
	}
	for range n {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}
	if err := s.Health(); err != nil {
		t.Error(err)
	}
}

// When the disk fails in the middle of a batch nobody knows whether it is
// there: it is not acknowledged, nothing more is taken while the disk is bad, and
// the next open finds all of it or nothing.
func TestDiskFails(t *testing.T) {
	dir, disk := t.TempDir(), &faults{}
	s := open(t, dir, func(c *Config) { c.fault = disk.fault })
	commit(t, s, Write{"t", "before", []byte("v")})
	disk.set("head")
	for _, key := range []string{"first", "second"} {
		if err := s.Commit(t.Context(), []Write{{"t", key, []byte("v")}, {"u", key, []byte("v")}}); !errors.Is(err, ErrFailed) {
			t.Errorf("%s: %v", key, err)
		}
	}
	if err := s.Health(); !errors.Is(err, ErrFailed) || !strings.Contains(err.Error(), "by itself") {
		t.Errorf("health: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	again := open(t, dir)
	want(t, again, "t", "before", "v")
	want(t, again, "t", "second", "")
	_, inT, errT := again.Get("t", "first")
	_, inU, errU := again.Get("u", "first")
	if inT != inU || errT != nil || errU != nil {
		t.Errorf("half of a batch: %t %t %v %v", inT, inU, errT, errU)
	}
	commit(t, again, Write{"t", "after", []byte("v")})
}

// Opening reads every table, and leaves none of it resident: an edge box has
// little memory.
func TestOpenLeavesLittleResident(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	value := make([]byte, 64<<10)
	for i := range 200 {
		commit(t, s, Write{"t", fmt.Sprint(i), value})
	}
	closeStore(t, s)
	s = open(t, dir)
	mapped, resident := tablesResident(t, dir)
	// The check has read all of it; a compaction that has begun reads some again.
	if mapped < 200*64 || resident > mapped/2 {
		t.Errorf("%d KiB of %d KiB of tables are resident", resident, mapped)
	}
	if v, ok, err := s.Get("t", "100"); err != nil || !ok || len(v) != len(value) {
		t.Errorf("%d bytes %t %v", len(v), ok, err)
	}
}

// tablesResident is how much of Badger's tables this process has mapped, and
// has in memory, in KiB.
func tablesResident(t *testing.T, dir string) (mapped, resident int) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Skipf("the resident pages are not known: %v", err)
	}
	ours := false
	for line := range strings.Lines(string(text)) {
		name, rest, _ := strings.Cut(line, ":")
		n := 0
		switch {
		case strings.Contains(name, "-") && !strings.HasPrefix(name, "VmFlags"):
			ours = strings.Contains(line, dir) && strings.HasSuffix(strings.TrimSpace(line), ".sst")
		case ours && name == "Size":
			_, err = fmt.Sscan(rest, &n)
			mapped += n
		case ours && name == "Rss":
			_, err = fmt.Sscan(rest, &n)
			resident += n
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return mapped, resident
}
