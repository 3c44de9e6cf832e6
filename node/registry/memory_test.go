package registry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing/iotest"

	digests "github.com/opencontainers/go-digest"

	"github.com/hansa-mesh/hansa/node/image"
	"github.com/hansa-mesh/hansa/node/registry"
	"github.com/hansa-mesh/hansa/placement"
)

// uploadsMax is how many sessions the store in memory has at once.
const uploadsMax = 8

// memory is a whole mesh of one peer: a small store, names, and no other peer.
// Elsewhere is what others hold, until it is brought here.
type memory struct {
	mu        sync.Mutex
	blobs     map[string][]byte
	elsewhere map[string][]byte
	uploads   map[string][]byte
	names     map[placement.AppKey]placement.Image
	next      int
	putErr    error // what Put says, if not nil
	commitErr error
	breaks    int // after how many bytes Read breaks off, if not 0
	passed    int // times that Read was asked
}

func newMemory() *memory {
	return &memory{
		blobs: map[string][]byte{}, elsewhere: map[string][]byte{}, uploads: map[string][]byte{},
		names: map[placement.AppKey]placement.Image{},
	}
}

type openBlob struct{ *bytes.Reader }

func (openBlob) Close() error { return nil }

func (m *memory) Size(digest string) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.blobs[digest]
	if !ok {
		return 0, registry.ErrNotFound
	}
	return int64(len(data)), nil
}

func (m *memory) Open(digest string) (io.ReadSeekCloser, int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.blobs[digest]
	if !ok {
		return nil, 0, registry.ErrNotFound
	}
	return openBlob{bytes.NewReader(data)}, int64(len(data)), nil
}

func (m *memory) Touch(string) {}

func (m *memory) Begin() (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.uploads) >= uploadsMax {
		return "", fmt.Errorf("%w uploads at once: at most %d", registry.ErrTooMany, uploadsMax)
	}
	m.next++
	id := fmt.Sprintf("upload-%d", m.next)
	m.uploads[id] = nil
	return id, nil
}

func (m *memory) Uploaded(id string) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.uploads[id]
	if !ok {
		return 0, registry.ErrNotFound
	}
	return int64(len(data)), nil
}

func (m *memory) Append(_ context.Context, id string, offset int64, r io.Reader) (int64, error) {
	more, readErr := io.ReadAll(r)
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.uploads[id]
	switch {
	case !ok:
		return 0, registry.ErrNotFound
	case offset != registry.AtEnd && offset != int64(len(data)):
		return int64(len(data)), registry.ErrOffset
	}
	m.uploads[id] = append(data, more...)
	return int64(len(m.uploads[id])), readErr
}

func (m *memory) Commit(id, digest string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.uploads[id]
	switch {
	case !ok:
		return registry.ErrNotFound
	case m.commitErr != nil:
		return m.commitErr
	}
	delete(m.uploads, id)
	if digests.Digest(digest).Algorithm().FromBytes(data).String() != digest {
		return registry.ErrDigest
	}
	m.blobs[digest] = data
	return nil
}

func (m *memory) Cancel(id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.uploads[id]; !ok {
		return registry.ErrNotFound
	}
	delete(m.uploads, id)
	return nil
}

func (m *memory) Find(_ context.Context, digest string) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.elsewhere[digest]
	if !ok {
		return 0, registry.ErrNotFound
	}
	return int64(len(data)), nil
}

func (m *memory) Ensure(_ context.Context, digest string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.elsewhere[digest]
	if !ok {
		return registry.ErrNotFound
	}
	m.blobs[digest] = data
	return nil
}

// Read gives out a blob of elsewhere, up to an error if it is to break.
func (m *memory) Read(ctx context.Context, digest string) (io.ReadCloser, int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.elsewhere[digest]
	if !ok {
		return nil, 0, registry.ErrNotFound
	}
	m.passed++
	if m.breaks > 0 {
		return io.NopCloser(io.MultiReader(bytes.NewReader(data[:m.breaks]), iotest.ErrReader(errors.New("it broke off")))), int64(len(data)), nil
	}
	m.blobs[digest] = data
	return io.NopCloser(bytes.NewReader(data)), int64(len(data)), nil
}

func (m *memory) Forget(_ context.Context, digest string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, named := range m.names {
		if m.needs(named.Digest, digest) {
			return key.App, nil
		}
	}
	delete(m.blobs, digest)
	delete(m.elsewhere, digest)
	return "", nil
}

// needs says whether digest is part of the tree of root.
func (m *memory) needs(root, digest string) bool {
	if root == digest {
		return true
	}
	parsed, err := image.Parse("", m.blobs[root])
	return err == nil && slices.ContainsFunc(parsed.Parts(), func(p image.Part) bool {
		return p.Digest == digest || p.Manifest && m.needs(p.Digest, digest)
	})
}

func (m *memory) Get(_ context.Context, repository, reference string) (placement.Image, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	named, ok := m.names[placement.ImageKey(repository, reference)]
	if !ok {
		return placement.Image{}, registry.ErrNotFound
	}
	return named, nil
}

func (m *memory) List(_ context.Context, repository string) ([]placement.Image, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []placement.Image
	for _, named := range m.names {
		if named.Repository == repository {
			out = append(out, named)
		}
	}
	slices.SortFunc(out, func(a, b placement.Image) int { return strings.Compare(a.Reference, b.Reference) })
	return out, nil
}

func (m *memory) Repositories(context.Context) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for _, named := range m.names {
		out = append(out, named.Repository)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

func (m *memory) Put(_ context.Context, named placement.Image, _ int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.putErr != nil {
		return 0, m.putErr
	}
	m.names[named.Key()] = named
	return 1, nil
}

func (m *memory) Delete(_ context.Context, repository, reference string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := placement.ImageKey(repository, reference)
	if _, ok := m.names[key]; !ok {
		return registry.ErrNotFound
	}
	delete(m.names, key)
	return nil
}
