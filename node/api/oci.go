package api

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// ociPrefix is where the OCI distribution protocol is spoken.
const ociPrefix = "/v2/"

// ociRoutes hands the protocol to whoever serves it. It is described by its own
// specification; the list of endpoints only says that it is there.
func (s *Server) ociRoutes() {
	if s.cfg.OCI == nil {
		return
	}
	s.streams[ociPrefix] = true // bodies are as long as they are
	s.mux.HandleFunc(ociPrefix, func(w http.ResponseWriter, r *http.Request) {
		unbounded(r.Context())
		w.Header().Del("Cache-Control") // what is named by its digest may be kept
		s.cfg.OCI.ServeHTTP(w, r)
	})
	op := operation(http.MethodGet, ociPrefix, "images", "Images: the OCI distribution protocol, version 1.1, for docker, podman, skopeo and others")
	op.Tags = []string{"images"}
	op.Responses = map[string]*huma.Response{
		"200":     {Description: "This is a registry", Content: map[string]*huma.MediaType{"application/json": {}}},
		"default": {Description: "Error, as the protocol has it", Content: map[string]*huma.MediaType{"application/json": {}}},
	}
	s.huma.OpenAPI().AddOperation(&op)
}

// forOCI says whether a request speaks the protocol of registries, whose
// clients want errors in its form.
func forOCI(r *http.Request) bool {
	return r.URL.Path == "/v2" || strings.HasPrefix(r.URL.Path, ociPrefix)
}

// ociCodes are the protocol's names for why the server itself refuses.
var ociCodes = map[Kind]string{
	KindToken: "UNAUTHORIZED", KindForbidden: "DENIED", KindMisdirected: "DENIED", KindLimit: "TOOMANYREQUESTS",
}

// challenge says how a token is shown. Clients of registries know names and
// passwords: the token is the password, under any name.
func challenge(r *http.Request) string {
	if forOCI(r) {
		return `Basic realm="hansa", charset="UTF-8"`
	}
	return `Bearer realm="hansa"`
}

// writeRefusal answers a request that is not let in, in the form that its client
// understands.
func (s *Server) writeRefusal(w http.ResponseWriter, r *http.Request, err error) {
	if !forOCI(r) {
		WriteProblem(w, r, err)
		return
	}
	p := NewProblem(err)
	code, known := ociCodes[p.Kind]
	if !known {
		code = "UNKNOWN"
	}
	type entry struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	body, _ := json.Marshal(map[string][]entry{"errors": {{code, p.Detail}}}) // strings always marshal
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(p.Status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(append(body, '\n'))
	}
}
