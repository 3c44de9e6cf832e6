package qemu

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hansa-mesh/hansa/node/driver"
)

func qemuImg(t testing.TB, args ...string) {
	t.Helper()
	path, err := exec.LookPath("qemu-img")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("%v: apt install qemu-utils", err)
	}
	if out, err := exec.Command(path, args...).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img %v: %v: %s", args, err, out)
	}
}

// noise is what no file system makes less of.
func noise(n int) []byte {
	b, x := make([]byte, n), uint32(1)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
}

func TestInspect(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	write := func(name string, content []byte) string {
		t.Helper()
		if err := os.WriteFile(at(name), content, 0o600); err != nil {
			t.Fatal(err)
		}
		return at(name)
	}
	raw := write("raw", noise(8<<20))
	qemuImg(t, "create", "-q", "-f", "qcow2", at("empty"), "1G")
	qemuImg(t, "convert", "-f", "raw", "-O", "qcow2", raw, at("full"))
	qemuImg(t, "convert", "-f", "raw", "-O", "qcow2", "-c", raw, at("compressed"))
	qemuImg(t, "create", "-q", "-f", "qcow2", "-F", "raw", "-b", "/etc/passwd", at("backed"), "1M")
	qemuImg(t, "create", "-q", "-f", "qcow2", "-o", "data_file="+at("elsewhere"), at("split"), "1M")
	qemuImg(t, "convert", "-f", "raw", "-O", "vmdk", raw, at("vmdk"))
	whole, err := os.ReadFile(at("full"))
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(whole)
	l1 := binary.BigEndian.Uint64(damaged[40:])
	binary.BigEndian.PutUint64(damaged[l1:], 1<<62|7<<40) // its first table is far beyond the end
	for _, c := range []struct {
		name, path string
		want       image
		why        string
	}{
		{"raw", raw, image{"raw", 8 << 20}, ""},
		{"qcow2", at("full"), image{"qcow2", 8 << 20}, ""},
		{"compressed", at("compressed"), image{"qcow2", 8 << 20}, ""},
		{"never written to", at("empty"), image{"qcow2", 1 << 30}, ""},
		{"of a partition", write("part", disk(1<<20, 2048, 16)), image{"raw", 1 << 20}, ""},
		{"truncated in its data", write("cut", whole[:4<<20]), image{}, "truncated"},
		{"truncated in its tables", write("cut2", whole[:100<<10]), image{}, "truncated"},
		{"truncated in its header", write("cut3", whole[:50]), image{}, "truncated"},
		{"damaged", write("damaged", damaged), image{}, "damaged"},
		{"raw, truncated", write("cut4", disk(1<<20, 2048, 4096)), image{}, "truncated"},
		{"raw with a GPT, truncated", write("cut5", gpt(1<<20, 1<<30)), image{}, "truncated"},
		{"empty file", write("nothing", nil), image{}, "0 bytes"},
		{"with a backing file", at("backed"), image{}, "backing file"},
		{"with its data elsewhere", at("split"), image{}, "in another file"},
		{"of another format", at("vmdk"), image{}, "VMDK"},
		{"packed", write("gz", append([]byte{0x1f, 0x8b}, noise(1024)...)), image{}, "gzip"},
	} {
		got, err := inspect(t.Context(), "qemu-img", c.path)
		switch {
		case c.why == "" && (err != nil || got != c.want):
			t.Errorf("%s: %+v, %v, want %+v", c.name, got, err, c.want)
		case c.why != "" && (!errors.Is(err, driver.ErrInvalid) || !strings.Contains(err.Error(), c.why)):
			t.Errorf("%s: %+v, %v, want it invalid: %s", c.name, got, err, c.why)
		}
	}
}

// disk is a raw one with a partition.
func disk(size int, first, sectors uint32) []byte {
	b := make([]byte, size)
	p := b[446:]
	p[0], p[4] = 0x80, 0x83
	if int(first+sectors)*512 > size && sectors < 4096 {
		first = 16
	}
	binary.LittleEndian.PutUint32(p[8:], first)
	binary.LittleEndian.PutUint32(p[12:], sectors)
	b[510], b[511] = 0x55, 0xAA
	return b
}

// gpt is a raw one that was as large as whole.
func gpt(size int, whole uint64) []byte {
	b := disk(size, 1, 1)
	copy(b[512:], "EFI PART")
	binary.LittleEndian.PutUint64(b[512+32:], whole/512-1)
	return b
}

func FuzzInspectHeader(f *testing.F) {
	f.Add([]byte("QFI\xfb\x00\x00\x00\x03"), int64(8))
	f.Add(make([]byte, 104), int64(1<<20))
	f.Fuzz(func(t *testing.T, header []byte, size int64) {
		if len(header) > 104 {
			header = header[:104]
		}
		if err := checkQcow2(header, max(0, size)); err == nil && binary.BigEndian.Uint64(header[8:]) != 0 {
			t.Errorf("a backing file is let through")
		}
		_ = checkRaw(bytes.NewReader(header), int64(len(header)))
	})
}
