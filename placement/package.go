package placement

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Package is a file, or one for each architecture: "sha256:…", or "./path"
// before upload. In a manifest it is a text, or an object by architecture. The
// value itself is that text, or the object as JSON with its keys sorted, so that
// one file looks on the wire as it always did, and equal packages are equal.
type Package string

// PackageOf is a package with a file for each architecture.
func PackageOf(files map[string]string) Package {
	data, err := json.Marshal(files) // sorts the keys
	assert(err == nil, "package: %v", err)
	return Package(data)
}

// ByArch is its files by architecture; nil for one file that serves all.
func (p Package) ByArch() map[string]string {
	if !strings.HasPrefix(string(p), "{") {
		return nil
	}
	files := map[string]string{}
	if json.Unmarshal([]byte(p), &files) != nil {
		return nil
	}
	return files
}

// For is the file for an architecture, or "" if it has none.
func (p Package) For(arch string) string {
	if files := p.ByArch(); files != nil {
		return files[arch]
	}
	return string(p)
}

// Files are all its files, each once, in the order of their architectures.
func (p Package) Files() []string {
	files := p.ByArch()
	if files == nil {
		return []string{string(p)}
	}
	var out []string
	for _, arch := range sortedKeys(files) {
		if !slices.Contains(out, files[arch]) {
			out = append(out, files[arch])
		}
	}
	return out
}

// MarshalJSON writes a text or an object.
func (p Package) MarshalJSON() ([]byte, error) {
	if p.ByArch() != nil {
		return []byte(p), nil
	}
	return json.Marshal(string(p))
}

// UnmarshalJSON reads a text or an object.
func (p *Package) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil && !strings.HasPrefix(one, "{") {
		*p = Package(one)
		return nil
	}
	files := map[string]string{}
	if err := json.Unmarshal(data, &files); err != nil || len(files) == 0 {
		return fmt.Errorf("%s is no file: write \"./path\" or \"sha256:…\", or one for each architecture: {amd64: ./path, arm64: ./path}", clip(string(data)))
	}
	*p = PackageOf(files)
	return nil
}

// packages are those of a component that may have a file for each architecture,
// by their fields.
func (c Component) packages() map[string]Package {
	out := map[string]Package{}
	switch {
	case c.Server == nil:
	case c.Server.Process != nil:
		out[".server.process.artifact"] = c.Server.Process.Artifact
	default:
		out[".server.image"], out[".server.kernel"], out[".server.initrd"] = c.Server.Image, c.Server.Kernel, c.Server.Initrd
	}
	return out
}

// RunsOn are the architectures that a component runs on: what it names, or else
// those for which its package has files; nil when neither says.
func (c Component) RunsOn() []string {
	if len(c.Architecture) > 0 {
		return c.Architecture
	}
	var on []string
	said := false
	for _, p := range c.packages() {
		files := p.ByArch()
		switch {
		case files == nil:
		case !said:
			on, said = sortedKeys(files), true
		default:
			on = slices.DeleteFunc(on, func(arch string) bool { return files[arch] == "" })
		}
	}
	return on
}

// wrongArch is why a component does not run where the architectures are these,
// or "".
func (c Component) wrongArch(have []string) string {
	on := c.RunsOn()
	if len(on) == 0 || slices.ContainsFunc(on, func(arch string) bool { return slices.Contains(have, arch) }) {
		return ""
	}
	if len(have) == 0 {
		return "it does not say its architecture, and this runs on " + strings.Join(on, ", ") + " alone"
	}
	return "it is " + strings.Join(have, ", ") + ", and this runs on " + strings.Join(on, ", ") + " alone"
}

// architecture checks that whatever a component names has its files.
func (v *validation) architecture(c Component) {
	if v.lenient {
		return
	}
	packages := c.packages()
	for i, arch := range c.Architecture {
		field := fmt.Sprintf(".architecture[%d]", i)
		if !slices.Contains(Architectures, arch) {
			v.bad(field, arch, "not an architecture", "one of "+strings.Join(Architectures, ", "))
			continue
		}
		for _, name := range sortedKeys(packages) {
			if files := packages[name].ByArch(); files != nil && files[arch] == "" {
				v.bad(field, arch, strings.TrimPrefix(name, ".")+" has no file for it", "add one, or leave the architecture out")
			}
		}
	}
	several := slices.ContainsFunc(sortedKeys(packages), func(name string) bool { return packages[name].ByArch() != nil })
	if several && len(c.RunsOn()) == 0 {
		v.bad("", nil, "its files have no architecture in common", "give each of them one for the same architectures")
	}
}

// packageFile checks a file, or each of several.
func (v *validation) packageFile(field string, p Package) {
	files := p.ByArch()
	if files == nil {
		v.file(field, string(p), false)
		return
	}
	if len(files) == 0 || len(files) > packageFilesMax {
		v.bad(field, len(files), "too many or too few", fmt.Sprintf("1 to %d architectures", packageFilesMax))
		return
	}
	for _, arch := range sortedKeys(files) {
		if !v.lenient && !slices.Contains(Architectures, arch) {
			v.bad(field+"."+clip(arch), nil, "not an architecture", "one of "+strings.Join(Architectures, ", "))
			continue
		}
		v.file(field+"."+clip(arch), files[arch], false)
	}
}

const packageFilesMax = 16
