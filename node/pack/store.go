package pack

import (
	"bytes"
	"context"
	_ "crypto/sha256" // digests of both kinds
	_ "crypto/sha512"
	"errors"
	"fmt"
	"io"

	digests "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hansa-mesh/hansa/node/image"
)

// Media types of a package and of what is in it.
const (
	PackageType = "application/vnd.hansa.package.v1+json" // artifact type of the index
	AppType     = "application/vnd.hansa.app.v1+json"     // of the app's artifact, and of its layers
	FileType    = "application/vnd.hansa.file.v1"         // of the artifact of a file
	layerType   = "application/octet-stream"
)

// typeAnnotation says again what type an artifact has: tools from before version
// 1.1 of the image specification drop the field that says so when they copy.
const typeAnnotation = "vnd.hansa.type"

func typeOf(artifactType string, annotations map[string]string) string {
	if artifactType == "" {
		return annotations[typeAnnotation]
	}
	return artifactType
}

// Errors of packages.
var (
	ErrNotFound = errors.New("not found")
	ErrInvalid  = errors.New("not a package")
	ErrDigest   = errors.New("the bytes are not those of the digest")
)

// Source is where the blobs and manifests of packages and images are read from.
type Source interface {
	// Open opens one to read, or is ErrNotFound. It need not be verified.
	Open(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error)
}

// Target is where they are put.
type Target interface {
	// Has says whether one is there; of a manifest, with all that it is made of.
	Has(ctx context.Context, d ocispec.Descriptor) (bool, error)
	// Put puts one there. open may be called again when it is tried again.
	Put(ctx context.Context, d ocispec.Descriptor, open func() (io.ReadCloser, error)) error
	// Tag gives a manifest, which is put there too, a name. Of the name the target
	// uses what it has not got itself.
	Tag(ctx context.Context, d ocispec.Descriptor, data []byte, ref Ref) error
	// Resolve is what has a name there, or ErrNotFound.
	Resolve(ctx context.Context, ref Ref) (Manifest, error)
}

// Manifest is a manifest and what describes it.
type Manifest struct {
	Descriptor ocispec.Descriptor
	Data       []byte
}

func isManifest(d ocispec.Descriptor) bool { return image.IsManifest(d.MediaType) }

func describe(mediaType string, data []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digests.FromBytes(data), Size: int64(len(data))}
}

// fromMemory opens bytes.
func fromMemory(data []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
}

// put puts bytes where they are not yet.
func put(ctx context.Context, to Target, d ocispec.Descriptor, data []byte) error {
	if has, err := to.Has(ctx, d); has || err != nil {
		return err
	}
	return to.Put(ctx, d, fromMemory(data))
}

// readAll reads a blob or manifest of at most so many bytes, verified.
func readAll(ctx context.Context, from Source, d ocispec.Descriptor, most int64) ([]byte, error) {
	if d.Size < 0 || d.Size > most {
		return nil, fmt.Errorf("%s: %w: it has %d bytes, at most %d", d.Digest, ErrInvalid, d.Size, most)
	}
	r, err := openVerified(ctx, from, d)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", d.Digest, err)
	}
	return data, nil
}

// readManifest reads a manifest and what it says.
func readManifest(ctx context.Context, from Source, d ocispec.Descriptor) ([]byte, image.Manifest, error) {
	data, err := readAll(ctx, from, d, image.ManifestMax)
	if err != nil {
		return nil, image.Manifest{}, err
	}
	m, err := image.Parse(d.MediaType, data)
	if err != nil {
		return nil, m, fmt.Errorf("manifest %s: %w", d.Digest, err)
	}
	return data, m, nil
}

// openVerified opens one that ends with ErrDigest when it was another.
func openVerified(ctx context.Context, from Source, d ocispec.Descriptor) (io.ReadCloser, error) {
	if err := d.Digest.Validate(); err != nil {
		return nil, fmt.Errorf("digest %.80q: %w: %w", d.Digest, ErrInvalid, err)
	}
	r, err := from.Open(ctx, d)
	if err != nil {
		return nil, err
	}
	return &verified{ReadCloser: r, sum: d.Digest.Verifier(), want: d, left: d.Size}, nil
}

// verified reads what must have a digest and a length. It keeps back the bytes that
// would complete wrong ones: who is sent them never has as many as were announced,
// and so can't answer before this side knows what is wrong.
type verified struct {
	io.ReadCloser
	sum  digests.Verifier
	want ocispec.Descriptor
	left int64
}

func (v *verified) Read(p []byte) (int, error) {
	n, err := v.ReadCloser.Read(p)
	v.left -= int64(n)
	_, _ = v.sum.Write(p[:n])               // a hash takes everything
	if n > 0 && v.left == 0 && err == nil { // whoever needs no more may not come to ask
		var more [1]byte
		var k int
		k, err = io.ReadFull(v.ReadCloser, more[:])
		v.left -= int64(k)
	}
	switch {
	case v.left < 0:
		return 0, fmt.Errorf("%s: %w: there are more than %d", v.want.Digest, ErrDigest, v.want.Size)
	case v.left > 0 && errors.Is(err, io.EOF):
		return n, fmt.Errorf("%s: %w: %d of %d are missing", v.want.Digest, ErrDigest, v.left, v.want.Size)
	case v.left == 0 && !v.sum.Verified():
		return 0, fmt.Errorf("%s: %w", v.want.Digest, ErrDigest)
	}
	return n, err
}
