package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// PartsMax bounds the blobs of one tree.
	PartsMax = 50_000
	// fetchesMax bounds the blobs of one tree that are fetched at once.
	fetchesMax = 4
)

// Store is what of files by digest a walk needs. Open verifies what it opens.
type Store interface {
	Has(digest string) bool
	Open(digest string) (io.ReadSeekCloser, int64, error)
}

// Part is one blob of a tree.
type Part struct {
	Digest   string
	Size     int64 // as whoever names it says; 0 when nobody said
	Manifest bool  // it is made of others
}

// Tree is what was found of a manifest and all that it is made of.
type Tree struct {
	Parts   []Part // those that are known, the root first, each once
	Missing []Part // of those, what is not here: what a missing manifest is made of is not known
}

// Whole says whether all of the tree is here.
func (t Tree) Whole() bool { return len(t.Missing) == 0 && len(t.Parts) > 0 }

// Size is the bytes of all parts that are known.
func (t Tree) Size() (sum int64) {
	for _, p := range t.Parts {
		sum += p.Size
	}
	return sum
}

// Walk looks what of the tree under a manifest is here: of indexes all manifests, or
// with arch those that run there or say nothing of where they run. A manifest that
// can't be read is an error, unless it is just not here.
func Walk(store Store, root, arch string) (Tree, error) {
	var t Tree
	seen := map[string]bool{root: true}
	level := []Part{{Digest: root, Manifest: true}}
	for depth := 0; len(level) > 0; depth++ {
		if depth > DepthMax {
			return Tree{}, fmt.Errorf("image %s: %w: indexes within indexes, more than %d deep", root, ErrInvalid, DepthMax)
		}
		var next []Part
		for _, p := range level {
			children, err := t.visit(store, p, arch)
			if err != nil {
				return Tree{}, fmt.Errorf("image %s: %w", root, err)
			}
			for _, c := range children {
				if !seen[c.Digest] {
					seen[c.Digest] = true
					next = append(next, c)
				}
			}
			if len(seen) > PartsMax {
				return Tree{}, fmt.Errorf("image %s: %w: it is made of more than %d blobs", root, ErrInvalid, PartsMax)
			}
		}
		level = next
	}
	return t, nil
}

// visit notes a part, and gives what it is made of.
func (t *Tree) visit(store Store, p Part, arch string) ([]Part, error) {
	at := len(t.Parts)
	t.Parts = append(t.Parts, p)
	if !store.Has(p.Digest) {
		t.Missing = append(t.Missing, p)
		return nil, nil
	}
	if !p.Manifest {
		return nil, nil
	}
	data, err := read(store, p.Digest)
	switch {
	case errors.Is(err, ErrInvalid):
		return nil, err
	case err != nil: // it is not what it was, or went meanwhile
		t.Missing = append(t.Missing, p)
		return nil, nil
	}
	t.Parts[at].Size = int64(len(data))
	m, err := Parse("", data)
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", p.Digest, err)
	}
	return m.partsOn(arch), nil
}

func read(store Store, digest string) ([]byte, error) {
	file, size, err := store.Open(digest)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if size > ManifestMax {
		return nil, fmt.Errorf("manifest %s: %w: %d bytes, at most %d", digest, ErrInvalid, size, ManifestMax)
	}
	return io.ReadAll(io.LimitReader(file, size))
}

// Parts are the blobs that the manifest is made of, without those that are not
// distributed with it.
func (m Manifest) Parts() []Part { return m.partsOn("") }

// partsOn are Parts without what is for another architecture or system alone.
func (m Manifest) partsOn(arch string) []Part {
	var out []Part
	for _, d := range m.Children() {
		if arch != "" && d.Platform != nil && !runsOn(*d.Platform, arch) {
			continue
		}
		if distributed(d) {
			out = append(out, Part{Digest: d.Digest.String(), Size: d.Size, Manifest: IsManifest(d.MediaType)})
		}
	}
	return out
}

// runsOn says whether a part of an index is for Linux on an architecture, or says
// nothing that is against it.
func runsOn(p ocispec.Platform, arch string) bool {
	return (p.Architecture == "" || p.Architecture == arch) && (p.OS == "" || p.OS == "linux")
}

// distributed is false for layers that are to be had from somewhere else only.
func distributed(d ocispec.Descriptor) bool {
	return !strings.Contains(d.MediaType, ".nondistributable.") && !strings.Contains(d.MediaType, ".foreign.")
}

// Fetch brings a tree here: fetch is called for each part that is missing, for
// several at once, until all is here or one does not come.
func Fetch(ctx context.Context, store Store, root, arch string, fetch func(context.Context, Part) error) error {
	for range DepthMax + 2 { // each round reads manifests one level further down
		t, err := Walk(store, root, arch)
		if err != nil || t.Whole() {
			return err
		}
		if err := each(ctx, t.Missing, fetch); err != nil {
			return fmt.Errorf("image %s: %w", root, err)
		}
	}
	return fmt.Errorf("image %s: what was fetched of it does not stay here", root)
}

// each calls fetch for all parts; after the first error it begins no other.
func each(ctx context.Context, parts []Part, fetch func(context.Context, Part) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	room := make(chan struct{}, fetchesMax)
	var work sync.WaitGroup
	for _, p := range parts {
		select {
		case room <- struct{}{}:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		work.Go(func() {
			defer func() { <-room }()
			if err := fetch(ctx, p); err != nil {
				cancel(err)
			}
		})
	}
	work.Wait()
	return context.Cause(ctx)
}
