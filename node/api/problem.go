package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
)

const problemType = "application/problem+json"

// Problem is an error as it crosses HTTP (RFC 9457), with fields of ours: the
// kind, and for each wrong field what it is, what it held and how to mend it.
type Problem struct {
	Type      string         `json:"type,omitempty" doc:"URI of the kind of problem; about:blank when status and kind say it all"`
	Title     string         `json:"title" doc:"Text of the status"`
	Status    int            `json:"status"`
	Kind      Kind           `json:"kind" doc:"For programs: invalid, not_found, conflict, …"`
	Detail    string         `json:"detail" doc:"What is wrong here, for people"`
	Instance  string         `json:"instance,omitempty" doc:"The path that was asked for"`
	RequestID string         `json:"request_id,omitempty" doc:"As in the log of the peer"`
	Errors    []FieldProblem `json:"errors,omitempty"`
}

// FieldProblem is one wrong field.
type FieldProblem struct {
	Field   string `json:"field,omitempty" doc:"For instance components.api.replicas"`
	Value   any    `json:"value,omitempty" doc:"What it held"`
	Message string `json:"message"`
	Fix     string `json:"fix,omitempty" doc:"What to write instead"`
}

// Error is the detail, and one line for each wrong field that it does not say
// already.
func (p *Problem) Error() string {
	text := p.Detail
	if text == "" {
		text = p.Title
	}
	for _, f := range p.Errors {
		line := f.String()
		if len(p.Errors) == 1 && strings.Contains(line, p.Detail) {
			return line
		}
		text += "\n  " + line
	}
	return text
}

// String is one line: what is wrong with which field, what it holds, and the
// fix.
func (f FieldProblem) String() string {
	text := f.Message
	if f.Field != "" && !strings.HasPrefix(text, f.Field) {
		text = f.Field + f.held() + ": " + text
	}
	if f.Fix != "" {
		text += " (" + f.Fix + ")"
	}
	return text
}

// held is " VALUE" where that is short and the message does not say it.
func (f FieldProblem) held() string {
	text := ""
	switch f.Value.(type) {
	case string:
		text = fmt.Sprintf("%q", f.Value)
	case bool, int, int64, float64, json.Number:
		text = fmt.Sprint(f.Value)
	}
	if text == "" || text == `""` || strings.Contains(f.Message, text) {
		return ""
	}
	return " " + text
}

// GetStatus is for huma.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType is for huma.
func (p *Problem) ContentType(string) string { return problemType }

// NewProblem is err as a Problem: itself when it is one, else what kinds.go
// makes of it. The text of an unexpected error is not shown to the client.
func NewProblem(err error) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		q := *p
		q.fill()
		return &q
	}
	var missing *MissingArtifacts
	if errors.As(err, &missing) {
		return newMissing(missing)
	}
	var digest *digestError
	if errors.As(err, &digest) {
		return digest.problem()
	}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		p := &Problem{Kind: KindTooLarge, Detail: fmt.Sprintf("the body is larger than %d bytes", tooLarge.Limit)}
		p.fill()
		return p
	}
	p = &Problem{Kind: kindOf(err)}
	p.Detail = withoutKind(err.Error())
	if p.Kind == KindInternal {
		p.Detail = "an unexpected error: the log of the peer says more"
	}
	switch p.Errors = fieldErrorsOf(err); len(p.Errors) {
	case 0:
	case 1:
		p.Detail = p.Errors[0].String()
	default:
		p.Detail = fmt.Sprintf("%d fields are wrong", len(p.Errors))
	}
	p.fill()
	return p
}

// withoutKind drops the name of a kind from the front of a text: the kind has a
// field of its own.
func withoutKind(text string) string {
	for _, row := range kinds {
		for _, e := range row.errs {
			if rest, ok := strings.CutPrefix(text, e.Error()+": "); ok && rest != "" {
				return rest
			}
		}
	}
	return text
}

// fill sets what follows from the kind.
func (p *Problem) fill() {
	if p.Kind == "" {
		p.Kind = kindOfStatus(p.Status)
	}
	if p.Status == 0 {
		p.Status = p.Kind.Status()
	}
	if p.Title == "" {
		p.Title = http.StatusText(p.Status)
	}
	if p.Type == "" {
		p.Type = "about:blank"
	}
}

func newMissing(e *MissingArtifacts) *Problem {
	p := &Problem{Kind: KindMissing, Detail: e.Error()}
	for _, d := range e.Digests {
		p.Errors = append(p.Errors, FieldProblem{
			Field: "artifacts", Value: d, Message: d + " is not known to the mesh",
			Fix: "PUT /v1/artifacts/" + d + " first; hansa deploy does so by itself",
		})
	}
	p.fill()
	return p
}

// WriteProblem answers a request with err.
func WriteProblem(w http.ResponseWriter, r *http.Request, err error) {
	p := NewProblem(err)
	p.locate(r)
	data, jsonErr := json.Marshal(p)
	if jsonErr != nil { // a value that JSON can't hold
		p.Errors = nil
		data, _ = json.Marshal(p)
	}
	h := w.Header()
	h.Set("Content-Type", problemType)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Del("ETag")
	h.Del("Content-Length")
	w.WriteHeader(p.Status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(append(data, '\n')) // a client that went away is no error of ours
	}
}

func (p *Problem) locate(r *http.Request) {
	if p.Instance == "" {
		p.Instance = r.URL.Path
	}
	p.RequestID = infoOf(r.Context()).id
}

// fromHuma makes a Problem of what huma found wrong with a request.
func fromHuma(m *huma.ErrorModel) *Problem {
	p := &Problem{Status: m.Status, Detail: m.Detail}
	for _, e := range m.Errors {
		if e == nil {
			continue
		}
		field := e.Location
		for _, prefix := range []string{"path.", "query.", "header.", "body."} {
			field = strings.TrimPrefix(field, prefix)
		}
		f := FieldProblem{Field: field, Value: e.Value, Message: e.Message}
		if s, ok := e.Value.(string); ok {
			f.Value = short(s)
		}
		p.Errors = append(p.Errors, f)
	}
	if m.Detail == "validation failed" && len(p.Errors) > 0 {
		p.Detail = p.Errors[0].String()
	}
	p.fill()
	return p
}

const shownValueMax = 200

// short cuts a client's text to what is worth showing again.
func short(s string) string {
	if len(s) <= shownValueMax {
		return s
	}
	cut := shownValueMax
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}
