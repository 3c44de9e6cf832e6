package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hansa-mesh/hansa/placement"
)

func (s *Server) conflictRoutes() {
	pages(s, "/v1/conflicts", "list-conflicts", "Apps of which more than one version stands", s.backend.Conflicts)
	s.registerResolve()
}

type resolveInput struct {
	ID             string `path:"id" minLength:"1" maxLength:"256" doc:"As the list of conflicts has it"`
	IfMatch        string `header:"If-Match" maxLength:"512" doc:"The ETag of the conflict, which covers all its sides"`
	IdempotencyKey string `header:"Idempotency-Key" maxLength:"128" doc:"Makes retries one edit"`
	RawBody        []byte `contentType:"application/json"`
}

type resolveOutput struct {
	Status int
	ETag   string `header:"ETag"`
	Body   ResolveResult
}

// registerResolve adds the decision about a conflict. Its body is read by
// parseResolve alone, since a manifest may be in it (registerManifest).
func (s *Server) registerResolve() {
	op := operation(http.MethodPost, "/v1/conflicts/{id}/resolve", "resolve-conflict", "Decide a conflict: one side, or an app made of them, stands from now on")
	op.Description = "412 when another side has come since the id, or the ETag, was given; 202 when fewer than a majority of the app's keepers hold the decision yet."
	op.Errors = []int{400, 404, 409, 412, 422, 503, 507}
	op.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{}}
	op.MaxBodyBytes = manifestBytesMax
	op.SkipValidateBody = true
	register(s, op, func(ctx context.Context, in *resolveInput) (*resolveOutput, error) {
		ifMatch, _, err := preconditions(in.IfMatch, "")
		if err != nil {
			return nil, err
		}
		req := Resolution{ID: in.ID, IfMatch: ifMatch, IdempotencyKey: in.IdempotencyKey}
		if req.Take, req.App, err = parseResolve(in.RawBody); err != nil {
			return nil, err
		}
		result, err := s.backend.Resolve(ctx, req)
		if err != nil {
			return nil, err
		}
		return &resolveOutput{Status: putStatus(result.PutResult), ETag: quoteETag(result.ETag), Body: result}, nil
	})
	schema := s.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[ResolveRequest](), true, "")
	op.RequestBody.Content = map[string]*huma.MediaType{"application/json": {Schema: schema}}
}

// parseResolve reads a ResolveRequest, strictly.
func parseResolve(body []byte) (take string, app *placement.App, err error) {
	var req struct {
		Take string          `json:"take"`
		App  json.RawMessage `json:"app"`
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&req); err != nil {
		return "", nil, malformed("the body is not what decides a conflict: "+err.Error(), `send {"take": REVISION} or {"app": MANIFEST}`)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return "", nil, malformed("there is more after the decision", "send one")
	}
	if (req.Take == "") == (len(req.App) == 0) {
		return "", nil, &manifestError{FieldProblem: FieldProblem{Field: "take", Value: short(req.Take),
			Message: "one of take and app is needed, and not both", Fix: `send {"take": REVISION} or {"app": MANIFEST}`}}
	}
	if req.Take != "" {
		return req.Take, nil, nil
	}
	parsed, err := parseManifest("", req.App)
	if err != nil {
		return "", nil, err
	}
	if parsed.Namespace == "" {
		parsed.Namespace = placement.DefaultNamespace
	}
	return "", &parsed, parsed.Validate()
}
