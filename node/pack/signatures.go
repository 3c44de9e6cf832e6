package pack

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	digests "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/hansa-mesh/hansa/node/image"
	"github.com/hansa-mesh/hansa/node/signature"
)

// Limits of the signatures that go with something.
const (
	subjectsMax  = 2 * partsMax // manifests whose signatures are looked for
	looksAtOnce  = 8
	referrersMax = 256    // of one manifest
	listedMax    = 10_000 // manifests of a layout that are looked at
)

// Named is a manifest and its name in a repository: a tag, or the digest alone.
type Named struct {
	Ref Ref // of which Tag or Digest is set
	Manifest
}

// Signed is a Source that knows what lies beside a manifest.
type Signed interface {
	Source
	// Signatures are the images of signatures of a manifest: the one under the tag
	// that is for them, and those that refer to it.
	Signatures(ctx context.Context, of digests.Digest) ([]Named, error)
}

// Carry brings the signatures of all that a manifest is made of to where it is
// copied, under the same names, and says how many images of them there were. Those that
// are there already stay.
func Carry(ctx context.Context, from Source, root ocispec.Descriptor, to Target, ref Ref) (int, error) {
	subjects, err := subjectsOf(ctx, from, root)
	if err != nil {
		return 0, err
	}
	return carryAll(ctx, from, subjects, to, ref)
}

// carryAll carries those of some manifests.
func carryAll(ctx context.Context, from Source, subjects []digests.Digest, to Target, ref Ref) (int, error) {
	at, ok := from.(Signed)
	if !ok {
		return 0, nil
	}
	var count atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(looksAtOnce)
	for _, d := range subjects {
		group.Go(func() error {
			found, err := at.Signatures(ctx, d)
			if err != nil {
				return fmt.Errorf("signatures of %s: %w", d, err)
			}
			for _, n := range found {
				if err := carry(ctx, from, n, to, ref); err != nil {
					return fmt.Errorf("signatures of %s: %w", d, err)
				}
				count.Add(1)
			}
			return nil
		})
	}
	err := group.Wait()
	return int(count.Load()), err
}

// carry copies one image of signatures.
func carry(ctx context.Context, from Source, n Named, to Target, ref Ref) error {
	if _, err := Copy(ctx, from, n.Descriptor, to); err != nil {
		return err
	}
	return putSignatures(ctx, to, Named{Ref{Host: ref.Host, Repository: ref.Repository, Tag: n.Ref.Tag, Digest: n.Ref.Digest}, n.Manifest})
}

// putSignatures puts an image of signatures, whose blobs are there, under its name,
// together with those that are under the same tag.
func putSignatures(ctx context.Context, to Target, n Named) error {
	if n.Ref.Tag == "" {
		return to.Tag(ctx, n.Descriptor, n.Data, n.Ref)
	}
	old, err := to.Resolve(ctx, n.Ref)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if err == nil {
		data, config, err := signature.Join(old.Data, n.Data)
		if err != nil {
			return fmt.Errorf("%s: %w", n.Ref, err)
		}
		if config != nil {
			if err := put(ctx, to, config.Descriptor, config.Data); err != nil {
				return err
			}
		}
		n.Manifest = Manifest{describe(ocispec.MediaTypeImageManifest, data), data}
		if n.Descriptor.Digest == old.Descriptor.Digest {
			return nil
		}
	}
	return to.Tag(ctx, n.Descriptor, n.Data, n.Ref)
}

// Sign signs a manifest of a repository, and says whether the key had not before.
func Sign(ctx context.Context, key crypto.Signer, to Target, ref Ref, d digests.Digest) (bool, error) {
	bare := Ref{Host: ref.Host, Repository: ref.Repository}
	tag := bare
	tag.Tag = signature.Tag(string(d))
	var old Manifest
	from, reads := to.(Source)
	if reads { // what can't be read again was begun just now
		var err error
		if old, err = to.Resolve(ctx, tag); err != nil && !errors.Is(err, ErrNotFound) {
			return false, fmt.Errorf("the signatures that it has: %w", err)
		}
	}
	open := func(ctx context.Context, d ocispec.Descriptor, most int64) ([]byte, error) {
		return readAll(ctx, from, d, most)
	}
	top, blobs, err := signature.Sign(ctx, key, signature.Subject{Repository: bare.String(), Digest: string(d)}, old.Data, open)
	if err != nil || top == nil {
		return false, err
	}
	for _, b := range blobs {
		if err := put(ctx, to, b.Descriptor, b.Data); err != nil {
			return false, fmt.Errorf("sign %s: %w", ref, err)
		}
	}
	return true, putSignatures(ctx, to, Named{tag, Manifest{top.Descriptor, top.Data}})
}

// SignaturesOf are the signatures of a manifest in a repository.
func SignaturesOf(ctx context.Context, at Signed, d digests.Digest) ([]signature.Signature, error) {
	named, err := at.Signatures(ctx, d)
	if err != nil {
		return nil, err
	}
	var all []signature.Signature
	for _, n := range named {
		found, err := signature.Read(ctx, n.Data, func(ctx context.Context, d ocispec.Descriptor, most int64) ([]byte, error) {
			r, err := at.Open(ctx, d)
			if err != nil {
				return nil, err
			}
			defer r.Close()
			return io.ReadAll(io.LimitReader(r, most)) // altered bytes are no signature, and no error
		})
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// subjectsOf are the manifests that may be signed of what a manifest is made of: itself
// first, then what indexes list, and the indexes of images that a package has as blobs.
func subjectsOf(ctx context.Context, from Source, root ocispec.Descriptor) ([]digests.Digest, error) {
	out, seen := []digests.Digest{root.Digest}, map[digests.Digest]bool{root.Digest: true}
	add := func(d digests.Digest) bool {
		isNew := !seen[d] && len(out) < subjectsMax
		if isNew {
			seen[d] = true
			out = append(out, d)
		}
		return isNew
	}
	level := []ocispec.Descriptor{root}
	for depth := 0; len(level) > 0 && depth <= image.DepthMax; depth++ {
		var next []ocispec.Descriptor
		for _, d := range level {
			_, m, err := readManifest(ctx, from, d)
			if err != nil {
				return nil, err
			}
			if m.ArtifactType == ImageIndexType || typeOf("", m.Annotations) == ImageIndexType {
				for _, l := range m.Layers {
					add(l.Digest)
				}
			}
			for _, child := range m.Manifests {
				if add(child.Digest) && (image.IsIndex(child.MediaType) || typeOf(child.ArtifactType, child.Annotations) == ImageIndexType) {
					next = append(next, child)
				}
			}
		}
		level = next
	}
	return out, nil
}

// Signatures asks the registry. One that says no to the question has none.
func (r Remote) Signatures(ctx context.Context, of digests.Digest) ([]Named, error) {
	names := []Ref{{Repository: r.Repository, Tag: signature.Tag(string(of))}}
	if of.Algorithm() != digests.SHA256 { // too long for a tag
		names = nil
	}
	for refers, err := range r.Registry.Referrers(ctx, r.Repository, of, "") {
		if err != nil || len(names) > referrersMax { // a registry without referrers has none
			break
		}
		names = append(names, Ref{Repository: r.Repository, Digest: refers.Digest})
	}
	var out []Named
	for _, name := range names {
		m, err := r.Resolve(ctx, name)
		if errors.Is(err, ErrNotFound) || err != nil && final(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if isSignatures(m) {
			out = append(out, Named{name, m})
		}
	}
	return out, ctx.Err()
}

// isSignatures says whether a manifest is one of signatures.
func isSignatures(m Manifest) bool {
	if len(m.Data) > signature.ManifestMax {
		return false
	}
	parsed, err := image.Parse(m.Descriptor.MediaType, m.Data)
	return err == nil && signature.Is(parsed)
}

// signed are the images of signatures in a layout.
type signed struct {
	of  map[digests.Digest][]Named // by what they sign
	all map[digests.Digest]bool    // their own
}

// Signatures are those that the layout lists.
func (l *Layout) Signatures(_ context.Context, of digests.Digest) ([]Named, error) {
	s, err := l.signed()
	return s.of[of], err
}

// signs says whether a manifest of the layout is that of signatures of others.
func (l *Layout) signs(d ocispec.Descriptor) bool {
	_, tagged := signature.Signs(d.Annotations[ocispec.AnnotationRefName])
	s, _ := l.signed() // what is wrong with them is told when they are wanted
	return tagged || s.all[d.Digest]
}

// readSignatures looks which manifests of the layout sign others: by their tags, or by
// what they refer to. What has no such tag and can't be read is none.
func (l *Layout) readSignatures() (signed, error) {
	out := signed{map[digests.Digest][]Named{}, map[digests.Digest]bool{}}
	for at, d := range l.Index.Manifests {
		tag := d.Annotations[ocispec.AnnotationRefName]
		subject, tagged := signature.Signs(tag)
		if at >= listedMax || d.Size > signature.ManifestMax || !isManifest(d) || !tagged && tag != "" {
			continue
		}
		d.Annotations = nil
		data, m, err := readManifest(context.Background(), l, d)
		if err != nil && tagged {
			return out, err
		}
		n := Named{Ref{Tag: tag, Digest: d.Digest}, Manifest{d, data}}
		switch {
		case err != nil || !signature.Is(m):
			continue
		case tagged:
			n.Ref.Digest = ""
		case m.Subject != nil:
			subject = string(m.Subject.Digest)
		default:
			continue
		}
		out.of[digests.Digest(subject)] = append(out.of[digests.Digest(subject)], n)
		out.all[d.Digest] = true
	}
	return out, nil
}
