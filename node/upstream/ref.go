package upstream

import (
	"fmt"
	"strings"

	"github.com/distribution/reference"
)

// Ref is the name of an image as engines read it: without a host it is one of
// docker.io, and there without a path one of "library".
type Ref struct {
	Host       string
	Repository string
	Tag        string // "latest" where neither tag nor digest was written
	Digest     string // "" unless it is pinned
	// Plain is the repository as it was written when no host was; else "".
	Plain string
}

const tagDefault = "latest"

// Parse reads the name of an image.
func Parse(text string) (Ref, error) {
	named, err := reference.ParseNormalizedNamed(text)
	if err != nil {
		return Ref{}, fmt.Errorf("%.300q is no name of an image: %w; want for instance shop/api:1.4", text, err)
	}
	r := Ref{Host: reference.Domain(named), Repository: reference.Path(named)}
	if tagged, ok := named.(reference.Tagged); ok {
		r.Tag = tagged.Tag()
	}
	if pinned, ok := named.(reference.Digested); ok {
		r.Digest = pinned.Digest().String()
	}
	if r.Tag == "" && r.Digest == "" {
		r.Tag = tagDefault
	}
	if !hasHost(text) {
		r.Plain, _, _ = strings.Cut(text, "@")
		r.Plain, _, _ = strings.Cut(r.Plain, ":")
	}
	return r, nil
}

// hasHost says whether a name begins with a host, by the rule of engines.
func hasHost(text string) bool {
	first, _, more := strings.Cut(text, "/")
	return more && (strings.ContainsAny(first, ".:") || first == "localhost" || strings.ToLower(first) != first)
}

// String is the whole name.
func (r Ref) String() string {
	text := r.Host + "/" + r.Repository
	if r.Tag != "" {
		text += ":" + r.Tag
	}
	if r.Digest != "" {
		text += "@" + r.Digest
	}
	return text
}

// Reference is what the registry is asked for: the digest, or else the tag.
func (r Ref) Reference() string {
	if r.Digest != "" {
		return r.Digest
	}
	return r.Tag
}

// Cached is the repository that the mesh keeps a copy under, a name as the
// distribution specification has it: "registry.example__5000/shop/api".
func (r Ref) Cached() string {
	host := strings.NewReplacer(":", "__", "[", "", "]", "").Replace(strings.ToLower(r.Host))
	return host + "/" + r.Repository
}
