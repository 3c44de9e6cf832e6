package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hansa-mesh/hansa/placement"
)

// ManifestSchema is the JSON Schema of a manifest, from the types that read it.
func ManifestSchema() ([]byte, error) {
	defs := huma.NewMapRegistry("#/$defs/", huma.DefaultSchemaNamer)
	aliasQuantities(defs)
	root := defs.Schema(reflect.TypeFor[placement.App](), true, "")
	doc := map[string]any{
		"$schema":     "https://json-schema.org/draft/2020-12/schema",
		"title":       "Hansa manifest",
		"description": "One app: what a person deploys.",
		"$ref":        root.Ref,
		"$defs":       defs.Map(),
	}
	data, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("manifest schema: %w", err)
	}
	return append(data, '\n'), nil
}

// aliasQuantities describes placement's numbers by their text forms.
func aliasQuantities(r huma.Registry) {
	r.RegisterTypeAlias(reflect.TypeFor[placement.CPU](), reflect.TypeFor[cpuText]())
	r.RegisterTypeAlias(reflect.TypeFor[placement.Bytes](), reflect.TypeFor[bytesText]())
	r.RegisterTypeAlias(reflect.TypeFor[placement.Duration](), reflect.TypeFor[durationText]())
}

// The text forms of placement's types, for schemas.
type (
	cpuText      string
	bytesText    string
	durationText string
)

// Schema describes a CPU: a quantity as text, or a number of cores.
func (cpuText) Schema(huma.Registry) *huma.Schema {
	return quantitySchema("Kubernetes quantity of cores", "250m", 2)
}

// Schema describes an amount of bytes: a quantity as text, or a number.
func (bytesText) Schema(huma.Registry) *huma.Schema {
	return quantitySchema("Kubernetes quantity of bytes", "128Mi", 1048576)
}

func quantitySchema(what string, examples ...any) *huma.Schema {
	return &huma.Schema{Description: what, Examples: examples, OneOf: []*huma.Schema{{Type: huma.TypeString}, {Type: huma.TypeNumber}}}
}

// Schema describes a duration.
func (durationText) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Description: "Go duration", Examples: []any{"1m30s"}}
}

func (s *Server) schemaRoute() {
	schema, err := ManifestSchema()
	if err != nil {
		panic(fmt.Sprintf("api: %v", err)) // types of ours, the same in every run
	}
	op := operation(http.MethodGet, "/v1/manifest.schema.json", "get-manifest-schema", "JSON Schema of a manifest")
	op.Tags = []string{"apps"}
	s.raw(op, "application/schema+json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/schema+json")
		_, _ = w.Write(schema)
	})
}
