package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/node/image"
	"github.com/hansa-mesh/hansa/placement"
)

// pinnedTrees are the trees of the images and disks that an app is pinned to and that
// the mesh stores. Other images are the engine's to find; a disk that nobody in
// reach holds is missing.
func (n *Node) pinnedTrees(ctx context.Context, app placement.App) (trees []placement.Artifact, err error) {
	digests := app.ImageDigests()
	if len(digests) == 0 {
		return nil, nil
	}
	disks := app.DiskDigests()
	refs, err := n.referenced(ctx)
	if err != nil {
		return nil, err
	}
	for _, digest := range digests {
		if found := treesIn(refs, digest); len(found) > 0 {
			trees = append(trees, found...)
			delete(disks, digest)
		}
	}
	var missing []string
	for _, digest := range slices.Sorted(maps.Keys(disks)) { // of which no name speaks but that of the package
		switch size, err := n.sizeOf(ctx, digest); {
		case err == nil:
			trees = append(trees, placement.Artifact{Digest: digest, Size: size, Tree: true})
		case errors.Is(err, image.ErrInvalid):
			return nil, fmt.Errorf("disk %s: %w: %w", digest, placement.ErrInvalid, err)
		default:
			missing = append(missing, digest)
		}
	}
	if len(missing) > 0 {
		return nil, &api.MissingArtifacts{Digests: missing}
	}
	return trees, nil
}
