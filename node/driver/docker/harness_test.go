package docker_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/client"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/docker"
	"github.com/hansa-mesh/hansa/node/driver/drivertest"
)

// host is an engine that the tests start for themselves, with folders of its
// own, so that no engine of the machine's is touched.
type host struct {
	kind    string // "docker" or "podman"
	dir     string
	socket  string
	restore bool // containers outlive it
	cmd     *exec.Cmd
	out     *os.File
}

// shared are the engines that tests share, by kind; TestMain ends them.
var shared struct {
	mu  sync.Mutex
	all map[string]*host
}

func TestMain(m *testing.M) {
	drivertest.GuestMain()
	code := m.Run()
	for _, h := range shared.all {
		h.end()
	}
	os.Exit(code)
}

// engine is the shared engine of a kind.
func engine(t testing.TB, kind string) *host {
	t.Helper()
	can(t, kind)
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if h := shared.all[kind]; h != nil {
		return h
	}
	h := newHost(t, kind)
	h.start(t)
	h.load(t)
	if shared.all == nil {
		shared.all = map[string]*host{}
	}
	shared.all[kind] = h
	return h
}

// own is an engine for one test, which may kill it.
func own(t testing.TB, kind string, restore bool) *host {
	t.Helper()
	can(t, kind)
	h := newHost(t, kind)
	h.restore = restore
	t.Cleanup(h.end)
	h.start(t)
	h.load(t)
	return h
}

// can skips the test where no engine can be started. In CI that is a failure.
func can(t testing.TB, kind string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("an engine of the test's own needs root")
	}
	program := map[string]string{"docker": "dockerd", "podman": "podman"}[kind]
	if _, err := exec.LookPath(program); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is not installed, and CI needs it: %v", program, err)
		}
		t.Skipf("%s is not installed: %v", program, err)
	}
}

func newHost(t testing.TB, kind string) *host {
	t.Helper()
	dir, err := os.MkdirTemp("", "hansa-engine") // short: sockets have short names
	if err != nil {
		t.Fatal(err)
	}
	return &host{kind: kind, dir: dir, socket: filepath.Join(dir, "engine.sock")}
}

func (h *host) address() string { return "unix://" + h.socket }

func (h *host) command() *exec.Cmd {
	in := func(name string) string { return filepath.Join(h.dir, name) }
	if h.kind == "podman" {
		return exec.Command("podman", "--root", in("root"), "--runroot", in("run"), "--tmpdir", in("tmp"),
			"--network-config-dir", in("net"), "--cgroup-manager", "cgroupfs", "--events-backend", "file",
			"system", "service", "--time=0", h.address())
	}
	args := []string{
		"--config-file", in("daemon.json"), "--data-root", in("root"), "--exec-root", in("run"), "--pidfile", in("pid"),
		"-H", h.address(), "--bridge", "none", "--default-address-pool", "base=10.213.0.0/16,size=24",
		"--containerd-namespace", filepath.Base(h.dir), "--log-level", "warn",
	}
	if h.restore {
		args = append(args, "--live-restore")
	}
	return exec.Command("dockerd", args...)
}

func (h *host) start(t testing.TB) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(h.dir, "daemon.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := os.OpenFile(filepath.Join(h.dir, "out"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	// Where nobody reaps orphans, an engine that was killed seems to live on.
	drivertest.Eventually(t, "the last engine's containerd to go", func() bool { return len(processesOf(filepath.Join(h.dir, "run/containerd/containerd.toml"))) == 0 })
	for _, left := range []string{"pid", "run/containerd/containerd.pid"} {
		if err := os.Remove(filepath.Join(h.dir, left)); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	h.out, h.cmd = out, h.command()
	// Podman as root raises limits by default, which not every machine allows.
	conf := filepath.Join(h.dir, "containers.conf")
	if err := os.WriteFile(conf, []byte("[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.cmd.Env = append(os.Environ(), "CONTAINERS_CONF="+conf)
	h.cmd.Stdout, h.cmd.Stderr = out, out
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	cli := h.client(t)
	defer cli.Close()
	deadline := time.Now().Add(time.Minute)
	for {
		if _, err = cli.Ping(t.Context(), client.PingOptions{}); err == nil {
			return
		}
		if time.Now().After(deadline) {
			said, _ := os.ReadFile(out.Name())
			t.Fatalf("the engine does not come up: %v\n%s", err, said)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (h *host) client(t testing.TB) *client.Client {
	t.Helper()
	cli, err := client.New(client.WithHost(h.address()))
	if err != nil {
		t.Fatal(err)
	}
	return cli
}

// stop ends the engine with a signal, and waits until it is gone.
func (h *host) stop(sig syscall.Signal) {
	if h.cmd == nil {
		return
	}
	_ = h.cmd.Process.Signal(sig)
	_ = h.cmd.Wait()
	h.cmd = nil
	h.out.Close()
}

// end ends the engine and what it left, and removes its folders.
func (h *host) end() {
	h.stop(syscall.SIGTERM)
	for _, pid := range processesOf(h.dir + "/") { // containerd, when dockerd was killed
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	mounts, _ := os.ReadFile("/proc/self/mounts")
	for _, line := range strings.Split(string(mounts), "\n") {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], h.dir+"/") {
			_ = syscall.Unmount(f[1], syscall.MNT_DETACH)
		}
	}
	_ = os.RemoveAll(h.dir)
}

// processesOf are those whose command names a path.
func processesOf(path string) []int {
	var pids []int
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		b, err := os.ReadFile(f)
		var pid int
		if err == nil && bytes.Contains(b, []byte(path)) {
			if _, err := fmt.Sscanf(f, "/proc/%d/", &pid); err == nil && pid != os.Getpid() {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

const guestImage = "example.test/hansa/guest:latest"

// load puts the suite's program into the engine as an image.
func (h *host) load(t testing.TB) {
	t.Helper()
	cli := h.client(t)
	defer cli.Close()
	r, err := cli.ImageImport(t.Context(), client.ImageImportSource{Source: layer(t), SourceName: "-"}, guestImage, client.ImageImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if said, err := io.ReadAll(r); err != nil || bytes.Contains(said, []byte("errorDetail")) {
		t.Fatalf("import: %s, %v", said, err)
	}
}

// layer is a file system with the suite's program and a folder for files.
func layer(t testing.TB) io.Reader {
	t.Helper()
	program := guestProgram(t)
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, dir := range []string{"tmp/", "etc/", "srv/"} {
		if err := w.WriteHeader(&tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o1777}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.WriteHeader(&tar.Header{Name: "guest", Mode: 0o755, Size: int64(len(program))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(program); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &buf
}

var guestOnce = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "hansa-guest")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	at := filepath.Join(dir, "guest")
	build := exec.Command("go", "build", "-o", at, "-ldflags=-s -w", "./testdata/guest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, errors.New(string(out))
	}
	return os.ReadFile(at)
})

func guestProgram(t testing.TB) []byte {
	t.Helper()
	b, err := guestOnce()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// place is where a driver works: folders and a scope of its own at an engine.
type place struct {
	h     *host
	c     docker.Config
	scope string
}

func newPlace(t testing.TB, h *host) *place {
	t.Helper()
	p := &place{h: h, scope: strings.ReplaceAll(t.Name(), "/", ".") + "/" + filepath.Base(t.TempDir())}
	secrets, err := os.MkdirTemp("/dev/shm", "hansa-test")
	if err != nil {
		t.Fatal(err)
	}
	p.c = docker.Config{Dir: t.TempDir(), Scope: p.scope, Host: h.address(), SecretsDir: secrets}
	t.Cleanup(func() {
		p.clear(t)
		os.RemoveAll(secrets)
	})
	return p
}

func (p *place) filters() client.Filters {
	return make(client.Filters).Add("label", "hansa.scope="+p.scope)
}

// clear removes what is left of the place at the engine.
func (p *place) clear(t testing.TB) {
	if p.h.cmd == nil || t.Failed() && p.h != shared.all[p.h.kind] {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cli := p.h.client(t)
	defer cli.Close()
	all, err := cli.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: p.filters()})
	if err != nil {
		t.Error(err)
	}
	for _, c := range all.Items {
		if _, err := cli.ContainerRemove(ctx, c.ID, client.ContainerRemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
	}
	nets, err := cli.NetworkList(ctx, client.NetworkListOptions{Filters: p.filters()})
	if err != nil {
		t.Error(err)
	}
	for _, n := range nets.Items {
		_, _ = cli.NetworkRemove(ctx, n.ID, client.NetworkRemoveOptions{}) // some may be going
	}
}

func (p *place) open(t testing.TB, events func(driver.Event)) *docker.Driver {
	t.Helper()
	c := p.c
	c.Events = events
	d, err := docker.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// running runs a driver until the end of the test, or stop.
func (p *place) running(t testing.TB, events func(driver.Event)) (d *docker.Driver, stop func()) {
	t.Helper()
	d = p.open(t, events)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return d, stop
}

// program is a task that runs a verb of the suite's program.
func program(id string, verb ...string) driver.Task {
	task := driver.Task{ID: id, Kind: driver.KindContainer, Container: &driver.Container{
		Image: guestImage, Command: []string{"/guest", drivertest.GuestArg}, Args: verb,
	}}
	if verb[0] == "listen" {
		task.Container.Network = "suite"
	}
	return task
}

// containers counts those of the place that run.
func (p *place) containers(t testing.TB, all bool) int {
	t.Helper()
	cli := p.h.client(t)
	defer cli.Close()
	list, err := cli.ContainerList(context.Background(), client.ContainerListOptions{All: all, Filters: p.filters()})
	if err != nil {
		t.Fatal(err)
	}
	return len(list.Items)
}

// end runs a driver whose context is done, so that it gives back what it took.
func end(t testing.TB, run func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := run(ctx); err != nil {
		t.Error(err)
	}
}
