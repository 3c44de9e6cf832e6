package logs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hansa-mesh/hansa/node/driver"
)

// On a nearly full disk output is dropped and counted, since the daemon's own
// state lies on the same disk; when there is room again the log goes on.
func TestNearlyFullDisk(t *testing.T) {
	disk := t.TempDir()
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=20m"); err != nil {
		t.Skipf("no small disk to fill: mounting a tmpfs needs root: %v", err)
	}
	defer func() {
		if err := unix.Unmount(disk, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	dir := filepath.Join(disk, "log")
	w := open(t, dir, 1<<20)
	out := w.Stream("stdout")
	fmt.Fprintln(out, "before")
	filler := filepath.Join(disk, "filler")
	if err := os.WriteFile(filler, make([]byte, 19<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(out, "while")
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(out, "after")
	var got []string
	for _, l := range read(t, dir, driver.LogOptions{}) {
		got = append(got, l.Text)
	}
	if len(got) != 3 || got[0] != "before" || !strings.Contains(got[1], "bytes of output were lost") || got[2] != "after" {
		t.Errorf("%q", got)
	}
}
