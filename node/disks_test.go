package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	digests "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hansa-mesh/hansa/node/pack/disk"
	"github.com/hansa-mesh/hansa/store"
)

// packedDisk puts a disk's chunks and its manifest into a store.
func packedDisk(t *testing.T, blobs *store.Blobs, data []byte) (manifest string, layers []ocispec.Descriptor) {
	t.Helper()
	put := func(data []byte) ocispec.Descriptor {
		d := ocispec.Descriptor{Digest: digests.FromBytes(data), Size: int64(len(data))}
		w, err := blobs.Create(t.Context(), d.Digest.String(), d.Size)
		if err == nil {
			_, err = w.Write(data)
		}
		if err == nil {
			err = w.Commit()
		}
		if err != nil {
			t.Error(err)
		}
		return d
	}
	x, layers, err := disk.Cut(t.Context(), bytes.NewReader(data), int64(len(data)), func(_ context.Context, _ ocispec.Descriptor, chunk []byte) error {
		put(chunk)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	encode := func(v any) []byte {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	config := put(encode(x))
	config.MediaType = disk.IndexType
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, ArtifactType: disk.ArtifactType, Config: config, Layers: layers}
	m.SchemaVersion = 2
	return put(encode(m)).Digest.String(), layers
}

func openBlobs(t *testing.T) *store.Blobs {
	t.Helper()
	s, err := store.Open(store.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s.Blobs()
}

func diskOf(seed byte, size int) []byte {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(data) // never fails
	return data
}

const plenty = 1 << 40

func TestDisksArePutTogether(t *testing.T) {
	blobs, data := openBlobs(t), append(diskOf(1, 3<<20), make([]byte, 5<<20)...)
	manifest, layers := packedDisk(t, blobs, data)
	d := newDisks(filepath.Join(t.TempDir(), "disks"), blobs, func() int64 { return plenty })
	var paths [4]string
	var work sync.WaitGroup
	for i := range paths { // several machines of one disk start at once
		work.Go(func() {
			var err error
			if paths[i], err = d.path(t.Context(), manifest); err != nil {
				t.Error(err)
			}
		})
	}
	work.Wait()
	same := func() {
		t.Helper()
		path, err := d.path(t.Context(), manifest)
		if err != nil || path != paths[0] {
			t.Fatalf("it lies at %q, %v", path, err)
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("it is another: %v", err)
		}
	}
	same()
	if entries, err := os.ReadDir(d.dir); err != nil || len(entries) != 1 {
		t.Errorf("%d files are in the folder: %v", len(entries), err)
	}

	// What has rotted while the peer was away is put together anew.
	rotten := bytes.Clone(data)
	rotten[7]++
	if err := os.WriteFile(paths[0], rotten, 0o600); err != nil {
		t.Fatal(err)
	}
	d = newDisks(d.dir, blobs, d.room)
	same()

	// A chunk that is gone is told, and leaves nothing.
	if err := errors.Join(os.Remove(paths[0]), blobs.Delete(layers[0].Digest.String())); err != nil {
		t.Fatal(err)
	}
	if _, err := d.path(t.Context(), manifest); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("without a chunk it is %v", err)
	}
	if entries, err := os.ReadDir(d.dir); err != nil || len(entries) > 0 {
		t.Errorf("%d files are left: %v", len(entries), err)
	}
}

func TestDisksNeedRoom(t *testing.T) {
	blobs := openBlobs(t)
	hollow := append(diskOf(2, 1<<20), make([]byte, 64<<20)...)
	manifest, _ := packedDisk(t, blobs, hollow)
	room := int64(1 << 19)
	d := newDisks(t.TempDir(), blobs, func() int64 { return room })
	if _, err := d.path(t.Context(), manifest); err == nil {
		t.Error("it was put together without room")
	}
	room = 8 << 20 // holes take none
	if _, err := d.path(t.Context(), manifest); err != nil {
		t.Error(err)
	}
}

func TestDisksThatAreNone(t *testing.T) {
	blobs := openBlobs(t)
	w, err := blobs.Create(t.Context(), digests.FromString("{}").String(), 2)
	if err == nil {
		_, err = io.WriteString(w, "{}")
	}
	if err == nil {
		err = w.Commit()
	}
	if err != nil {
		t.Fatal(err)
	}
	d := newDisks(t.TempDir(), blobs, func() int64 { return plenty })
	for _, digest := range []string{digests.FromString("{}").String(), digests.FromString("none").String(), "../../etc/passwd", ""} {
		if path, err := d.path(t.Context(), digest); err == nil {
			t.Errorf("%q lies at %s", digest, path)
		}
	}
}

// A disk that no manifest here needs goes when it was not used for long.
func TestDisksArePruned(t *testing.T) {
	blobs := openBlobs(t)
	kept, _ := packedDisk(t, blobs, diskOf(3, 1<<20))
	other, _ := packedDisk(t, blobs, diskOf(4, 1<<20))
	d := newDisks(t.TempDir(), blobs, func() int64 { return plenty })
	for _, m := range []string{kept, other} {
		if _, err := d.path(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := d.prune([]string{kept}, time.Hour); n != 0 || err != nil {
		t.Errorf("%d were deleted within the hour: %v", n, err)
	}
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		t.Fatal(err)
	}
	long := time.Now().Add(-2 * time.Hour)
	for _, e := range entries {
		if err := os.Chtimes(filepath.Join(d.dir, e.Name()), long, long); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := d.prune([]string{kept, "sha256:none"}, time.Hour); n != 1 || err != nil {
		t.Errorf("%d were deleted: %v", n, err)
	}
	for _, m := range []string{kept, other} { // it is made again when it is wanted
		if _, err := d.path(t.Context(), m); err != nil {
			t.Error(err)
		}
	}
}

// Who waits for a disk that somebody else was to put together, and was stopped,
// puts it together.
func TestDiskOfAStoppedMachine(t *testing.T) {
	blobs, data := openBlobs(t), diskOf(5, 1<<20)
	manifest, _ := packedDisk(t, blobs, data)
	gone, cancel := context.WithCancel(t.Context())
	d := newDisks(t.TempDir(), blobs, func() int64 { cancel(); return plenty })
	if _, err := d.path(gone, manifest); !errors.Is(err, context.Canceled) {
		t.Errorf("the stopped one has %v", err)
	}
	if _, err := d.path(t.Context(), manifest); err != nil {
		t.Error(err)
	}
}
