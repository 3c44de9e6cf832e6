package registry_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/crane"

	"github.com/hansa-mesh/hansa/node/registry/clients"
)

// tarball is a file system with one file, on disk.
func tarball(t *testing.T, text string) string {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	fatal(t, w.WriteHeader(&tar.Header{Name: "hello", Mode: 0o644, Size: int64(len(text))}))
	_, err := w.Write([]byte(text))
	fatal(t, err)
	fatal(t, w.Close())
	path := filepath.Join(t.TempDir(), "files.tar")
	fatal(t, os.WriteFile(path, buf.Bytes(), 0o600))
	return path
}

// needRoot skips where no engine of the test's own can run.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("an engine of the test's own needs root")
	}
}

// What Docker pushes it gets back, and others can read it.
func TestDocker(t *testing.T) {
	needRoot(t)
	at := serveMemory(t)
	host := startDocker(t)
	docker := func(args ...string) string { return clients.Run(t, []string{"DOCKER_HOST=" + host}, "docker", args...) }
	image := at + "/shop/api:docker"
	docker("import", tarball(t, "hello"), image)
	pushed := docker("push", image)
	digest, err := crane.Digest(image)
	fatal(t, err)
	if !strings.Contains(pushed, digest) {
		t.Errorf("docker pushed %s, and %s is there", pushed, digest)
	}
	docker("rmi", image)
	docker("pull", image)
	docker("pull", at+"/shop/api@"+digest)
	docker("tag", image, at+"/other/api:1")
	if out := docker("push", at+"/other/api:1"); !strings.Contains(out, "Mounted from shop/api") && !strings.Contains(out, "Layer already exists") {
		t.Errorf("the layer was sent again: %s", out)
	}
}

// startDocker starts an engine with folders of its own, and is its address.
func startDocker(t *testing.T) string {
	t.Helper()
	clients.Run(t, nil, "dockerd", "--version")  // or skip
	dir, err := os.MkdirTemp("", "hansa-engine") // short: sockets have short names
	fatal(t, err)
	in := func(name string) string { return filepath.Join(dir, name) }
	fatal(t, os.WriteFile(in("daemon.json"), []byte("{}"), 0o600))
	log, err := os.Create(in("log"))
	fatal(t, err)
	host := "unix://" + in("engine.sock")
	cmd := exec.Command("dockerd", "--config-file", in("daemon.json"), "--data-root", in("root"), "--exec-root", in("run"),
		"--pidfile", in("pid"), "-H", host, "--bridge", "none", "--containerd-namespace", filepath.Base(dir), "--log-level", "warn")
	cmd.Stdout, cmd.Stderr = log, log
	fatal(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait() // ended by the signal
		log.Close()
		unmountBelow(t, dir)
		fatal(t, os.RemoveAll(dir))
	})
	deadline := time.Now().Add(time.Minute)
	for ; ; time.Sleep(50 * time.Millisecond) {
		check := exec.Command("docker", "version")
		check.Env = append(os.Environ(), "DOCKER_HOST="+host)
		if out, err := check.CombinedOutput(); err == nil {
			return host
		} else if time.Now().After(deadline) {
			said, _ := os.ReadFile(in("log"))
			t.Fatalf("the engine does not come up: %v\n%s\n%s", err, out, said)
		}
	}
}

// unmountBelow lets go of what an engine left mounted.
func unmountBelow(t *testing.T, dir string) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	fatal(t, err)
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], dir+"/") {
			_ = syscall.Unmount(f[1], syscall.MNT_DETACH)
		}
	}
}

func TestPodman(t *testing.T) {
	needRoot(t)
	at := serveMemory(t)
	dir, err := os.MkdirTemp("", "hansa-podman")
	fatal(t, err)
	t.Cleanup(func() {
		unmountBelow(t, dir)
		fatal(t, os.RemoveAll(dir))
	})
	in := func(name string) string { return filepath.Join(dir, name) }
	podman := func(args ...string) string {
		return clients.Run(t, nil, "podman", append([]string{"--root", in("root"), "--runroot", in("run"), "--tmpdir", in("tmp"),
			"--cgroup-manager", "cgroupfs", "--events-backend", "file"}, args...)...)
	}
	for _, format := range []string{"gzip", "zstd"} {
		image := fmt.Sprintf("%s/shop/api:%s", at, format)
		podman("import", tarball(t, "packed with "+format), image)
		podman("push", "--tls-verify=false", "--compression-format", format, image)
		podman("rmi", image)
		podman("pull", "--tls-verify=false", image)
		raw, err := crane.Manifest(image)
		fatal(t, err)
		if !strings.Contains(string(raw), "tar+"+format) {
			t.Errorf("%s: %s", format, raw)
		}
	}
}
