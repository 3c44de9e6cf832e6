package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hansa-mesh/hansa/node/artifact"
	"github.com/hansa-mesh/hansa/node/registry"
	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/store"
)

// copiesDefault is how many peers hold an image before its push is acknowledged,
// where so many are in reach.
const copiesDefault = 2

// openRegistry wires what clients of registries speak to.
func (n *Node) openRegistry() error {
	n.pushes = &registryCounts{served: map[string]registryCount{}}
	n.registry = registry.New(registry.Config{
		Blobs: registryBlobs{n.store.Blobs(), n.images.guard.Use, n.images.forgotten.want, n.come}, Mesh: registryMesh{n}, Names: registryNames{n},
		BlobMax: store.BlobMax, Log: n.log.With("part", "registry"), Observer: n.pushes,
	})
	return nil
}

// registryErrors are errors of the islands and the registry's words for them. Of an
// error of several kinds the first decides: what is here and has rotted is not found,
// so that it is brought from others, and no fault of the client's.
var registryErrors = []struct{ kind, words error }{
	{store.ErrNotFound, registry.ErrNotFound}, {placement.ErrNotFound, registry.ErrNotFound},
	{store.ErrDigest, registry.ErrDigest}, {store.ErrOffset, registry.ErrOffset}, {store.ErrBusy, registry.ErrTooMany},
	{store.ErrFull, registry.ErrNoRoom}, {store.ErrFailed, registry.ErrNoRoom}, {placement.ErrFull, registry.ErrNoRoom},
	{placement.ErrConflict, registry.ErrConflict}, {placement.ErrLimit, registry.ErrTooMany},
	{placement.ErrTooFew, registry.ErrCopies}, {placement.ErrUnavailable, registry.ErrCopies},
	{artifact.ErrNoHolder, registry.ErrNotFound},
}

// registryError puts an error of the islands in the registry's words.
func registryError(err error) error {
	for _, e := range registryErrors {
		if errors.Is(err, e.kind) {
			return fmt.Errorf("%w: %w", e.words, err)
		}
	}
	return err
}

// registryBlobs is the store's files as package registry wants them.
type registryBlobs struct {
	*store.Blobs
	use  func(digest string) // it is needed soon
	want func(digest string) // it is pushed, whoever deleted it
	come func(digest string) // it is here now
}

func (b registryBlobs) Size(digest string) (int64, error) {
	size, err := b.Blobs.Size(digest)
	return size, registryError(err)
}

func (b registryBlobs) Open(digest string) (io.ReadSeekCloser, int64, error) {
	file, size, err := b.Blobs.Open(digest)
	if errors.Is(err, store.ErrCorrupt) { // it was put aside: others may hold it whole
		err = errors.Join(store.ErrNotFound, err)
	}
	if err != nil {
		return nil, 0, registryError(err)
	}
	return file, size, nil
}

func (b registryBlobs) Touch(digest string) { b.use(digest) }

func (b registryBlobs) Begin() (string, error) {
	u, err := b.BeginUpload()
	return u.ID, registryError(err)
}

func (b registryBlobs) Uploaded(id string) (int64, error) {
	u, err := b.Upload(id)
	return u.Size, registryError(err)
}

func (b registryBlobs) Append(ctx context.Context, id string, offset int64, r io.Reader) (int64, error) {
	if offset == registry.AtEnd {
		offset = store.OffsetEnd
	}
	u, err := b.AppendUpload(ctx, id, offset, r)
	return u.Size, registryError(err)
}

func (b registryBlobs) Commit(id, digest string) error {
	b.want(digest)
	b.use(digest) // before it is here, so that nobody finds it unneeded first
	_, err := b.CommitUpload(id, digest)
	if err == nil {
		b.come(digest)
	}
	return registryError(err)
}

func (b registryBlobs) Cancel(id string) error { return registryError(b.CancelUpload(id)) }

// registryMesh is the other peers as package registry wants them.
type registryMesh struct{ n *Node }

func (m registryMesh) Find(ctx context.Context, digest string) (int64, error) {
	size, err := m.n.findFile(ctx, digest)
	return size, registryError(err)
}

func (m registryMesh) Ensure(ctx context.Context, digest string) error {
	m.n.images.forgotten.want(digest)
	return registryError(m.n.fetchFile(ctx, digest, 0, nil))
}

func (m registryMesh) Read(ctx context.Context, digest string) (io.ReadCloser, int64, error) {
	m.n.images.forgotten.want(digest)
	r, err := m.n.readArriving(ctx, digest)
	if err != nil {
		return nil, 0, registryError(err)
	}
	return arriving{r, m.n, digest}, r.Size(), nil
}

// arriving is a file that is read while it comes.
type arriving struct {
	*artifact.Reader
	n      *Node
	digest string
}

func (a arriving) Close() error {
	err := a.Reader.Close()
	if a.n.store.Blobs().Has(a.digest) {
		a.n.come(a.digest)
	}
	return err
}

// Forget tries again for a moment when this peer knows of nothing that needs the
// file: another may not have heard yet that what needed it was removed, or had it
// on its way.
func (m registryMesh) Forget(ctx context.Context, digest string) (user string, err error) {
	for range forgetTries {
		if user, err = m.n.userOf(ctx, digest); err != nil || user != "" {
			return user, registryError(err)
		}
		if user, err = m.n.forgetFile(ctx, digest); err != nil {
			return "", registryError(err)
		}
		if _, err := m.n.findFile(ctx, digest); user == "" && errors.Is(err, placement.ErrNotFound) {
			return "", nil
		}
		select {
		case <-time.After(forgetEvery):
		case <-ctx.Done():
			return user, ctx.Err()
		}
	}
	return user, nil
}

// How often, and how long after each other, a file is tried to be deleted.
const (
	forgetTries = 10
	forgetEvery = 100 * time.Millisecond
)
