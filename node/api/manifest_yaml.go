package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Bounds on YAML, whose aliases and nesting can make much of little.
const (
	yamlAliasesMax = 32
	yamlNestingMax = 64
)

// yamlDocuments is the documents of a YAML text as JSON, without empty ones.
func yamlDocuments(data []byte) ([][]byte, error) {
	bad := func(message, fix string) error { return malformed(message, fix) }
	if nesting(data) > yamlNestingMax {
		return nil, bad(fmt.Sprintf("lists or objects nested more than %d deep", yamlNestingMax), "no manifest needs that")
	}
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		return nil, yamlError(err)
	}
	if len(file.Docs) > documentsMax {
		return nil, bad(fmt.Sprintf("%d documents: at most %d are read", len(file.Docs), documentsMax), "split the file")
	}
	var docs [][]byte
	for _, doc := range file.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.NullType || doc.Body.Type() == ast.CommentType || doc.Body.Type() == ast.CommentGroupType {
			continue
		}
		if err := checkAliases(doc.Body); err != nil {
			return nil, err
		}
		var v any
		if err := yaml.NodeToValue(doc.Body, &v, yaml.UseOrderedMap()); err != nil {
			return nil, yamlError(err)
		}
		converted, err := yaml.MarshalWithOptions(v, yaml.JSON())
		if err != nil {
			return nil, yamlError(err)
		}
		if !json.Valid(converted) {
			return nil, bad("a value that JSON can't hold: .inf, .nan or a control character", "write a plain number or text")
		}
		docs = append(docs, converted)
	}
	return docs, nil
}

// yamlError is an error of the parser, with its place and without its picture.
func yamlError(err error) error {
	var message string
	var at yaml.Error
	if !errors.As(err, &at) {
		message = err.Error()
	} else { // its text would draw the whole source, in quadratic time
		message = at.GetMessage()
		if t := at.GetToken(); t != nil && t.Position != nil {
			message = fmt.Sprintf("line %d, column %d: %s", t.Position.Line, t.Position.Column, message)
		}
	}
	first, _, _ := bytes.Cut([]byte(message), []byte("\n"))
	return malformed(short(string(first)), "")
}

// nesting is an upper bound on how deep the flow and inline block collections
// of a text are nested. Brackets in texts count as well; the limit leaves room.
func nesting(data []byte) int {
	depth, most, inline := 0, 0, 0
	fresh := true // only indicators so far in this line
	for i, c := range data {
		switch c {
		case '[', '{':
			depth++
			fresh = false
		case ']', '}':
			depth = max(0, depth-1)
			fresh = false
		case '\n', '\r':
			fresh, inline = true, 0
		case '-', '?', ':':
			if fresh && i+1 < len(data) && (data[i+1] == ' ' || data[i+1] == '\t') {
				inline++
			} else {
				fresh = false
			}
		case ' ', '\t':
		default:
			fresh = false
		}
		most = max(most, depth+inline)
	}
	return most
}

// checkAliases refuses what would grow when it is expanded: many aliases, and
// anchors that hold aliases themselves.
func checkAliases(body ast.Node) error {
	v := &aliasVisitor{}
	ast.Walk(v, body)
	switch {
	case v.nested:
		return &manifestError{FieldProblem: FieldProblem{Message: "an anchor holds an alias", Fix: "write out what the alias stands for"}}
	case v.aliases > yamlAliasesMax:
		return &manifestError{FieldProblem: FieldProblem{Message: fmt.Sprintf("%d aliases: at most %d are read", v.aliases, yamlAliasesMax)}}
	}
	return nil
}

type aliasVisitor struct {
	aliases int
	nested  bool
	inside  bool
}

// Visit counts aliases, and looks for some below anchors.
func (v *aliasVisitor) Visit(n ast.Node) ast.Visitor {
	switch n.Type() {
	case ast.AliasType:
		v.aliases++
		v.nested = v.nested || v.inside
	case ast.AnchorType:
		if !v.inside {
			below := &aliasVisitor{inside: true}
			ast.Walk(below, n.(*ast.AnchorNode).Value)
			v.aliases += below.aliases
			v.nested = v.nested || below.nested
			return nil
		}
	}
	return v
}
