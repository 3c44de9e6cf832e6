package apitest

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
)

// secrets are those of a namespace, and the sites that may hold them.
type secrets struct {
	values map[string]api.Secret
	sites  api.SecretSites
}

// space is a namespace's; b.mu is held.
func (b *Backend) space(namespace string) *secrets {
	if b.secrets == nil {
		b.secrets = map[string]*secrets{}
	}
	if b.secrets[namespace] == nil {
		b.secrets[namespace] = &secrets{values: map[string]api.Secret{}, sites: api.SecretSites{All: true}}
	}
	return b.secrets[namespace]
}

// PutSecret forgets the value.
func (b *Backend) PutSecret(_ context.Context, namespace, name string, value []byte) (api.SecretResult, error) {
	if len(value) == 0 {
		return api.SecretResult{}, fmt.Errorf("secret %s: %w: the value is empty", name, placement.ErrInvalid)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.space(namespace).values[name] = api.Secret{Name: name, At: b.now(), By: refs[0], Key: 1, Current: true, Sides: 1}
	return api.SecretResult{Namespace: namespace, Name: name, Copies: 2, Peers: refs[:2]}, nil
}

// Secrets are those that were set.
func (b *Backend) Secrets(_ context.Context, namespace string, page api.Page) (api.Listing[api.Secret], error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []api.Secret
	for _, s := range b.space(namespace).values {
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b api.Secret) int { return cmp.Compare(a.Name, b.Name) })
	return api.NewListing(list, func(s api.Secret) string { return s.Name }, page, b.asOf()), nil
}

// DeleteSecret deletes one.
func (b *Backend) DeleteSecret(_ context.Context, namespace, name string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.space(namespace).values[name]; !ok {
		return fmt.Errorf("secret %s of namespace %s: %w", name, namespace, placement.ErrNotFound)
	}
	delete(b.space(namespace).values, name)
	return nil
}

// SecretSites are all until they are set.
func (b *Backend) SecretSites(_ context.Context, namespace string) (api.SecretSites, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.space(namespace).sites, nil
}

// PutSecretSites sets them.
func (b *Backend) PutSecretSites(_ context.Context, namespace string, sites api.SecretSites) error {
	for _, site := range sites.Sites {
		if !slices.ContainsFunc(refs, func(r api.PeerRef) bool { return r.Site == site }) {
			return fmt.Errorf("sites of the secrets of namespace %s: %w: no peer is at site %q", namespace, placement.ErrInvalid, site)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.space(namespace).sites = sites
	return nil
}
