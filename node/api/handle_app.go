package api

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hansa-mesh/hansa/placement"
)

// KeyParams are the path of an app.
type KeyParams struct {
	Namespace string `path:"namespace" doc:"Lower-case letters, digits and hyphens, at most 63"`
	App       string `path:"app" doc:"Lower-case letters, digits and hyphens, at most 63"`
}

// NameRule says what IsName takes.
const NameRule = "lower-case letters, digits and hyphens, at most 63"

func (in KeyParams) key() (placement.AppKey, error) {
	for _, f := range []struct{ field, value string }{{"namespace", in.Namespace}, {"app", in.App}} {
		if !IsName(f.value) {
			return placement.AppKey{}, &manifestError{FieldProblem: FieldProblem{Field: f.field, Value: short(f.value),
				Message: fmt.Sprintf("%q is not a name", short(f.value)), Fix: NameRule}}
		}
	}
	return placement.AppKey{Namespace: in.Namespace, App: in.App}, nil
}

// appGet registers a GET about one app.
func appGet[T any](s *Server, path, id, summary string, handler func(context.Context, placement.AppKey) (T, error)) {
	get(s, path, id, summary, func(ctx context.Context, in *KeyParams) (*bodyOutput[T], error) {
		key, err := in.key()
		if err != nil {
			return nil, err
		}
		return answer(handler(ctx, key))
	})
}

const appPath = "/v1/namespaces/{namespace}/apps/{app}"

func (s *Server) appRoutes() {
	s.registerPut()
	s.registerPlan()
	s.registerDelete()
	type detailOutput struct {
		ETag string `header:"ETag" doc:"In a conflict it covers all sides"`
		Body AppDetail
	}
	get(s, appPath, "get-app", "An app as it is wanted, and who keeps it", func(ctx context.Context, in *KeyParams) (*detailOutput, error) {
		key, err := in.key()
		if err != nil {
			return nil, err
		}
		d, err := s.backend.GetApp(ctx, key)
		if err != nil {
			return nil, err
		}
		return &detailOutput{ETag: quoteETag(d.ETag), Body: d}, nil
	})
	appGet(s, appPath+"/status", "get-app-status", "What is wanted of an app, and what is", s.backend.Status)
	type explainInput struct {
		KeyParams
		Component string `query:"component" maxLength:"63" doc:"Only this one"`
	}
	get(s, appPath+"/explain", "explain-app", "The last decisions about an app: what was considered, how old the data was, why",
		func(ctx context.Context, in *explainInput) (*listOutput[Decision], error) {
			key, err := in.key()
			if err != nil {
				return nil, err
			}
			return answerList(s.backend.Explain(ctx, key, in.Component))
		})
	type listInput struct {
		PageParams
		Namespace string `query:"namespace" maxLength:"63" doc:"Only this one"`
	}
	get(s, "/v1/apps", "list-apps", "Apps", func(ctx context.Context, in *listInput) (*listOutput[App], error) {
		page, err := in.page()
		if err != nil {
			return nil, err
		}
		return answerList(s.backend.ListApps(ctx, AppQuery{Namespace: in.Namespace, Page: page}))
	})
	s.rolloutRoutes()
	s.conflictRoutes()
}

// registerManifest adds an operation that takes a manifest, which is read by
// parseManifest alone: huma knows no YAML, and its messages name no component.
func registerManifest[I, O any](s *Server, op huma.Operation, handler func(context.Context, *I) (*O, error)) {
	schema := s.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[placement.App](), true, "")
	op.RequestBody = &huma.RequestBody{Required: true, Description: "A manifest, in JSON or YAML", Content: map[string]*huma.MediaType{}}
	op.MaxBodyBytes = manifestBytesMax
	op.SkipValidateBody = true
	register(s, op, handler)
	// The registration described the raw bytes; this is what they mean.
	op.RequestBody.Content = map[string]*huma.MediaType{"application/json": {Schema: schema}, "application/yaml": {Schema: schema}}
}

type putInput struct {
	KeyParams
	IfMatch        string `header:"If-Match" maxLength:"512" doc:"Only over the version with this ETag; * for any that exists"`
	IfNoneMatch    string `header:"If-None-Match" maxLength:"512" doc:"* for only if there is no such app"`
	IdempotencyKey string `header:"Idempotency-Key" maxLength:"128" doc:"Makes retries one edit"`
	MinCopies      int    `query:"min_copies" minimum:"0" maximum:"9" doc:"Refuse when fewer keepers than that can hold it"`
	ContentType    string `header:"Content-Type" hidden:"true"`
	RawBody        []byte `contentType:"application/json"`
}

type putOutput struct {
	Status int
	ETag   string `header:"ETag"`
	Body   PutResult
}

func (s *Server) registerPut() {
	op := operation(http.MethodPut, appPath, "put-app", "Deploy an app")
	op.Description = "201 when the app is new, 200 when it was there, 202 when fewer than a majority of its keepers hold it yet " +
		"(durability says how many do). 409 when it names an artifact that the mesh does not hold."
	for status, text := range map[string]string{"201": "Created", "202": "Accepted below a majority of the keepers"} {
		if op.Responses == nil {
			op.Responses = map[string]*huma.Response{}
		}
		op.Responses[status] = &huma.Response{Description: text, Content: map[string]*huma.MediaType{"application/json": {
			Schema: s.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[PutResult](), true, ""),
		}}}
	}
	op.Errors = []int{400, 404, 409, 412, 415, 429, 503, 507}
	registerManifest(s, op, func(ctx context.Context, in *putInput) (*putOutput, error) {
		req := PutRequest{IdempotencyKey: in.IdempotencyKey, MinCopies: in.MinCopies}
		var err error
		if req.IfMatch, req.IfNoneMatch, err = preconditions(in.IfMatch, in.IfNoneMatch); err != nil {
			return nil, err
		}
		key, err := in.key()
		if err != nil {
			return nil, err
		}
		if req.App, err = manifestFor(key, in.ContentType, in.RawBody); err != nil {
			return nil, err
		}
		result, err := s.backend.PutApp(ctx, req)
		if err != nil {
			return nil, err
		}
		return &putOutput{Status: putStatus(result), ETag: quoteETag(result.ETag), Body: result}, nil
	})
}

func putStatus(r PutResult) int {
	switch {
	case !r.Durability.Quorum:
		return http.StatusAccepted
	case r.Created:
		return http.StatusCreated
	}
	return http.StatusOK
}

func (s *Server) registerDelete() {
	type deleteInput struct {
		KeyParams
		IfMatch        string `header:"If-Match" maxLength:"512" doc:"Only the version with this ETag"`
		IdempotencyKey string `header:"Idempotency-Key" maxLength:"128" doc:"Makes retries one removal"`
		MinCopies      int    `query:"min_copies" minimum:"0" maximum:"9" doc:"Refuse when fewer keepers than that can hold the removal"`
	}
	type deleteOutput struct {
		Status int
		Body   DeleteResult
	}
	register(s, operation(http.MethodDelete, appPath, "delete-app", "Remove an app and stop its work"),
		func(ctx context.Context, in *deleteInput) (*deleteOutput, error) {
			ifMatch, _, err := preconditions(in.IfMatch, "")
			if err != nil {
				return nil, err
			}
			key, err := in.key()
			if err != nil {
				return nil, err
			}
			result, err := s.backend.DeleteApp(ctx, DeleteRequest{
				Key: key, IfMatch: ifMatch, IdempotencyKey: in.IdempotencyKey, MinCopies: in.MinCopies})
			if err != nil {
				return nil, err
			}
			status := http.StatusOK
			if !result.Durability.Quorum {
				status = http.StatusAccepted
			}
			return &deleteOutput{Status: status, Body: result}, nil
		})
}

func (s *Server) registerPlan() {
	type planInput struct {
		ContentType string `header:"Content-Type" hidden:"true"`
		RawBody     []byte `contentType:"application/json"`
	}
	op := operation(http.MethodPost, "/v1/plan", "plan-app", "What a deploy would do")
	registerManifest(s, op, func(ctx context.Context, in *planInput) (*bodyOutput[Plan], error) {
		app, err := parseManifest(in.ContentType, in.RawBody)
		if err != nil {
			return nil, err
		}
		if app.Namespace == "" {
			app.Namespace = placement.DefaultNamespace
		}
		if err := app.Validate(); err != nil {
			return nil, err
		}
		return answer(s.backend.Plan(ctx, app))
	})
}

// preconditions reads If-Match and If-None-Match.
func preconditions(ifMatch, ifNoneMatch string) (match string, noneMatch bool, err error) {
	bad := func(header, value, fix string) (string, bool, error) {
		return "", false, &Problem{Kind: KindInvalid, Detail: header + " " + short(value) + " can't be used",
			Errors: []FieldProblem{{Field: header, Value: short(value), Message: "not what this resource takes", Fix: fix}}}
	}
	switch ifNoneMatch {
	case "", "*":
	default:
		return bad("If-None-Match", ifNoneMatch, `"*" alone is understood: only if there is no such app`)
	}
	if ifMatch == "" || ifMatch == "*" {
		return ifMatch, ifNoneMatch == "*", nil
	}
	tag := strings.TrimPrefix(ifMatch, "W/")
	if len(tag) >= 2 && tag[0] == '"' && tag[len(tag)-1] == '"' {
		tag = tag[1 : len(tag)-1]
	}
	if tag == "" || strings.ContainsAny(tag, "\", \t") {
		return bad("If-Match", ifMatch, "one ETag as a GET of the app gave it, or *")
	}
	return tag, ifNoneMatch == "*", nil
}

func quoteETag(tag string) string {
	if tag == "" {
		return ""
	}
	return `"` + tag + `"`
}
