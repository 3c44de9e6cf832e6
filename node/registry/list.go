package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sort"
	"strconv"
	"strings"

	digests "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hansa-mesh/hansa/node/image"
	"github.com/hansa-mesh/hansa/placement"
)

const (
	// referrersMax bounds the manifests that are read for one answer.
	referrersMax = 200
	// referrersBytesMax is the length of an answer after which what is left is on the
	// next page.
	referrersBytesMax = 4 << 20
	// annotationsMax is how long annotations of one manifest may be in a list.
	annotationsMax = 64 << 10
	// typeMax bounds an artifact's type; a media type is no longer.
	typeMax = 255
)

// tags answers which tags a repository has.
func (g *Registry) tags(w http.ResponseWriter, r *http.Request, t target) error {
	names, err := g.cfg.Names.List(r.Context(), t.repository)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return problem(http.StatusNotFound, codeNameUnknown, "the mesh knows no image of repository %s", t.repository).
			fix("push one, or list the repositories at /v2/_catalog")
	}
	tags := []string{}
	for _, n := range names {
		if !strings.Contains(n.Reference, ":") {
			tags = append(tags, n.Reference)
		}
	}
	page, err := page(w, r, tags)
	if err != nil {
		return err
	}
	return answer(w, "application/json", map[string]any{"name": t.repository, "tags": page})
}

// catalog answers which repositories there are.
func (g *Registry) catalog(w http.ResponseWriter, r *http.Request, _ target) error {
	all, err := g.cfg.Names.Repositories(r.Context())
	if err != nil {
		return err
	}
	page, err := page(w, r, all)
	if err != nil {
		return err
	}
	return answer(w, "application/json", map[string]any{"repositories": page})
}

// page is the part of sorted names that was asked for; a Link leads to the next.
func page(w http.ResponseWriter, r *http.Request, sorted []string) ([]string, error) {
	q := r.URL.Query()
	most := pageMax
	if text := q.Get("n"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return nil, problem(http.StatusBadRequest, codeUnsupported, "n=%s: want how many names at most", short(text))
		}
		most = min(n, pageMax)
	}
	if last := q.Get("last"); last != "" {
		sorted = sorted[sort.Search(len(sorted), func(i int) bool { return sorted[i] > last }):]
	}
	if len(sorted) <= most {
		return append([]string{}, sorted...), nil
	}
	if most > 0 {
		link(w, r, url.Values{"n": {strconv.Itoa(most)}, "last": {sorted[most-1]}})
	}
	return append([]string{}, sorted[:most]...), nil
}

func link(w http.ResponseWriter, r *http.Request, q url.Values) {
	u := url.URL{Path: r.URL.Path, RawQuery: q.Encode()}
	w.Header().Set("Link", fmt.Sprintf(`<%s>; rel="next"`, u.String()))
}

// referrers answers which manifests of the repository refer to a digest.
func (g *Registry) referrers(w http.ResponseWriter, r *http.Request, t target) error {
	names, err := g.cfg.Names.List(r.Context(), t.repository)
	if err != nil {
		return err
	}
	byDigest := map[string]placement.Image{} // a tag and its digest are one
	for _, n := range names {
		if n.Subject == t.last {
			byDigest[n.Digest] = n
		}
	}
	found := make([]placement.Image, 0, len(byDigest))
	for _, n := range byDigest {
		found = append(found, n)
	}
	slices.SortFunc(found, func(a, b placement.Image) int { return strings.Compare(a.Digest, b.Digest) })
	q := r.URL.Query()
	wanted, last := q.Get("artifactType"), q.Get("last")
	found = slices.DeleteFunc(found, func(n placement.Image) bool { return n.Digest <= last })
	list := ocispec.Index{Versioned: ocispecs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{}}
	length := 0
	for i, n := range found {
		if i == referrersMax || length > referrersBytesMax {
			next := url.Values{"last": {found[i-1].Digest}}
			if wanted != "" {
				next.Set("artifactType", wanted)
			}
			link(w, r, next)
			break
		}
		d, size, err := g.describe(r.Context(), n)
		if err != nil {
			return err
		}
		if wanted == "" || d.ArtifactType == wanted {
			list.Manifests = append(list.Manifests, d)
			length += size
		}
	}
	if wanted != "" {
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	return answer(w, ocispec.MediaTypeImageIndex, list)
}

// describe reads from a manifest what a list of referrers says of it, and how long
// that is. One that is out of reach now is listed without, and so are annotations
// that are too long for a list.
func (g *Registry) describe(ctx context.Context, n placement.Image) (d ocispec.Descriptor, size int, err error) {
	d = ocispec.Descriptor{MediaType: n.MediaType, Digest: digests.Digest(n.Digest), Size: n.Size}
	data, err := g.read(ctx, n.Digest)
	switch {
	case errors.Is(err, ErrNotFound):
	case err != nil:
		return d, 0, err
	default:
		m, err := image.Parse(n.MediaType, data)
		if err != nil {
			return d, 0, fmt.Errorf("registry: %s: %w", n.Digest, err)
		}
		if len(m.ArtifactType) <= typeMax {
			d.ArtifactType = m.ArtifactType
		}
		if text, err := encode(m.Annotations); err == nil && len(text) <= annotationsMax {
			d.Annotations = m.Annotations
		}
	}
	text, err := encode(d)
	return d, len(text), err
}

func answer(w http.ResponseWriter, contentType string, body any) error {
	data, err := encode(body)
	if err != nil {
		return fmt.Errorf("registry: %w", err)
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	_, _ = w.Write(data)
	return nil
}

// encode is JSON and a line's end. What browsers read as HTML stays as it is: six bytes
// for one would make an answer far longer than what was pushed.
func encode(body any) ([]byte, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	err := e.Encode(body)
	return out.Bytes(), err
}
