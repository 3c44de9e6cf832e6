package pack

import (
	"context"
	"fmt"
	"strings"

	digests "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/node/image"
	"github.com/hansa-mesh/hansa/node/pack/disk"
	"github.com/hansa-mesh/hansa/placement"
)

// Package is what a package says of itself.
type Package struct {
	Apps    []placement.App                       // as they are in it
	Files   map[digests.Digest]ocispec.Descriptor // by their own digest
	Disks   map[digests.Digest]string             // title by manifest
	Images  map[digests.Digest]string             // what it was found as, by manifest
	Indexes map[digests.Digest]Manifest           // of images for several architectures
}

// Is says whether a manifest is that of a package.
func Is(m Manifest) bool {
	parsed, err := image.Parse(m.Descriptor.MediaType, m.Data)
	return err == nil && typeOf(parsed.ArtifactType, parsed.Annotations) == PackageType
}

// Read reads what is in a package.
func Read(ctx context.Context, from Source, root Manifest) (*Package, error) {
	m, err := image.Parse(root.Descriptor.MediaType, root.Data)
	if err != nil {
		return nil, err
	}
	if kind := typeOf(m.ArtifactType, m.Annotations); kind != PackageType || len(m.Manifests) == 0 {
		return nil, fmt.Errorf("%s: %w: it is a %q, and a package is a %q, as hansa pack makes it", root.Descriptor.Digest, ErrInvalid, kind, PackageType)
	}
	if len(m.Manifests) > partsMax {
		return nil, fmt.Errorf("%s: %w: it has %d parts, at most %d", root.Descriptor.Digest, ErrInvalid, len(m.Manifests), partsMax)
	}
	p := &Package{
		Files: map[digests.Digest]ocispec.Descriptor{}, Disks: map[digests.Digest]string{},
		Images: map[digests.Digest]string{}, Indexes: map[digests.Digest]Manifest{},
	}
	for _, d := range m.Manifests {
		if err := p.add(ctx, from, d); err != nil {
			return nil, fmt.Errorf("package %s: %w", root.Descriptor.Digest, err)
		}
	}
	if len(p.Apps) == 0 {
		return nil, fmt.Errorf("package %s: %w: there is no app in it", root.Descriptor.Digest, ErrInvalid)
	}
	return p, p.check()
}

// add reads one part of the package.
func (p *Package) add(ctx context.Context, from Source, d ocispec.Descriptor) error {
	title, kind := d.Annotations[ocispec.AnnotationTitle], typeOf(d.ArtifactType, d.Annotations)
	switch kind {
	case disk.ArtifactType: // as large as a disk has chunks; whoever runs it reads it
		p.Disks[d.Digest] = title
		return nil
	case AppType, FileType, ImageIndexType:
	default:
		p.Images[d.Digest] = title
		return nil
	}
	_, m, err := readManifest(ctx, from, d)
	if err != nil {
		return err
	}
	for _, layer := range m.Layers {
		switch kind {
		case AppType:
			err = p.addApp(ctx, from, layer)
		case FileType:
			p.Files[layer.Digest] = layer
		case ImageIndexType:
			err = p.addIndex(ctx, from, layer)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *Package) addApp(ctx context.Context, from Source, layer ocispec.Descriptor) error {
	if len(p.Apps) == appsMax {
		return fmt.Errorf("%w: more than %d apps", ErrInvalid, appsMax)
	}
	data, err := readAll(ctx, from, layer, appBytesMax)
	if err != nil {
		return fmt.Errorf("the app's manifest: %w", err)
	}
	apps, err := api.ParseManifests(data)
	if err != nil {
		return fmt.Errorf("the app's manifest: %w", api.NewProblem(err))
	}
	p.Apps = append(p.Apps, apps...)
	return nil
}

func (p *Package) addIndex(ctx context.Context, from Source, layer ocispec.Descriptor) error {
	data, err := readAll(ctx, from, layer, image.ManifestMax)
	if err != nil {
		return fmt.Errorf("the index of an image: %w", err)
	}
	m, err := image.Parse("", data)
	if err != nil {
		return fmt.Errorf("the index of an image: %w", err)
	}
	if named := layer.Annotations[mediaTypeAnnotation]; named != "" && named != m.MediaType {
		return fmt.Errorf("the index of an image: %w: it is %q, and is listed as %q", ErrInvalid, m.MediaType, named)
	}
	d := ocispec.Descriptor{MediaType: m.MediaType, Digest: layer.Digest, Size: layer.Size}
	p.Indexes[layer.Digest] = Manifest{d, data}
	return nil
}

// check sees that the apps name nothing but what is in the package.
func (p *Package) check() error {
	for _, app := range p.Apps {
		for _, name := range app.ComponentNames() {
			c := app.Components[name]
			for _, field := range Fields(&c) {
				if !p.has(field) {
					return fmt.Errorf("app %s: components.%s.%s: %w: it names %.100q, which is not in the package", app.Name, name, field.Path, ErrInvalid, field.Value)
				}
			}
		}
	}
	return nil
}

func (p *Package) has(field Field) bool {
	named, inside := strings.CutPrefix(field.Value, "@")
	d := digests.Digest(named)
	var ok bool
	switch field.Kind {
	case KindDisk:
		_, ok = p.Disks[d]
	case KindImage:
		if _, ok = p.Images[d]; !ok {
			_, ok = p.Indexes[d]
		}
	default:
		_, ok = p.Files[d]
		return ok && !inside
	}
	return ok && inside
}

// Deploy are the apps with all that they name pinned in the repository that the
// package is in. The tag is left out: what the next version has not changed is
// named as before, and so is not restarted.
func (p *Package) Deploy(from Ref) []placement.App {
	from.Tag = ""
	var apps []placement.App
	for _, app := range p.Apps {
		app = clone(app)
		for name, c := range app.Components {
			for _, field := range Fields(&c) {
				if d, ok := strings.CutPrefix(field.Value, "@"); ok {
					field.Set(from.Pin(digests.Digest(d)).String())
				}
			}
			app.Components[name] = c
		}
		apps = append(apps, app)
	}
	return apps
}

// Unfold puts the indexes of its images where the package is, so that they can be
// pulled from there.
func (p *Package) Unfold(ctx context.Context, at Target) error {
	for _, m := range p.Indexes {
		if err := put(ctx, at, m.Descriptor, m.Data); err != nil {
			return fmt.Errorf("the index of an image: %w", err)
		}
	}
	return nil
}
