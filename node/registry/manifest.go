package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	digests "github.com/opencontainers/go-digest"

	"github.com/hansa-mesh/hansa/node/image"
	"github.com/hansa-mesh/hansa/placement"
)

// tagsMax bounds the tags that one push by digest sets.
const tagsMax = 32

// getManifest answers GET and HEAD. A tag is what the mesh says; a digest is
// read wherever it is held, named or not.
func (g *Registry) getManifest(w http.ResponseWriter, r *http.Request, t target) error {
	digest, mediaType, size := t.last, "", int64(-1)
	if !t.byDigest() {
		named, err := g.cfg.Names.Get(r.Context(), t.repository, t.last)
		if err != nil {
			return manifestError(err, t)
		}
		digest, mediaType, size = named.Digest, named.MediaType, named.Size
	}
	var data []byte
	if r.Method != http.MethodHead || mediaType == "" {
		var err error
		if data, err = g.read(r.Context(), digest); err != nil {
			return manifestError(err, t)
		}
		size = int64(len(data))
	}
	if mediaType == "" { // no name says: what it calls itself
		m, err := image.Parse("", data)
		if err != nil {
			return manifestError(fmt.Errorf("%w: %w", ErrNotFound, err), t)
		}
		mediaType = m.MediaType
	}
	h := w.Header()
	h.Set("Content-Type", mediaType)
	h.Set("Docker-Content-Digest", digest)
	h.Set("Etag", strconv.Quote(digest))
	if t.byDigest() {
		immutable(h)
	}
	if r.Method == http.MethodHead {
		h.Set("Content-Length", strconv.FormatInt(size, 10))
		w.WriteHeader(http.StatusOK)
		return nil
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	return nil
}

// read reads a manifest. What is too long for one is not found.
func (g *Registry) read(ctx context.Context, digest string) ([]byte, error) {
	file, err := g.open(ctx, digest)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, image.ManifestMax+1))
	if err != nil {
		return nil, fmt.Errorf("registry: read %s: %w", digest, err)
	}
	if len(data) > image.ManifestMax {
		return nil, fmt.Errorf("%w: %s is too long for a manifest", ErrNotFound, digest)
	}
	return data, nil
}

// manifestError says which manifest is not there.
func manifestError(err error, t target) error {
	if errors.Is(err, ErrNotFound) {
		sep := ":"
		if t.byDigest() {
			sep = "@"
		}
		return problem(http.StatusNotFound, codeManifestUnknown, "the mesh knows no %s%s%s", t.repository, sep, t.last).
			fix("push it, or look at what there is with `hansa images`")
	}
	return err
}

// putManifest answers PUT: everything under the manifest must be in the mesh
// already. It is brought here, the manifest is stored, and then named.
func (g *Registry) putManifest(w http.ResponseWriter, r *http.Request, t target) error {
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, image.ManifestMax))
	if err != nil {
		return bodyError(err, r)
	}
	algorithm := digests.SHA256
	if t.byDigest() {
		algorithm = digests.Digest(t.last).Algorithm()
	}
	digest := algorithm.FromBytes(data).String()
	if t.byDigest() && digest != t.last {
		return problem(http.StatusBadRequest, codeDigestInvalid, "the manifest that came has digest %s, not %s", digest, t.last).
			fix("push the very bytes that were hashed")
	}
	m, err := image.Parse(contentType(r), data)
	if err != nil {
		return problem(http.StatusBadRequest, codeManifestInvalid, "%s", err).
			fix("push an image manifest, an image index, or Docker's forms of them")
	}
	references, err := references(t, m, digest, r.URL.Query()["tag"])
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), g.cfg.PutTime)
	defer cancel()
	tree, err := g.checkTree(ctx, m, int64(len(data)))
	if err != nil {
		return err
	}
	if err := g.keep(ctx, digest, data); err != nil {
		return err
	}
	named := placement.Image{Repository: t.repository, Digest: digest, MediaType: m.MediaType, Size: int64(len(data))}
	if m.Subject != nil {
		named.Subject = m.Subject.Digest.String()
		w.Header().Set("OCI-Subject", named.Subject)
	}
	if err := g.name(ctx, w.Header(), named, references, tree); err != nil {
		return err
	}
	w.Header().Set("Location", "/v2/"+t.repository+"/manifests/"+digest)
	w.Header().Set("Docker-Content-Digest", digest)
	w.WriteHeader(http.StatusCreated)
	return nil
}

// references are the names that a push makes. What refers to another manifest
// is named by its digest too, so that it is found when its tag moves on.
func references(t target, m image.Manifest, digest string, tags []string) ([]string, error) {
	if len(tags) > tagsMax {
		return nil, problem(http.StatusRequestURITooLong, codeTagInvalid, "%d tags: at most %d at once", len(tags), tagsMax)
	}
	out := []string{t.last}
	if !t.byDigest() {
		tags = nil // the path names the one tag
		if m.Subject != nil {
			out = append(out, digest)
		}
	}
	for _, tag := range tags {
		if err := checkTag(tag); err != nil {
			return nil, err
		}
		out = append(out, tag)
	}
	return out, nil
}

// name puts all the names, and says in the header which tags and how many
// copies there are.
func (g *Registry) name(ctx context.Context, h http.Header, named placement.Image, references []string, tree int64) error {
	for i, reference := range references {
		named.Reference = reference
		copies, err := g.cfg.Names.Put(ctx, named, tree)
		if err != nil {
			return fmt.Errorf("registry: put %s: %w", named.Key().App, err)
		}
		h.Set("Hansa-Copies", strconv.Itoa(copies))
		if i > 0 && !strings.Contains(reference, ":") {
			h.Add("OCI-Tag", reference)
		}
	}
	return nil
}

func contentType(r *http.Request) string {
	mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || mediaType == "application/octet-stream" || mediaType == "application/json" {
		return "" // as it calls itself
	}
	return mediaType
}

// bodyError says why a manifest could not be read.
func bodyError(err error, r *http.Request) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return problem(http.StatusRequestEntityTooLarge, codeSizeInvalid, "a manifest has at most %d bytes", tooLarge.Limit)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return problem(http.StatusBadRequest, codeSizeInvalid, "the body ended before its %d bytes", r.ContentLength)
	}
	return fmt.Errorf("registry: read the manifest: %w", err)
}

// keep stores a manifest as a blob.
func (g *Registry) keep(ctx context.Context, digest string, data []byte) error {
	if _, err := g.cfg.Blobs.Size(digest); err == nil {
		g.cfg.Blobs.Touch(digest)
		return nil
	}
	id, err := g.cfg.Blobs.Begin()
	if err != nil {
		return fmt.Errorf("registry: keep %s: %w", digest, err)
	}
	_, err = g.cfg.Blobs.Append(ctx, id, 0, bytes.NewReader(data))
	if err == nil {
		err = g.cfg.Blobs.Commit(id, digest)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("registry: keep %s: %w", digest, err), ignoreGone(g.cfg.Blobs.Cancel(id)))
	}
	return nil
}

// deleteManifest answers DELETE: of a tag, or of a manifest with all the tags
// that point to it.
func (g *Registry) deleteManifest(w http.ResponseWriter, r *http.Request, t target) error {
	if t.byDigest() {
		return g.deleteByDigest(w, r, t)
	}
	if err := g.cfg.Names.Delete(r.Context(), t.repository, t.last); err != nil {
		return manifestError(err, t)
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

func (g *Registry) deleteByDigest(w http.ResponseWriter, r *http.Request, t target) error {
	names, err := g.cfg.Names.List(r.Context(), t.repository)
	if err != nil {
		return err
	}
	deleted := 0
	for _, n := range names {
		if n.Digest != t.last {
			continue
		}
		if err := g.cfg.Names.Delete(r.Context(), t.repository, n.Reference); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		deleted++
	}
	if _, err := g.find(r.Context(), t.last); err != nil && (deleted == 0 || !errors.Is(err, ErrNotFound)) {
		return manifestError(err, t)
	}
	user, err := g.cfg.Mesh.Forget(r.Context(), t.last)
	if err != nil {
		return err
	}
	if user != "" && deleted == 0 {
		return problem(http.StatusMethodNotAllowed, codeUnsupported, "%s is part of %s", t.last, user).fix("delete that first")
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}
