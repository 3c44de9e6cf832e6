package placement

import (
	"fmt"
	"slices"
)

// The core knows of secrets only which sites may hold those of a namespace: what
// uses them goes to no other.

// SecretSites says which sites may hold the secrets of a namespace. A namespace
// of which nothing was said has them at every site.
type SecretSites struct {
	Namespace string
	All       bool
	Sites     []SiteID
}

func (SecretSites) event() {}

// SecretNames are the secrets that a component uses, its credentials among them,
// sorted.
func (c Component) SecretNames() []string {
	names := sortedKeys(c.Secrets)
	if c.Container != nil && c.Container.Credentials != "" {
		names = append(names, c.Container.Credentials)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// SecretsNotFor is why what uses the secrets of a namespace can't run at a site.
func SecretsNotFor(namespace string, site SiteID) string {
	return fmt.Sprintf("the secrets of namespace %s are not for site %s", clip(namespace), clip(string(site)))
}

// onSecretSites takes which sites may hold a namespace's secrets. What runs
// elsewhere goes on with what it was given, until it is started again.
func (p *Peer) onSecretSites(ev SecretSites) {
	if ev.All {
		delete(p.secretSites, ev.Namespace)
	} else {
		p.secretSites[ev.Namespace] = slices.Clone(ev.Sites)
	}
	for _, uid := range p.uids() {
		if a := p.apps[uid]; a.key.Namespace == ev.Namespace {
			p.dirty[uid] = true
		}
	}
}

// secretsBar is why a component of a namespace can't run at a site, or "".
func (p *Peer) secretsBar(namespace string, c Component, site SiteID) string {
	sites, limited := p.secretSites[namespace]
	if !limited || len(c.SecretNames()) == 0 || slices.Contains(sites, site) {
		return ""
	}
	return SecretsNotFor(namespace, site)
}

// barSecrets adds to the peers that are not asked those whose sites may not hold
// the secrets that a component uses.
func (p *Peer) barSecrets(namespace string, c Component, candidates []Candidate, refused map[PeerID]string) {
	for _, x := range candidates {
		if why := p.secretsBar(namespace, c, x.Digest.Site); why != "" {
			refused[x.Digest.Peer.Peer] = why
		}
	}
}
