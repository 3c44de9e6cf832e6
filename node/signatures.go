package node

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/node/image"
	"github.com/hansa-mesh/hansa/node/signature"
	"github.com/hansa-mesh/hansa/placement"
)

const (
	// signatureManifestMax bounds the manifest of an image of signatures.
	signatureManifestMax = 1 << 20
	// signersMax bounds the images of signatures that are looked at for one file.
	signersMax = 1024
	// signaturesWait is how long it may take to find whether one component is signed,
	// with all that has to be fetched for it.
	signaturesWait = 10 * time.Second
	// signaturesFetch is how long the signatures of an image that was fetched may take.
	signaturesFetch = 5 * time.Second
)

// refused is an error that says that a namespace's policy does not let something
// run.
type refused struct{ error }

// Unwrap makes it one that is told as forbidden.
func (r refused) Unwrap() []error { return []error{api.ErrForbidden, r.error} }

func refusef(format string, args ...any) error { return refused{fmt.Errorf(format, args...)} }

// permitted says why a component may not run under the policy of a namespace, on an
// architecture or with "" on all, as this peer's catalog and files tell; nil if it
// may.
func (n *Node) permitted(ctx context.Context, namespace string, c placement.Component, arch string) error {
	var policy placement.NamespacePolicy
	if err := n.loop.look(ctx, func(core *placement.Peer) { policy, _ = core.Policy(namespace) }); err != nil {
		return err
	}
	if len(policy.Signatures) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, signaturesWait)
	defer cancel()
	for _, need := range c.Needs(arch) {
		repositories, err := n.repositoriesOf(ctx, need)
		if err != nil {
			return err
		}
		for _, rule := range policy.Signatures {
			if !slices.ContainsFunc(repositories, rule.Covers) {
				continue
			}
			if err := n.signedUnder(ctx, namespace, need, repositories, rule); err != nil {
				return err
			}
		}
	}
	return nil
}

// appPermitted says why an app may not be deployed under the policy of its namespace.
func (n *Node) appPermitted(ctx context.Context, app placement.App) error {
	for _, name := range app.ComponentNames() {
		if err := n.deployable(ctx, app.Key().Namespace, app.Components[name]); err != nil {
			return fmt.Errorf("components.%s: %w", name, err)
		}
	}
	return nil
}

// signedUnder says why a rule does not let something run, or nil.
func (n *Node) signedUnder(ctx context.Context, namespace string, need placement.Need, repositories []string, rule placement.SignatureRule) error {
	switch {
	case need.Digest == "" && need.Repository == "":
		return refusef("%.255q is a program of the host itself, which nobody can sign, and namespace %s demands signatures of all that runs", need.Name, namespace)
	case need.Digest == "":
		return refusef("image %.255s is not pinned by a digest, and so is not signed by a key that namespace %s demands: name it as %.255s@sha256:…", need.Name, namespace, need.Repository)
	}
	err := n.signedBy(ctx, need, repositories, keysOf(rule))
	switch {
	case err == nil:
		return nil
	case errors.Is(err, placement.ErrUnavailable):
		return fmt.Errorf("%.255s: whether it is signed as namespace %s demands is not known: %w", need.Name, namespace, err)
	}
	if need.Repository == "" {
		return refusef("the file %.255s is not signed by a key that namespace %s demands: no package that one of them signed has it (hansa pack --sign makes one)", need.Name, namespace)
	}
	return refusef("%.255s is not signed by a key that namespace %s demands: %w (hansa sign signs it)", need.Name, namespace, err)
}

// keysOf are the keys of a rule; one of a kind that only a newer release reads is
// left out, and what it signed does not run here.
func keysOf(rule placement.SignatureRule) []crypto.PublicKey {
	var keys []crypto.PublicKey
	for _, text := range rule.Keys {
		if key, err := signature.ParsePublic([]byte(text)); err == nil {
			keys = append(keys, key)
		}
	}
	return keys
}

// signedBy says why none of the keys signed something, or anything that it is a part
// of in its repositories, or of a file in any; nil if one did. The error is
// ErrUnavailable when what would tell can't be had now.
func (n *Node) signedBy(ctx context.Context, need placement.Need, repositories []string, keys []crypto.PublicKey) error {
	signers, err := n.signersOf(ctx, need, repositories)
	if err != nil {
		return err
	}
	refs, err := n.referenced(ctx)
	if err != nil {
		return err
	}
	why, missing := signature.ErrUnsigned, error(nil)
	for looked := 0; len(signers) > 0 && looked < signersMax; signers = signers[1:] {
		s := signers[0]
		err := n.vouches(ctx, s, need.Digest, keys, refs)
		looked += btoi(!errors.Is(err, errNoSignatures))
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return unavailable(ctx.Err())
		case errors.Is(err, placement.ErrUnavailable):
			missing = err
		case s.subject == need.Digest && errors.Is(err, signature.ErrNotSigned):
			why = err
		}
	}
	if missing != nil {
		return missing
	}
	return why
}

// vouches says why an image of signatures does not show that one of the keys signed
// what a digest is of, or is a part of.
func (n *Node) vouches(ctx context.Context, s signer, digest string, keys []crypto.PublicKey, refs []placement.Reference) error {
	manifest, _, err := n.signaturesIn(ctx, s)
	if err != nil {
		return err
	}
	found, err := signature.Read(ctx, manifest, func(ctx context.Context, d ocispec.Descriptor, max int64) ([]byte, error) {
		return n.readFile(ctx, d.Digest.String(), d.Size, max)
	})
	if err != nil {
		return err
	}
	if err := signature.Check(found, signature.Subject{Repository: s.repository, Digest: s.subject}, keys); err != nil || s.subject == digest {
		return err
	}
	return n.partOf(ctx, s.subject, digest, refs)
}

// partOf says why a digest is not of a part of an image, or nil: of all that it is made
// of, or where the mesh has it for some architectures alone, of what those are made of.
func (n *Node) partOf(ctx context.Context, root, digest string, refs []placement.Reference) error {
	if tree, err := n.images.trees.Tree(root, ""); err == nil && slices.Contains(digestsOf(tree.Parts), digest) {
		return nil
	}
	archs := []string{""}
	if trees := treesIn(refs, root); len(trees) > 0 {
		archs = nil
		for _, t := range trees {
			archs = append(archs, t.Arch)
		}
	}
	missing := signature.ErrUnsigned
	for _, arch := range archs {
		tree, err := n.manifestsOf(ctx, root, arch)
		switch {
		case err != nil && !errors.Is(err, image.ErrInvalid): // another may have it
			missing = unavailable(err)
		case err != nil:
			return err
		case slices.Contains(digestsOf(tree.Parts), digest):
			return nil
		}
	}
	return missing
}

// readFile reads a short file, which is fetched if it is not here and whoever names it
// says that it is short.
func (n *Node) readFile(ctx context.Context, digest string, size, max int64) ([]byte, error) {
	if !n.store.Blobs().Has(digest) {
		if size <= 0 || size > max {
			return nil, fmt.Errorf("%s: %w: said to have %d bytes, want 1 to %d", digest, image.ErrInvalid, size, max)
		}
		if err := n.fetchFile(ctx, digest, size, nil); err != nil {
			return nil, unavailable(err)
		}
	}
	file, size, err := n.store.Blobs().Open(digest)
	if err != nil { // put aside, or let go since
		return nil, unavailable(err)
	}
	defer file.Close()
	if size > max {
		return nil, fmt.Errorf("%s: %w: %d bytes, at most %d", digest, image.ErrInvalid, size, max)
	}
	return io.ReadAll(io.LimitReader(file, size))
}

// unavailable says that something can't be had now, whatever kind of error says so.
func unavailable(err error) error { return fmt.Errorf("%w: %v", placement.ErrUnavailable, err) }
