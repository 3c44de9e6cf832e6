package registry_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

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
	uploads   map[string]*bytes.Buffer
	busy      map[string]bool
	names     map[placement.AppKey]placement.Image
	next      int
	putErr    error // what Put says, if not nil
	commitErr error
}

func newMemory() *memory {
	return &memory{
		blobs: map[string][]byte{}, elsewhere: map[string][]byte{}, uploads: map[string]*bytes.Buffer{},
		busy: map[string]bool{}, names: map[placement.AppKey]placement.Image{},
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

func (m *memory) Begin(context.Context) (registry.Upload, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.uploads) >= uploadsMax {
		return nil, fmt.Errorf("%w uploads at once: at most %d", registry.ErrTooMany, uploadsMax)
	}
	m.next++
	id := fmt.Sprintf("upload-%d", m.next)
	m.uploads[id], m.busy[id] = &bytes.Buffer{}, true
	return &upload{m, id, m.uploads[id]}, nil
}

func (m *memory) Resume(_ context.Context, id string) (registry.Upload, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	buf, ok := m.uploads[id]
	switch {
	case !ok:
		return nil, registry.ErrNotFound
	case m.busy[id]:
		return nil, fmt.Errorf("%w writers of upload %s", registry.ErrTooMany, id)
	}
	m.busy[id] = true
	return &upload{m, id, buf}, nil
}

type upload struct {
	m   *memory
	id  string
	buf *bytes.Buffer
}

func (u *upload) ID() string                  { return u.id }
func (u *upload) Offset() int64               { return int64(u.buf.Len()) }
func (u *upload) Write(p []byte) (int, error) { return u.buf.Write(p) }

func (u *upload) Commit(digest string) error {
	u.m.mu.Lock()
	defer u.m.mu.Unlock()
	if u.m.commitErr != nil {
		return u.m.commitErr
	}
	delete(u.m.uploads, u.id)
	if digests.Digest(digest).Algorithm().FromBytes(u.buf.Bytes()).String() != digest {
		return registry.ErrDigest
	}
	u.m.blobs[digest] = u.buf.Bytes()
	return nil
}

func (u *upload) Close() error {
	u.m.mu.Lock()
	defer u.m.mu.Unlock()
	delete(u.m.busy, u.id)
	return nil
}

func (u *upload) Cancel() error {
	u.m.mu.Lock()
	defer u.m.mu.Unlock()
	delete(u.m.uploads, u.id)
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
