package api

import (
	"context"
	"fmt"
	"html"
	"maps"
	"net/http"
	"net/http/pprof"
	"reflect"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// functionsPrefix is where functions are called.
const functionsPrefix = "/v1/functions/"

// routes wires every endpoint. Those with typed input and output go through
// huma, which checks them and describes them in /openapi.json; streams and
// pages are plain handlers, described by hand.
func (s *Server) routes() {
	s.huma = humago.New(s.mux, s.humaConfig())
	s.meshRoutes()
	s.appRoutes()
	s.workRoutes()
	s.volumeRoutes()
	s.imageRoutes()
	s.artifactRoutes()
	s.ociRoutes()
	s.eventRoutes()
	s.trustRoutes()
	s.secretRoutes()
	s.policyRoutes()
	s.schemaRoute()
	s.careRoutes()
	s.backupRoute()
	describeManifest(s.huma.OpenAPI().Components.Schemas.Map(), manifestPrefix)
	s.mux.HandleFunc("/", s.index)
}

func (s *Server) humaConfig() huma.Config {
	schemas := huma.NewMapRegistry("#/components/schemas/", schemaName)
	schemas.RegisterTypeAlias(reflect.TypeFor[huma.ErrorModel](), reflect.TypeFor[Problem]())
	aliasQuantities(schemas)
	cfg := huma.DefaultConfig("Hansa admin API", s.cfg.Version.Version)
	cfg.Info.Description = "The same at every peer of a mesh. Errors are RFC 9457 problems; lists say how old each peer's part is."
	cfg.Components = &huma.Components{Schemas: schemas}
	cfg.DocsPath, cfg.SchemasPath = "", "" // the pages load scripts from elsewhere
	cfg.CreateHooks = nil                  // no "$schema" in answers
	cfg.RejectUnknownQueryParameters = true
	cfg.AllowAdditionalPropertiesByDefault = true // answers grow; what is asked says so where it must not
	cfg.Transformers = []huma.Transformer{problemTransformer}
	if s.cfg.Token != "" {
		cfg.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"token": {Type: "http", Scheme: "bearer"}}
		cfg.Security = []map[string][]string{{"token": {}}}
	}
	return cfg
}

// schemaName keeps the manifest's types apart from those of the answers.
func schemaName(t reflect.Type, hint string) string {
	name := huma.DefaultSchemaNamer(t, hint)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if strings.HasSuffix(t.PkgPath(), "/placement") {
		return manifestPrefix + name
	}
	return name
}

const manifestPrefix = "Manifest"

// problemTransformer turns huma's own errors into ours.
func problemTransformer(ctx huma.Context, _ string, v any) (any, error) {
	var p *Problem
	switch e := v.(type) {
	case *huma.ErrorModel:
		p = fromHuma(e)
	case *Problem:
		p = e
	default:
		return v, nil
	}
	r, _ := humago.Unwrap(ctx)
	p.locate(r)
	return p, nil
}

// get registers a typed GET.
func get[I, O any](s *Server, path, id, summary string, handler func(context.Context, *I) (*O, error)) {
	op := operation(http.MethodGet, path, id, summary)
	register(s, op, handler)
}

func operation(method, path, id, summary string) huma.Operation {
	tag, _, _ := strings.Cut(strings.TrimPrefix(path, "/v1/"), "/")
	return huma.Operation{
		Method: method, Path: path, OperationID: id, Summary: summary, Tags: []string{tag},
		BodyReadTimeout: -1, // steadyBody has deadlines of its own
	}
}

// register adds a typed operation whose errors become problems.
func register[I, O any](s *Server, op huma.Operation, handler func(context.Context, *I) (*O, error)) {
	huma.Register(s.huma, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := handler(ctx, in)
		if err != nil {
			p := NewProblem(err)
			if p.Kind == KindInternal {
				s.log.Error("a request failed", "request", infoOf(ctx).id, "operation", op.OperationID, "error", err)
			}
			return nil, p
		}
		return out, nil
	})
}

// raw adds a plain handler and describes it. path is in the form of ServeMux.
func (s *Server) raw(op huma.Operation, contentType string, handler http.HandlerFunc) {
	pattern := op.Path
	op.Path = strings.ReplaceAll(op.Path, "...}", "}")
	if op.Responses == nil {
		op.Responses = map[string]*huma.Response{}
	}
	for _, name := range pathParams(op.Path) {
		op.Parameters = append(op.Parameters, &huma.Param{
			Name: name, In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString},
		})
	}
	if op.Responses["200"] == nil && op.Responses["201"] == nil {
		op.Responses["200"] = &huma.Response{Description: "OK", Content: map[string]*huma.MediaType{contentType: {}}}
	}
	op.Responses["default"] = s.problemResponse()
	if op.Method == methodAny {
		s.mux.HandleFunc(pattern, handler)
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE"} {
			one := op
			one.Method, one.OperationID = method, op.OperationID+"-"+strings.ToLower(method)
			s.huma.OpenAPI().AddOperation(&one)
		}
		return
	}
	s.mux.HandleFunc(op.Method+" "+pattern, handler)
	s.huma.OpenAPI().AddOperation(&op)
}

// methodAny is for raw: every method.
const methodAny = "ANY"

func pathParams(path string) []string {
	var names []string
	for _, part := range strings.Split(path, "/") {
		if _, rest, ok := strings.Cut(part, "{"); ok {
			names = append(names, strings.TrimSuffix(rest, "}"))
		}
	}
	return names
}

func (s *Server) problemResponse() *huma.Response {
	schema := s.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[Problem](), true, "")
	return &huma.Response{Description: "Error", Content: map[string]*huma.MediaType{problemType: {Schema: schema}}}
}

// careRoutes are health, metrics and debugging.
func (s *Server) careRoutes() {
	text := "text/plain; charset=utf-8"
	plain := func(path, id, summary string, handler http.HandlerFunc) {
		op := operation(http.MethodGet, path, id, summary)
		op.Tags = []string{"care"}
		s.raw(op, text, handler)
	}
	plain("/healthz", "health", "The daemon answers", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", text)
		_, _ = w.Write([]byte("ok\n"))
	})
	plain("/readyz", "ready", "The peer takes new work", func(w http.ResponseWriter, r *http.Request) {
		if err := s.backend.Ready(); err != nil {
			WriteProblem(w, r, &Problem{Kind: KindUnavailable, Detail: err.Error()})
			return
		}
		w.Header().Set("Content-Type", text)
		_, _ = w.Write([]byte("ready\n"))
	})
	plain("/metrics", "metrics", "Prometheus metrics",
		promhttp.HandlerFor(s.cfg.Registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4}).ServeHTTP)
	plain("/debug/state", "debug-state", "What the peer holds, as text", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", text)
		if err := s.backend.DebugState(w); err != nil {
			s.log.Warn("debug state was cut short", "request", infoOf(r.Context()).id, "error", err)
		}
	})
	for path, handler := range map[string]http.HandlerFunc{
		"/debug/pprof/": pprof.Index, "/debug/pprof/cmdline": pprof.Cmdline, "/debug/pprof/profile": pprof.Profile,
		"/debug/pprof/symbol": pprof.Symbol, "/debug/pprof/trace": pprof.Trace,
	} {
		s.streams["GET "+path] = true
		s.mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			unbounded(r.Context())
			handler(w, r)
		})
	}
}

// index is the page at "/", and the answer to paths that are none.
func (s *Server) index(w http.ResponseWriter, r *http.Request) {
	if allowed := s.otherMethods(r); len(allowed) > 0 {
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		WriteProblem(w, r, &Problem{Kind: KindMethod, Detail: fmt.Sprintf("%s takes %s, not %s",
			short(r.URL.Path), strings.Join(allowed, " and "), short(r.Method))})
		return
	}
	if s.cfg.Console != nil {
		s.cfg.Console.ServeHTTP(w, r)
		return
	}
	if r.URL.Path != "/" || r.Method != http.MethodGet && r.Method != http.MethodHead {
		WriteProblem(w, r, &Problem{Kind: KindNotFound, Detail: short(r.URL.Path) + " is no endpoint of this API: / lists them"})
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
	_, _ = w.Write([]byte(s.indexPage()))
}

// otherMethods are the methods that the path takes.
func (s *Server) otherMethods(r *http.Request) []string {
	var allowed []string
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} {
		probe := r.Clone(r.Context())
		probe.Method = method
		if _, pattern := s.mux.Handler(probe); pattern != "/" && pattern != "" {
			allowed = append(allowed, method)
		}
	}
	return allowed
}

func (s *Server) indexPage() string {
	var b strings.Builder
	b.WriteString("<!doctype html><html lang=en><meta charset=utf-8><title>Hansa</title>" +
		"<style>body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:60em;padding:0 1em}" +
		"td{padding:0 1.5em 0 0;vertical-align:top}code{white-space:nowrap}</style>" +
		"<h1>Hansa</h1><p>This is the admin API of one peer; every peer of the mesh answers the same. " +
		"Described for programs in <a href=/openapi.json>/openapi.json</a>.<table>")
	paths := s.huma.OpenAPI().Paths
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		item := paths[path]
		for _, m := range []struct {
			name string
			op   *huma.Operation
		}{{"GET", item.Get}, {"HEAD", item.Head}, {"PUT", item.Put}, {"POST", item.Post}, {"DELETE", item.Delete}} {
			if m.op != nil {
				fmt.Fprintf(&b, "<tr><td>%s<td><code>%s</code><td>%s", m.name, html.EscapeString(path), html.EscapeString(m.op.Summary))
			}
		}
	}
	b.WriteString("</table></html>\n")
	return b.String()
}
