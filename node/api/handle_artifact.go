package api

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hansa-mesh/hansa/placement"
)

// ArtifactResult is the answer to a PUT of an artifact.
type ArtifactResult struct {
	Digest  string `json:"digest"`
	Size    int64  `json:"size"`
	Created bool   `json:"created" doc:"false when it was here already"`
}

const artifactPath = "/v1/artifacts/{digest}"

func (s *Server) artifactRoutes() {
	head := operation(http.MethodHead, artifactPath, "has-artifact", "Whether this peer holds an artifact (sha256:HEX)")
	s.raw(head, "application/octet-stream", s.headArtifact)
	put := operation(http.MethodPut, artifactPath, "put-artifact", "Store an artifact; its bytes must hash to the digest (sha256:HEX)")
	put.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
		"application/octet-stream": {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}}}
	s.raw(put, "application/json", s.putArtifact)
	s.streams["PUT "+artifactPath] = true
}

// parseDigest is the digest in the path.
func parseDigest(text string) (string, error) {
	hexPart, ok := strings.CutPrefix(text, "sha256:")
	raw, err := hex.DecodeString(hexPart)
	if !ok || err != nil || len(raw) != sha256.Size || hexPart != strings.ToLower(hexPart) {
		return "", &Problem{Kind: KindInvalid, Detail: short(text) + " is no digest", Errors: []FieldProblem{{
			Field: "digest", Value: short(text), Message: "not a digest", Fix: `write "sha256:" and 64 hexadecimal digits in lower case`}}}
	}
	return text, nil
}

func (s *Server) headArtifact(w http.ResponseWriter, r *http.Request) {
	digest, err := parseDigest(r.PathValue("digest"))
	if err != nil {
		WriteProblem(w, r, err)
		return
	}
	size, err := s.backend.HasArtifact(r.Context(), digest)
	if err != nil {
		s.writeError(w, r, err)
		return
	}
	w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("ETag", quoteETag(digest))
	w.WriteHeader(http.StatusOK)
}

// writeError answers with err, and logs what the client is not shown.
func (s *Server) writeError(w http.ResponseWriter, r *http.Request, err error) {
	if NewProblem(err).Kind == KindInternal {
		s.log.Error("a request failed", "request", infoOf(r.Context()).id, "path", r.URL.Path, "error", err)
	}
	WriteProblem(w, r, err)
}

func (s *Server) putArtifact(w http.ResponseWriter, r *http.Request) {
	unbounded(r.Context())
	digest, err := parseDigest(r.PathValue("digest"))
	if err != nil {
		WriteProblem(w, r, err)
		return
	}
	if r.ContentLength > s.cfg.ArtifactBytesMax {
		WriteProblem(w, r, &Problem{Kind: KindTooLarge, Detail: fmt.Sprintf(
			"an artifact of %d bytes: this peer takes at most %d", r.ContentLength, s.cfg.ArtifactBytesMax)})
		return
	}
	body := newDigestReader(http.MaxBytesReader(w, r.Body, s.cfg.ArtifactBytesMax), digest, r.ContentLength)
	created, err := s.backend.PutArtifact(r.Context(), digest, r.ContentLength, body)
	if err == nil && created && !body.verified {
		// A backend that read less than all can't have checked it.
		err = fmt.Errorf("%w: put artifact %s: kept without reading it all", placement.ErrInternal, digest)
	}
	if body.err != nil && !errors.Is(body.err, io.EOF) {
		err = body.err // what the client sent is the cause, whatever was made of it
	}
	if err != nil {
		s.writeError(w, r, err)
		return
	}
	status := http.StatusOK
	if created {
		status = http.StatusCreated
	}
	writeJSON(w, status, ArtifactResult{Digest: digest, Size: max(body.read, r.ContentLength), Created: created})
}

// digestError says that bytes are not what they should be.
type digestError struct{ want, have string }

func (e *digestError) Error() string {
	return fmt.Sprintf("the body has digest %s, not %s", e.have, e.want)
}

func (e *digestError) problem() *Problem {
	p := &Problem{Kind: KindInvalid, Detail: e.Error(), Errors: []FieldProblem{{
		Field: "digest", Value: e.want, Message: "the body has digest " + e.have,
		Fix: "send the whole file again, or PUT it under " + e.have}}}
	p.fill()
	return p
}

// digestReader ends with io.EOF only when all bytes came and hash to want.
type digestReader struct {
	r        io.Reader
	hash     hash.Hash
	want     string
	size     int64 // -1 when unknown
	read     int64
	err      error // what the last Read returned, if any
	verified bool
}

func newDigestReader(r io.Reader, want string, size int64) *digestReader {
	return &digestReader{r: r, hash: sha256.New(), want: want, size: size}
}

func (d *digestReader) Read(p []byte) (int, error) {
	if d.err != nil {
		return 0, d.err
	}
	n, err := d.r.Read(p)
	d.hash.Write(p[:n])
	d.read += int64(n)
	if err == io.EOF {
		have := "sha256:" + hex.EncodeToString(d.hash.Sum(nil))
		switch {
		case d.size >= 0 && d.read != d.size:
			err = &Problem{Kind: KindMalformed, Detail: fmt.Sprintf("the body ended after %d of %d bytes", d.read, d.size)}
		case have != d.want:
			err = &digestError{want: d.want, have: have}
		default:
			d.verified = true
		}
	} else if errors.Is(err, io.ErrUnexpectedEOF) {
		err = &Problem{Kind: KindMalformed, Detail: fmt.Sprintf("the body ended after %d of %d bytes", d.read, d.size)}
	}
	d.err = err
	return n, err
}
