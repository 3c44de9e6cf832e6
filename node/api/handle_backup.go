package api

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

const backupPath = "/v1/backup"

// backupType is the media type of a backup (package store).
const backupType = "application/vnd.hansa.backup"

func (s *Server) backupRoute() {
	op := operation(http.MethodGet, backupPath, "get-backup", "What the peer's store holds, as one checksummed stream")
	op.Tags = []string{"care"}
	op.Description = "The replicated records and the peer's own, as they stand at one moment; no key. A stream that breaks off lacks its last frame, and is refused by hansa restore."
	op.Responses = map[string]*huma.Response{"200": {Description: "OK", Content: map[string]*huma.MediaType{backupType: {}}}}
	s.raw(op, backupType, func(w http.ResponseWriter, r *http.Request) {
		unbounded(r.Context())
		out := &lateHeader{w: w, contentType: backupType}
		err := s.backend.Backup(r.Context(), out)
		switch {
		case err == nil:
		case out.begun:
			s.log.Warn("a backup was cut short", "request", infoOf(r.Context()).id, "error", err)
			panic(http.ErrAbortHandler) // the client must not take it for whole
		default:
			s.writeError(w, r, err)
		}
	})
	s.streams["GET "+backupPath] = true
}

// lateHeader sends the header with the first byte, so that what fails before it
// is answered as a problem.
type lateHeader struct {
	w           http.ResponseWriter
	contentType string
	begun       bool
}

func (l *lateHeader) Write(p []byte) (int, error) {
	if !l.begun {
		l.begun = true
		l.w.Header().Set("Content-Type", l.contentType)
		l.w.Header().Set("Content-Disposition", `attachment; filename="hansa.backup"`)
	}
	return l.w.Write(p)
}

// Backup writes what the peer's store holds to w. That it is whole is known once
// it was read through (store.ReadBackup).
func (c *Client) Backup(ctx context.Context, w io.Writer) (bytes int64, err error) {
	resp, err := c.do(ctx, call{method: http.MethodGet, path: backupPath})
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if bytes, err = io.Copy(w, resp.Body); err != nil {
		return bytes, fmt.Errorf("backup: after %d bytes: %w", bytes, err)
	}
	return bytes, nil
}
