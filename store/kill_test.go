package store

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var killsFlag = flag.Int("kills", 12, "how often TestKill kills a writer")

const killEnv = "HANSA_STORE_KILL_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(killEnv); dir != "" {
		writeUntilKilled(dir)
		return
	}
	if mode, dir, ok := strings.Cut(os.Getenv(diskEnv), " "); ok {
		if err := runOnDisk(mode, dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// killWindow is how many of its keys a stream of batches keeps: each batch
// writes one and deletes the one so far back.
const killWindow = 20

// killValue is what a stream writes; every other one writes enough for tables
// to be flushed and merged all the time.
func killValue(stream, i int) string {
	n := 5
	if stream%2 == 1 {
		n = 4000
	}
	return strings.Repeat(fmt.Sprintf("%d-%d ", stream, i), n)
}

// writeUntilKilled commits streams of batches, and prints each batch once it
// was acknowledged: run, stream and number.
func writeUntilKilled(dir string) {
	s, err := Open(Config{Dir: dir, Mesh: "mesh", Memory: 8 << 20, Free: plenty})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var mu sync.Mutex
	out := bufio.NewWriter(os.Stdout)
	run := time.Now().UnixNano()
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				key, old := fmt.Sprintf("%d %d %d", run, g, i), fmt.Sprintf("%d %d %d", run, g, i-killWindow)
				// Two tables in one batch: both or neither.
				err := s.Commit(context.Background(), []Write{
					{"a", key, []byte(killValue(g, i))}, {"b", key, []byte("b" + key)}, {"a", old, nil}, {"b", old, nil},
				})
				mu.Lock()
				if err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				fmt.Fprintln(out, key, ".")
				_ = out.Flush()
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

// stream is one run's stream of batches.
type stream struct {
	run    int64
	number int
}

// Nothing that was acknowledged is lost by SIGKILL at any moment, no batch is
// torn, and the store opens each time.
func TestKill(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	last, batches := map[stream]int{}, 0 // acknowledged
	kills := *killsFlag
	if testing.Short() {
		kills = min(kills, 4)
	}
	for round := range kills {
		cmd := exec.Command(self, "-test.run=^$")
		cmd.Env = append(os.Environ(), killEnv+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		var errs strings.Builder
		cmd.Stderr = &errs
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		left := 1 + rand.IntN(800) // then the kill comes at once
		for lines := bufio.NewScanner(out); lines.Scan(); left-- {
			var st stream
			var i int
			if n, _ := fmt.Sscanf(lines.Text(), "%d %d %d .", &st.run, &st.number, &i); n == 3 && strings.HasSuffix(lines.Text(), " .") {
				last[st] = i
				batches++
			}
			if left == 1 {
				_ = cmd.Process.Kill() // it may have died by itself, which shows below
			}
		}
		_ = cmd.Wait()
		if left > 0 {
			t.Fatalf("round %d: the writer died: %s", round, errs.String())
		}
		checkKilled(t, dir, last)
	}
	t.Logf("%d kills, %d batches acknowledged", kills, batches)
}

// checkKilled: of each stream the last keys are there, one after the other, up
// to the one that was acknowledged last or one that was about to be.
func checkKilled(t *testing.T, dir string, last map[stream]int) {
	t.Helper()
	s, err := tryOpen(dir)
	if err != nil {
		t.Fatalf("open after a kill: %v", err)
	}
	defer s.Close()
	read := func(table string, value func(st stream, i int) string) map[stream]map[int]bool {
		all := map[stream]map[int]bool{}
		if err := s.Scan(table, "", func(key string, got []byte) error {
			var st stream
			var i int
			if _, err := fmt.Sscanf(key, "%d %d %d", &st.run, &st.number, &i); err != nil {
				return err
			}
			if all[st] == nil {
				all[st] = map[int]bool{}
			}
			all[st][i] = true
			if string(got) != value(st, i) {
				t.Errorf("%s %s has another value", table, key)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return all
	}
	a := read("a", func(st stream, i int) string { return killValue(st.number, i) })
	b := read("b", func(st stream, i int) string { return fmt.Sprintf("b%d %d %d", st.run, st.number, i) })
	if !reflect.DeepEqual(a, b) {
		t.Error("a torn batch: the tables differ")
	}
	for st, acknowledged := range last {
		newest := -1
		for i := range a[st] {
			newest = max(newest, i)
		}
		if newest < acknowledged {
			t.Errorf("stream %d: batch %d was acknowledged, and %d is the last", st.number, acknowledged, newest)
		}
		for i := max(0, newest-killWindow+1); i <= newest; i++ {
			if !a[st][i] {
				t.Errorf("stream %d: batch %d of %d is lost", st.number, i, newest)
			}
		}
		if len(a[st]) > killWindow {
			t.Errorf("stream %d: %d keys, of which some were deleted", st.number, len(a[st]))
		}
	}
	forgetRuns(t, s, a, last)
}

// forgetRuns deletes what older runs wrote than the last few, so that a long
// test does not grow.
func forgetRuns(t *testing.T, s *Store, there map[stream]map[int]bool, last map[stream]int) {
	t.Helper()
	runs := map[int64]bool{}
	for st := range there {
		runs[st.run] = true
	}
	sorted := slices.Sorted(maps.Keys(runs))
	old := sorted[:max(0, len(sorted)-3)]
	for st, keys := range there {
		if !slices.Contains(old, st.run) {
			continue
		}
		delete(last, st)
		var writes []Write
		for i := range keys {
			key := fmt.Sprintf("%d %d %d", st.run, st.number, i)
			writes = append(writes, Write{"a", key, nil}, Write{"b", key, nil})
		}
		commit(t, s, writes...)
	}
}
