package qemu_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/process"
	"github.com/hansa-mesh/hansa/node/driver/qemu"
)

func TestMain(m *testing.M) {
	if process.IsSupervisor(os.Args) {
		os.Exit(process.SupervisorMain(os.Args))
	}
	code := m.Run()
	if built.dir != "" {
		os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// kernelEnv names a folder that holds what the package of a Debian cloud kernel
// does (boot/vmlinuz-*, lib/modules/*). Without it the package is fetched with
// apt-get, once.
const kernelEnv = "HANSA_TEST_KERNEL"

// guestModules are what the guest needs beyond what is built into that kernel.
var guestModules = regexp.MustCompile(`/(virtio|virtio_ring|virtio_pci|virtio_pci_modern_dev|virtio_pci_legacy_dev|virtio_blk|virtio_net|net_failover|failover|evdev|button|isofs|cdrom|pvpanic|pvpanic-mmio)\.ko$`)

var built struct {
	sync.Once
	dir            string
	kernel, initrd string
	err            error
}

// guestFiles are a kernel and an initial file system whose /init is testdata/guest.
// A machine that can't have them skips the test, but in CI it fails.
func guestFiles(t testing.TB) (kernel, initrd string) {
	t.Helper()
	if testing.Short() {
		t.Skip("it boots machines")
	}
	built.Do(func() { built.err = buildGuest() })
	if built.err != nil {
		lacks(t, "no guest: %v", built.err)
	}
	return built.kernel, built.initrd
}

func lacks(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

func buildGuest() (err error) {
	root, err := debianKernel()
	if err != nil {
		return err
	}
	kernels, _ := filepath.Glob(filepath.Join(root, "boot/vmlinuz-*"))
	if len(kernels) == 0 {
		return fmt.Errorf("%s holds no boot/vmlinuz-*", root)
	}
	built.kernel = kernels[len(kernels)-1]
	if built.dir, err = os.MkdirTemp("", "hansa-guest-"); err != nil {
		return err
	}
	program := filepath.Join(built.dir, "init")
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", program, "./testdata/guest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-trimpath")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the guest: %w: %s", err, out)
	}
	files := map[string]string{"init": program}
	err = filepath.WalkDir(filepath.Join(root, "lib/modules"), func(path string, _ os.DirEntry, err error) error {
		if guestModules.MatchString(path) {
			files["modules/"+filepath.Base(path)] = path
		}
		return err
	})
	if err != nil {
		return err
	}
	built.initrd = filepath.Join(built.dir, "initrd")
	return writeCpio(built.initrd, files)
}

// debianKernel is the unpacked package of the kernel that linux-image-cloud-amd64
// depends on, kept between runs.
func debianKernel() (string, error) {
	if dir := os.Getenv(kernelEnv); dir != "" {
		return dir, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	keep := filepath.Join(cache, "hansa-test-kernel")
	if found, _ := filepath.Glob(filepath.Join(keep, "boot/vmlinuz-*")); len(found) > 0 {
		return keep, nil
	}
	advice := "set " + kernelEnv + " to the unpacked package of a Debian cloud kernel"
	depends, err := exec.Command("apt-cache", "depends", "linux-image-cloud-amd64").Output()
	if err != nil {
		return "", fmt.Errorf("apt-cache: %w: %s", err, advice)
	}
	name := regexp.MustCompile(`linux-image-\d\S+-cloud-amd64\S*`).FindString(string(depends))
	if name == "" {
		return "", errors.New("apt knows no linux-image-cloud-amd64: " + advice)
	}
	tmp, err := os.MkdirTemp("", "hansa-kernel-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	get := exec.Command("apt-get", "download", "-q", name)
	get.Dir = tmp
	if out, err := get.CombinedOutput(); err != nil {
		return "", fmt.Errorf("apt-get download %s: %w: %s: %s", name, err, out, advice)
	}
	packages, _ := filepath.Glob(filepath.Join(tmp, "*.deb"))
	if len(packages) != 1 {
		return "", fmt.Errorf("apt-get download %s left %d packages", name, len(packages))
	}
	root := filepath.Join(tmp, "root")
	if out, err := exec.Command("dpkg-deb", "-x", packages[0], root).CombinedOutput(); err != nil {
		return "", fmt.Errorf("dpkg-deb: %w: %s", err, out)
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	if err := exec.Command("cp", "-a", root, keep).Run(); err != nil { // may be another disk
		return "", fmt.Errorf("keep the kernel: %w", err)
	}
	return keep, nil
}

// writeCpio writes an initial file system: the archive format "newc" that kernels
// unpack.
func writeCpio(to string, files map[string]string) error {
	var b bytes.Buffer
	entry := func(name string, mode, major, minor int, content []byte) {
		fmt.Fprintf(&b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
			b.Len(), mode, 0, 0, 1, 0, len(content), 0, 0, major, minor, len(name)+1, 0, name)
		for b.Len()%4 != 0 {
			b.WriteByte(0)
		}
		b.Write(content)
		for b.Len()%4 != 0 {
			b.WriteByte(0)
		}
	}
	entry("dev", 0o040755, 0, 0, nil)
	entry("dev/console", 0o020600, 5, 1, nil) // what init has as its output
	entry("modules", 0o040755, 0, 0, nil)
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		content, err := os.ReadFile(files[name])
		if err != nil {
			return err
		}
		entry(name, 0o100755, 0, 0, content)
	}
	entry("TRAILER!!!", 0, 0, 0, nil)
	return os.WriteFile(to, b.Bytes(), 0o644)
}

// guest is a machine that does what testdata/guest has for the verb.
func guest(t testing.TB, id string, do ...string) driver.Task {
	t.Helper()
	kernel, initrd := guestFiles(t)
	return driver.Task{
		ID: id, Kind: driver.KindServer, Memory: 128 << 20, Grace: 2 * time.Minute,
		Machine:   &driver.Machine{Kernel: "sha256:kernel", Initrd: "sha256:initrd", Append: "quiet no_timer_check hansa.do=" + strings.Join(do, ",")},
		Artifacts: map[string]string{"sha256:kernel": kernel, "sha256:initrd": initrd},
	}
}

func open(t testing.TB, c qemu.Config) *qemu.Driver {
	t.Helper()
	for _, name := range []string{"qemu-system-x86_64", "qemu-img"} {
		if _, err := exec.LookPath(name); err != nil {
			lacks(t, "%v: apt install qemu-system-x86 qemu-utils", err)
		}
	}
	if c.Accel == "" {
		c.Accel = "tcg"
	}
	d, err := qemu.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// dataDir is a folder for a driver, cleared of machines at the end.
func dataDir(t testing.TB) string {
	dir := t.TempDir()
	t.Cleanup(func() {
		d := open(t, qemu.Config{Dir: dir})
		stop := run(t, d)
		defer stop()
		all, err := d.List(context.Background())
		if err != nil {
			t.Error(err)
		}
		for _, s := range all {
			if t.Failed() {
				t.Logf("%s was %+v; its log:\n%s", s.ID, s, tail(d, s.ID))
			}
			if err := d.Stop(context.Background(), s.ID, -1); err != nil {
				t.Error(err)
			}
		}
	})
	return dir
}

func tail(d driver.Driver, id string) string {
	r, err := d.Logs(context.Background(), id, driver.LogOptions{Tail: 40})
	if err != nil {
		return err.Error()
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// run runs a driver until the function that it returns is called.
func run(t testing.TB, d driver.Driver) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// patience is what the boot of a machine takes where ten share a core.
const patience = 4 * time.Minute

// eventually is like the suite's, with more patience.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for: %s", what)
		}
	}
}

func mustStart(t testing.TB, d driver.Driver, task driver.Task) driver.Status {
	t.Helper()
	s, err := d.Start(t.Context(), task)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func status(t testing.TB, d driver.Driver, id string) (driver.Status, bool) {
	t.Helper()
	all, err := d.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		if s.ID == id {
			return s, true
		}
	}
	return driver.Status{}, false
}

func waitEnd(t testing.TB, d driver.Driver, id string) (s driver.Status) {
	t.Helper()
	eventually(t, "the end of "+id, func() bool {
		var ok bool
		s, ok = status(t, d, id)
		return ok && s.State.Ended()
	})
	return s
}

// hasLine says whether the log has a line that is equal to want.
func hasLine(t testing.TB, d driver.Driver, id, want string) bool {
	return countLines(t, d, id, want) > 0
}

func countLines(t testing.TB, d driver.Driver, id, want string) (n int) {
	t.Helper()
	r, err := d.Logs(t.Context(), id, driver.LogOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if l, err := driver.ParseLogLine(line); err == nil && l.Text == want {
			n++
		}
	}
	return n
}

// freePort is one of this host that nobody listens on.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// listening gives a task the port that guests answer at.
func listening(t testing.TB, task driver.Task) driver.Task {
	task.Ports = map[string]driver.Port{"http": {Inside: 8081, Host: freePort(t)}}
	return task
}

// ask is a page of the guest's, once it answers.
func ask(t testing.TB, s driver.Status, path string) (answer string) {
	t.Helper()
	client := http.Client{Timeout: 30 * time.Second}
	eventually(t, "an answer to "+path, func() bool {
		r, err := client.Get("http://" + s.Ports["http"] + path)
		if err != nil {
			return false
		}
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		answer = string(b)
		return err == nil && r.StatusCode == http.StatusOK
	})
	return answer
}
