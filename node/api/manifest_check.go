package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/hansa-mesh/hansa/placement"
)

// checker finds every field of a manifest that is unknown or of another type
// than it should be, with its whole path. encoding/json would stop at the
// first, and forgets where that one stands.
type checker struct{ errs []error }

func (c *checker) bad(path string, value any, message, fix string) {
	if s, ok := value.(string); ok {
		value = short(s)
	}
	c.errs = append(c.errs, &manifestError{FieldProblem: FieldProblem{Field: path, Value: value, Message: message, Fix: fix}})
}

// later are fields that the manifest is going to have, by type.
var later = map[string][]string{
	"Near": {"client"},
}

// objectForms are scalars that may grow: each can be written as an object with
// this one key as well.
var objectForms = map[string]string{
	"Component.ports.*":  "port",
	"Place.spread":       "label",
	"Disconnect.replace": "policy",
}

var unmarshaler = reflect.TypeFor[json.Unmarshaler]()

// value checks v, which stands at path, against t, and returns it without
// object forms. form names the field in objectForms; "" is none.
func (c *checker) value(path, form string, v any, t reflect.Type) any {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if object, ok := v.(map[string]any); ok && objectForms[form] != "" {
		if inner, has := object[objectForms[form]]; has && len(object) == 1 {
			v, path = inner, path+"."+objectForms[form]
		}
	}
	switch {
	case v == nil: // as if it were left out
	case reflect.PointerTo(t).Implements(unmarshaler):
		c.text(path, v, t)
	case t.Kind() == reflect.Struct:
		return c.object(path, v, t)
	case t.Kind() == reflect.Map:
		object, ok := v.(map[string]any)
		if !ok {
			c.wrong(path, v, anObject)
			break
		}
		for _, key := range slices.Sorted(maps.Keys(object)) {
			object[key] = c.value(join(path, short(key)), form+".*", object[key], t.Elem())
		}
	case t.Kind() == reflect.Slice:
		list, ok := v.([]any)
		if !ok {
			c.wrong(path, v, aList)
			break
		}
		for i := range list {
			list[i] = c.value(fmt.Sprintf("%s[%d]", path, i), "", list[i], t.Elem())
		}
	case t.Kind() == reflect.String:
		if _, ok := v.(string); !ok {
			c.wrong(path, v, aText)
		}
	case t.Kind() == reflect.Bool:
		if _, ok := v.(bool); !ok {
			c.wrong(path, v, aTruth)
		}
	case t.Kind() == reflect.Int:
		n, ok := v.(json.Number)
		if _, err := strconv.ParseInt(n.String(), 10, strconv.IntSize); !ok || err != nil {
			c.wrong(path, v, aNumber)
		}
	default:
		panic("api: a manifest has no " + t.String()) // types of ours, the same in every run
	}
	return v
}

// object checks the fields of a struct.
func (c *checker) object(path string, v any, t reflect.Type) any {
	object, ok := v.(map[string]any)
	if !ok {
		c.wrong(path, v, anObject)
		return v
	}
	fields := map[string]reflect.Type{}
	for _, f := range fieldsOf(t) {
		fields[f.name] = f.form
	}
	for _, key := range slices.Sorted(maps.Keys(object)) {
		field, known := fields[key]
		switch {
		case known:
			object[key] = c.value(join(path, key), t.Name()+"."+key, object[key], field)
		case slices.Contains(later[t.Name()], key):
			c.bad(join(path, key), nil, "this release does not have it", "leave it out")
		default:
			c.bad(join(path, short(key)), nil, "unknown field", didYouMean(key, object, t))
		}
	}
	return object
}

// text checks what has a text form of its own: quantities and durations.
func (c *checker) text(path string, v any, t reflect.Type) {
	data, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(data, reflect.New(t).Interface())
	}
	if err != nil {
		message, fix, _ := strings.Cut(err.Error(), ": ")
		c.bad(path, nil, message, fix)
	}
}

func (c *checker) wrong(path string, v any, want string) {
	switch have := v.(type) {
	case map[string]any:
		c.bad(path, nil, want+" is wanted, not an object", "")
	case []any:
		c.bad(path, nil, want+" is wanted, not a list", "")
	case string:
		fix := ""
		if _, err := strconv.Atoi(have); err == nil && want == aNumber {
			fix = "write it without quotes"
		}
		c.bad(path, have, want+" is wanted, not a text", fix)
	default:
		fix := ""
		if want == aText {
			fix = "write it in quotes"
		}
		c.bad(path, have, want+" is wanted", fix)
	}
}

// What can be wanted.
const (
	aNumber  = "a whole number"
	aTruth   = "true or false"
	aText    = "a text"
	aList    = "a list"
	anObject = "an object"
)

func join(path, field string) string {
	if path == "" {
		return field
	}
	return path + "." + field
}

// didYouMean names the right field nearest to an unknown one of object, whose
// type is t: beside it, or below a field that is there, where people forget a
// level.
func didYouMean(key string, object map[string]any, t reflect.Type) string {
	var beside, below []string
	for _, path := range fieldPaths(t, "") {
		if name := path[strings.LastIndexByte(path, '.')+1:]; name == path {
			beside = append(beside, path)
		} else if first, _, _ := strings.Cut(path, "."); name == key && object[first] != nil {
			below = append(below, path)
		}
	}
	near := Nearest(key, beside)
	if near == "" && len(below) > 0 {
		near = below[0]
	}
	if near == "" {
		return "one of " + strings.Join(beside, ", ")
	}
	return fmt.Sprintf("did you mean %q?", near)
}

// fieldPaths are the dotted names of all fields below t.
func fieldPaths(t reflect.Type, prefix string) []string {
	var paths []string
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	for _, f := range fieldsOf(t) {
		paths = append(paths, prefix+f.name)
		paths = append(paths, fieldPaths(f.form, prefix+f.name+".")...)
	}
	return paths
}

type fieldOf struct {
	name string
	form reflect.Type
}

// fieldsOf are the fields of a struct that a person may write.
func fieldsOf(t reflect.Type) []fieldOf {
	var out []fieldOf
	for i := range t.NumField() {
		f := t.Field(i)
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" && f.Tag.Get("hidden") == "" {
			out = append(out, fieldOf{name, f.Type})
		}
	}
	return out
}

// jsonNestingMax bounds how deep a manifest's JSON is read.
const jsonNestingMax = 64

// readTree reads one JSON value and nothing after it. Objects are
// map[string]any, numbers json.Number; a key that stands twice is refused.
func readTree(data []byte) (any, error) {
	dec := json.NewDecoder(strings.NewReader(string(data)))
	dec.UseNumber()
	v, err := readValue(dec, "", 0)
	if err == nil {
		if _, more := dec.Token(); more != io.EOF {
			err = malformed("there is more after the end of the app", "send one app at a time")
		}
	}
	var known *manifestError
	switch {
	case err == nil || errors.As(err, &known):
		return v, err
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return nil, malformed("the text ends in the midst of the app", "")
	}
	return nil, malformed(fmt.Sprintf("at byte %d: %s", dec.InputOffset(), short(err.Error())), "")
}

func readValue(dec *json.Decoder, path string, depth int) (any, error) {
	if depth > jsonNestingMax {
		return nil, malformed(fmt.Sprintf("lists or objects nested more than %d deep", jsonNestingMax), "no manifest needs that")
	}
	token, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch token {
	case json.Delim('{'):
		object := map[string]any{}
		for dec.More() {
			key, err := dec.Token()
			if err != nil {
				return nil, err
			}
			name := key.(string) // the decoder takes nothing else for a key
			at := join(path, short(name))
			if _, twice := object[name]; twice {
				return nil, &manifestError{FieldProblem: FieldProblem{Field: at, Message: "it stands there twice", Fix: "keep one of them"}}
			}
			if object[name], err = readValue(dec, at, depth+1); err != nil {
				return nil, err
			}
		}
		_, err := dec.Token()
		return object, err
	case json.Delim('['):
		list := []any{}
		for dec.More() {
			v, err := readValue(dec, fmt.Sprintf("%s[%d]", path, len(list)), depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := dec.Token()
		return list, err
	}
	return token, nil
}

// decodeApp reads an app from JSON. All fields that are unknown or of a wrong
// type are told at once.
func decodeApp(data []byte) (placement.App, error) {
	tree, err := readTree(data)
	if err != nil {
		return placement.App{}, err
	}
	var c checker
	if tree == nil {
		tree = map[string]any{}
	}
	tree = c.value("", "", tree, reflect.TypeFor[placement.App]())
	if object, ok := tree.(map[string]any); ok {
		if components, ok := object["components"].(map[string]any); ok && len(components) > placement.ComponentsMax {
			return placement.App{}, &manifestError{FieldProblem: FieldProblem{Field: "components",
				Message: fmt.Sprintf("%d components: at most %d are taken", len(components), placement.ComponentsMax), Fix: "make several apps"}}
		}
	}
	if len(c.errs) > 0 {
		return placement.App{}, errors.Join(c.errs[:min(len(c.errs), fieldErrorsMax)]...)
	}
	plain, err := json.Marshal(tree)
	if err != nil {
		return placement.App{}, fmt.Errorf("%w: %w", placement.ErrInternal, err)
	}
	var app placement.App
	if err := json.Unmarshal(plain, &app); err != nil {
		return placement.App{}, malformed(short(err.Error()), "")
	}
	if app.Components == nil {
		app.Components = map[string]placement.Component{}
	}
	return app, nil
}

// fieldErrorsMax bounds how many wrong fields are told at once.
const fieldErrorsMax = 50
