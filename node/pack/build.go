package pack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	digests "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hansa-mesh/hansa/node/image"
	"github.com/hansa-mesh/hansa/node/pack/disk"
	"github.com/hansa-mesh/hansa/placement"
)

// More media types, of what stands for something.
const (
	// ImageIndexType is the index of an image for several architectures, as a blob:
	// what copies packages often takes no index within an index, and so the images
	// themselves are in the package's.
	ImageIndexType = "application/vnd.hansa.image.index.v1+json"
	wasmType       = "application/wasm"
)

// Limits of a package.
const (
	appsMax     = 256
	appBytesMax = 1 << 20
	partsMax    = 1000 // manifests of its index
)

// Options say how a package is made.
type Options struct {
	Dir string // of the manifest, which paths begin at
	// Name is what the package will be called: signatures of its images go to that
	// repository. Without one they are left out.
	Name Ref
	// Find finds an image.
	Find func(ctx context.Context, text string) (Image, error)
	// Platforms, as "linux/arm64", are those of the images that are taken; none for
	// all.
	Platforms []string
	// Say tells what is being done; nil for nobody. Of what is large it is called
	// again and again, with how far it is; whole is the end of it.
	Say func(what string, done, whole int64)
}

// builder is a package that is being made.
type builder struct {
	Options
	to    Target
	parts []ocispec.Descriptor // the index's, without the apps'
	made  map[string]string    // what a value of a kind has become
}

// Build puts all that apps are made of at a target, and is the index of it, which
// is the caller's to tag.
func Build(ctx context.Context, apps []placement.App, to Target, o Options) (Manifest, error) {
	if len(apps) == 0 || len(apps) > appsMax {
		return Manifest{}, fmt.Errorf("%d apps in a package: it has 1 to %d", len(apps), appsMax)
	}
	if o.Say == nil {
		o.Say = func(string, int64, int64) {}
	}
	b := &builder{Options: o, to: to, made: map[string]string{}}
	var layers []ocispec.Descriptor
	var names []string
	for _, app := range apps {
		layer, err := b.app(ctx, app)
		if err != nil {
			return Manifest{}, err
		}
		layers = append(layers, layer)
		names = append(names, app.Name)
	}
	if err := b.artifact(ctx, AppType, strings.Join(names, ", "), ocispec.DescriptorEmptyJSON, layers); err != nil {
		return Manifest{}, err
	}
	last := len(b.parts) - 1 // the apps, which are to come first
	parts := slices.Concat(b.parts[last:], b.parts[:last])
	if len(parts) > partsMax {
		return Manifest{}, fmt.Errorf("a package of %d parts: it has at most %d", len(parts), partsMax)
	}
	index := ocispec.Index{
		MediaType: ocispec.MediaTypeImageIndex, ArtifactType: PackageType, Manifests: parts,
		Annotations: map[string]string{ocispec.AnnotationTitle: strings.Join(names, ", "), typeAnnotation: PackageType},
	}
	index.SchemaVersion = 2
	data := encode(index)
	return Manifest{describe(index.MediaType, data), data}, nil
}

// app puts a manifest in which every name is one of the package's.
func (b *builder) app(ctx context.Context, app placement.App) (ocispec.Descriptor, error) {
	app = clone(app)
	for _, name := range app.ComponentNames() {
		c := app.Components[name]
		for _, field := range Fields(&c) {
			value, err := b.part(ctx, c, field)
			if err != nil {
				return ocispec.Descriptor{}, fmt.Errorf("app %s: components.%s.%s %q: %w", app.Name, name, field.Path, field.Value, err)
			}
			field.Set(value)
		}
		if c.Container != nil {
			c.Container.Credentials = "" // of a registry that it no longer comes from
		}
		app.Components[name] = c
	}
	data := encode(app)
	layer := describe(AppType, data)
	layer.Annotations = map[string]string{ocispec.AnnotationTitle: app.Name + ".json"}
	return layer, put(ctx, b.to, layer, data)
}

// part puts what a field names, and is how the package names it.
func (b *builder) part(ctx context.Context, c placement.Component, field Field) (string, error) {
	key := fmt.Sprint(field.Kind, field.Value)
	if made, ok := b.made[key]; ok {
		return made, nil
	}
	var made string
	var err error
	switch {
	case field.Kind == KindImage:
		made, err = b.image(ctx, field.Value)
	case !IsLocal(field.Value):
		err = errors.New(`a package is made of files: name one as "./path"`)
	case field.Kind == KindDisk:
		made, err = b.disk(ctx, b.path(field.Value))
	default:
		mediaType := layerType
		if c.Function != nil {
			mediaType = wasmType
		}
		made, err = b.file(ctx, b.path(field.Value), mediaType)
	}
	if err == nil {
		b.made[key] = made
	}
	return made, err
}

func (b *builder) path(value string) string {
	if filepath.IsAbs(value) {
		return value
	}
	return filepath.Join(b.Dir, value)
}

// artifact puts a manifest of layers, and lists it in the index.
func (b *builder) artifact(ctx context.Context, artifactType, title string, config ocispec.Descriptor, layers []ocispec.Descriptor) error {
	if config.Digest == ocispec.DescriptorEmptyJSON.Digest {
		config.Data = nil // some registries know of none
		if err := put(ctx, b.to, config, ocispec.DescriptorEmptyJSON.Data); err != nil {
			return err
		}
	}
	m := ocispec.Manifest{
		MediaType: ocispec.MediaTypeImageManifest, ArtifactType: artifactType, Config: config, Layers: layers,
		Annotations: map[string]string{ocispec.AnnotationTitle: title},
	}
	m.SchemaVersion = 2
	data := encode(m)
	d := describe(m.MediaType, data)
	if err := put(ctx, b.to, d, data); err != nil {
		return err
	}
	d.ArtifactType, d.Annotations = artifactType, map[string]string{ocispec.AnnotationTitle: title, typeAnnotation: artifactType}
	b.list(d)
	return nil
}

// list lists a manifest in the index, once.
func (b *builder) list(d ocispec.Descriptor) {
	if !slices.ContainsFunc(b.parts, func(have ocispec.Descriptor) bool { return have.Digest == d.Digest }) {
		b.parts = append(b.parts, d)
	}
}

// openFile opens a regular file.
func openFile(path string) (*os.File, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

// file puts a file, whose digest it keeps.
func (b *builder) file(ctx context.Context, path, mediaType string) (string, error) {
	f, size, err := openFile(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	title := filepath.Base(path)
	b.Say(title, 0, size)
	sum, err := digests.SHA256.FromReader(f)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	layer := ocispec.Descriptor{
		MediaType: mediaType, Digest: sum, Size: size, Annotations: map[string]string{ocispec.AnnotationTitle: title},
	}
	if err := copyBlob(ctx, onDisk(path), layer, b.to); err != nil {
		return "", err
	}
	b.Say(title, size, size)
	return string(sum), b.artifact(ctx, FileType, title, ocispec.DescriptorEmptyJSON, []ocispec.Descriptor{layer})
}

// onDisk is a Source of the one file.
type onDisk string

func (path onDisk) Open(context.Context, ocispec.Descriptor) (io.ReadCloser, error) {
	f, _, err := openFile(string(path))
	return f, err
}

// disk puts the disk of a machine, in chunks.
func (b *builder) disk(ctx context.Context, path string) (string, error) {
	f, size, err := openFile(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	title := filepath.Base(path)
	x, layers, err := disk.Cut(ctx, &telling{f, func(done int64) { b.Say(title, done, size) }, 0}, size,
		func(ctx context.Context, layer ocispec.Descriptor, data []byte) error {
			return put(ctx, b.to, layer, data)
		})
	if err != nil {
		return "", err
	}
	data := encode(x)
	config := describe(disk.IndexType, data)
	if err := put(ctx, b.to, config, data); err != nil {
		return "", err
	}
	if err := b.artifact(ctx, disk.ArtifactType, title, config, layers); err != nil {
		return "", err
	}
	b.Say(title, size, size)
	return inPackage(b.parts[len(b.parts)-1].Digest), nil
}

// telling tells how far a file was read.
type telling struct {
	io.Reader
	tell func(done int64)
	done int64
}

func (t *telling) Read(p []byte) (int, error) {
	n, err := t.Reader.Read(p)
	t.done += int64(n)
	t.tell(t.done)
	return n, err
}

// inPackage is how a manifest of a package names another.
func inPackage(d digests.Digest) string { return "@" + string(d) }

// image puts an image as it is; of one for several architectures each, and the
// index as a blob.
func (b *builder) image(ctx context.Context, text string) (string, error) {
	b.Say(text, 0, 0)
	found, err := b.Find(ctx, text)
	if err != nil {
		return "", err
	}
	root, err := b.imageFrom(ctx, text, found)
	if err = errors.Join(err, found.Close()); err != nil {
		return "", err
	}
	b.Say(text, 1, 1)
	return inPackage(root), nil
}

func (b *builder) imageFrom(ctx context.Context, text string, found Image) (digests.Digest, error) {
	data, m, err := readManifest(ctx, found.Source, found.Root)
	if err != nil {
		return "", err
	}
	if len(m.Manifests) == 0 {
		if err := b.oneImage(ctx, found.Source, found.Root, text); err != nil {
			return "", err
		}
		return found.Root.Digest, b.signatures(ctx, found, found.Root)
	}
	index, images, err := b.choose(m, data)
	if err != nil {
		return "", err
	}
	for _, d := range images {
		if d.MediaType == m.MediaType {
			return "", fmt.Errorf("%w: it is an index of indexes", image.ErrInvalid)
		}
		if err := b.oneImage(ctx, found.Source, d, text); err != nil {
			return "", err
		}
	}
	if err := b.signatures(ctx, found, slices.Concat(images, []ocispec.Descriptor{describe(m.MediaType, index)})...); err != nil {
		return "", err
	}
	layer := describe(ImageIndexType, index)
	layer.Annotations = map[string]string{ocispec.AnnotationTitle: "index.json", mediaTypeAnnotation: m.MediaType}
	if err := put(ctx, b.to, layer, index); err != nil {
		return "", err
	}
	return layer.Digest, b.artifact(ctx, ImageIndexType, text, ocispec.DescriptorEmptyJSON, []ocispec.Descriptor{layer})
}

// signatures puts those that images have where they were found.
func (b *builder) signatures(ctx context.Context, found Image, images ...ocispec.Descriptor) error {
	if b.Name.Repository == "" {
		return nil
	}
	var of []digests.Digest
	for _, d := range images {
		of = append(of, d.Digest)
	}
	_, err := carryAll(ctx, found.Source, of, b.to, b.Name)
	return err
}

// mediaTypeAnnotation is what an index is called where it is one.
const mediaTypeAnnotation = "vnd.hansa.image.media_type"

func (b *builder) oneImage(ctx context.Context, from Source, d ocispec.Descriptor, text string) error {
	m, err := Copy(ctx, from, d, b.to)
	if err != nil {
		return err
	}
	if err := put(ctx, b.to, d, m.Data); err != nil {
		return err
	}
	d.Annotations = map[string]string{ocispec.AnnotationTitle: text}
	b.list(d)
	return nil
}

// choose takes of an index the images for the platforms that are wanted: the index
// of those, and what is in it.
func (b *builder) choose(m image.Manifest, data []byte) ([]byte, []ocispec.Descriptor, error) {
	if len(b.Platforms) == 0 {
		return data, m.Manifests, nil
	}
	var images []ocispec.Descriptor
	var have []string
	for _, d := range m.Manifests {
		name := platformOf(d)
		have = append(have, name)
		if slices.ContainsFunc(b.Platforms, func(p string) bool { return name == p || strings.HasPrefix(name, p+"/") }) {
			images = append(images, d)
		}
	}
	if len(images) == 0 {
		return nil, nil, fmt.Errorf("it has nothing for %s: it is for %s", strings.Join(b.Platforms, ", "), strings.Join(have, ", "))
	}
	index := ocispec.Index{MediaType: m.MediaType, Manifests: images, Annotations: m.Annotations}
	index.SchemaVersion = 2
	return encode(index), images, nil
}

func platformOf(d ocispec.Descriptor) string {
	if d.Platform == nil {
		return "any"
	}
	name := d.Platform.OS + "/" + d.Platform.Architecture
	if d.Platform.Variant != "" {
		name += "/" + d.Platform.Variant
	}
	return name
}
