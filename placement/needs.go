package placement

import (
	"slices"
	"strings"
)

// Need is something that a component runs, as its manifest names it.
type Need struct {
	Name       string
	Repository string // of an image, or a disk, that is in a registry; "" for a file
	Digest     string // "" where the name does not pin it
}

// Needs is all that a component runs on an architecture, or with "" on any, each
// once. A program of the host itself has neither a repository nor a digest. The command
// that asks a process for its health is one, unless it is the process's own artifact.
func (c Component) Needs(arch string) []Need {
	var out []Need
	add := func(names ...string) {
		for _, name := range names {
			need := needOf(name)
			if name != "" && !slices.Contains(out, need) {
				out = append(out, need)
			}
		}
	}
	files := func(p Package) []string {
		if arch == "" {
			return p.Files()
		}
		return []string{p.For(arch)}
	}
	switch {
	case c.Container != nil:
		out = append(out, imageNeed(c.Container.Image))
	case c.Function != nil:
		add(c.Function.Module)
	case c.Server != nil && c.Server.Process != nil:
		add(files(c.Server.Process.Artifact)...)
		if len(out) == 0 {
			out = append(out, Need{Name: strings.Join(c.Server.Process.Command, " ")})
		}
		if h := c.Health; h != nil && h.Exec != nil && !c.Server.Process.isArtifact(h.Exec.Command) {
			add(strings.Join(h.Exec.Command, " "))
		}
	case c.Server != nil:
		for _, p := range []Package{c.Server.Image, c.Server.Kernel, c.Server.Initrd} {
			add(files(p)...)
		}
	}
	return out
}

// isArtifact says whether a command that is run inside runs what the artifact stands
// for: it names that by the same path below the process's folder. A bare name is looked
// up on the host.
func (p *Process) isArtifact(command []string) bool {
	if p.Artifact == "" || len(p.Command) == 0 || len(command) == 0 || command[0] != p.Command[0] {
		return false
	}
	steps := strings.Split(command[0], "/")
	return len(steps) > 1 && steps[0] != "" && !slices.Contains(steps, "..")
}

// needOf is a file by its digest, or what a name of a registry pins.
func needOf(name string) Need {
	if isDigest(name) {
		return Need{Name: name, Digest: name}
	}
	if strings.Contains(name, "@") {
		return imageNeed(name)
	}
	return Need{Name: name}
}

// imageNeed is REPOSITORY[:TAG][@DIGEST]. A colon before the last slash is of a
// registry's port.
func imageNeed(name string) Need {
	need := Need{Name: name}
	repository, digest, _ := strings.Cut(name, "@")
	if isDigest(digest) {
		need.Digest = digest
	}
	if colon := strings.LastIndexByte(repository, ':'); colon > strings.LastIndexByte(repository, '/') {
		repository = repository[:colon]
	}
	need.Repository = repository
	return need
}
