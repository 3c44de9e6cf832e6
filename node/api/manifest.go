package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"reflect"
	"slices"
	"strings"

	"github.com/hansa-mesh/hansa/placement"
)

// Limits of a manifest.
const (
	manifestBytesMax = 1 << 20
	documentsMax     = 256
	componentsMax    = 256
)

// manifestError says which field of a manifest is wrong.
type manifestError struct{ FieldProblem }

// Error is one line.
func (e *manifestError) Error() string { return e.String() }

// Unwrap says that it is the client's mistake.
func (e *manifestError) Unwrap() error { return placement.ErrInvalid }

// fieldErrorsOf are the wrong fields that err names.
func fieldErrorsOf(err error) []FieldProblem {
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		var all []FieldProblem
		for _, e := range joined.Unwrap() {
			all = append(all, fieldErrorsOf(e)...)
		}
		return all
	}
	var m *manifestError
	if errors.As(err, &m) {
		return []FieldProblem{m.FieldProblem}
	}
	var fields placement.FieldErrors
	if errors.As(err, &fields) {
		all := make([]FieldProblem, len(fields))
		for i, f := range fields {
			all[i] = FieldProblem{Field: f.Field, Value: f.Value, Message: f.Problem, Fix: f.Fix}
		}
		return all
	}
	return nil
}

// ParseManifests reads the apps of a file: JSON, or YAML with one app a
// document. Unknown fields are refused, naming the nearest right one. Files
// ("./path") are let through: only the API refuses them.
func ParseManifests(data []byte) ([]placement.App, error) {
	if len(data) > manifestBytesMax {
		return nil, &manifestError{FieldProblem{Message: fmt.Sprintf("the manifest is larger than %d bytes", manifestBytesMax)}}
	}
	docs := [][]byte{data}
	if !json.Valid(data) {
		var err error
		if docs, err = yamlDocuments(data); err != nil {
			return nil, err
		}
	}
	var apps []placement.App
	for i, doc := range docs {
		app, err := decodeApp(doc)
		if err != nil && len(docs) > 1 {
			err = fmt.Errorf("document %d: %w", i+1, err)
		}
		if err != nil {
			return nil, err
		}
		apps = append(apps, app)
	}
	if len(apps) == 0 {
		return nil, &manifestError{FieldProblem{Message: "there is no app in it", Fix: `begin with "app: NAME"`}}
	}
	return apps, nil
}

// parseManifest reads the one app of a body.
func parseManifest(contentType string, body []byte) (placement.App, error) {
	media := "application/json"
	if contentType != "" {
		var err error
		if media, _, err = mime.ParseMediaType(contentType); err != nil {
			return placement.App{}, &Problem{Kind: KindMedia, Detail: "the content type " + short(contentType) + " can't be read"}
		}
	}
	switch media {
	case "application/json":
		return decodeApp(body)
	case "application/yaml", "application/x-yaml", "text/yaml":
		apps, err := ParseManifests(body)
		if err != nil {
			return placement.App{}, err
		}
		if len(apps) > 1 {
			return placement.App{}, &manifestError{FieldProblem{Message: fmt.Sprintf("%d apps in one body", len(apps)), Fix: "send one at a time"}}
		}
		return apps[0], nil
	}
	return placement.App{}, &Problem{Kind: KindMedia, Detail: "a manifest is application/json or application/yaml, not " + short(media)}
}

// manifestFor reads the app that a request to key carries.
func manifestFor(key placement.AppKey, contentType string, body []byte) (placement.App, error) {
	app, err := parseManifest(contentType, body)
	if err != nil {
		return app, err
	}
	mismatch := func(field, have, want string) error {
		return &Problem{Kind: KindInvalid, Detail: fmt.Sprintf("%s is %q in the body and %q in the path", field, short(have), want),
			Errors: []FieldProblem{{Field: field, Value: short(have), Message: "differs from the path", Fix: fmt.Sprintf("write %q, or leave it out", want)}}}
	}
	if app.Name != "" && app.Name != key.App {
		return app, mismatch("app", app.Name, key.App)
	}
	if app.Namespace != "" && app.Namespace != key.Namespace {
		return app, mismatch("namespace", app.Namespace, key.Namespace)
	}
	app.Name, app.Namespace = key.App, key.Namespace
	return app, app.Validate()
}

// decodeApp reads an app from JSON, a component at a time, so that an error
// can say which.
func decodeApp(data []byte) (placement.App, error) {
	var top struct {
		Schema     string                     `json:"version"`
		Namespace  string                     `json:"namespace"`
		Name       string                     `json:"app"`
		Components map[string]json.RawMessage `json:"components"`
	}
	if err := decodeStrict(data, "", &top); err != nil {
		return placement.App{}, err
	}
	if len(top.Components) > componentsMax {
		return placement.App{}, &manifestError{FieldProblem{Field: "components",
			Message: fmt.Sprintf("%d components: at most %d are taken", len(top.Components), componentsMax)}}
	}
	app := placement.App{Schema: top.Schema, Namespace: top.Namespace, Name: top.Name, Components: map[string]placement.Component{}}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(top.Components)) {
		var c placement.Component
		if err := decodeStrict(top.Components[name], "components."+short(name), &c); err != nil {
			errs = append(errs, err)
		}
		app.Components[name] = c
	}
	return app, errors.Join(errs...)
}

// decodeStrict decodes one JSON value into out; path is where it stands.
func decodeStrict(data []byte, path string, out any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	err := dec.Decode(out)
	if err == nil {
		if _, more := dec.Token(); more != io.EOF {
			return &manifestError{FieldProblem{Field: path, Message: "there is more after the end of the app", Fix: "send one app at a time"}}
		}
		return nil
	}
	join := func(field string) string {
		if path == "" || field == "" {
			return path + field
		}
		return path + "." + field
	}
	var wrong *json.UnmarshalTypeError
	var unknown string
	switch {
	case errors.As(err, &wrong):
		return &manifestError{FieldProblem{Field: join(wrong.Field), Value: wrong.Value,
			Message: fmt.Sprintf("a %s stands where %s is wanted", wrong.Value, wanted(wrong.Type))}}
	case scanUnknown(err, &unknown):
		problem := FieldProblem{Field: join(short(unknown)), Message: "unknown field"}
		if near := Nearest(unknown, jsonNames(reflect.TypeOf(out).Elem(), nil)); near != "" {
			problem.Fix = fmt.Sprintf("did you mean %q?", near)
		}
		return &manifestError{problem}
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return &manifestError{FieldProblem{Field: path, Message: "the text ends in the midst of the app"}}
	}
	return &manifestError{FieldProblem{Field: path, Message: short(err.Error())}}
}

func scanUnknown(err error, name *string) bool {
	n, _ := fmt.Sscanf(err.Error(), "json: unknown field %q", name)
	return n == 1
}

func wanted(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.String:
		return "a text"
	case reflect.Bool:
		return "true or false"
	}
	return "a number"
}

// jsonNames are the names of all fields below t.
func jsonNames(t reflect.Type, names []string) []string {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return names
	}
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if name != "" && name != "-" {
			names = jsonNames(t.Field(i).Type, append(names, name))
		}
	}
	return names
}
