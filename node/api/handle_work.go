package api

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/hansa-mesh/hansa/placement"
)

// Limits of queries about work.
const (
	statesMax       = 16
	functionBodyMax = 64 << 20 // a driver may set a lower bound
)

type allocationsInput struct {
	PageParams
	Namespace string   `query:"namespace" maxLength:"63"`
	App       string   `query:"app" maxLength:"127" doc:"Name, or namespace/name"`
	Component string   `query:"component" maxLength:"63"`
	Site      string   `query:"site" maxLength:"63"`
	Peer      string   `query:"peer" maxLength:"128" doc:"Id or name"`
	State     []string `query:"state" maxItems:"16" doc:"One or more, with commas between"`
}

func (in *allocationsInput) query() (AllocationQuery, error) {
	page, err := in.page()
	if err != nil {
		return AllocationQuery{}, err
	}
	q := AllocationQuery{Namespace: in.Namespace, App: in.App, Component: in.Component, Site: in.Site, Peer: in.Peer, Page: page}
	if ns, app, ok := strings.Cut(in.App, "/"); ok {
		if in.Namespace != "" && in.Namespace != ns {
			return q, &Problem{Kind: KindInvalid, Detail: "namespace and app name two namespaces",
				Errors: []FieldProblem{{Field: "app", Value: in.App, Message: "names namespace " + ns + ", and namespace " + in.Namespace, Fix: "name one"}}}
		}
		q.Namespace, q.App = ns, app
	}
	for _, state := range in.State[:min(len(in.State), statesMax)] {
		if !slices.Contains(AllocationStates, state) {
			return q, &manifestError{FieldProblem: FieldProblem{
				Field: "state", Value: short(state), Message: "not a state of an allocation", Fix: "one of " + strings.Join(AllocationStates, ", ")}}
		}
		q.States = append(q.States, state)
	}
	return q, nil
}

// AllocationStates are the states that an allocation can be in.
var AllocationStates = []string{"pending", "fetching", "starting", "running", "unhealthy", "stopping", "stopped", "failed", "lost"}

func (s *Server) workRoutes() {
	get(s, "/v1/allocations", "list-allocations", "What runs where", func(ctx context.Context, in *allocationsInput) (*listOutput[Allocation], error) {
		q, err := in.query()
		if err != nil {
			return nil, err
		}
		return answerList(s.backend.Allocations(ctx, q))
	})
	type idInput struct {
		ID string `path:"id" minLength:"1" maxLength:"512"`
	}
	get(s, "/v1/allocations/{id}", "get-allocation", "One allocation", func(ctx context.Context, in *idInput) (*bodyOutput[Allocation], error) {
		return answer(s.backend.Allocation(ctx, in.ID))
	})
	type restartOutput struct {
		Status int
		Body   Allocation
	}
	op := operation(http.MethodPost, "/v1/allocations/{id}/restart", "restart-allocation", "Begin an allocation anew where it is, at once; it counts against no budget")
	op.DefaultStatus = http.StatusAccepted
	register(s, op, func(ctx context.Context, in *idInput) (*restartOutput, error) {
		a, err := s.backend.Restart(ctx, in.ID)
		if err != nil {
			return nil, err
		}
		return &restartOutput{http.StatusAccepted, a}, nil
	})
	s.registerLogs()
	s.registerExec()
	s.registerFunctions()
}

type logsInput struct {
	ID     string `path:"id" minLength:"1" maxLength:"512"`
	Follow bool   `query:"follow" doc:"Go on with what comes"`
	Tail   int    `query:"tail" minimum:"0" maximum:"100000" doc:"Only the last so many lines"`
	Since  string `query:"since" maxLength:"64" doc:"Only lines at or after this time (RFC 3339), or within this duration (10m)"`
}

func (s *Server) registerLogs() {
	op := operation(http.MethodGet, "/v1/allocations/{id}/logs", "get-allocation-logs",
		"Output of an allocation, through any peer, as lines of: time, stream, F or P (a part of a line), text")
	op.Responses = map[string]*huma.Response{"200": {Description: "OK", Content: map[string]*huma.MediaType{
		"text/plain": {Schema: &huma.Schema{Type: huma.TypeString}}}}}
	s.streams["GET "+op.Path] = true
	register(s, op, func(ctx context.Context, in *logsInput) (*huma.StreamResponse, error) {
		since, err := parseSince(in.Since, time.Now())
		if err != nil {
			return nil, err
		}
		body, err := s.backend.Logs(ctx, in.ID, LogOptions{Follow: in.Follow, Tail: in.Tail, Since: since})
		if err != nil {
			return nil, err
		}
		return &huma.StreamResponse{Body: func(hc huma.Context) {
			r, w := humago.Unwrap(hc)
			s.streamLogs(w, r, body)
		}}, nil
	})
}

func (s *Server) streamLogs(w http.ResponseWriter, r *http.Request, body io.ReadCloser) {
	defer body.Close()
	// A read may wait long for a quiet log: the client's leaving ends it.
	defer context.AfterFunc(r.Context(), func() { _ = body.Close() })()
	unbounded(r.Context())
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(http.StatusOK)
	control := http.NewResponseController(w)
	_ = control.Flush()
	buf := make([]byte, 32<<10)
	for {
		n, err := body.Read(buf)
		if n > 0 {
			if _, werr := w.Write(buf[:n]); werr != nil || control.Flush() != nil {
				return
			}
		}
		if err == io.EOF || r.Context().Err() != nil {
			return
		}
		if err != nil {
			s.log.Debug("a log stream broke", "request", infoOf(r.Context()).id, "error", err)
			panic(http.ErrAbortHandler) // the client must see that this is not the end
		}
	}
}

// parseSince reads a time, or a duration before now; "" is no limit.
func parseSince(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return t, nil
	}
	return time.Time{}, &Problem{Kind: KindInvalid, Detail: "since " + short(text) + " is neither a time nor a duration",
		Errors: []FieldProblem{{Field: "since", Value: short(text), Message: "neither a time nor a duration", Fix: "write for instance 10m or 2026-01-31T12:00:00Z"}}}
}

// functionCSP keeps what a function answers on the admin port from acting as a
// page of this origin.
const functionCSP = "sandbox; default-src 'none'; frame-ancestors 'none'; form-action 'none'; base-uri 'none'"

// strippedHeaders never reach a guest: credentials of the admin API, and Proxy,
// which CGI would turn into HTTP_PROXY.
var strippedHeaders = []string{"Authorization", "Proxy-Authorization", "Cookie", "Proxy"}

func (s *Server) registerFunctions() {
	pattern := functionsPrefix + "{namespace}/{app}/{component}"
	op := operation(methodAny, pattern+"/{path...}", "call-function", "Call a function at its nearest instance")
	s.raw(op, "*/*", s.callFunction)
	s.mux.HandleFunc(pattern, s.callFunction) // without a slash: the function's own root
	s.streams[pattern], s.streams[pattern+"/{path...}"] = true, true
}

func (s *Server) callFunction(w http.ResponseWriter, r *http.Request) {
	key := placement.AppKey{Namespace: r.PathValue("namespace"), App: r.PathValue("app")}
	component := r.PathValue("component")
	for _, name := range []string{key.Namespace, key.App, component} {
		if !IsName(name) {
			WriteProblem(w, r, &Problem{Kind: KindNotFound, Detail: short(name) + " can't be the name of a namespace, an app or a component"})
			return
		}
	}
	if r.ContentLength > functionBodyMax {
		WriteProblem(w, r, &Problem{Kind: KindTooLarge, Detail: fmt.Sprintf("the body is larger than %d bytes", functionBodyMax)})
		return
	}
	unbounded(r.Context())
	for _, name := range strippedHeaders {
		r.Header.Del(name)
	}
	r.Body = http.MaxBytesReader(w, r.Body, functionBodyMax)
	// The guest's own headers must not outrank these.
	lock := &lockedHeaders{ResponseWriter: w, set: map[string]string{
		"Content-Security-Policy": functionCSP, "X-Content-Type-Options": "nosniff",
	}}
	rest := strings.TrimPrefix(r.URL.Path, path.Join(functionsPrefix, key.Namespace, key.App, component))
	s.backend.Invoke(lock, r, key, component, rest)
}

// IsName says whether s can name a namespace, an app or a component.
func IsName(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// lockedHeaders sets headers last, whatever the handler set, and drops what a
// guest may not set for this origin.
type lockedHeaders struct {
	http.ResponseWriter
	set  map[string]string
	done bool
}

func (w *lockedHeaders) lock() {
	if w.done {
		return
	}
	w.done = true
	h := w.Header()
	for name, value := range w.set {
		h.Set(name, value)
	}
	for _, name := range []string{"Set-Cookie", "Clear-Site-Data", "Strict-Transport-Security", "Access-Control-Allow-Origin",
		"Access-Control-Allow-Credentials", "Service-Worker-Allowed"} {
		h.Del(name)
	}
}

func (w *lockedHeaders) WriteHeader(status int) {
	if status >= 200 {
		w.lock()
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *lockedHeaders) Write(p []byte) (int, error) {
	w.lock()
	return w.ResponseWriter.Write(p)
}

// FlushError is what http.ResponseController.Flush calls.
func (w *lockedHeaders) FlushError() error {
	w.lock()
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Unwrap lets http.ResponseController reach the connection.
func (w *lockedHeaders) Unwrap() http.ResponseWriter { return w.ResponseWriter }
