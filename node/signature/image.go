package signature

import (
	"bytes"
	"context"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	digests "github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hansa-mesh/hansa/node/image"
)

// The form of an image of signatures.
const (
	layerType  = "application/vnd.dev.cosign.simplesigning.v1+json"
	annotation = "dev.cosignproject.cosign/signature"
	tagEnd     = ".sig"
)

// Bounds of what is read.
const (
	signaturesMax = 256      // of one image; others are not looked at
	payloadMax    = 16 << 10 // bytes
	textMax       = 4 << 10  // bytes of a signature, in base64
)

// Errors of checks. ErrUnsigned and ErrNotSigned are told apart so that a person
// knows whether to sign, or to look who signed.
var (
	ErrUnsigned  = errors.New("it has no signature")
	ErrNotSigned = errors.New("not signed by any of the keys")
)

// Tag is the tag under which the signatures of a manifest are. The digest is of
// sha256: one of sha512 is longer than a tag may be.
func Tag(digest string) string { return strings.Replace(digest, ":", "-", 1) + tagEnd }

// Signs is the digest of the manifest whose signatures are under a tag.
func Signs(tag string) (digest string, ok bool) {
	name, ok := strings.CutSuffix(tag, tagEnd)
	if !ok {
		return "", false
	}
	digest = strings.Replace(name, "-", ":", 1)
	return digest, digests.Digest(digest).Validate() == nil
}

// Signature is one of an image, not checked yet.
type Signature struct {
	Payload []byte
	Sig     []byte
}

// Open reads a blob that is at most so long.
type Open func(ctx context.Context, d ocispec.Descriptor, max int64) ([]byte, error)

// Read are the signatures in an image of signatures: those that can't be read are
// left out, as nobody's. The error is of open alone, or says that the manifest is
// none.
func Read(ctx context.Context, manifest []byte, open Open) ([]Signature, error) {
	m, err := image.Parse("", manifest)
	if err != nil {
		return nil, err
	}
	var out []Signature
	for _, layer := range layersOf(m) {
		sig, err := base64.StdEncoding.DecodeString(layer.Annotations[annotation])
		if err != nil {
			continue
		}
		text, err := open(ctx, layer, payloadMax)
		if err != nil {
			return nil, fmt.Errorf("payload %s: %w", layer.Digest, err)
		}
		if layer.Digest.Algorithm().FromBytes(text) == layer.Digest {
			out = append(out, Signature{text, sig})
		}
	}
	return out, nil
}

// layersOf are the layers that may be signatures, as many as are looked at.
func layersOf(m image.Manifest) []ocispec.Descriptor {
	var out []ocispec.Descriptor
	for _, l := range m.Layers {
		text := l.Annotations[annotation]
		if l.MediaType == layerType && text != "" && len(text) <= textMax && l.Size <= payloadMax && len(out) < signaturesMax {
			out = append(out, l)
		}
	}
	return out
}

// Check looks for a signature of a subject by one of the keys. Without one the
// error says what there is instead.
func Check(found []Signature, of Subject, keys []crypto.PublicKey) error {
	var other error // of what a key did sign
	for _, s := range found {
		if !slices.ContainsFunc(keys, func(k crypto.PublicKey) bool { return signed(k, s.Payload, s.Sig) }) {
			continue
		}
		err := of.named(s.Payload)
		if err == nil {
			return nil
		}
		other = err
	}
	switch {
	case len(found) == 0:
		return ErrUnsigned
	case other != nil:
		return fmt.Errorf("%w: %w", ErrNotSigned, other)
	}
	return fmt.Errorf("%w: it has %s", ErrNotSigned, counted(len(found)))
}

func counted(n int) string {
	if n == 1 {
		return "one signature, by another key or of altered bytes"
	}
	return fmt.Sprintf("%d signatures, by other keys or of altered bytes", n)
}

// Blob is something to be put in the registry.
type Blob struct {
	Descriptor ocispec.Descriptor
	Data       []byte
}

// Sign makes the image of signatures of a subject: old, if there is one, and one
// more by the key. The blobs are to be put before the manifest. A key that signed it
// already does not again: then the manifest is nil.
func Sign(ctx context.Context, key crypto.Signer, of Subject, old []byte, open Open) (manifest *Blob, blobs []Blob, err error) {
	if digests.Digest(of.Digest).Algorithm() != digests.SHA256 {
		return nil, nil, fmt.Errorf("%s: signatures are kept for sha256 digests alone: push it by its tag", of)
	}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	if old != nil {
		found, err := Read(ctx, old, open)
		if err != nil {
			return nil, nil, fmt.Errorf("the signatures that it has: %w", err)
		}
		if Check(found, of, []crypto.PublicKey{key.Public()}) == nil {
			return nil, nil, nil
		}
		if err := json.Unmarshal(old, &m); err != nil {
			return nil, nil, fmt.Errorf("the signatures that it has: %w", err)
		}
		if len(m.Layers) >= signaturesMax {
			return nil, nil, fmt.Errorf("%s has %d signatures already, at most %d are looked at: delete the tag %s first", of, len(m.Layers), signaturesMax, Tag(of.Digest))
		}
	}
	text, err := newPayload(of.Repository, of.Digest)
	if err != nil {
		return nil, nil, err
	}
	sig, err := sign(key, text)
	if err != nil {
		return nil, nil, fmt.Errorf("sign %s: %w", of, err)
	}
	layer := blobOf(layerType, text)
	signedLayer := layer.Descriptor
	signedLayer.Annotations = map[string]string{annotation: base64.StdEncoding.EncodeToString(sig)}
	m.Layers = append(m.Layers, signedLayer)
	config, err := configOf(m.Layers)
	if err != nil {
		return nil, nil, err
	}
	m.Config = config.Descriptor
	data, err := json.Marshal(m)
	if err != nil {
		return nil, nil, err
	}
	top := blobOf(ocispec.MediaTypeImageManifest, data)
	return &top, []Blob{layer, config}, nil
}

// configOf is the config that tools expect of an image with these layers.
func configOf(layers []ocispec.Descriptor) (Blob, error) {
	c := ocispec.Image{RootFS: ocispec.RootFS{Type: "layers"}}
	for _, l := range layers {
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, l.Digest)
	}
	data, err := json.Marshal(c)
	return blobOf(ocispec.MediaTypeImageConfig, data), err
}

func blobOf(mediaType string, data []byte) Blob {
	data = bytes.Clone(data)
	return Blob{ocispec.Descriptor{MediaType: mediaType, Digest: digests.FromBytes(data), Size: int64(len(data))}, data}
}

// Open reads it.
func (b Blob) Open() io.ReadCloser { return io.NopCloser(bytes.NewReader(b.Data)) }
