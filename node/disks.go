package node

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	digests "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hansa-mesh/hansa/node/image"
	"github.com/hansa-mesh/hansa/node/pack/disk"
	"github.com/hansa-mesh/hansa/store"
)

// disks are those of machines that came in chunks, put together: files in a
// folder, each under its own digest. They are made when a machine first starts
// from one, and again when one is gone: the chunks stay, as long as an app needs
// them.
type disks struct {
	dir   string
	blobs *store.Blobs
	room  func() int64 // bytes that may be written

	mu     sync.Mutex                     // guards what follows
	making map[digests.Digest]*making     // by the digest of the whole
	whole  map[digests.Digest]os.FileInfo // as it was when it was read through
}

// making is one disk that is put together; whoever else wants it waits.
type making struct {
	done chan struct{} // closed when it is over
	err  error         // set before
}

func newDisks(dir string, blobs *store.Blobs, room func() int64) *disks {
	return &disks{dir: dir, blobs: blobs, room: room, making: map[digests.Digest]*making{}, whole: map[digests.Digest]os.FileInfo{}}
}

// path is where the disk of a manifest lies, whole: it is put together first, if it
// is not there. The manifest and all its chunks must be at this peer.
func (d *disks) path(ctx context.Context, manifest string) (string, error) {
	x, layers, err := d.read(manifest)
	if err != nil {
		return "", fmt.Errorf("disk %s: %w", manifest, err)
	}
	path := d.file(x.Digest)
	for {
		err := d.once(ctx, x.Digest, func() error { return d.ready(ctx, x, layers, path) })
		switch {
		case err == nil:
			return path, nil
		case ctx.Err() != nil:
			return "", context.Cause(ctx)
		case !errors.Is(err, context.Canceled): // else who put it together was to be stopped
			return "", fmt.Errorf("disk %s: %w", manifest, err)
		}
	}
}

// once puts a disk together, or waits for who does.
func (d *disks) once(ctx context.Context, whole digests.Digest, ready func() error) error {
	d.mu.Lock()
	m := d.making[whole]
	if m == nil {
		m = &making{done: make(chan struct{})}
		d.making[whole] = m
		d.mu.Unlock()
		m.err = ready()
		d.mu.Lock()
		delete(d.making, whole)
		close(m.done)
	}
	d.mu.Unlock()
	select {
	case <-m.done:
		return m.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (d *disks) file(whole digests.Digest) string { return filepath.Join(d.dir, whole.Encoded()) }

// read reads what a disk is made of.
func (d *disks) read(manifest string) (disk.Index, []ocispec.Descriptor, error) {
	data, err := d.small(manifest, image.ManifestMax)
	if err != nil {
		return disk.Index{}, nil, err
	}
	m, err := image.Parse("", data)
	if err != nil {
		return disk.Index{}, nil, err
	}
	if m.Config == nil || m.Config.MediaType != disk.IndexType {
		return disk.Index{}, nil, fmt.Errorf("%w: it is a %q; hansa pack makes disks", disk.ErrInvalid, m.ArtifactType)
	}
	if data, err = d.small(m.Config.Digest.String(), disk.IndexMax); err != nil {
		return disk.Index{}, nil, err
	}
	x, err := disk.Parse(data, m.Layers)
	return x, m.Layers, err
}

// small reads a file of at most so many bytes, verified.
func (d *disks) small(digest string, most int64) ([]byte, error) {
	r, size, err := d.blobs.Open(digest)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if size > most {
		return nil, fmt.Errorf("%w: %s has %d bytes, at most %d", disk.ErrInvalid, digest, size, most)
	}
	return io.ReadAll(r)
}

// ready sees to it that a disk is there, and what it should be.
func (d *disks) ready(ctx context.Context, x disk.Index, layers []ocispec.Descriptor, path string) error {
	now := time.Now()
	switch err := d.check(x, path); {
	case err == nil:
		_ = os.Chtimes(path, now, now) // prune goes by it
		return nil
	case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, disk.ErrInvalid):
		return err
	}
	if need, room := x.Stored(), d.room(); need > room {
		return fmt.Errorf("it takes %d MiB, and %d MiB of the disk may be used", need>>20, max(0, room)>>20)
	}
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(d.dir, partialDisk+"*")
	if err != nil {
		return err
	}
	err = x.Join(ctx, layers, func(_ context.Context, layer ocispec.Descriptor) (io.ReadCloser, error) {
		r, _, err := d.blobs.Open(layer.Digest.String())
		return r, err
	}, f)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return d.learn(x.Digest, path)
}

const partialDisk = "partial-"

// check reads a disk through when this life of the peer has not yet, or when it
// looks touched: what has rotted is put together anew.
func (d *disks) check(x disk.Index, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	d.mu.Lock()
	known := d.whole[x.Digest]
	d.mu.Unlock()
	if known != nil && os.SameFile(known, info) && known.Size() == info.Size() {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return err
	}
	if got := digests.NewDigest(digests.SHA256, sum); got != x.Digest {
		return fmt.Errorf("%w: the file is %s by now", disk.ErrInvalid, got)
	}
	return d.learn(x.Digest, path)
}

func (d *disks) learn(whole digests.Digest, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.whole[whole] = info
	return nil
}

// prune deletes the disks that none of the manifests is of, once they were not
// used for as long as grace: it counts those that it deleted.
func (d *disks) prune(manifests []string, grace time.Duration) (int, error) {
	wanted := map[string]bool{}
	for _, m := range manifests {
		if x, _, err := d.read(m); err == nil {
			wanted[x.Digest.Encoded()] = true
		}
	}
	entries, err := os.ReadDir(d.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	deleted := 0
	for _, e := range entries {
		info, infoErr := e.Info()
		if infoErr != nil || wanted[e.Name()] || time.Since(info.ModTime()) < grace {
			continue
		}
		if removeErr := os.Remove(filepath.Join(d.dir, e.Name())); removeErr != nil {
			err = errors.Join(err, removeErr)
			continue
		}
		d.mu.Lock()
		delete(d.whole, digests.NewDigestFromEncoded(digests.SHA256, e.Name()))
		d.mu.Unlock()
		deleted++
	}
	return deleted, err
}

// roomForDisks is how many bytes may be written before the store takes no more.
func (n *Node) roomForDisks() int64 {
	s := n.store.Stats()
	return s.Free - s.Floor
}

// sweepDisks deletes the disks that nothing here is to run from.
func (n *Node) sweepDisks(ctx context.Context) {
	refs, err := n.referenced(ctx)
	if err != nil {
		return // the sweep that calls this says so
	}
	var manifests []string
	for _, r := range refs {
		if r.Tree && r.Here {
			manifests = append(manifests, r.Digest)
		}
	}
	if _, err := n.disks.prune(manifests, n.cfg.ImagesGrace); err != nil {
		n.log.Warn("disks that nothing needs could not be deleted; it is tried again", "err", err)
	}
}
