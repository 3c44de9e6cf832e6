package node

import (
	"crypto/ecdh"
	"fmt"
	"slices"
	"sync"

	"github.com/hansa-mesh/hansa/gossip"
	"github.com/hansa-mesh/hansa/gossip/table"
	"github.com/hansa-mesh/hansa/node/secrets"
	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/transport/identity"
	"github.com/hansa-mesh/hansa/transport/trust"
)

// openSecrets wires the vault to its table, to who belongs to the mesh, and to
// the core.
func (n *Node) openSecrets(open func(table.Config) error) error {
	own := n.id.SealingKey()
	keys := &sealingKeys{of: map[string]*ecdh.PublicKey{}}
	n.vault = secrets.New(secrets.Config{
		Self: secrets.Peer{ID: n.id.ID(), Site: n.member.Site, Key: own.PublicKey(), Alive: true}, Own: own,
		Sign: func(body []byte) []byte { return n.id.SignFor(secrets.Context, body) },
		Verify: func(s placement.Signed) error {
			return n.verifySigned(secrets.Context, s)
		},
		Peers: func() []secrets.Peer { return n.secretPeers(keys) },
		Sites: func(namespace string, s secrets.Sites) {
			ev := placement.SecretSites{Namespace: namespace, All: s.All}
			for _, site := range s.List {
				ev.Sites = append(ev.Sites, placement.SiteID(site))
			}
			n.loop.post(ev)
		},
		Log: n.log.With("part", "secrets"),
	})
	if err := open(n.vault.TableConfig()); err != nil {
		return err
	}
	n.vault.Open(n.tables[secrets.Table])
	return nil
}

// secretPeers are those that belong to the mesh now.
func (n *Node) secretPeers(keys *sealingKeys) []secrets.Peer {
	var alive []string
	for _, m := range n.members() {
		if m.State == gossip.StateAlive {
			alive = append(alive, m.Peer)
		}
	}
	slices.Sort(alive)
	var out []secrets.Peer
	for _, a := range n.trust.Peers() {
		id := a.ID()
		if n.trust.Admitted(id) != nil {
			continue
		}
		key, err := keys.get(a)
		if err != nil {
			n.log.Debug("nothing can be sealed to a peer", "peer", id, "err", err)
			continue
		}
		_, lives := slices.BinarySearch(alive, id)
		out = append(out, secrets.Peer{ID: id, Site: a.Site, Key: key, Alive: lives})
	}
	return out
}

// sealingKeys remembers what was worked out from peers' keys.
type sealingKeys struct {
	mu sync.Mutex // guards of
	of map[string]*ecdh.PublicKey
}

func (k *sealingKeys) get(a trust.Admission) (*ecdh.PublicKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	id := a.ID()
	if key := k.of[id]; key != nil {
		return key, nil
	}
	key, err := identity.SealingKeyOf(a.Key)
	if err != nil {
		return nil, fmt.Errorf("peer %s: %w", id, err)
	}
	k.of[id] = key
	return key, nil
}
