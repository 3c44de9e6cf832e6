package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
)

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

// fill leaves no free byte on a disk.
func fill(t *testing.T, path string) {
	t.Helper()
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for block := make([]byte, 1<<20); len(block) > 0; {
		if _, err := file.Write(block); errors.Is(err, unix.ENOSPC) {
			block = block[:len(block)/2]
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// A peer whose disk is full says so, keeps its work running and takes nothing
// new; the others place around it, and it comes back by itself.
func TestMeshWithAFullDisk(t *testing.T) {
	disk := smallDisk(t, "400m")
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 3, 40*time.Millisecond, t.TempDir(), disk)
		defer m.close()
		put := func(at *testSite, name string, replicas int) error {
			t.Helper()
			_, err := backend{at.node}.PutApp(t.Context(), api.PutRequest{App: serverApp(name, replicas)})
			return err
		}
		first, full := m.sites[0], m.sites[1]
		if err := put(first, "shop", 3); err != nil {
			t.Fatal(err)
		}
		m.until("deployed", time.Minute, func() error { return m.runOnce(first, "shop", 3, "s1", "s2", "s3") })

		filler := filepath.Join(disk, "filler")
		fill(t, filler)
		if err := (backend{full.node}).Ready(); !errors.Is(err, api.ErrUnavailable) || !strings.Contains(err.Error(), "disk is full") {
			t.Errorf("ready: %v", err)
		}
		if err := put(full, "refused", 1); !errors.Is(err, placement.ErrFull) {
			t.Errorf("a deploy there: %v", err)
		}
		if _, err := (backend{full.node}).PutArtifact(t.Context(), "sha256:"+strings.Repeat("0", 64), -1, strings.NewReader("bytes")); !errors.Is(err, placement.ErrFull) {
			t.Errorf("an upload there: %v", err)
		}
		m.until("the others know", time.Minute, func() error {
			digests, err := first.node.digests(t.Context())
			if d := digests[placement.PeerID(full.node.ID())].Digest; d.Full != "its disk is full" {
				return fmt.Errorf("%q %v", d.Full, err)
			}
			return nil
		})
		if err := put(first, "late", 4); err != nil {
			t.Fatal(err)
		}
		m.until("placed around it", time.Minute, func() error { return m.runOnce(first, "late", 4, "s1", "s3") })
		if n := full.world.Running(); n != 1 {
			t.Errorf("%d pieces of work run at the full peer, not 1", n)
		}
		if !slices.ContainsFunc(full.node.events.all(), func(e event) bool { return e.What.Type == "disk" }) {
			t.Error("no event tells of it")
		}

		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		m.until("it takes work again", time.Minute, func() error {
			return errors.Join(backend{full.node}.Ready(), m.settled())
		})
		if err := put(full, "back", 3); err != nil {
			t.Error(err)
		}
		m.until("deployed there", time.Minute, func() error {
			return errors.Join(m.settled(), m.runOnce(full, "back", 3, "s1", "s2", "s3"), m.runOnce(full, "shop", 3, "s1", "s2", "s3"))
		})
	})
}

// opened is a peer in a data folder, opened and not run.
func opened(t *testing.T, dir string) *Node {
	t.Helper()
	n, err := New(t.Context(), Config{DataDir: dir, Listen: "127.0.0.1:0", API: apiNone}, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// A damaged store is put aside, people are told where it is and what to do, and
// the new one is another life: above the last, even where the clock went back.
func TestDamagedStore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if _, err := Init(InitConfig{DataDir: dir, Name: "fra-1", Site: "fra"}); err != nil {
		t.Fatal(err)
	}
	member, err := loadMembership(dir)
	if err != nil {
		t.Fatal(err)
	}
	const ahead = 1 << 50 // as a clock gives it that is right, in the far future
	member.Incarnation = ahead
	if err := member.save(dir); err != nil {
		t.Fatal(err)
	}
	first := opened(t, dir)
	if got := first.store.Incarnation(); got <= ahead {
		t.Errorf("incarnation %d, not above %d", got, uint64(ahead))
	}
	if err := first.close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"head", "format.json"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("scribbled over by something else"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	second := opened(t, dir)
	if got := second.store.Incarnation(); got <= first.store.Incarnation() {
		t.Errorf("incarnation %d after %d", got, first.store.Incarnation())
	}
	_, path, was := second.store.Quarantined()
	if !was {
		t.Fatal("the damage was not found")
	}
	told := second.events.all()
	if len(told) != 1 || told[0].What.Type != "store" || !strings.Contains(told[0].What.Message, path) || !strings.Contains(told[0].What.Message, "delete the folder") {
		t.Errorf("told: %+v", told)
	}
}
