package secrets

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hansa-mesh/hansa/gossip/table"
	"github.com/hansa-mesh/hansa/placement"
)

// Set seals a value to its namespace's key, and returns when that is on disk
// here, under a dot that other peers can be asked for. It needs no private key:
// any peer can do it.
func (v *Vault) Set(ctx context.Context, namespace, name string, value []byte) (table.Dot, error) {
	what := fmt.Sprintf("secret %q of namespace %q", clip(name), clip(namespace))
	switch {
	case !IsName(namespace) || !IsName(name):
		return table.Dot{}, fmt.Errorf("%s: %w: a name is lower-case letters, digits and hyphens, at most %d", what, placement.ErrInvalid, nameMax)
	case len(value) == 0:
		return table.Dot{}, fmt.Errorf("%s: %w: the value is empty: give it on the input, or with --from-file", what, placement.ErrInvalid)
	case len(value) > ValueBytesMax:
		return table.Dot{}, fmt.Errorf("%s: %w: the value has %d bytes, at most %d", what, placement.ErrInvalid, len(value), ValueBytesMax)
	}
	v.writing.Lock()
	defer v.writing.Unlock()
	s, count := v.spaceOf(namespace, name), 0
	v.keysOf(kindSecret+"/"+namespace+"/", func(string) { count++ })
	if s.secrets[name] == nil && count >= EachMax {
		return table.Dot{}, fmt.Errorf("%s: %w: the namespace has %d secrets, at most %d: delete some", what, placement.ErrLimit, count, EachMax)
	}
	g := s.current()
	if may := s.allowed(v.cfg.Peers()); len(may) == 0 {
		return table.Dot{}, fmt.Errorf("%s: %w: no peer of the mesh is at a site that may hold it: 'hansa secret sites' says which may",
			what, placement.ErrConflict)
	} else if g == nil || !g.reaches(may) {
		var err error
		if g, err = v.makeKey(ctx, s, may); err != nil {
			return table.Dot{}, fmt.Errorf("%s: %w", what, err)
		}
	}
	sealed, err := sealValue(g.public, namespace, name, value)
	if err != nil {
		return table.Dot{}, fmt.Errorf("%s: %w", what, err)
	}
	b := &body{Kind: kindSecret, Namespace: namespace, Name: name, Public: g.public, Sealed: sealed, By: v.cfg.Self.ID}
	if err := v.put(ctx, s, b); err != nil {
		return table.Dot{}, err
	}
	for _, r := range v.table.Siblings(b.key()) {
		if _, x, err := decode(r.Value); err == nil && bytes.Equal(x.Sealed, sealed) {
			return r.Dot, nil
		}
	}
	return table.Dot{}, nil // another was set since, over it
}

// Delete removes a secret. What runs with it goes on with it.
func (v *Vault) Delete(ctx context.Context, namespace, name string) error {
	v.writing.Lock()
	defer v.writing.Unlock()
	b := body{Kind: kindSecret, Namespace: namespace, Name: name}
	removed, err := v.table.Remove(ctx, b.key())
	if err == nil && !removed {
		err = fmt.Errorf("secret %s of namespace %s: %w", clip(name), clip(namespace), placement.ErrNotFound)
	}
	return err
}

// SetSites says which sites may hold the key of a namespace. Peers of others that
// have it keep what they had: a new key is made without them.
func (v *Vault) SetSites(ctx context.Context, namespace string, sites Sites) error {
	what := fmt.Sprintf("sites of the secrets of namespace %q", clip(namespace))
	if !IsName(namespace) {
		return fmt.Errorf("%s: %w: a name is lower-case letters, digits and hyphens, at most %d", what, placement.ErrInvalid, nameMax)
	}
	if err := checkSites(sites.All, sites.List); err != nil {
		return fmt.Errorf("%s: %w: %w", what, placement.ErrInvalid, err)
	}
	if !sites.All && len(sites.List) == 0 {
		return fmt.Errorf("%s: %w: name at least one site, or all", what, placement.ErrInvalid)
	}
	known := map[string]bool{}
	for _, p := range v.cfg.Peers() {
		known[p.Site] = true
	}
	for _, site := range sites.List {
		if !known[site] {
			return fmt.Errorf("%s: %w: no peer is at site %q: 'hansa sites' lists those that there are", what, placement.ErrInvalid, clip(site))
		}
	}
	v.writing.Lock()
	defer v.writing.Unlock()
	list := slices.Compact(slices.Sorted(slices.Values(sites.List)))
	return v.put(ctx, v.read(namespace), &body{Kind: kindSites, Namespace: namespace, All: sites.All, Sites: list})
}

// makeKey makes the next key of a namespace, for these peers. Who makes it keeps
// it only if it is one of them.
func (v *Vault) makeKey(ctx context.Context, s *space, peers []Peer) (*generation, error) {
	private, err := newKey()
	if err != nil {
		return nil, err
	}
	g := &generation{number: 1, public: private.PublicKey().Bytes()}
	if old := s.current(); old != nil {
		if old.number >= numberMax {
			return nil, errors.New("the numbers of its keys are used up")
		}
		g.number = old.number + 1
	}
	if err := v.putKey(ctx, s, g, private, peers); err != nil {
		return nil, err
	}
	v.cfg.Log.Info("a namespace has a new key for its secrets", "namespace", s.name, "number", g.number, "peers", len(g.wraps))
	return g, nil
}

// putKey writes a key with a wrap for each of these peers; those that it has are
// kept where there is one. It writes nothing that says no more than what stands.
func (v *Vault) putKey(ctx context.Context, s *space, g *generation, private *ecdh.PrivateKey, peers []Peer) error {
	b := &body{Kind: kindKey, Namespace: s.name, Number: g.number, Public: g.public, Wraps: map[string][]byte{}}
	news := g.sides != 1
	for _, p := range peers {
		if have := g.wraps[p.ID]; len(have) == 1 {
			b.Wraps[p.ID] = have[0]
			continue
		}
		w, err := wrap(private, s.name, p)
		if err != nil {
			// A key that nothing can be sealed to is its owner's doing.
			v.cfg.Log.Warn("a peer is not given the key of a namespace", "peer", p.ID, "namespace", s.name, "err", err)
			continue
		}
		b.Wraps[p.ID], news = w, true
	}
	if !news {
		return nil
	}
	if len(b.Wraps) == 0 {
		return errors.New("there is no peer to give its key to")
	}
	if len(b.Wraps) > wrapsMax {
		return fmt.Errorf("%w: its key would be for %d peers, at most %d: name fewer sites with 'hansa secret sites'",
			placement.ErrLimit, len(b.Wraps), wrapsMax)
	}
	if err := v.put(ctx, s, b); err != nil {
		return err
	}
	g.wraps = map[string][][]byte{}
	for id, w := range b.Wraps {
		g.wraps[id] = [][]byte{w}
	}
	return nil
}

// put signs and writes a record over all that stand under its key.
func (v *Vault) put(ctx context.Context, s *space, b *body) error {
	if b.At == 0 {
		b.At = max(time.Now().UnixMilli(), s.at[b.key()]+1)
	}
	raw, err := v.sign(b)
	if err != nil {
		return err
	}
	return v.table.Put(ctx, b.key(), raw)
}

func (v *Vault) sign(b *body) ([]byte, error) {
	inner, err := encoder.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	return encoder.Marshal(placement.Signed{Body: inner, By: placement.PeerID(v.cfg.Self.ID), Sig: v.cfg.Sign(inner)})
}

// putOver is put over what was looked at, and beside what came since.
func (v *Vault) putOver(ctx context.Context, b *body, over []table.Dot) error {
	raw, err := v.sign(b)
	if err != nil {
		return err
	}
	return v.table.PutOver(ctx, b.key(), raw, over)
}

// Holds waits for a write of the table of secrets and says whether it is on disk
// here.
func (v *Vault) Holds(ctx context.Context, d table.Dot) bool {
	for {
		changed := v.Changed()
		if v.table.Covered(d) {
			// It is seen before it is on disk; batches are in order.
			return v.table.Apply(ctx) == nil
		}
		select {
		case <-ctx.Done():
			return false
		case <-changed:
		}
	}
}
