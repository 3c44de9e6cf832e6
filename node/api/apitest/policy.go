package apitest

import (
	"context"
	"fmt"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
)

// Policy is what was set, or nothing.
func (b *Backend) Policy(_ context.Context, namespace string) (api.Policy, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return api.NewPolicy(placement.NamespacePolicy{Namespace: namespace, Signatures: b.policies[namespace]}, b.policyTag(namespace)), nil
}

// policyTag changes with every policy that is set. The caller holds mu.
func (b *Backend) policyTag(namespace string) string {
	if n := b.policySets[namespace]; n > 0 {
		return fmt.Sprintf(`"policy-%d"`, n)
	}
	return ""
}

// PutPolicy sets it.
func (b *Backend) PutPolicy(ctx context.Context, namespace, ifMatch string, signatures []api.SignatureRule) (api.Policy, error) {
	b.mu.Lock()
	if ifMatch != "" && ifMatch != b.policyTag(namespace) {
		b.mu.Unlock()
		return api.Policy{}, fmt.Errorf("policy of namespace %s: %w", namespace, placement.ErrConflict)
	}
	if b.policies == nil {
		b.policies, b.policySets = map[string][]placement.SignatureRule{}, map[string]int{}
	}
	b.policies[namespace] = api.Rules(signatures)
	b.policySets[namespace]++
	b.mu.Unlock()
	return b.Policy(ctx, namespace)
}
