package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// diskEnv makes this binary one daemon on a small disk: "MODE DIR".
const diskEnv = "HANSA_STORE_DISK"

// smallDisk mounts a file system of its own, or skips.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("no small disk to fill: mounting a tmpfs needs root: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// A disk that is full to the last byte kills nobody (Badger dies of SIGBUS when
// it needs a page that cannot be backed), loses nothing, and is told of;
// what was refused is taken again when space returns. Each step is a process
// of its own, since a death would be of the whole process.
func TestRealFullDisk(t *testing.T) {
	for _, c := range []struct{ size, end string }{{"64m", "stop"}, {"64m", "kill"}, {"300m", "kill"}} {
		t.Run(c.size+" "+c.end, func(t *testing.T) {
			disk := smallDisk(t, c.size)
			dir := filepath.Join(disk, "data")
			step := func(mode string) {
				t.Helper()
				out, err := onDisk(t, mode, dir)
				killed := mode == "fill-kill" && strings.Contains(fmt.Sprint(err), "killed")
				if err != nil && !killed {
					t.Fatalf("%s: %v\n%s", mode, err, out)
				}
				t.Logf("%s: %s", mode, strings.ReplaceAll(strings.TrimSpace(out), "\n", "; "))
			}
			step("fill-" + c.end)
			step("full") // starts, and starts again, on a disk without a free byte
			step("full")
			if err := os.Remove(filepath.Join(disk, "filler")); err != nil {
				t.Fatal(err)
			}
			step("room")
		})
	}
}

func onDisk(t *testing.T, mode, dir string) (string, error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^$")
	cmd.Env = append(os.Environ(), diskEnv+"="+mode+" "+dir)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// runOnDisk is one step of TestRealFullDisk, in its process.
func runOnDisk(mode, dir string) error {
	s, err := Open(Config{Dir: dir, Mesh: "mesh"})
	if err != nil {
		return err
	}
	s.space.tend(s.log) // as Run does when it starts
	ctx := context.Background()
	value := bytes.Repeat([]byte("v"), 64<<10)
	n := 0
	if err := s.Scan("t", "", func(_ string, v []byte) error {
		n++
		if !bytes.Equal(v, value) {
			return errors.New("another value")
		}
		return nil
	}); err != nil {
		return err
	}
	commit := func(i int) error {
		return s.Commit(ctx, []Write{{"t", fmt.Sprint(i), value}, {"t", "last", value}})
	}
	if strings.HasPrefix(mode, "fill") {
		// The same keys again and again, so that there are tables to merge.
		for i := 0; err == nil && i < 600; i++ {
			err = commit(i % 100)
		}
		n = 101
		fmt.Printf("%+v\n", s.Stats())
		if err := untilAtRest(s); err != nil {
			return err
		}
		if err := fillDisk(filepath.Dir(dir)); err != nil {
			return err
		}
	}
	if mode == "room" {
		return errors.Join(commit(200), s.Health(), s.Close())
	}
	if err := commit(200); !errors.Is(err, ErrFull) {
		return fmt.Errorf("commit: %w", err)
	}
	if err := s.Health(); !errors.Is(err, ErrFull) {
		return fmt.Errorf("health: %w", err)
	}
	if _, err := s.Blobs().Create(ctx, digestOf("x"), 1); !errors.Is(err, ErrFull) {
		return fmt.Errorf("blob: %w", err)
	}
	if n != 101 {
		return fmt.Errorf("%d of 101 keys are left", n)
	}
	fmt.Println("refused:", s.Health())
	if mode == "fill-kill" {
		return syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	return s.Close()
}

// untilAtRest waits until Badger has written and merged what it had to. A tmpfs
// fills within the milliseconds of one merge, which no floor can help against.
func untilAtRest(s *Store) error {
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		logs, err := filepath.Glob(filepath.Join(s.cfg.Dir, "db", "*.mem"))
		busy := err != nil || len(logs) != 1
		for _, level := range s.db.Levels() {
			busy = busy || level.Score >= 1
		}
		if !busy {
			return err
		}
		<-time.After(10 * time.Millisecond)
	}
	return errors.New("Badger is never at rest")
}

// fillDisk leaves no free byte.
func fillDisk(dir string) error {
	file, err := os.OpenFile(filepath.Join(dir, "filler"), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	for block := make([]byte, 1<<20); len(block) > 0; {
		if _, err := file.Write(block); errors.Is(err, unix.ENOSPC) {
			block = block[:len(block)/2]
		} else if err != nil {
			return err
		}
	}
	return nil
}
