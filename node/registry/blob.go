package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// getBlob answers GET and HEAD. What is not here is brought from the mesh for a
// GET, and passed on while it comes unless only a part of it is wanted; a HEAD only
// asks who has it.
func (g *Registry) getBlob(w http.ResponseWriter, r *http.Request, t target) error {
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Docker-Content-Digest", t.last)
	h.Set("Etag", strconv.Quote(t.last))
	if r.Method == http.MethodHead {
		size, err := g.find(r.Context(), t.last)
		if err != nil {
			return blobError(err, t.last)
		}
		h.Set("Accept-Ranges", "bytes")
		h.Set("Content-Length", strconv.FormatInt(size, 10))
		w.WriteHeader(http.StatusOK)
		return nil
	}
	if _, err := g.cfg.Blobs.Size(t.last); errors.Is(err, ErrNotFound) && plain(r) {
		return g.pass(w, r, t.last)
	}
	file, err := g.open(r.Context(), t.last)
	if err != nil {
		return blobError(err, t.last)
	}
	defer file.Close()
	immutable(h)
	http.ServeContent(w, r, "", time.Time{}, file)
	return nil
}

// plain says whether a request wants all of a blob, whatever the client has.
func plain(r *http.Request) bool {
	for _, name := range []string{"Range", "If-Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"} {
		if r.Header.Get(name) != "" {
			return false
		}
	}
	return true
}

// pass answers with a blob that is not here while it comes. What goes wrong then
// breaks the connection off, so that the client sees it.
func (g *Registry) pass(w http.ResponseWriter, r *http.Request, digest string) error {
	blob, size, err := g.cfg.Mesh.Read(r.Context(), digest)
	if err != nil {
		return blobError(err, digest)
	}
	defer blob.Close()
	h := w.Header()
	h.Set("Accept-Ranges", "bytes")
	h.Set("Content-Length", strconv.FormatInt(size, 10))
	immutable(h)
	w.WriteHeader(http.StatusOK)
	n, err := io.Copy(w, blob)
	if err == nil && n != size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("%s broke off after %d of %d bytes: %w", digest, n, size, err)
	}
	return nil
}

// immutable lets caches keep what has its digest in its name.
func immutable(h http.Header) { h.Set("Cache-Control", "max-age=31536000, immutable") }

// find is the size of a blob that is here or at a peer in reach. It is kept for
// a while, since whoever pushes an image does not send what is there already.
func (g *Registry) find(ctx context.Context, digest string) (int64, error) {
	size, err := g.cfg.Blobs.Size(digest)
	if errors.Is(err, ErrNotFound) {
		return g.cfg.Mesh.Find(ctx, digest)
	}
	if err == nil {
		g.cfg.Blobs.Touch(digest)
	}
	return size, err
}

// open opens a blob, and brings it here first when it is not.
func (g *Registry) open(ctx context.Context, digest string) (io.ReadSeekCloser, error) {
	file, _, err := g.cfg.Blobs.Open(digest)
	if errors.Is(err, ErrNotFound) {
		if err := g.cfg.Mesh.Ensure(ctx, digest); err != nil {
			return nil, err
		}
		file, _, err = g.cfg.Blobs.Open(digest)
	}
	return file, err
}

// blobError says which blob is not there.
func blobError(err error, digest string) error {
	if errors.Is(err, ErrNotFound) {
		return problem(http.StatusNotFound, codeBlobUnknown, "no peer in reach holds %s", digest).
			fix("push it, or try again when more peers are in reach")
	}
	return err
}

// deleteBlob drops a blob that nothing needs.
func (g *Registry) deleteBlob(w http.ResponseWriter, r *http.Request, t target) error {
	if _, err := g.find(r.Context(), t.last); err != nil {
		return blobError(err, t.last)
	}
	user, err := g.cfg.Mesh.Forget(r.Context(), t.last)
	if err != nil {
		return err
	}
	if user != "" {
		return problem(http.StatusMethodNotAllowed, codeUnsupported, "%s is part of %s", t.last, user).
			fix("delete that first; what nothing needs is collected by itself")
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}
