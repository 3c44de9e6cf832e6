package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	digests "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Limits of a manifest and of the tree under it.
const (
	ManifestMax = 4 << 20 // bytes; what the distribution spec asks registries to take
	ChildrenMax = 10_000  // of one manifest
	DepthMax    = 8       // of indexes within indexes
)

// Media types of Docker that stand for those of OCI.
const (
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
)

// ErrInvalid says that a manifest is not one.
var ErrInvalid = errors.New("not a manifest")

// Manifest is what of a manifest or an index matters here.
type Manifest struct {
	MediaType    string
	ArtifactType string // of the manifest, or else of its config
	Annotations  map[string]string
	Config       *ocispec.Descriptor
	Layers       []ocispec.Descriptor // of a manifest; also the blobs of an artifact
	Manifests    []ocispec.Descriptor // of an index
	Subject      *ocispec.Descriptor  // that this one refers to; no part of its tree
}

// IsManifest says whether a media type is that of a manifest or an index.
func IsManifest(mediaType string) bool { return IsIndex(mediaType) || isImage(mediaType) }

// IsIndex says whether a media type is that of an index.
func IsIndex(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageIndex || mediaType == dockerList
}

func isImage(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageManifest || mediaType == dockerManifest
}

// descriptors ends at the first that is too many, so that a short text does not
// become very many of them.
type descriptors []ocispec.Descriptor

// UnmarshalJSON reads them one by one.
func (d *descriptors) UnmarshalJSON(text []byte) error {
	in := json.NewDecoder(bytes.NewReader(text))
	begin, err := in.Token()
	switch {
	case err != nil:
		return err
	case begin == nil:
		*d = nil
		return nil
	case begin != json.Delim('['):
		return fmt.Errorf("blobs are listed as %.80q, want a list", text)
	}
	*d = descriptors{}
	for in.More() {
		if len(*d) == ChildrenMax {
			return fmt.Errorf("it is made of more than %d blobs", ChildrenMax)
		}
		var one ocispec.Descriptor
		if err := in.Decode(&one); err != nil {
			return err
		}
		*d = append(*d, one)
	}
	return nil
}

// Parse reads a manifest. mediaType is what whoever sent it called it, or "" for
// what it calls itself. The error is ErrInvalid and says what is wrong.
func Parse(mediaType string, data []byte) (Manifest, error) {
	if len(data) > ManifestMax {
		return Manifest{}, fmt.Errorf("%w: %d bytes, at most %d", ErrInvalid, len(data), ManifestMax)
	}
	var raw struct {
		SchemaVersion int                 `json:"schemaVersion"`
		MediaType     string              `json:"mediaType"`
		ArtifactType  string              `json:"artifactType"`
		Config        *ocispec.Descriptor `json:"config"`
		Layers        descriptors         `json:"layers"`
		Blobs         descriptors         `json:"blobs"`
		Manifests     descriptors         `json:"manifests"`
		Subject       *ocispec.Descriptor `json:"subject"`
		Annotations   map[string]string   `json:"annotations"`
	}
	if err := json.Unmarshal(data, &raw); err != nil {
		return Manifest{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	switch {
	case raw.SchemaVersion != 2:
		return Manifest{}, fmt.Errorf("%w: schemaVersion %d, only 2 is understood", ErrInvalid, raw.SchemaVersion)
	case mediaType != "" && raw.MediaType != "" && mediaType != raw.MediaType:
		return Manifest{}, fmt.Errorf("%w: it was sent as %.80q and calls itself %.80q", ErrInvalid, mediaType, raw.MediaType)
	}
	m := Manifest{
		MediaType: raw.MediaType, ArtifactType: raw.ArtifactType, Annotations: raw.Annotations,
		Config: raw.Config, Layers: append(raw.Layers, raw.Blobs...), Manifests: raw.Manifests, Subject: raw.Subject,
	}
	if m.MediaType == "" {
		m.MediaType = mediaType
	}
	if m.MediaType == "" {
		m.MediaType = ocispec.MediaTypeImageManifest
		if raw.Manifests != nil {
			m.MediaType = ocispec.MediaTypeImageIndex
		}
	}
	if m.ArtifactType == "" && m.Config != nil {
		m.ArtifactType = m.Config.MediaType
	}
	return m, m.check()
}

func (m Manifest) check() error {
	if isImage(m.MediaType) && m.Config == nil && len(m.Manifests) > 0 {
		return fmt.Errorf("%w: %s lists manifests, as an index does", ErrInvalid, m.MediaType)
	}
	children := m.Children()
	if len(children) > ChildrenMax {
		return fmt.Errorf("%w: it is made of %d blobs, at most %d", ErrInvalid, len(children), ChildrenMax)
	}
	if m.Subject != nil {
		children = append(children, *m.Subject)
	}
	for _, d := range children {
		if err := d.Digest.Validate(); err != nil {
			return fmt.Errorf("%w: digest %.80q: %w", ErrInvalid, d.Digest, err)
		}
		if a := d.Digest.Algorithm(); a != digests.SHA256 && a != digests.SHA512 {
			return fmt.Errorf("%w: digest %.80q: only sha256 and sha512 are understood", ErrInvalid, d.Digest)
		}
		if d.Size < 0 {
			return fmt.Errorf("%w: %s has %d bytes", ErrInvalid, d.Digest, d.Size)
		}
	}
	return nil
}

// Children are the blobs that the manifest is made of, in their order: its
// config and layers, or its manifests. What it refers to as its subject is not.
func (m Manifest) Children() []ocispec.Descriptor {
	var out []ocispec.Descriptor
	if m.Config != nil {
		out = append(out, *m.Config)
	}
	return append(append(out, m.Layers...), m.Manifests...)
}
