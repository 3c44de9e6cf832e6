package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	digests "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hansa-mesh/hansa/node/image"
	"github.com/hansa-mesh/hansa/node/signature"
)

// referrersMax bounds the images that refer to another and are looked at.
const referrersMax = 64

// Signatures are images of signatures that a registry has of a manifest.
type Signatures struct {
	Tag      string // that it is under, or "" for one that refers to what it signs
	Manifest []byte
	Parsed   image.Manifest
}

// Digest is that of the image of signatures.
func (s Signatures) Digest() string { return digests.FromBytes(s.Manifest).String() }

// Signatures asks for the signatures of a manifest: what is under the tag that is for
// them, and what refers to it. A registry that has none, or does not say, has none. The
// bytes are short, and nothing else of the image is asked for.
func (p *Repository) Signatures(ctx context.Context, digest string) ([]Signatures, error) {
	var out []Signatures
	if digests.Digest(digest).Algorithm() == digests.SHA256 { // else it is too long for a tag
		found, err := p.signaturesAt(ctx, signature.Tag(digest))
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	refer, err := p.referrers(ctx, digest)
	if err != nil {
		return nil, err
	}
	for _, d := range refer {
		found, err := p.signaturesAt(ctx, d.Digest.String())
		if err != nil {
			return nil, err
		}
		for _, s := range found {
			if s.Parsed.Subject != nil && s.Parsed.Subject.Digest.String() == digest && s.Digest() == d.Digest.String() {
				s.Tag = ""
				out = append(out, s)
			}
		}
	}
	return out, nil
}

// signaturesAt is the image of signatures under a tag or digest, if there is one.
func (p *Repository) signaturesAt(ctx context.Context, reference string) ([]Signatures, error) {
	data, err := p.manifest(ctx, reference)
	if said(err) || err == nil && len(data) > signature.ManifestMax {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	m, err := image.Parse("", data)
	if err != nil || !signature.Is(m) {
		return nil, nil
	}
	return []Signatures{{reference, data, m}}, nil
}

// said is whether an error is a registry's no.
func said(err error) bool { return errors.Is(err, ErrNotFound) || errors.Is(err, ErrDenied) }

// referrers are the manifests that refer to another, as far as they are looked at.
func (p *Repository) referrers(ctx context.Context, digest string) ([]ocispec.Descriptor, error) {
	answer, err := p.ask(ctx, http.MethodGet, "/referrers/"+digest, "")
	if err != nil { // that it knows no such question every registry says in its own way
		if ctx.Err() != nil {
			return nil, err
		}
		return nil, nil
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(io.LimitReader(answer.Body, image.ManifestMax))
	if err != nil {
		return nil, p.said(err)
	}
	m, err := image.Parse(ocispec.MediaTypeImageIndex, data)
	if err != nil {
		return nil, nil
	}
	var out []ocispec.Descriptor
	for _, d := range m.Manifests {
		if d.Size <= signature.ManifestMax && d.Digest.Algorithm() == digests.SHA256 && len(out) < referrersMax {
			out = append(out, d)
		}
	}
	return out, nil
}

// PullSignatures brings an image of signatures into a store.
func (p *Repository) PullSignatures(ctx context.Context, to Store, s Signatures) error {
	for _, part := range s.Parsed.Parts() {
		if to.Has(part.Digest) {
			continue
		}
		if err := p.fetchBlob(ctx, to, part); err != nil {
			return fmt.Errorf("signatures: %w", err)
		}
	}
	return Keep(ctx, to, s.Digest(), s.Manifest)
}
