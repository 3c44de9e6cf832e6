package node

import (
	"context"
	"errors"
	"fmt"

	"github.com/hansa-mesh/hansa/node/image"
	"github.com/hansa-mesh/hansa/node/registry"
	"github.com/hansa-mesh/hansa/node/signature"
	"github.com/hansa-mesh/hansa/placement"
)

// putSignatures puts an image of signatures beside what has its name, whose client
// read what was there, added to it, and knows of nobody who did so meanwhile, perhaps
// at another peer. What has those that are there too is put as it is. It is false for
// any other image.
func (n *Node) putSignatures(ctx context.Context, named placement.Image) (put bool, err error) {
	if _, signs := signature.Signs(named.Reference); !signs || named.Size > signatureManifestMax {
		return false, nil
	}
	manifest, err := n.readFile(ctx, named.Digest, named.Size, signatureManifestMax)
	if err != nil {
		return false, err
	}
	if m, err := image.Parse("", manifest); err != nil || !signature.Is(m) {
		return false, nil
	}
	_, err = n.mirrorBeside(ctx, named, manifest)
	if errors.Is(err, image.ErrInvalid) {
		err = fmt.Errorf("%w: %w", registry.ErrTooLarge, err)
	}
	return true, err
}
