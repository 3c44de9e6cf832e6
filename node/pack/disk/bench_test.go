package disk

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// fileSystem makes a disk of 1 GiB with an ext4 file system that holds the Go
// sources, and again with 4 MiB written into it and a file less.
func fileSystem(b *testing.B, format string) (before, after string) {
	b.Helper()
	for _, name := range []string{"mkfs.ext4", "debugfs", "qemu-img"} {
		if _, err := exec.LookPath(name); err != nil {
			b.Skipf("%s is not on this machine", name)
		}
	}
	dir := b.TempDir()
	run := func(name string, args ...string) {
		b.Helper()
		if out, err := exec.CommandContext(b.Context(), name, args...).CombinedOutput(); err != nil {
			b.Fatalf("%s %q: %v\n%s", name, args, err, out)
		}
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	run("truncate", "-s", "1G", at("a.raw"))
	run("mkfs.ext4", "-q", "-d", filepath.Join(goroot(b), "src"), at("a.raw"))
	run("cp", "--sparse=always", at("a.raw"), at("b.raw"))
	if err := os.WriteFile(at("new"), content(11, 4<<20), 0o600); err != nil {
		b.Fatal(err)
	}
	run("debugfs", "-w", "-R", "write "+at("new")+" /new", at("b.raw"))
	run("debugfs", "-w", "-R", "rm /fmt/print.go", at("b.raw"))
	if format == "raw" {
		return at("a.raw"), at("b.raw")
	}
	for _, name := range []string{"a", "b"} {
		run("qemu-img", "convert", "-O", "qcow2", at(name+".raw"), at(name+".qcow2"))
	}
	return at("a.qcow2"), at("b.qcow2")
}

// cutFile cuts a disk and says how much of it was not on the shelf.
func cutFile(b *testing.B, s *shelf, path string) (sent, size int64, x Index, layers []ocispec.Descriptor) {
	b.Helper()
	f, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		b.Fatal(err)
	}
	s.sent = 0
	x, layers, err = Cut(b.Context(), f, info.Size(), s.keep)
	if err != nil {
		b.Fatal(err)
	}
	return s.sent, info.Size(), x, layers
}

// BenchmarkChange is how much a disk ships, and how much after an edit.
func BenchmarkChange(b *testing.B) {
	for _, format := range []string{"raw", "qcow2"} {
		b.Run(format, func(b *testing.B) {
			before, after := fileSystem(b, format)
			for b.Loop() {
				s := newShelf()
				first, size, x, _ := cutFile(b, s, before)
				second, _, _, _ := cutFile(b, s, after)
				b.SetBytes(2 * size)
				b.ReportMetric(float64(first)/1e6, "first-MB")
				b.ReportMetric(float64(second)/1e6, "change-MB")
				b.ReportMetric(float64(len(x.Chunks)), "chunks")
			}
		})
	}
}

// BenchmarkCut is how fast a disk is cut into chunks and compressed, half of which is
// empty and half of which nothing makes smaller.
func BenchmarkCut(b *testing.B) {
	data := append(content(12, 64<<20), make([]byte, 64<<20)...)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, _, err := Cut(b.Context(), bytes.NewReader(data), int64(len(data)), newShelf().keep); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkJoin is how fast a disk is put together, without the disk below.
func BenchmarkJoin(b *testing.B) {
	data, s := content(12, 128<<20), newShelf()
	x, layers, err := Cut(b.Context(), bytes.NewReader(data), int64(len(data)), s.keep)
	if err != nil {
		b.Fatal(err)
	}
	f, err := os.Create(filepath.Join(b.TempDir(), "disk"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if err := x.Join(context.Background(), layers, s.open, f); err != nil {
			b.Fatal(err)
		}
	}
}

func goroot(b *testing.B) string {
	b.Helper()
	out, err := exec.CommandContext(b.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		b.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}
