package pack

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	digests "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/hansa-mesh/hansa/node/image"
)

// Limits of what is copied at once.
const (
	blobsAtOnce     = 4
	manifestsMax    = 10_000   // of one tree
	manifestBytes   = 64 << 20 // of one tree
	blobBytesMax    = 64 << 30 // of one blob
	blobsOfATreeMax = 200_000
)

// Copy copies all that a manifest is made of, each once and only what is not
// there, children first. The manifest itself is the caller's to put, or to tag.
func Copy(ctx context.Context, from Source, root ocispec.Descriptor, to Target) (Manifest, error) {
	t := tree{from: from, to: to, seen: map[digests.Digest]bool{}}
	if err := t.walk(ctx, root, 0); err != nil {
		return Manifest{}, err
	}
	group, blobsCtx := errgroup.WithContext(ctx)
	group.SetLimit(blobsAtOnce)
	for _, d := range t.blobs {
		group.Go(func() error { return copyBlob(blobsCtx, from, d, to) })
	}
	if err := group.Wait(); err != nil {
		return Manifest{}, err
	}
	for _, m := range t.manifests {
		if m.Descriptor.Digest == root.Digest {
			return m, nil // the last
		}
		if err := to.Put(ctx, m.Descriptor, fromMemory(m.Data)); err != nil {
			return Manifest{}, fmt.Errorf("put manifest %s: %w", m.Descriptor.Digest, err)
		}
	}
	data, _, err := readManifest(ctx, from, root) // all of it was there
	return Manifest{root, data}, err
}

func copyBlob(ctx context.Context, from Source, d ocispec.Descriptor, to Target) error {
	if has, err := to.Has(ctx, d); err != nil {
		return fmt.Errorf("look for %s: %w", d.Digest, err)
	} else if has {
		return nil
	}
	if err := to.Put(ctx, d, func() (io.ReadCloser, error) { return openVerified(ctx, from, d) }); err != nil {
		return fmt.Errorf("copy %s: %w", d.Digest, err)
	}
	return nil
}

// tree is what of a manifest has to be copied.
type tree struct {
	from Source
	to   Target
	seen map[digests.Digest]bool

	blobs     []ocispec.Descriptor
	manifests []Manifest // children first
	bytes     int64
}

func (t *tree) walk(ctx context.Context, d ocispec.Descriptor, depth int) error {
	if t.seen[d.Digest] {
		return nil
	}
	t.seen[d.Digest] = true
	if !isManifest(d) {
		if d.Size < 0 || d.Size > blobBytesMax || len(t.blobs) == blobsOfATreeMax {
			return fmt.Errorf("%s: %w: a blob of %d bytes, or more than %d blobs", d.Digest, ErrInvalid, d.Size, blobsOfATreeMax)
		}
		t.blobs = append(t.blobs, d)
		return nil
	}
	if depth > image.DepthMax {
		return fmt.Errorf("%s: %w: indexes within indexes, more than %d deep", d.Digest, ErrInvalid, image.DepthMax)
	}
	if has, err := t.to.Has(ctx, d); has || err != nil {
		return err
	}
	data, m, err := readManifest(ctx, t.from, d)
	if err != nil {
		return err
	}
	t.bytes += d.Size
	if len(t.manifests) == manifestsMax || t.bytes > manifestBytes {
		return fmt.Errorf("%s: %w: more than %d manifests, or %d bytes of them", d.Digest, ErrInvalid, manifestsMax, manifestBytes)
	}
	for _, child := range m.Children() {
		if err := t.walk(ctx, child, depth+1); err != nil {
			return err
		}
	}
	t.manifests = append(t.manifests, Manifest{d, data})
	return nil
}

// Counted is a Target that counts what goes to it.
type Counted struct {
	Target
	Sent, SentBytes   atomic.Int64
	There, ThereBytes atomic.Int64 // were there already

	mu    sync.Mutex // guards known
	known map[digests.Digest]bool
}

// Count counts what goes to a target. What it has found there once, or put, it
// does not ask for again.
func Count(to Target) *Counted { return &Counted{Target: to, known: map[digests.Digest]bool{}} }

// Has counts what is there.
func (c *Counted) Has(ctx context.Context, d ocispec.Descriptor) (bool, error) {
	if c.isKnown(d.Digest) {
		return true, nil
	}
	has, err := c.Target.Has(ctx, d)
	if has && err == nil && c.learn(d.Digest) {
		c.There.Add(1)
		c.ThereBytes.Add(d.Size)
	}
	return has, err
}

// Put counts what is sent.
func (c *Counted) Put(ctx context.Context, d ocispec.Descriptor, open func() (io.ReadCloser, error)) error {
	if c.isKnown(d.Digest) {
		return nil
	}
	err := c.Target.Put(ctx, d, open)
	if err == nil && c.learn(d.Digest) {
		c.Sent.Add(1)
		c.SentBytes.Add(d.Size)
	}
	return err
}

func (c *Counted) isKnown(d digests.Digest) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known[d]
}

func (c *Counted) learn(d digests.Digest) (isNew bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	isNew = !c.known[d]
	c.known[d] = true
	return isNew
}
