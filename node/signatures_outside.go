package node

import (
	"context"
	"errors"
	"fmt"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/node/signature"
	"github.com/hansa-mesh/hansa/node/upstream"
	"github.com/hansa-mesh/hansa/placement"
)

// deployable is permitted for a deploy: what is not signed as far as is known in the
// mesh may be in the registry that it comes from.
func (n *Node) deployable(ctx context.Context, namespace string, c placement.Component) error {
	err := n.permitted(ctx, namespace, c, "")
	if c.ImageDigest() == "" || !errors.Is(err, api.ErrForbidden) && !errors.Is(err, placement.ErrUnavailable) {
		return err
	}
	ref, parseErr := upstream.Parse(c.Container.Image)
	if parseErr != nil || n.upstreams.registries == nil {
		return err
	}
	if outside, lookErr := n.isOutside(ctx, ref); lookErr != nil || !outside {
		return errors.Join(err, lookErr)
	}
	brought, askErr := n.mirrorSignatures(ctx, namespace, c.Container.Credentials, ref)
	switch {
	case askErr != nil:
		return fmt.Errorf("%w; what its registry has of signatures is not known: %w", err, askErr)
	case brought == 0:
		return err
	}
	return n.permitted(ctx, namespace, c, "")
}

// mirrorSignatures brings the signatures of an image from its registry into the mesh,
// under the names that they have there, and says how many images of them are new.
func (n *Node) mirrorSignatures(ctx context.Context, namespace, credentials string, ref upstream.Ref) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, signaturesWait)
	defer cancel()
	repo, err := n.openOutside(ctx, namespace, credentials, ref)
	if err != nil {
		return 0, err
	}
	found, err := repo.Signatures(ctx, ref.Digest)
	if err != nil {
		return 0, err
	}
	brought := 0
	for _, s := range found {
		isNew, err := n.mirror(ctx, repo, ref, s)
		if err != nil {
			return brought, err
		}
		brought += btoi(isNew)
	}
	return brought, nil
}

// mirror brings one image of signatures, together with what the mesh has under its
// name: who signed a copy in the mesh has signed it still.
func (n *Node) mirror(ctx context.Context, repo *upstream.Repository, ref upstream.Ref, s upstream.Signatures) (isNew bool, err error) {
	named := placement.Image{Repository: ref.Cached(), Reference: s.Tag, Digest: s.Digest(), MediaType: s.Parsed.MediaType, Size: int64(len(s.Manifest))}
	if s.Tag == "" {
		named.Reference = named.Digest
	}
	if s.Parsed.Subject != nil {
		named.Subject = s.Parsed.Subject.Digest.String()
	}
	have, known, err := n.imageNamed(ctx, named.Repository, named.Reference)
	if err != nil || known && have.Image.Digest == named.Digest {
		return false, err
	}
	files := n.incoming()
	if err := repo.PullSignatures(ctx, files, s); err != nil {
		return false, err
	}
	if known {
		old, err := n.readFile(ctx, have.Image.Digest, have.Image.Size, signatureManifestMax)
		if err != nil {
			return false, err
		}
		joined, config, err := signature.Join(old, s.Manifest)
		if err != nil {
			return false, err
		}
		top := signature.Manifest(joined)
		if top.Descriptor.Digest.String() == have.Image.Digest {
			return false, nil
		}
		blobs := []signature.Blob{top}
		if config != nil {
			blobs = []signature.Blob{*config, top}
		}
		for _, b := range blobs {
			if err := upstream.Keep(ctx, files, b.Descriptor.Digest.String(), b.Data); err != nil {
				return false, err
			}
		}
		named.Digest, named.MediaType, named.Size = top.Descriptor.Digest.String(), top.Descriptor.MediaType, top.Descriptor.Size
	}
	size, err := n.sizeOf(ctx, named.Digest)
	if err != nil {
		return false, err
	}
	result, err := n.submit(ctx, func(ticket uint64) placement.Event {
		return placement.Submit{Ticket: ticket, App: named.App(), Copies: copiesDefault,
			Artifacts: []placement.Artifact{{Digest: named.Digest, Size: size, Tree: true}}}
	})
	if err != nil {
		return false, fmt.Errorf("the mesh did not take signatures of %s: %w", ref, err)
	}
	n.shown(ctx, shownQuery{Key: named.Key(), Version: result.Version, Digest: named.Digest})
	return true, nil
}

// isOutside says whether a name means an image of a registry outside: it says so, or
// the mesh has it from there, or it is not pinned and not the mesh's.
func (n *Node) isOutside(ctx context.Context, ref upstream.Ref) (outside bool, err error) {
	if ref.Plain == "" {
		return true, nil
	}
	err = n.loop.look(ctx, func(core *placement.Peer) {
		outside = len(core.ImagesWhere(func(i placement.Image) bool {
			return i.Repository == ref.Cached() && i.Digest == ref.Digest
		})) > 0
	})
	return outside || ref.Digest == "", err
}

// repositoriesOf are the repositories of the mesh that a name may mean: its own, and
// the one of what was pulled from outside.
func (n *Node) repositoriesOf(ctx context.Context, need placement.Need) ([]string, error) {
	out := []string{need.Repository}
	ref, err := upstream.Parse(need.Name)
	if err != nil || need.Repository == "" || ref.Cached() == need.Repository {
		return out, nil
	}
	outside, err := n.isOutside(ctx, ref)
	if outside {
		out = append(out, ref.Cached())
	}
	return out, err
}
