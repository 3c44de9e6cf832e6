package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
)

// Codes of the specification.
const (
	codeBlobUnknown         = "BLOB_UNKNOWN"
	codeUploadInvalid       = "BLOB_UPLOAD_INVALID"
	codeUploadUnknown       = "BLOB_UPLOAD_UNKNOWN"
	codeDigestInvalid       = "DIGEST_INVALID"
	codeManifestBlobUnknown = "MANIFEST_BLOB_UNKNOWN"
	codeManifestInvalid     = "MANIFEST_INVALID"
	codeManifestUnknown     = "MANIFEST_UNKNOWN"
	codeNameInvalid         = "NAME_INVALID"
	codeNameUnknown         = "NAME_UNKNOWN"
	codeSizeInvalid         = "SIZE_INVALID"
	codeDenied              = "DENIED"
	codeUnsupported         = "UNSUPPORTED"
	codeTooMany             = "TOOMANYREQUESTS"
	codeTagInvalid          = "TAG_INVALID" // of Docker's registry, which clients know too
	codeUnknown             = "UNKNOWN"     // the same
)

// Problem is an error as it crosses HTTP.
type Problem struct {
	Status  int
	Code    string
	Message string
	Fix     string // what to do about it
}

func (p *Problem) Error() string { return p.Message }

// problem makes one of which the message says all.
func problem(status int, code, format string, args ...any) *Problem {
	return &Problem{Status: status, Code: code, Message: fmt.Sprintf(format, args...)}
}

// fix adds what to do.
func (p *Problem) fix(format string, args ...any) *Problem {
	p.Fix = fmt.Sprintf(format, args...)
	return p
}

// shown is err as clients see it: what is not known to be theirs is the peer's.
func shown(err error) *Problem {
	var p *Problem
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &tooLarge):
		return problem(http.StatusRequestEntityTooLarge, codeSizeInvalid, "the body has more than %d bytes", tooLarge.Limit)
	case errors.Is(err, ErrDigest):
		return problem(http.StatusBadRequest, codeDigestInvalid, "the bytes that came are not those of the digest").
			fix("push the blob again")
	case errors.Is(err, ErrTooLarge):
		return problem(http.StatusRequestEntityTooLarge, codeSizeInvalid, "%s", err)
	case errors.Is(err, ErrTooMany):
		return problem(http.StatusTooManyRequests, codeTooMany, "%s", err).fix("try again in a second")
	case errors.Is(err, ErrNoRoom):
		return problem(http.StatusInsufficientStorage, codeDenied, "this peer has no room for it").
			fix("push to another peer, or make room on the disk of this one")
	case errors.Is(err, ErrCopies):
		return problem(http.StatusServiceUnavailable, codeDenied, "%s", err).
			fix("try again when more peers are in reach")
	case errors.Is(err, ErrConflict):
		return problem(http.StatusConflict, codeDenied, "%s", err).fix("look at `hansa conflicts`, then push again")
	case errors.Is(err, ErrDenied):
		return problem(http.StatusForbidden, codeDenied, "%s", err)
	case errors.Is(err, ErrNotFound):
		return problem(http.StatusNotFound, codeBlobUnknown, "no peer in reach holds it").fix("push it, or try again when more peers are in reach")
	}
	return problem(http.StatusInternalServerError, codeUnknown, "an unexpected error: the log of the peer says more")
}

// writeError answers with err in the form of the specification.
func (g *Registry) writeError(w *counter, r *http.Request, err error) {
	p := shown(err)
	if r.Context().Err() != nil && p.Status >= http.StatusInternalServerError {
		g.cfg.Log.Debug("a registry client went away", "path", short(r.URL.Path), "error", err)
	} else if p.Status == http.StatusInternalServerError {
		g.cfg.Log.Error("a registry request failed", "method", r.Method, "path", short(r.URL.Path), "error", err)
	}
	if w.status != 0 { // part of the answer is out: the client must see that it is cut
		panic(http.ErrAbortHandler)
	}
	type entry struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Detail  string `json:"detail,omitempty"`
	}
	body, _ := json.Marshal(map[string][]entry{"errors": {{p.Code, p.Message, p.Fix}}}) // strings always marshal
	h := w.Header()
	for _, name := range []string{"Etag", "Content-Range", "Docker-Content-Digest", "Accept-Ranges"} {
		h.Del(name)
	}
	if p.Status == http.StatusTooManyRequests || p.Status == http.StatusServiceUnavailable {
		h.Set("Retry-After", "1")
	}
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)+1))
	w.WriteHeader(p.Status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(append(body, '\n'))
	}
}

// shortMax bounds what of a client's own text is shown.
const shortMax = 120

// short quotes text that a client sent.
func short(text string) string {
	if len(text) > shortMax {
		text = text[:shortMax] + "…"
	}
	return strconv.Quote(text)
}
