package api

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
)

const (
	secretsPath = "/v1/namespaces/{namespace}/secrets"
	secretPath  = secretsPath + "/{name}"
	sitesPath   = "/v1/namespaces/{namespace}/secret-sites"
)

// NamespaceParams are the path of a namespace.
type NamespaceParams struct {
	Namespace string `path:"namespace" doc:"Lower-case letters, digits and hyphens, at most 63"`
}

// SecretParams are the path of a secret.
type SecretParams struct {
	NamespaceParams
	Name string `path:"name" doc:"Lower-case letters, digits and hyphens, at most 63"`
}

func (in NamespaceParams) check() error { return checkName("namespace", in.Namespace) }

func (in SecretParams) check() error {
	if err := in.NamespaceParams.check(); err != nil {
		return err
	}
	return checkName("name", in.Name)
}

func checkName(field, value string) error {
	if IsName(value) {
		return nil
	}
	return &manifestError{FieldProblem: FieldProblem{Field: field, Value: short(value),
		Message: fmt.Sprintf("%q is not a name", short(value)), Fix: NameRule}}
}

// secretRoutes take values as the bytes of a body, never within JSON: what is
// wrong with JSON is told by showing it.
func (s *Server) secretRoutes() {
	type putInput struct {
		SecretParams
		RawBody []byte `contentType:"application/octet-stream" required:"true"`
	}
	op := operation(http.MethodPut, secretPath, "put-secret", "Set a secret; the body is its value, 1 byte to 64 KiB")
	op.Description = "The value is sealed here and leaves this peer only so. No answer ever holds it."
	op.MaxBodyBytes = SecretBytesMax + 1 // one that is longer is refused by name
	op.SkipValidateBody = true
	op.Errors = []int{404, 412, 413, 422, 429, 503, 507}
	register(s, op, func(ctx context.Context, in *putInput) (*bodyOutput[SecretResult], error) {
		defer clear(in.RawBody)
		if err := in.check(); err != nil {
			return nil, err
		}
		return answer(s.backend.PutSecret(ctx, in.Namespace, in.Name, in.RawBody))
	})
	type listInput struct {
		NamespaceParams
		PageParams
	}
	get(s, secretsPath, "list-secrets", "The secrets of a namespace, without their values", func(ctx context.Context, in *listInput) (*listOutput[Secret], error) {
		if err := in.check(); err != nil {
			return nil, err
		}
		page, err := in.page()
		if err != nil {
			return nil, err
		}
		return answerList(s.backend.Secrets(ctx, in.Namespace, page))
	})
	op = operation(http.MethodDelete, secretPath, "delete-secret", "Delete a secret; what runs with it goes on")
	op.DefaultStatus = http.StatusNoContent
	op.Errors = []int{404, 422, 503, 507}
	register(s, op, func(ctx context.Context, in *SecretParams) (*struct{}, error) {
		if err := in.check(); err != nil {
			return nil, err
		}
		return nil, s.backend.DeleteSecret(ctx, in.Namespace, in.Name)
	})
	s.secretSitesRoutes()
}

func (s *Server) secretSitesRoutes() {
	get(s, sitesPath, "get-secret-sites", "Which sites may hold the secrets of a namespace", func(ctx context.Context, in *NamespaceParams) (*bodyOutput[SecretSites], error) {
		if err := in.check(); err != nil {
			return nil, err
		}
		return answer(s.backend.SecretSites(ctx, in.Namespace))
	})
	type sitesInput struct {
		NamespaceParams
		Body SecretSites
	}
	op := operation(http.MethodPut, sitesPath, "put-secret-sites", "Say which sites may hold the secrets of a namespace")
	op.Description = "What uses them is placed at no other. Peers of sites that may not hold them any more keep what they had: change the values, too."
	op.MaxBodyBytes = 128 << 10
	op.Errors = []int{404, 422, 503, 507}
	register(s, op, func(ctx context.Context, in *sitesInput) (*bodyOutput[SecretSites], error) {
		if err := in.check(); err != nil {
			return nil, err
		}
		if err := s.backend.PutSecretSites(ctx, in.Namespace, in.Body); err != nil {
			return nil, err
		}
		return answer(s.backend.SecretSites(ctx, in.Namespace))
	})
}

// PutSecret sets a secret.
func (c *Client) PutSecret(ctx context.Context, namespace, name string, value []byte) (SecretResult, error) {
	var out SecretResult
	_, _, err := c.json(ctx, call{method: http.MethodPut, path: pathOf("v1", "namespaces", namespace, "secrets", name),
		header: http.Header{"Content-Type": {"application/octet-stream"}}, body: bytes.NewReader(value), length: int64(len(value))}, &out)
	return out, err
}

// Secrets are the secrets of a namespace, without their values.
func (c *Client) Secrets(ctx context.Context, namespace string, page Page) (List[Secret], error) {
	return all[Secret](ctx, c, pathOf("v1", "namespaces", namespace, "secrets"), nil, page)
}

// DeleteSecret deletes a secret.
func (c *Client) DeleteSecret(ctx context.Context, namespace, name string) error {
	_, _, err := c.json(ctx, call{method: http.MethodDelete, path: pathOf("v1", "namespaces", namespace, "secrets", name)}, nil)
	return err
}

// SecretSites is which sites may hold the secrets of a namespace.
func (c *Client) SecretSites(ctx context.Context, namespace string) (SecretSites, error) {
	return getJSON[SecretSites](ctx, c, pathOf("v1", "namespaces", namespace, "secret-sites"), nil)
}

// PutSecretSites says which sites may hold the secrets of a namespace.
func (c *Client) PutSecretSites(ctx context.Context, namespace string, sites SecretSites) (SecretSites, error) {
	var out SecretSites
	_, _, err := c.json(ctx, jsonCall(http.MethodPut, pathOf("v1", "namespaces", namespace, "secret-sites"), sites), &out)
	return out, err
}
