package registry

import (
	"errors"
	"fmt"
	"io"
	"net/http"
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
	id, err := g.cfg.Blobs.Begin()
	if err != nil {
		return fmt.Errorf("registry: begin an upload: %w", err)
	}
	if digest == "" {
		w.Header().Set("OCI-Chunk-Min-Length", strconv.Itoa(chunkMin))
		progress(w, t, id, 0)
		w.WriteHeader(http.StatusAccepted)
		return nil
	}
	if _, err := g.receive(r, id, 0); err != nil {
		return errors.Join(err, ignoreGone(g.cfg.Blobs.Cancel(id)))
	}
	return g.commit(w, t, id, digest)
}

// uploadStatus answers GET: how much is there.
func (g *Registry) uploadStatus(w http.ResponseWriter, _ *http.Request, t target) error {
	size, err := g.cfg.Blobs.Uploaded(t.last)
	if err != nil {
		return uploadError(err, t.last)
	}
	progress(w, t, t.last, size)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// appendUpload answers PATCH: more bytes.
func (g *Registry) appendUpload(w http.ResponseWriter, r *http.Request, t target) error {
	if err := g.goOn(w, r, t); err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// endUpload answers PUT: the last bytes, if any, and the digest.
func (g *Registry) endUpload(w http.ResponseWriter, r *http.Request, t target) error {
	digest := r.URL.Query().Get("digest")
	if err := checkDigest(digest); err != nil {
		return err
	}
	if err := g.goOn(w, r, t); err != nil {
		return err
	}
	return g.commit(w, t, t.last, digest)
}

// cancelUpload answers DELETE.
func (g *Registry) cancelUpload(w http.ResponseWriter, _ *http.Request, t target) error {
	if err := g.cfg.Blobs.Cancel(t.last); err != nil {
		return uploadError(err, t.last)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// goOn takes more bytes of an upload, and says in the header how many there are.
func (g *Registry) goOn(w http.ResponseWriter, r *http.Request, t target) error {
	offset, err := chunkAt(r)
	if err != nil {
		return err
	}
	size, err := g.receive(r, t.last, offset)
	if err == nil || errors.Is(err, ErrOffset) {
		progress(w, t, t.last, size)
	}
	if errors.Is(err, ErrOffset) {
		return problem(http.StatusRequestedRangeNotSatisfiable, codeUploadInvalid,
			"the chunk begins at %d, and %d bytes are there", offset, size).fix("go on from byte %d", size)
	}
	return err
}

// uploadError says which upload is not there.
func uploadError(err error, id string) error {
	if errors.Is(err, ErrNotFound) {
		return uploadUnknown(id)
	}
	return fmt.Errorf("registry: upload %s: %w", id, err)
}

func ignoreGone(err error) error {
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

func uploadUnknown(id string) error {
	return problem(http.StatusNotFound, codeUploadUnknown, "this peer has no upload %s", short(id)).
		fix("begin it again with a POST, at the peer that is to take it: an upload stays with its peer, for a day")
}

// receive takes the body, and says how many bytes of the upload are there. What
// came of it stays, so that the client can ask how much that is and go on.
func (g *Registry) receive(r *http.Request, id string, offset int64) (int64, error) {
	before, err := g.cfg.Blobs.Uploaded(id)
	if err != nil {
		return 0, uploadError(err, id)
	}
	room := g.cfg.BlobMax - before
	if r.ContentLength > room {
		return before, tooLarge(g.cfg.BlobMax)
	}
	size, err := g.cfg.Blobs.Append(r.Context(), id, offset, io.LimitReader(r.Body, room+1))
	switch {
	case size > g.cfg.BlobMax:
		return size, errors.Join(tooLarge(g.cfg.BlobMax), ignoreGone(g.cfg.Blobs.Cancel(id)))
	case errors.Is(err, io.ErrUnexpectedEOF):
		return size, problem(http.StatusBadRequest, codeSizeInvalid, "the body ended after %d of %d bytes", size-before, r.ContentLength).
			fix("ask with a GET how much came, and go on from there")
	case err != nil:
		return size, uploadError(err, id)
	}
	return size, nil
}

func tooLarge(most int64) error {
	return problem(http.StatusRequestEntityTooLarge, codeSizeInvalid, "a blob has at most %d bytes at this peer", most)
}

func (g *Registry) commit(w http.ResponseWriter, t target, id, digest string) error {
	if err := g.cfg.Blobs.Commit(id, digest); err != nil {
		return uploadError(err, id)
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
func progress(w http.ResponseWriter, t target, id string, size int64) {
	h := w.Header()
	h.Set("Location", "/v2/"+t.repository+"/blobs/uploads/"+id)
	h.Set("Docker-Upload-Uuid", id)
	h.Set("Range", fmt.Sprintf("0-%d", max(0, size-1))) // inclusive; none at all has no form of its own
}

// chunkAt is where a chunk says that it begins, or AtEnd.
func chunkAt(r *http.Request) (int64, error) {
	header := r.Header.Get("Content-Range")
	if header == "" {
		return AtEnd, nil
	}
	first, last, ok := strings.Cut(strings.TrimPrefix(header, "bytes "), "-")
	last, _, _ = strings.Cut(last, "/") // some say how long the whole will be
	from, err1 := strconv.ParseInt(first, 10, 64)
	to, err2 := strconv.ParseInt(last, 10, 64)
	switch {
	case !ok || err1 != nil || err2 != nil || from < 0 || to < from:
		return 0, problem(http.StatusBadRequest, codeUploadInvalid, "Content-Range %s: want FIRST-LAST, both counted from 0", short(header))
	case r.ContentLength >= 0 && r.ContentLength != to-from+1:
		return 0, problem(http.StatusBadRequest, codeSizeInvalid, "Content-Range %s names %d bytes, and the body has %d",
			short(header), to-from+1, r.ContentLength)
	}
	return from, nil
}
