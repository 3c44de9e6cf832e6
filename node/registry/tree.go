package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"

	"github.com/hansa-mesh/hansa/node/image"
)

// checkTree brings everything under a manifest here and is its bytes together,
// those of the manifest itself (own) included. What the manifest names and the
// mesh has not, or has with another length, is refused.
func (g *Registry) checkTree(ctx context.Context, m image.Manifest, own int64) (int64, error) {
	seen := map[string]bool{}
	total := own
	var next []image.Part
	note := func(m image.Manifest) error {
		for _, p := range m.Parts() {
			if !seen[p.Digest] {
				seen[p.Digest] = true
				next = append(next, p)
				total += p.Size
			}
		}
		if len(seen) > image.PartsMax {
			return problem(http.StatusBadRequest, codeManifestInvalid, "more than %d blobs under one manifest", image.PartsMax)
		}
		return nil
	}
	if err := note(m); err != nil {
		return 0, err
	}
	for depth := 1; len(next) > 0; depth++ {
		level := next
		next = nil
		if depth > image.DepthMax && slices.ContainsFunc(level, func(p image.Part) bool { return p.Manifest }) {
			return 0, problem(http.StatusBadRequest, codeManifestInvalid, "indexes within indexes: at most %d deep", image.DepthMax)
		}
		if err := g.gather(ctx, level); err != nil {
			return 0, err
		}
		for _, p := range level {
			if !p.Manifest {
				continue
			}
			child, err := g.child(ctx, p)
			if err != nil {
				return 0, err
			}
			if err := note(child); err != nil {
				return 0, err
			}
		}
	}
	return total, nil
}

// child reads a manifest that another one names.
func (g *Registry) child(ctx context.Context, p image.Part) (image.Manifest, error) {
	data, err := g.read(ctx, p.Digest)
	if err != nil {
		return image.Manifest{}, absent(err, p)
	}
	child, err := image.Parse("", data)
	if err != nil {
		return image.Manifest{}, problem(http.StatusBadRequest, codeManifestInvalid, "%s: %.500s", p.Digest, err)
	}
	return child, nil
}

// gather brings blobs here, some at once, and checks their lengths. It ends at
// the first that fails.
func (g *Registry) gather(ctx context.Context, blobs []image.Part) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	slots := make(chan struct{}, checksMax)
	var group sync.WaitGroup
	for _, p := range blobs {
		if ok, err := g.here(p); err != nil {
			cancel(err)
			break
		} else if ok {
			continue
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			continue
		}
		group.Go(func() {
			defer func() { <-slots }()
			if err := g.bring(ctx, p); err != nil {
				cancel(err) // the first one stays
			}
		})
	}
	group.Wait()
	return context.Cause(ctx)
}

// here says whether a blob is here, with the length that the manifest says.
func (g *Registry) here(p image.Part) (bool, error) {
	size, err := g.cfg.Blobs.Size(p.Digest)
	switch {
	case errors.Is(err, ErrNotFound):
		return false, nil
	case err != nil:
		return false, err
	case size != p.Size:
		return false, problem(http.StatusBadRequest, codeManifestInvalid, "%s has %d bytes, not %d as the manifest says", p.Digest, size, p.Size)
	}
	g.cfg.Blobs.Touch(p.Digest)
	return true, nil
}

func (g *Registry) bring(ctx context.Context, p image.Part) error {
	if err := g.cfg.Mesh.Ensure(ctx, p.Digest); err != nil {
		return absent(err, p)
	}
	ok, err := g.here(p)
	if err == nil && !ok {
		err = absent(ErrNotFound, p)
	}
	return err
}

// absent says that a manifest names what the mesh has not.
func absent(err error, p image.Part) error {
	if errors.Is(err, ErrNotFound) {
		return problem(http.StatusNotFound, codeManifestBlobUnknown, "the manifest names %s, which no peer in reach holds", p.Digest).
			fix("push it first, then the manifest again")
	}
	return fmt.Errorf("registry: bring %s here: %w", p.Digest, err)
}
