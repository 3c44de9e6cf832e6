package store

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
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

// writeUntilKilled commits from many goroutines, and prints each key once it
// was acknowledged.
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
				key := fmt.Sprintf("%d-%d-%d", run, g, i)
				// Two tables in one batch: both or neither.
				err := s.Commit(context.Background(), []Write{
					{"a", key, []byte(strings.Repeat(key, 5))}, {"b", key, []byte("b" + key)},
				})
				mu.Lock()
				if err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				fmt.Fprintln(out, key)
				_ = out.Flush()
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

// Nothing that was acknowledged is lost by SIGKILL at any moment, no batch is
// torn, and the store opens each time.
func TestKill(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	acknowledged := map[string]bool{}
	for round := range *killsFlag {
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
		lines := bufio.NewScanner(out)
		left := 1 + rand.IntN(300) // then the kill comes at once
		for left > 0 && lines.Scan() {
			acknowledged[lines.Text()] = true
			left--
		}
		_ = cmd.Process.Kill() // it may have died by itself, which shows below
		for lines.Scan() {     // acknowledged before the kill took effect
			if _, err := strconv.Atoi(lines.Text()[len(lines.Text())-1:]); err == nil {
				acknowledged[lines.Text()] = true
			}
		}
		_ = cmd.Wait()
		if left > 0 {
			t.Fatalf("round %d: the writer died: %s", round, errs.String())
		}
		checkKilled(t, dir, acknowledged)
	}
	t.Logf("%d kills, %d batches acknowledged", *killsFlag, len(acknowledged))
}

func checkKilled(t *testing.T, dir string, acknowledged map[string]bool) {
	t.Helper()
	s, err := tryOpen(dir)
	if err != nil {
		t.Fatalf("open after a kill: %v", err)
	}
	defer s.Close()
	read := func(table string) map[string]string {
		all := map[string]string{}
		if err := s.Scan(table, "", func(key string, value []byte) error {
			all[key] = string(value)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return all
	}
	a, b := read("a"), read("b")
	if len(a) != len(b) {
		t.Errorf("a torn batch: %d and %d keys", len(a), len(b))
	}
	for key := range acknowledged {
		if a[key] != strings.Repeat(key, 5) || b[key] != "b"+key {
			t.Fatalf("%s was acknowledged and is lost", key)
		}
	}
}
