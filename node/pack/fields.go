package pack

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hansa-mesh/hansa/placement"
)

// Kind is what sort of bytes a field of a manifest names.
type Kind int

// The kinds.
const (
	KindFile  Kind = iota // is used as it is: a module, a program, a kernel
	KindDisk              // of a machine
	KindImage             // of a container
)

// Field is a field of a component that names bytes, and where it stands below it.
type Field struct {
	Path  string
	Kind  Kind
	Value string
	Set   func(value string)
}

// Fields are the fields of c that name bytes. What they point to is copied first,
// so that the caller's manifest is not changed.
func Fields(c *placement.Component) []Field {
	var fields []Field
	if c.Container != nil {
		container := *c.Container
		c.Container = &container
		fields = append(fields, Field{"container.image", KindImage, container.Image, func(value string) { c.Container.Image = value }})
	}
	if c.Function != nil {
		f := *c.Function
		c.Function = &f
		fields = append(fields, Field{"function.module", KindFile, f.Module, func(value string) { c.Function.Module = value }})
	}
	if c.Server != nil {
		server := *c.Server
		c.Server = &server
		fields = slices.Concat(fields, packageFields("server.image", KindDisk, &server.Image),
			packageFields("server.kernel", KindFile, &server.Kernel), packageFields("server.initrd", KindFile, &server.Initrd))
		if server.Process != nil {
			process := *server.Process
			server.Process = &process
			fields = slices.Concat(fields, packageFields("server.process.artifact", KindFile, &process.Artifact))
		}
	}
	return fields
}

// packageFields are the files of a package, one for each architecture if it has
// them.
func packageFields(path string, kind Kind, p *placement.Package) []Field {
	files := p.ByArch()
	if files == nil {
		if *p == "" {
			return nil
		}
		return []Field{{path, kind, string(*p), func(value string) { *p = placement.Package(value) }}}
	}
	var fields []Field
	for _, arch := range slices.Sorted(maps.Keys(files)) {
		fields = append(fields, Field{path + "." + arch, kind, files[arch], func(value string) {
			files[arch] = value
			*p = placement.PackageOf(files)
		}})
	}
	return fields
}

// IsLocal says whether a field names a file of this machine.
func IsLocal(name string) bool {
	return strings.HasPrefix(name, "./") || strings.HasPrefix(name, "../") || filepath.IsAbs(name)
}

// Clone is an app whose components may be changed.
func clone(app placement.App) placement.App {
	app.Components = maps.Clone(app.Components)
	return app
}
