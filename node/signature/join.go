package signature

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hansa-mesh/hansa/node/image"
)

// ImageMax bounds an image of signatures that is carried along with what it signs:
// the manifest, and in all.
const (
	ImageMax    = 8 << 20
	ManifestMax = 1 << 20
)

// bundleTypes begins the media type of what newer releases of cosign write: nothing
// here understands it, and it is carried for those that do.
const bundleTypes = "application/vnd.dev.sigstore.bundle"

// Is says whether a manifest is that of an image of signatures.
func Is(m image.Manifest) bool {
	size := int64(0)
	for _, d := range m.Children() {
		size += min(d.Size, ImageMax+1)
	}
	return size <= ImageMax && len(m.Manifests) == 0 && slices.ContainsFunc(m.Layers, func(l ocispec.Descriptor) bool {
		return l.MediaType == layerType || strings.HasPrefix(l.MediaType, bundleTypes)
	})
}

// Join makes of the images of signatures of one manifest, that came from two places,
// one with the signatures of both. It is old itself, or more, when that has all; else
// its config is to be put beside it, and its layers are where those of the two are.
// What would hide those of old, or make of both none that is read, is an error.
func Join(old, more []byte) (manifest []byte, config *Blob, err error) {
	var a, b ocispec.Manifest
	if err := errors.Join(json.Unmarshal(old, &a), json.Unmarshal(more, &b)); err != nil {
		return nil, nil, fmt.Errorf("signatures: %w: %w", image.ErrInvalid, err)
	}
	both := slices.Clone(a.Layers)
	for _, l := range b.Layers {
		if !has(both, l) {
			both = append(both, l)
		}
	}
	switch {
	case len(both) == len(a.Layers):
		return old, nil, nil
	case len(both) > signaturesMax:
		return nil, nil, fmt.Errorf("%w: %d signatures are there and %d are to be added: at most %d are looked at, delete some first", image.ErrInvalid, len(a.Layers), len(both)-len(a.Layers), signaturesMax)
	case !slices.ContainsFunc(a.Layers, func(l ocispec.Descriptor) bool { return !has(b.Layers, l) }):
		return more, nil, isRead(more)
	}
	c, err := configOf(both)
	if err != nil {
		return nil, nil, err
	}
	a.Layers, a.Config = both, c.Descriptor
	data, err := json.Marshal(a)
	if err == nil {
		err = isRead(data)
	}
	return data, &c, err
}

// isRead says why what was joined is no image of signatures that is looked at.
func isRead(manifest []byte) error {
	m, err := image.Parse("", manifest)
	if err == nil && (len(manifest) > ManifestMax || !Is(m)) {
		err = fmt.Errorf("%w: the signatures that are there and those to be added are more than %d bytes, with a manifest of %d: delete some first", image.ErrInvalid, ImageMax, ManifestMax)
	}
	return err
}

// Manifest is a manifest as what is put.
func Manifest(data []byte) Blob { return blobOf(ocispec.MediaTypeImageManifest, data) }

// has says whether a signature is among others: the same payload, signed the same, and
// looked at in the same way.
func has(layers []ocispec.Descriptor, l ocispec.Descriptor) bool {
	return slices.ContainsFunc(layers, func(o ocispec.Descriptor) bool {
		return o.Digest == l.Digest && o.MediaType == l.MediaType && o.Size == l.Size && o.Annotations[annotation] == l.Annotations[annotation]
	})
}
