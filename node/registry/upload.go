package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// chunkMin is what is asked of clients that send a blob in chunks, except for the
// last; what is smaller is taken all the same.
const chunkMin = 64 << 10

// beginUpload answers POST: a mount, a whole blob, or a session.
func (g *Registry) beginUpload(w http.ResponseWriter, r *http.Request, t target) error {
	q := r.URL.Query()
	if digest := q.Get("mount"); digest != "" {
		if err := checkDigest(digest); err != nil {
			return err
		}
		if from := q.Get("from"); from != "" {
			if err := checkRepository(from); err != nil {
				return err
			}
		}
		// Blobs belong to no repository, so wherever it was pushed it is here.
		if _, err := g.find(r.Context(), digest); err == nil {
			return created(w, t, digest)
		} else if !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	digest := q.Get("digest")
	if digest != "" {
		if err := checkDigest(digest); err != nil {
			return err
		}
	}
	up, err := g.cfg.Blobs.Begin(r.Context())
	if err != nil {
		return err
	}
	defer up.Close()
	if digest == "" {
		w.Header().Set("OCI-Chunk-Min-Length", strconv.Itoa(chunkMin))
		progress(w, t, up)
		w.WriteHeader(http.StatusAccepted)
		return nil
	}
	if err := g.receive(r, up); err != nil {
		return errors.Join(err, up.Cancel())
	}
	return g.commit(w, t, up, digest)
}

// uploadStatus answers GET: how much is there.
func (g *Registry) uploadStatus(w http.ResponseWriter, r *http.Request, t target) error {
	up, err := g.resume(r.Context(), t)
	if err != nil {
		return err
	}
	defer up.Close()
	progress(w, t, up)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// appendUpload answers PATCH: more bytes.
func (g *Registry) appendUpload(w http.ResponseWriter, r *http.Request, t target) error {
	up, err := g.resume(r.Context(), t)
	if err != nil {
		return err
	}
	defer up.Close()
	if err := inOrder(w, r, t, up); err != nil {
		return err
	}
	if err := g.receive(r, up); err != nil {
		return err
	}
	progress(w, t, up)
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// endUpload answers PUT: the last bytes, if any, and the digest.
func (g *Registry) endUpload(w http.ResponseWriter, r *http.Request, t target) error {
	digest := r.URL.Query().Get("digest")
	if err := checkDigest(digest); err != nil {
		return err
	}
	up, err := g.resume(r.Context(), t)
	if err != nil {
		return err
	}
	defer up.Close()
	if err := inOrder(w, r, t, up); err != nil {
		return err
	}
	if err := g.receive(r, up); err != nil {
		return err
	}
	return g.commit(w, t, up, digest)
}

// cancelUpload answers DELETE.
func (g *Registry) cancelUpload(w http.ResponseWriter, r *http.Request, t target) error {
	up, err := g.resume(r.Context(), t)
	if err != nil {
		return err
	}
	if err := errors.Join(up.Cancel(), up.Close()); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (g *Registry) resume(ctx context.Context, t target) (Upload, error) {
	up, err := g.cfg.Blobs.Resume(ctx, t.last)
	if errors.Is(err, ErrNotFound) {
		return nil, uploadUnknown(t.last)
	}
	return up, err
}

func uploadUnknown(id string) error {
	return problem(http.StatusNotFound, codeUploadUnknown, "this peer has no upload %s", short(id)).
		fix("begin it again with a POST, at the peer that is to take it: an upload stays with its peer, for a day")
}

// receive takes the body. What came of it stays, so that the client can ask how
// much that is and go on.
func (g *Registry) receive(r *http.Request, up Upload) error {
	if room := g.cfg.BlobMax - up.Offset(); r.ContentLength > room {
		return tooLarge(g.cfg.BlobMax)
	}
	n, err := io.Copy(up, io.LimitReader(r.Body, g.cfg.BlobMax-up.Offset()+1))
	switch {
	case err != nil && errors.Is(err, io.ErrUnexpectedEOF):
		return problem(http.StatusBadRequest, codeSizeInvalid, "the body ended after %d of %d bytes", n, r.ContentLength).
			fix("ask with a GET how much came, and go on from there")
	case up.Offset() > g.cfg.BlobMax:
		return errors.Join(tooLarge(g.cfg.BlobMax), up.Cancel())
	case err != nil:
		return fmt.Errorf("registry: upload %s: %w", up.ID(), err)
	}
	return nil
}

func tooLarge(most int64) error {
	return problem(http.StatusRequestEntityTooLarge, codeSizeInvalid, "a blob has at most %d bytes at this peer", most)
}

func (g *Registry) commit(w http.ResponseWriter, t target, up Upload, digest string) error {
	if err := up.Commit(digest); err != nil {
		return fmt.Errorf("registry: upload %s: %w", up.ID(), err)
	}
	return created(w, t, digest)
}

// created answers that a blob is there.
func created(w http.ResponseWriter, t target, digest string) error {
	w.Header().Set("Location", "/v2/"+t.repository+"/blobs/"+digest)
	w.Header().Set("Docker-Content-Digest", digest)
	w.WriteHeader(http.StatusCreated)
	return nil
}

// progress says where to go on and how much is there.
func progress(w http.ResponseWriter, t target, up Upload) {
	h := w.Header()
	h.Set("Location", "/v2/"+t.repository+"/blobs/uploads/"+url.PathEscape(up.ID()))
	h.Set("Docker-Upload-Uuid", up.ID())
	h.Set("Range", fmt.Sprintf("0-%d", max(0, up.Offset()-1))) // inclusive; an empty one has no form of its own
}

// inOrder refuses a chunk that does not begin where the last one ended, and
// says where that is.
func inOrder(w http.ResponseWriter, r *http.Request, t target, up Upload) error {
	header := r.Header.Get("Content-Range")
	if header == "" {
		return nil
	}
	first, last, ok := strings.Cut(strings.TrimPrefix(header, "bytes "), "-")
	last, _, _ = strings.Cut(last, "/") // some say how long the whole will be
	from, err1 := strconv.ParseInt(first, 10, 64)
	to, err2 := strconv.ParseInt(last, 10, 64)
	switch {
	case !ok || err1 != nil || err2 != nil || from < 0 || to < from:
		return problem(http.StatusBadRequest, codeUploadInvalid, "Content-Range %s: want FIRST-LAST, both counted from 0", short(header))
	case r.ContentLength >= 0 && r.ContentLength != to-from+1:
		return problem(http.StatusBadRequest, codeSizeInvalid, "Content-Range %s names %d bytes, and the body has %d",
			short(header), to-from+1, r.ContentLength)
	case from != up.Offset():
		progress(w, t, up)
		return problem(http.StatusRequestedRangeNotSatisfiable, codeUploadInvalid,
			"the chunk begins at %d, and %d bytes are there", from, up.Offset()).fix("go on from byte %d", up.Offset())
	}
	return nil
}
