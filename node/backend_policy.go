package node

import (
	"context"
	"fmt"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/node/signature"
	"github.com/hansa-mesh/hansa/placement"
)

// Policy is what holds in a namespace.
func (n backend) Policy(ctx context.Context, namespace string) (out api.Policy, err error) {
	err = n.loop.look(ctx, func(core *placement.Peer) { out = api.NewPolicy(core.Policy(namespace)) })
	return out, err
}

// PutPolicy sets what holds in a namespace: an edit as any other, so that a majority
// of its keepers have it on disk before the person has an answer.
func (n backend) PutPolicy(ctx context.Context, namespace, ifMatch string, signatures []api.SignatureRule) (api.Policy, error) {
	ctx, cancel := context.WithTimeout(ctx, submitMax)
	defer cancel()
	policy := placement.NamespacePolicy{Namespace: namespace, Signatures: api.Rules(signatures)}
	for at, rule := range policy.Signatures {
		for _, key := range rule.Keys {
			if _, err := signature.ParsePublic([]byte(key)); err != nil {
				return api.Policy{}, fmt.Errorf("policy of namespace %s: %w: rule %d: %w", namespace, placement.ErrInvalid, at+1, err)
			}
		}
	}
	if _, err := n.submit(ctx, func(ticket uint64) placement.Event {
		return placement.Submit{Ticket: ticket, App: policy.App(), IfMatch: ifMatch}
	}); err != nil {
		return api.Policy{}, err
	}
	n.happened("policy", fmt.Sprintf("the policy of namespace %s has %d rules about signatures, at a person's request", namespace, len(policy.Signatures)))
	return n.Policy(ctx, namespace)
}
