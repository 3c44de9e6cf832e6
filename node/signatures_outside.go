package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/node/signature"
	"github.com/hansa-mesh/hansa/node/upstream"
	"github.com/hansa-mesh/hansa/placement"
)

const (
	// mirrorTries is how often signatures from outside are joined with those of the
	// mesh, when these change meanwhile.
	mirrorTries = 8
	mirrorEvery = 250 * time.Millisecond
)

// deployable is permitted for a deploy: what is not signed as far as is known in the
// mesh may be in the registry that it comes from.
func (n *Node) deployable(ctx context.Context, namespace string, c placement.Component) error {
	err := n.permitted(ctx, namespace, c, "")
	ref, asks, lookErr := n.asksOutside(ctx, c, err)
	if lookErr != nil || !asks {
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

// asksOutside says whether a deploy asks a registry outside for the signatures of a
// component that the mesh has none of that will do.
func (n *Node) asksOutside(ctx context.Context, c placement.Component, err error) (ref upstream.Ref, asks bool, lookErr error) {
	if c.ImageDigest() == "" || n.upstreams.registries == nil || !errors.Is(err, api.ErrForbidden) && !errors.Is(err, placement.ErrUnavailable) {
		return ref, false, nil
	}
	ref, parseErr := upstream.Parse(c.Container.Image)
	if parseErr != nil {
		return ref, false, nil
	}
	asks, lookErr = n.isOutside(ctx, ref)
	return ref, asks, lookErr
}

// wouldRefuse says why deployable would refuse a component. It brings nothing into the
// mesh: where a deploy asks a registry outside for signatures, a note says so.
func (n *Node) wouldRefuse(ctx context.Context, namespace string, c placement.Component) (refusal, note string, err error) {
	why := n.permitted(ctx, namespace, c, "")
	ref, asks, err := n.asksOutside(ctx, c, why)
	switch {
	case err != nil:
		return "", "", err
	case asks:
		return "", fmt.Sprintf("the mesh has no signature that will do (%v): a deploy asks %s for those of the image", why, ref.Host), nil
	case errors.Is(why, api.ErrForbidden) || errors.Is(why, placement.ErrUnavailable):
		return why.Error(), "", nil
	}
	return "", "", why
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
// name: who signed a copy in the mesh has signed it still, also who does meanwhile.
func (n *Node) mirror(ctx context.Context, repo *upstream.Repository, ref upstream.Ref, s upstream.Signatures) (isNew bool, err error) {
	named := placement.Image{Repository: ref.Cached(), Reference: s.Tag, Digest: s.Digest(), MediaType: s.Parsed.MediaType, Size: int64(len(s.Manifest))}
	if s.Tag == "" {
		named.Reference = named.Digest
	}
	if s.Parsed.Subject != nil {
		named.Subject = s.Parsed.Subject.Digest.String()
	}
	have, known, err := n.imageNamed(ctx, named.Repository, named.Reference)
	if err != nil || known && isSide(have, named.Digest) {
		return false, err
	}
	if err := repo.PullSignatures(ctx, n.incoming(), s); err != nil {
		return false, err
	}
	if isNew, err = n.mirrorBeside(ctx, named, s.Manifest); err != nil {
		return false, fmt.Errorf("the mesh did not take signatures of %s: %w", ref, err)
	}
	return isNew, nil
}

// mirrorBeside puts an image of signatures, whose files are here, beside what has its
// name, also when that changes meanwhile.
func (n *Node) mirrorBeside(ctx context.Context, named placement.Image, manifest []byte) (isNew bool, err error) {
	for try := 1; ; try++ {
		isNew, err := n.mirrorOver(ctx, named, manifest)
		if !errors.Is(err, placement.ErrConflict) || try == mirrorTries {
			return isNew, err
		}
		select {
		case <-time.After(mirrorEvery): // this peer may not have heard yet of what is there now
		case <-ctx.Done():
			return false, err
		}
	}
}

// mirrorOver puts it over what has its name now and nothing else, joined with that. It is ErrConflict when another is there since.
func (n *Node) mirrorOver(ctx context.Context, named placement.Image, manifest []byte) (isNew bool, err error) {
	have, known, err := n.imageNamed(ctx, named.Repository, named.Reference)
	if err != nil {
		return false, err
	}
	if known {
		top, err := n.joinSides(ctx, sidesOf(have), manifest)
		if err != nil || top == nil {
			return false, err
		}
		named.Digest, named.MediaType, named.Size = top.Digest.String(), top.MediaType, top.Size
	}
	size, err := n.sizeOf(ctx, named.Digest)
	if err != nil {
		return false, err
	}
	result, err := n.submit(ctx, func(ticket uint64) placement.Event {
		return placement.Submit{Ticket: ticket, App: named.App(), Copies: copiesDefault, IfMatch: have.ETag, IfNoneMatch: !known,
			Artifacts: []placement.Artifact{{Digest: named.Digest, Size: size, Tree: true}}}
	})
	if err != nil {
		return false, err
	}
	n.shown(ctx, shownQuery{Key: named.Key(), Version: result.Version, Digest: named.Digest})
	return true, nil
}

// joinSides is one image of signatures with those of all that stand under a name and
// those of one more; nil when the ones that stand have all of these.
func (n *Node) joinSides(ctx context.Context, sides []placement.Image, more []byte) (*ocispec.Descriptor, error) {
	var joined []byte
	for _, side := range sides {
		data, err := n.readFile(ctx, side.Digest, side.Size, signatureManifestMax)
		if err != nil {
			return nil, err
		}
		if joined == nil {
			joined = data
		} else if joined, _, err = signature.Join(joined, data); err != nil {
			return nil, err
		}
	}
	all, config, err := signature.Join(joined, more)
	if err != nil || bytes.Equal(all, joined) {
		return nil, err
	}
	top := signature.Manifest(all)
	blobs := []signature.Blob{top}
	if config != nil {
		blobs = []signature.Blob{*config, top}
	}
	for _, b := range blobs {
		if err := upstream.Keep(ctx, n.incoming(), b.Descriptor.Digest.String(), b.Data); err != nil {
			return nil, err
		}
	}
	return &top.Descriptor, nil
}

// sidesOf are all images that stand under a name.
func sidesOf(v placement.ImageView) []placement.Image {
	if len(v.Sides) == 0 {
		return []placement.Image{v.Image}
	}
	return v.Sides
}

func isSide(v placement.ImageView, digest string) bool {
	return slices.ContainsFunc(sidesOf(v), func(i placement.Image) bool { return i.Digest == digest })
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
