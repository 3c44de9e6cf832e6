package secrets

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hansa-mesh/hansa/gossip/table"
)

const (
	// tendEvery is how often all is looked at for no reason; tendWait gathers
	// what changes together.
	tendEvery = 10 * time.Second
	tendWait  = 200 * time.Millisecond
	// rotateEvery bounds how often a namespace gets another key, whatever others
	// write.
	rotateEvery = 10 * time.Second
	// keysKept is how many keys before the newest stay though nothing is sealed
	// to them: a side that is cut off may still be sealing to them.
	keysKept = 8
)

// Run tends the keys until ctx ends.
func (v *Vault) Run(ctx context.Context) error {
	tick := time.NewTicker(tendEvery)
	defer tick.Stop()
	v.TellSites()
	for {
		v.tend(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-v.poke:
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(tendWait):
			}
		}
	}
}

// tend brings each namespace nearer to what it should be. It is idempotent: what
// does not work is tried again, here or elsewhere. Nothing is read where nothing
// has changed since there was nothing to do.
func (v *Vault) tend(ctx context.Context) {
	v.TellSites()
	if v.table.Len() == 0 {
		return
	}
	peers := v.cfg.Peers()
	var seen strings.Builder
	fmt.Fprintf(&seen, "%x", v.table.Hash())
	for _, p := range peers {
		fmt.Fprintf(&seen, " %s %s %t", p.ID, p.Site, p.Alive)
	}
	if seen.String() == v.rested {
		return
	}
	v.rested = ""
	if !slices.ContainsFunc(peers, func(p Peer) bool { return p.ID == v.cfg.Self.ID }) {
		return // it was shut out of the mesh: nobody hears of the keys that it makes
	}
	open := false
	for _, namespace := range v.namespaces() {
		if ctx.Err() != nil {
			return
		}
		more, err := v.tendOne(ctx, namespace, peers)
		open = open || more || err != nil
		if err != nil && ctx.Err() == nil {
			v.cfg.Log.Warn("the secrets of a namespace are not as they should be yet; it will be tried again", "namespace", namespace, "err", err)
		}
	}
	if !open && strings.HasPrefix(seen.String(), fmt.Sprintf("%x ", v.table.Hash())) {
		v.rested = seen.String()
	}
}

// tendOne is tend of one namespace; more says that something has to wait.
func (v *Vault) tendOne(ctx context.Context, namespace string, peers []Peer) (more bool, err error) {
	v.writing.Lock()
	defer v.writing.Unlock()
	s := v.space(namespace)
	g := s.current()
	if g == nil {
		return false, nil
	}
	may := s.allowed(peers)
	if v.leads(g, peers) {
		if more, err = v.tendKey(ctx, s, g, may); err != nil {
			return more, err
		}
		s = v.space(namespace)
		g = s.current()
	}
	if !g.reaches(may) {
		return more, nil // nobody could open what is sealed to it
	}
	for name, secret := range s.secrets {
		old := s.keys[string(secret.Public)]
		if old == nil || old == g && secret.sides == 1 || !v.leads(old, peers) {
			continue
		}
		if err := v.reseal(ctx, s, name, old, g); err != nil {
			return more, err
		}
	}
	return more, v.dropKeys(ctx, s, g, peers)
}

// leads says whether this peer is the one to act for those that have a key: the
// first by id of those in reach.
func (v *Vault) leads(g *generation, peers []Peer) bool {
	self := v.cfg.Self.ID
	if len(g.wraps[self]) == 0 {
		return false
	}
	return !slices.ContainsFunc(peers, func(p Peer) bool {
		return p.ID < self && len(g.wraps[p.ID]) > 0 && p.Alive
	})
}

// tendKey gives the newest key to whoever lacks it, or makes another when
// somebody has it who may not any more; wait says that it is too early for that.
func (v *Vault) tendKey(ctx context.Context, s *space, g *generation, may []Peer) (wait bool, err error) {
	ids := map[string]bool{}
	lack := g.sides > 1
	for _, p := range may {
		ids[p.ID] = true
		lack = lack || len(g.wraps[p.ID]) == 0
	}
	stale := false
	for id := range g.wraps {
		stale = stale || !ids[id]
	}
	switch {
	case len(may) == 0:
		return false, nil // it stays with those that have it until there is another site
	case stale && time.Since(v.rotated[s.name]) < rotateEvery:
		return true, nil
	case stale:
		if _, err := v.makeKey(ctx, s, may); err != nil {
			return false, err
		}
		v.rotated[s.name] = time.Now()
	case lack:
		private, err := v.private(s.name, g)
		if err != nil {
			return false, err
		}
		return false, v.putKey(ctx, s, g, private, may)
	}
	return false, nil
}

// reseal seals the value that counts to the newest key, over all that stand. What
// was set meanwhile stands beside it, and counts.
func (v *Vault) reseal(ctx context.Context, s *space, name string, old, g *generation) error {
	private, err := v.private(s.name, old)
	if err != nil {
		return err
	}
	secret := s.secrets[name]
	value, err := openValue(private, s.name, name, secret.Sealed)
	if err != nil {
		v.cfg.Log.Warn("a secret can't be sealed to the newest key", "namespace", s.name, "secret", name, "by", secret.By, "err", err)
		return nil // whoever sealed it sealed nothing: others are not to wait for that
	}
	defer clear(value)
	if secret.sides > 1 {
		v.cfg.Log.Warn("a secret was set on two sides of a cut: the value that was set last counts, the other is gone",
			"namespace", s.name, "secret", name, "at", time.UnixMilli(secret.At).UTC(), "by", secret.By)
	}
	b := &body{Kind: kindSecret, Namespace: s.name, Name: name, Public: g.public, At: secret.At, By: secret.By}
	if b.Sealed, err = sealValue(g.public, s.name, name, value); err != nil {
		return err
	}
	over, ok := v.seen(b.key(), s)
	if !ok {
		return nil // another value was set since: the next round sees it
	}
	return v.putOver(ctx, b, over)
}

// seen is what stands under a key, if that is no more than was looked at.
func (v *Vault) seen(key string, s *space) (over []table.Dot, ok bool) {
	for _, r := range v.table.Siblings(key) {
		_, b, err := decode(r.Value)
		if err != nil || b.At > s.at[key] {
			return nil, false
		}
		over = append(over, r.Dot)
	}
	return over, len(over) > 0
}

// dropKeys removes what nothing is sealed to any more, but for the last few.
func (v *Vault) dropKeys(ctx context.Context, s *space, g *generation, peers []Peer) error {
	if len(s.keys) <= keysKept+1 || !v.leads(g, peers) {
		return nil
	}
	used := map[string]bool{string(g.public): true}
	for _, secret := range s.secrets {
		used[string(secret.Public)] = true
	}
	var old []*generation
	for public, k := range s.keys {
		if !used[public] {
			old = append(old, k)
		}
	}
	slices.SortFunc(old, func(a, b *generation) int { return int(a.number) - int(b.number) })
	for _, k := range old[:max(0, len(old)-keysKept)] {
		b := body{Kind: kindKey, Namespace: s.name, Public: k.public}
		if _, err := v.table.Remove(ctx, b.key()); err != nil {
			return err
		}
	}
	return nil
}
