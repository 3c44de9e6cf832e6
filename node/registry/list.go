package registry

import (
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

// referrersMax bounds the manifests that are read for one answer.
const referrersMax = 200

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
	if len(found) > referrersMax {
		found = found[:referrersMax]
		next := url.Values{"last": {found[referrersMax-1].Digest}}
		if wanted != "" {
			next.Set("artifactType", wanted)
		}
		link(w, r, next)
	}
	list := ocispec.Index{Versioned: ocispecs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{}}
	for _, n := range found {
		d, err := g.describe(r.Context(), n)
		if err != nil {
			return err
		}
		if wanted == "" || d.ArtifactType == wanted {
			list.Manifests = append(list.Manifests, d)
		}
	}
	if wanted != "" {
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	return answer(w, ocispec.MediaTypeImageIndex, list)
}

// describe reads from a manifest what a list of referrers says of it. One that
// is out of reach now is listed without.
func (g *Registry) describe(ctx context.Context, n placement.Image) (ocispec.Descriptor, error) {
	d := ocispec.Descriptor{MediaType: n.MediaType, Digest: digests.Digest(n.Digest), Size: n.Size}
	data, err := g.read(ctx, n.Digest)
	if errors.Is(err, ErrNotFound) {
		return d, nil
	}
	if err != nil {
		return d, err
	}
	m, err := image.Parse(n.MediaType, data)
	if err != nil {
		return d, fmt.Errorf("registry: %s: %w", n.Digest, err)
	}
	d.ArtifactType, d.Annotations = m.ArtifactType, m.Annotations
	return d, nil
}

func answer(w http.ResponseWriter, contentType string, body any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("registry: %w", err)
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(data)+1))
	_, _ = w.Write(append(data, '\n'))
	return nil
}
