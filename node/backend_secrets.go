package node

import (
	"context"
	"slices"
	"time"

	"github.com/hansa-mesh/hansa/gossip"
	"github.com/hansa-mesh/hansa/gossip/table"
	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/node/secrets"
	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/transport"
)

// methodSeen asks a peer whether it has a record of the table of secrets on disk;
// it waits a moment for it.
const methodSeen = "secrets/seen/1"

// seenWait is how long a peer waits for a record, below queryMax.
const seenWait = time.Second

// copiesAsked is how many peers, at other sites where there are any, are asked
// whether they have a secret before the person has an answer.
const copiesAsked = 2

type seenQuery struct {
	Dot table.Dot `json:"dot"`
}

type seenAnswer struct {
	Seen bool `json:"seen"`
}

func (n *Node) serveSecrets() {
	transport.HandleTyped(n.link, methodSeen, func(ctx context.Context, _ string, q seenQuery) (seenAnswer, error) {
		ctx, cancel := context.WithTimeout(ctx, seenWait)
		defer cancel()
		return seenAnswer{n.vault.Holds(ctx, q.Dot)}, nil
	})
}

// PutSecret sets a secret, and says who has it when other peers were asked.
func (n backend) PutSecret(ctx context.Context, namespace, name string, value []byte) (api.SecretResult, error) {
	out := api.SecretResult{Namespace: namespace, Name: name, Copies: 1, Peers: []api.PeerRef{n.ref(n.id.ID())}}
	if err := n.outcast(); err != nil {
		return out, err
	}
	dot, err := n.vault.Set(ctx, namespace, name, value)
	if err != nil {
		return out, storeError(err)
	}
	n.happened("secret", "secret "+name+" of namespace "+namespace+" was set, at a person's request")
	for _, a := range ask[seenQuery, seenAnswer](ctx, n.Node, n.elsewhere(copiesAsked), methodSeen, seenQuery{dot}) {
		if a.err == nil && a.answer.Seen {
			out.Copies++
			out.Peers = append(out.Peers, n.ref(a.peer))
		}
	}
	return out, nil
}

// elsewhere is a few live peers, those of other sites first.
func (n *Node) elsewhere(most int) []string {
	var far, near []string
	for _, m := range n.members() {
		switch {
		case m.Peer == n.id.ID() || m.State != gossip.StateAlive:
		case m.Site != n.member.Site:
			far = append(far, m.Peer)
		default:
			near = append(near, m.Peer)
		}
	}
	all := slices.Concat(far, near)
	return all[:min(len(all), most)]
}

// Secrets are those of a namespace, as this peer knows them.
func (n backend) Secrets(_ context.Context, namespace string, page api.Page) (api.Listing[api.Secret], error) {
	items := []api.Secret{}
	for _, s := range n.vault.List(namespace) {
		items = append(items, api.Secret{Name: s.Name, At: s.At, By: n.ref(s.By), Key: s.Key, Current: s.Current, Sides: s.Sides})
	}
	return api.NewListing(items, func(s api.Secret) string { return s.Name }, page, map[string]time.Time{n.id.ID(): time.Now().UTC()}), nil
}

// DeleteSecret removes a secret.
func (n backend) DeleteSecret(ctx context.Context, namespace, name string) error {
	if err := n.outcast(); err != nil {
		return err
	}
	if err := n.vault.Delete(ctx, namespace, name); err != nil {
		return storeError(err)
	}
	n.happened("secret", "secret "+name+" of namespace "+namespace+" was deleted, at a person's request")
	return nil
}

// SecretSites is which sites may hold a namespace's secrets.
func (n backend) SecretSites(_ context.Context, namespace string) (api.SecretSites, error) {
	s := n.vault.SitesOf(namespace)
	return api.SecretSites{All: s.All, Sites: s.List}, nil
}

// PutSecretSites says which sites may.
func (n backend) PutSecretSites(ctx context.Context, namespace string, sites api.SecretSites) error {
	if err := n.outcast(); err != nil {
		return err
	}
	if err := n.vault.SetSites(ctx, namespace, secrets.Sites{All: sites.All, List: sites.Sites}); err != nil {
		return storeError(err)
	}
	n.happened("secret", "the sites that may hold the secrets of namespace "+namespace+" were changed, at a person's request")
	return nil
}

// missingSecrets says which secrets an app waits for, once each: they may be set
// after it.
func (n *Node) missingSecrets(app placement.App) (notes []string) {
	said := map[string]bool{}
	for _, component := range app.ComponentNames() {
		for _, name := range app.Components[component].SecretNames() {
			if err := n.vault.Missing(app.Key().Namespace, name); err != nil && !said[name] {
				said[name] = true
				notes = append(notes, component+" waits: "+err.Error())
			}
		}
	}
	return notes
}
