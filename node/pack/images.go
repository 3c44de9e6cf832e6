package pack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	digests "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// engineScheme begins the name of an image that an engine of this machine has.
const engineScheme = "docker-daemon:"

// Image is an image that was found, where it can be read.
type Image struct {
	Source Source
	Root   ocispec.Descriptor
	Close  func() error
}

// Finder finds the images that manifests name.
type Finder struct {
	// Dir is the folder of the manifest, which paths begin at.
	Dir string
	// Registry is the repository that a name is in.
	Registry func(ref Ref) (Remote, error)
}

// Find finds an image: "./image.tar" or a folder (an OCI layout, or what docker
// save writes), "docker-daemon:NAME" of an engine of this machine, or a name in a
// registry.
func (f Finder) Find(ctx context.Context, text string) (Image, error) {
	if name, ok := strings.CutPrefix(text, engineScheme); ok {
		return fromEngine(ctx, name)
	}
	if IsLocal(text) {
		if !filepath.IsAbs(text) {
			text = filepath.Join(f.Dir, text)
		}
		return fromFile(text)
	}
	ref, err := ParseRef(text)
	if err != nil {
		return Image{}, err
	}
	from, err := f.Registry(ref)
	if err != nil {
		return Image{}, err
	}
	m, err := from.Resolve(ctx, ref)
	if err != nil {
		return Image{}, err
	}
	return Image{Source: from, Root: m.Descriptor, Close: func() error { return nil }}, nil
}

func fromFile(path string) (Image, error) {
	l, err := OpenLayout(path)
	if err == nil {
		root, _, err := l.Root("")
		if err != nil {
			return Image{}, errors.Join(err, l.Close())
		}
		return Image{Source: l, Root: root, Close: l.Close}, nil
	}
	if info, statErr := os.Stat(path); statErr != nil || info.IsDir() || !errors.Is(err, ErrInvalid) {
		return Image{}, err
	}
	saved, savedErr := openSaved(path)
	if savedErr != nil {
		return Image{}, fmt.Errorf("%s: %w: neither an OCI image layout (%w) nor what docker save writes (%w)", path, ErrInvalid, err, savedErr)
	}
	return Image{Source: saved, Root: saved.root, Close: func() error { return nil }}, nil
}

// saved is an image as docker save writes it.
type saved struct {
	image v1.Image
	raw   []byte
	root  ocispec.Descriptor
}

func openSaved(path string) (saved, error) {
	image, err := tarball.ImageFromPath(path, nil)
	if err != nil {
		return saved{}, err
	}
	raw, err := image.RawManifest()
	if err != nil {
		return saved{}, err
	}
	mediaType, err := image.MediaType()
	if err != nil {
		return saved{}, err
	}
	return saved{image, raw, describe(string(mediaType), raw)}, nil
}

// Open opens its manifest, its config or a layer.
func (s saved) Open(_ context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	if d.Digest == s.root.Digest {
		return fromMemory(s.raw)()
	}
	config, err := s.image.RawConfigFile()
	if err != nil {
		return nil, err
	}
	if digests.FromBytes(config) == d.Digest {
		return fromMemory(config)()
	}
	layer, err := s.image.LayerByDigest(v1.Hash{Algorithm: string(d.Digest.Algorithm()), Hex: d.Digest.Encoded()})
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", d.Digest, ErrNotFound, err)
	}
	return layer.Compressed()
}

// fromEngine has an engine of this machine save an image.
func fromEngine(ctx context.Context, name string) (Image, error) {
	if name == "" || strings.HasPrefix(name, "-") {
		return Image{}, fmt.Errorf("%s%s names no image", engineScheme, name)
	}
	file, err := os.CreateTemp("", "hansa-image-*.tar")
	if err != nil {
		return Image{}, err
	}
	drop := func() error { return os.Remove(file.Name()) }
	if err := errors.Join(file.Close(), save(ctx, name, file.Name())); err != nil {
		return Image{}, errors.Join(err, drop())
	}
	found, err := fromFile(file.Name())
	if err != nil {
		return Image{}, errors.Join(fmt.Errorf("%s%s: %w", engineScheme, name, err), drop())
	}
	closeFile := found.Close
	found.Close = func() error { return errors.Join(closeFile(), drop()) }
	return found, nil
}

func save(ctx context.Context, name, path string) error {
	var failed error
	for _, engine := range []string{"docker", "podman"} {
		binary, err := exec.LookPath(engine)
		if err != nil {
			continue
		}
		out, err := exec.CommandContext(ctx, binary, "save", "-o", path, name).CombinedOutput()
		if err == nil {
			return nil
		}
		failed = errors.Join(failed, fmt.Errorf("%s save %s: %w: %s", engine, name, err, strings.TrimSpace(string(out[:min(len(out), 512)]))))
	}
	if failed == nil {
		return fmt.Errorf("%s%s: neither docker nor podman is on this machine", engineScheme, name)
	}
	return failed
}
