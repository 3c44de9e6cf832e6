package api

import (
	"context"
	"net/http"

	"github.com/hansa-mesh/hansa/placement"
)

const policyPath = "/v1/namespaces/{namespace}/policy"

// PolicyBackend keeps what holds for all apps of a namespace.
type PolicyBackend interface {
	// Policy is what holds in a namespace: without rules when nobody set any.
	Policy(ctx context.Context, namespace string) (Policy, error)
	// PutPolicy sets it, for one that has no rules to none.
	PutPolicy(ctx context.Context, namespace, ifMatch string, signatures []SignatureRule) (Policy, error)
}

// Policy is what holds for all apps of a namespace.
type Policy struct {
	Namespace  string          `json:"namespace"`
	Signatures []SignatureRule `json:"signatures" doc:"Rules that all hold; none: nothing needs to be signed"`
	ETag       string          `json:"etag" doc:"Of what stands; empty when nobody set any"`
}

// SignatureRule demands that what runs was signed.
type SignatureRule struct {
	Images string   `json:"images,omitempty" maxLength:"257" doc:"The repository that it is about, or with /* at its end all below it; empty for everything that runs in the namespace"`
	Keys   []string `json:"keys" minItems:"1" maxItems:"16" doc:"Public keys in PEM, of which one must have signed"`
}

// Rules are the rules as placement has them.
func Rules(rules []SignatureRule) []placement.SignatureRule {
	var out []placement.SignatureRule
	for _, r := range rules {
		out = append(out, placement.SignatureRule{Images: r.Images, Keys: r.Keys})
	}
	return out
}

// NewPolicy is a policy as the API shows it.
func NewPolicy(p placement.NamespacePolicy, etag string) Policy {
	out := Policy{Namespace: p.Namespace, Signatures: []SignatureRule{}, ETag: etag}
	for _, r := range p.Signatures {
		out.Signatures = append(out.Signatures, SignatureRule{Images: r.Images, Keys: r.Keys})
	}
	return out
}

func (s *Server) policyRoutes() {
	get(s, policyPath, "get-policy", "What holds for all apps of a namespace", func(ctx context.Context, in *NamespaceParams) (*bodyOutput[Policy], error) {
		if err := in.check(); err != nil {
			return nil, err
		}
		return answer(s.backend.Policy(ctx, in.Namespace))
	})
	type putInput struct {
		NamespaceParams
		IfMatch string `header:"If-Match" doc:"The etag of what was looked at"`
		Body    struct {
			Signatures []SignatureRule `json:"signatures,omitempty" maxItems:"32" doc:"Rules that all hold; none: nothing needs to be signed"`
		}
	}
	op := operation(http.MethodPut, policyPath, "put-policy", "Set what holds for all apps of a namespace")
	op.Description = "It holds for what is deployed and for what starts from then on. Of policies that were set on both sides of a cut all rules hold, until it is set again."
	op.MaxBodyBytes = 4 << 20
	op.Errors = []int{412, 422, 503, 507}
	register(s, op, func(ctx context.Context, in *putInput) (*bodyOutput[Policy], error) {
		if err := in.check(); err != nil {
			return nil, err
		}
		return answer(s.backend.PutPolicy(ctx, in.Namespace, in.IfMatch, in.Body.Signatures))
	})
}

// Policy is what holds for all apps of a namespace.
func (c *Client) Policy(ctx context.Context, namespace string) (Policy, error) {
	return getJSON[Policy](ctx, c, pathOf("v1", "namespaces", namespace, "policy"), nil)
}

// PutPolicy sets what holds for all apps of a namespace. ifMatch may be empty.
func (c *Client) PutPolicy(ctx context.Context, namespace, ifMatch string, signatures []SignatureRule) (Policy, error) {
	var out Policy
	rq := jsonCall(http.MethodPut, pathOf("v1", "namespaces", namespace, "policy"), map[string]any{"signatures": signatures})
	if ifMatch != "" {
		rq.header.Set("If-Match", ifMatch)
	}
	_, _, err := c.json(ctx, rq, &out)
	return out, err
}
