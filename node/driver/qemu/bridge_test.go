//go:build linux

package qemu_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/qemu"
)

// makeBridge makes a bridge of the host for one test.
func makeBridge(t *testing.T, name string) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	text, err := unix.BytePtrFromString(name)
	if err != nil {
		t.Fatal(err)
	}
	order := func(what uintptr) error {
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), what, uintptr(unsafe.Pointer(text))); errno != 0 {
			return errno
		}
		return nil
	}
	if err := order(unix.SIOCBRADDBR); err != nil {
		t.Skipf("no bridge can be made here (as root, with the module bridge): %v", err)
	}
	t.Cleanup(func() {
		if err := order(unix.SIOCBRDELBR); err != nil {
			t.Errorf("the bridge is left: %v", err)
		}
	})
}

// A machine joins a bridge that the host gives, and no other; its interface goes
// with it.
func TestBridge(t *testing.T) {
	name := fmt.Sprintf("hvt%d", os.Getpid())
	makeBridge(t, name)
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		t.Skip(err)
	}
	dir := dataDir(t)
	d := open(t, qemu.Config{Dir: dir, Bridges: []string{name}})
	defer run(t, d)()
	task := listening(t, guest(t, "c/0", "run"))
	task.Machine.Bridge = "lo"
	if _, err := d.Start(t.Context(), task); !errors.Is(err, driver.ErrInvalid) {
		t.Errorf("on a bridge that is not given: %v", err)
	}
	task.Machine.Bridge = name
	mustStart(t, d, task)
	ports := func() int {
		all, _ := filepath.Glob("/sys/class/net/" + name + "/brif/*")
		return len(all)
	}
	if n := ports(); n != 1 {
		t.Errorf("%d interfaces are on the bridge, want 1", n)
	}
	if err := d.Stop(t.Context(), "c/0", -1); err != nil {
		t.Fatal(err)
	}
	eventually(t, "its interface to go", func() bool { return ports() == 0 })
}
