package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
)

// Limits of what is read from files.
const (
	manifestBytesMax = 1 << 20
	documentsMax     = 256
)

// inputName stands for a manifest from the input in messages.
const inputName = "the input"

// document is one app of a manifest file, and the files that it names.
type document struct {
	app   placement.App
	from  string // file, for messages
	files []localFile
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

// readDocuments reads the apps in the named files; "-" is the input. Every
// "./path" becomes the digest of that file, beside the manifest.
func (s *session) readDocuments(names []string) ([]document, error) {
	var docs []document
	for _, name := range names {
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
		for _, field := range localFields(&c) {
			if !isLocal(field.value) {
				continue
			}
			path := field.value
			if !filepath.IsAbs(path) {
				path = filepath.Join(dir, path)
			}
			f, err := hashFile(path)
			if err != nil {
				return fmt.Errorf("%s: components.%s.%s %q: %w", d.from, name, field.path, field.value, err)
			}
			field.set(f.digest)
			d.files = append(d.files, f)
		}
		d.app.Components[name] = c
	}
	return nil
}

// localField is a field of a component and where it stands below it.
type localField struct {
	path  string
	value string
	set   func(digest string)
}

// packageFields are the files of a package, one for each architecture if it has
// them.
func packageFields(path string, p *placement.Package) []localField {
	files := p.ByArch()
	if files == nil {
		return []localField{{path, string(*p), func(digest string) { *p = placement.Package(digest) }}}
	}
	var fields []localField
	for _, arch := range slices.Sorted(maps.Keys(files)) {
		fields = append(fields, localField{path + "." + arch, files[arch], func(digest string) {
			files[arch] = digest
			*p = placement.PackageOf(files)
		}})
	}
	return fields
}

// localFields are the fields of c that may name a local file. What they point
// to is copied first, so that the caller's manifest is not changed.
func localFields(c *placement.Component) []localField {
	var fields []localField
	if c.Function != nil {
		f := *c.Function
		c.Function = &f
		fields = append(fields, localField{"function.module", f.Module, func(digest string) { f.Module = digest }})
	}
	if c.Server != nil {
		server := *c.Server
		c.Server = &server
		fields = slices.Concat(fields, packageFields("server.image", &server.Image),
			packageFields("server.kernel", &server.Kernel), packageFields("server.initrd", &server.Initrd))
		if server.Process != nil {
			process := *server.Process
			server.Process = &process
			fields = append(fields, packageFields("server.process.artifact", &process.Artifact)...)
		}
	}
	return fields
}

func isLocal(name string) bool {
	return strings.HasPrefix(name, "./") || strings.HasPrefix(name, "../") || filepath.IsAbs(name)
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
