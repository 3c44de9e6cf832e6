package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/node/pack"
	"github.com/hansa-mesh/hansa/placement"
)

// Limits of what is read from files.
const (
	manifestBytesMax = 1 << 20
	documentsMax     = 256
)

// inputName stands for a manifest from the input in messages.
const inputName = "the input"

// document is one app of a manifest file, and the files that it names, or of a
// package.
type document struct {
	app    placement.App
	from   string // file or package, for messages
	files  []localFile
	unfold func(context.Context) error // makes the package's images ready to be pulled; nil for a file's
}

// name is the app's, or the file where it has none.
func (d document) name() string {
	if d.app.Name == "" {
		return d.from
	}
	return d.app.Key().String()
}

// localFile is a "./path" of a manifest.
type localFile struct {
	path   string
	digest string
	size   int64
}

// readDocuments reads the apps in the named files, or packages; "-" is the input.
// Every "./path" becomes the digest of that file, beside the manifest.
func (s *session) readDocuments(ctx context.Context, c *api.Client, names []string) ([]document, error) {
	var docs []document
	for _, name := range names {
		if ref, ok := packageName(name); ok {
			packed, err := s.readPackage(ctx, c, ref)
			if err != nil {
				return nil, err
			}
			docs = append(docs, packed...)
			continue
		}
		data, err := s.readManifest(name)
		if err != nil {
			return nil, err
		}
		dir := filepath.Dir(name)
		if name == "-" {
			dir, name = ".", inputName
		}
		apps, err := api.ParseManifests(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, api.NewProblem(err))
		}
		for _, app := range apps {
			if app.Namespace == "" {
				app.Namespace = s.namespace
			}
			doc := document{app: app, from: name}
			if err := doc.resolve(dir); err != nil {
				return nil, err
			}
			// Told here already, before anything is uploaded.
			if err := doc.app.Validate(); err != nil {
				if len(apps) > 1 {
					name = doc.name()
				}
				return nil, fmt.Errorf("%s: %w", name, api.NewProblem(err))
			}
			docs = append(docs, doc)
		}
		if len(docs) > documentsMax {
			return nil, fmt.Errorf("%s: more than %d apps at once", name, documentsMax)
		}
	}
	seen := map[placement.AppKey]string{}
	for _, doc := range docs {
		switch first, ok := seen[doc.app.Key()]; {
		case ok && first == doc.from:
			return nil, fmt.Errorf("%s: app %s is described twice: keep one of them", doc.from, doc.app.Key())
		case ok:
			return nil, fmt.Errorf("%s: app %s is described twice, also in %s: keep one of them", doc.from, doc.app.Key(), first)
		}
		seen[doc.app.Key()] = doc.from
	}
	return docs, nil
}

func (s *session) readManifest(name string) ([]byte, error) {
	in := s.io.In
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("read manifest: %w", err)
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, manifestBytesMax+1))
	if err != nil {
		return nil, fmt.Errorf("read manifest %s: %w", name, err)
	}
	if len(data) > manifestBytesMax {
		return nil, fmt.Errorf("read manifest %s: larger than %s", name, size(manifestBytesMax))
	}
	return data, nil
}

// resolve replaces every "./path" by the digest of the file.
func (d *document) resolve(dir string) error {
	for _, name := range d.app.ComponentNames() {
		c := d.app.Components[name]
		for _, field := range pack.Fields(&c) {
			if !pack.IsLocal(field.Value) {
				continue
			}
			if field.Kind == pack.KindImage {
				return fmt.Errorf("%s: components.%s.%s %q: an image is not uploaded by itself: make a package of the app, hansa pack %s -t NAME:TAG, and deploy that", d.from, name, field.Path, field.Value, d.from)
			}
			path := field.Value
			if !filepath.IsAbs(path) {
				path = filepath.Join(dir, path)
			}
			f, err := hashFile(path)
			if err != nil {
				return fmt.Errorf("%s: components.%s.%s %q: %w", d.from, name, field.Path, field.Value, err)
			}
			field.Set(f.digest)
			d.files = append(d.files, f)
		}
		d.app.Components[name] = c
	}
	return nil
}

func hashFile(path string) (localFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return localFile{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return localFile{}, err
	}
	if !info.Mode().IsRegular() {
		return localFile{}, fmt.Errorf("%s is not a regular file", path)
	}
	sum := sha256.New()
	n, err := io.Copy(sum, f)
	if err != nil {
		return localFile{}, fmt.Errorf("read %s: %w", path, err)
	}
	return localFile{path: path, digest: "sha256:" + hex.EncodeToString(sum.Sum(nil)), size: n}, nil
}
