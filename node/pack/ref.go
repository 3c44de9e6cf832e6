package pack

import (
	"fmt"
	"regexp"
	"strings"

	digests "github.com/opencontainers/go-digest"
)

// Ref is the name of an image or a package: HOST/REPOSITORY:TAG@DIGEST. Without a
// host it is one of the mesh's registry.
type Ref struct {
	Host       string
	Repository string
	Tag        string
	Digest     digests.Digest // "" unless it is pinned
}

// What the distribution specification lets names be.
var (
	repositoryForm = regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagForm        = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
	hostForm       = regexp.MustCompile(`^(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?$`)
)

const (
	repositoryMax = 255
	tagDefault    = "latest"
)

// ParseRef reads a name. The first word is a host when it has a dot, a port, or
// is "localhost"; a name without tag and digest has the tag "latest".
func ParseRef(text string) (Ref, error) {
	bad := func(what string) (Ref, error) {
		return Ref{}, fmt.Errorf("%.300q is no name of a package or an image: %s; want for instance shop:1.4", text, what)
	}
	var r Ref
	rest, digest, pinned := strings.Cut(text, "@")
	if pinned {
		r.Digest = digests.Digest(digest)
		if err := r.Digest.Validate(); err != nil {
			return bad("its digest is none")
		}
	}
	if first, after, ok := strings.Cut(rest, "/"); ok && (strings.ContainsAny(first, ".:") || first == "localhost") {
		if !hostForm.MatchString(first) {
			return bad("its host is none")
		}
		r.Host, rest = first, after
	}
	if at := strings.LastIndexByte(rest, ':'); at >= 0 {
		rest, r.Tag = rest[:at], rest[at+1:]
		if !tagForm.MatchString(r.Tag) {
			return bad("a tag is up to 128 letters, digits, dots, hyphens and underscores")
		}
	} else if !pinned {
		r.Tag = tagDefault
	}
	if len(rest) > repositoryMax || !repositoryForm.MatchString(rest) {
		return bad("a repository is lower-case words, parted by / . _ or -")
	}
	r.Repository = rest
	return r, nil
}

// String is the name as ParseRef reads it.
func (r Ref) String() string {
	text := r.Repository
	if r.Host != "" {
		text = r.Host + "/" + text
	}
	if r.Tag != "" {
		text += ":" + r.Tag
	}
	if r.Digest != "" {
		text += "@" + string(r.Digest)
	}
	return text
}

// Pin is the name with the digest that it stands for.
func (r Ref) Pin(d digests.Digest) Ref {
	r.Digest = d
	return r
}
