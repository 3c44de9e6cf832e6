package node

import (
	"cmp"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
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
	// signersMax bounds the images of signatures that are looked at for one file: its
	// own first, then those of what it may be a part of, the newest first.
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

// signer is an image of signatures, and what it signs.
type signer struct {
	repository string
	digest     string // of the image of signatures
	subject    string // of what it signs
	at         placement.Version
}

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
	for _, s := range signers {
		err := n.vouches(ctx, s, need.Digest, keys, refs)
		switch {
		case err == nil:
			return nil
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

// signersOf are the images of signatures that may be about something.
func (n *Node) signersOf(ctx context.Context, need placement.Need, repositories []string) ([]signer, error) {
	var views []placement.ImageView
	if err := n.loop.look(ctx, func(core *placement.Peer) {
		views = core.ImagesWhere(func(i placement.Image) bool {
			return (need.Repository == "" || slices.Contains(repositories, i.Repository)) && signedBySubject(i) != ""
		})
	}); err != nil {
		return nil, err
	}
	signers := signersIn(views)
	rank := make(map[string]int, len(signers)) // its own come first
	for _, s := range signers {
		rank[s.subject] = btoi(s.subject != need.Digest)
	}
	order := func(a, b signer) int {
		return cmp.Or(rank[a.subject]-rank[b.subject], b.at.Compare(a.at), strings.Compare(a.digest, b.digest))
	}
	slices.SortFunc(signers, order)
	signers = signers[:min(len(signers), signersMax)]
	for _, s := range signers { // then those of what is known here to have it
		if tree, err := n.images.trees.Tree(s.subject, ""); err != nil || !slices.Contains(digestsOf(tree.Parts), need.Digest) {
			rank[s.subject]++
		}
	}
	slices.SortFunc(signers, order)
	return signers, nil
}

// signersIn are the images of signatures under some names, of all sides where several
// stand: what was signed on two sides of a cut is signed by both.
func signersIn(views []placement.ImageView) []signer {
	var out []signer
	for _, v := range views {
		sides := v.Sides
		if len(sides) == 0 {
			sides = []placement.Image{v.Image}
		}
		for _, i := range sides {
			s := signer{i.Repository, i.Digest, signedBySubject(i), v.Version}
			if s.subject != "" && !slices.ContainsFunc(out, func(o signer) bool { return o.digest == s.digest && o.repository == s.repository }) {
				out = append(out, s)
			}
		}
	}
	return out
}

// signedBySubject is the digest of what a name may be the signatures of, or "".
func signedBySubject(i placement.Image) string {
	if digest, ok := signature.Signs(i.Reference); ok {
		return digest
	}
	return i.Subject
}

// vouches says why an image of signatures does not show that one of the keys signed
// what a digest is of, or is a part of.
func (n *Node) vouches(ctx context.Context, s signer, digest string, keys []crypto.PublicKey, refs []placement.Reference) error {
	manifest, err := n.readFile(ctx, s.digest, signatureManifestMax)
	if err != nil {
		return err
	}
	found, err := signature.Read(ctx, manifest, func(ctx context.Context, d ocispec.Descriptor, max int64) ([]byte, error) {
		return n.readFile(ctx, d.Digest.String(), max)
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
	for _, arch := range archs {
		tree, err := n.manifestsOf(ctx, root, arch)
		switch {
		case err != nil && !errors.Is(err, image.ErrInvalid):
			return unavailable(err)
		case err != nil:
			return err
		case slices.Contains(digestsOf(tree.Parts), digest):
			return nil
		}
	}
	return signature.ErrUnsigned
}

// readFile reads a short file, which is fetched if it is not here.
func (n *Node) readFile(ctx context.Context, digest string, max int64) ([]byte, error) {
	if err := n.fetchFile(ctx, digest, 0, nil); err != nil {
		return nil, unavailable(err)
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

// fetchSignatures brings the signatures of an image here, so that they are where it
// is also when nobody is in reach. What does not come now is asked for when it is
// wanted.
func (n *Node) fetchSignatures(ctx context.Context, root string) {
	ctx, cancel := context.WithTimeout(ctx, signaturesFetch)
	defer cancel()
	var views []placement.ImageView
	if err := n.loop.look(ctx, func(core *placement.Peer) {
		views = core.ImagesWhere(func(i placement.Image) bool { return signedBySubject(i) == root })
	}); err != nil {
		return
	}
	signers := signersIn(views)
	for _, s := range signers[:min(len(signers), signersMax)] {
		if n.holds(placement.Artifact{Digest: s.digest, Tree: true}) {
			continue
		}
		if err := n.fetchParts(ctx, placement.Artifact{Digest: s.digest, Tree: true}, nil); err != nil {
			n.log.Debug("signatures of an image did not come", "image", root, "signatures", s.digest, "err", err)
		}
	}
}
