package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"strings"
	"unicode/utf8"

	"github.com/hansa-mesh/hansa/placement"
)

// Limits of a manifest.
const (
	manifestBytesMax = 1 << 20
	documentsMax     = 256
)

// manifestError says which field of a manifest is wrong.
type manifestError struct {
	FieldProblem
	unread bool // the text can't be read at all
}

// Error is one line.
func (e *manifestError) Error() string { return e.String() }

// Unwrap says that it is the client's mistake.
func (e *manifestError) Unwrap() error {
	if e.unread {
		return errMalformed
	}
	return placement.ErrInvalid
}

func malformed(message, fix string) error {
	return &manifestError{FieldProblem: FieldProblem{Message: message, Fix: fix}, unread: true}
}

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
		return nil, &manifestError{FieldProblem: FieldProblem{Message: fmt.Sprintf("the manifest is larger than %d bytes", manifestBytesMax)}}
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")) // some editors mark UTF-8 so
	if !utf8.Valid(data) {
		return nil, malformed("it is not text in UTF-8", "")
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
			err = inDocument(i+1, err)
		}
		if err != nil {
			return nil, err
		}
		apps = append(apps, app)
	}
	if len(apps) == 0 {
		return nil, &manifestError{FieldProblem: FieldProblem{Message: "there is no app in it", Fix: `begin with "app: NAME"`}}
	}
	return apps, nil
}

// inDocument names the document of a file in which fields are wrong.
func inDocument(n int, err error) error {
	var errs []error
	for _, f := range fieldErrorsOf(err) {
		f.Field = strings.TrimSuffix(fmt.Sprintf("document %d: %s", n, f.Field), ": ")
		errs = append(errs, &manifestError{FieldProblem: f})
	}
	return errors.Join(errs...)
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
			return placement.App{}, &manifestError{FieldProblem: FieldProblem{Message: fmt.Sprintf("%d apps in one body", len(apps)), Fix: "send one at a time"}}
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
