package secrets

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ecdh"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hansa-mesh/hansa/gossip/table"
	"github.com/hansa-mesh/hansa/placement"
)

// Table is the name of the replicated table.
const Table = "secrets"

// Peer is one that was let in and not shut out.
type Peer struct {
	ID, Site string
	Key      *ecdh.PublicKey // that things are sealed to for it
	Alive    bool            // it is in reach, as this peer sees it
}

// Config is what a Vault is made with.
type Config struct {
	Self Peer
	Own  *ecdh.PrivateKey // of Self
	Sign func(body []byte) []byte
	// Verify says whether a peer that was let in signed a record.
	Verify func(s placement.Signed) error
	// Peers are all that belong to the mesh now.
	Peers func() []Peer
	// Sites is told of each namespace whose secrets are not for every site, and
	// when that changes. It must not block; nil for nobody.
	Sites func(namespace string, s Sites)
	Log   *slog.Logger
}

// Sites are those that may hold the key of a namespace.
type Sites struct {
	All  bool
	List []string // sorted
}

// Allow says whether a site is among them.
func (s Sites) Allow(site string) bool { return s.All || slices.Contains(s.List, site) }

// Secret is what may be told of one.
type Secret struct {
	Name string
	At   time.Time // when it was set
	By   string    // id of the peer that took it
	// Key is the number of the key that it is sealed to, and Current whether
	// that is the namespace's newest.
	Key     uint64
	Current bool
	// Sides is how many values stand, more than 1 after it was set on two sides
	// of a cut: the one set last counts.
	Sides int
}

// Vault reads, writes and tends the secrets of a mesh.
type Vault struct {
	cfg   Config
	table *table.Replica
	poke  chan struct{}

	writing sync.Mutex           // held while something is written after it was looked up
	rotated map[string]time.Time // when this peer made another key of a namespace; likewise
	rested  string               // of the table and the peers, when there was nothing to do; only tend

	mu      sync.Mutex                  // guards what follows
	keys    map[string]*ecdh.PrivateKey // opened, by public key
	told    map[string]Sites
	changed chan struct{} // closed when the table changes
}

// New makes a Vault; Open gives it its table.
func New(cfg Config) *Vault {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Vault{cfg: cfg, poke: make(chan struct{}, 1), keys: map[string]*ecdh.PrivateKey{}, told: map[string]Sites{},
		rotated: map[string]time.Time{}, changed: make(chan struct{})}
}

// TableConfig is the table that Open wants.
func (v *Vault) TableConfig() table.Config {
	return table.Config{Name: Table, Check: v.Check, ValueMax: recordMax, KeysMax: tableKeysMax, BytesMax: tableBytesMax}
}

// Open takes the table. It is called once, before all others.
func (v *Vault) Open(t *table.Replica) {
	v.table = t
	t.OnChange(func([]string) {
		v.TellSites()
		v.mu.Lock()
		close(v.changed)
		v.changed = make(chan struct{})
		v.mu.Unlock()
		v.Poke()
	})
}

// Poke says that who belongs to the mesh, or who is in reach, has changed.
func (v *Vault) Poke() {
	select {
	case v.poke <- struct{}{}:
	default:
	}
}

// Changed is closed at the next change of the table.
func (v *Vault) Changed() <-chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.changed
}

// generation is one key of a namespace.
type generation struct {
	number uint64
	public []byte
	wraps  map[string][][]byte // by peer; more than one after a cut
	sides  int
	at     int64
}

// stands is the value of a secret that counts, and how many there are.
type stands struct {
	*body
	sides int
}

// space is all that the table says of a namespace.
type space struct {
	name    string
	sites   Sites
	listed  bool // somebody said which sites
	keys    map[string]*generation
	secrets map[string]*stands
	at      map[string]int64 // by key of the table, the latest time seen
}

// aheadMax is how far a clock may be ahead before what it says comes last.
const aheadMax = time.Minute

// space reads a namespace.
func (v *Vault) space(namespace string) *space {
	return v.read(namespace, kindKey+"/"+namespace+"/", kindSecret+"/"+namespace+"/")
}

// spaceOf reads of a namespace what one secret needs, since all of them may be
// much.
func (v *Vault) spaceOf(namespace, name string) *space {
	b := body{Kind: kindSecret, Namespace: namespace, Name: name}
	return v.read(namespace, kindKey+"/"+namespace+"/", b.key())
}

// read takes the sites of a namespace, and what is under keys that begin so; one
// that does not end in a slash is a whole key.
func (v *Vault) read(namespace string, prefixes ...string) *space {
	s := &space{name: namespace, sites: Sites{All: true}, keys: map[string]*generation{}, secrets: map[string]*stands{}, at: map[string]int64{}}
	limit := time.Now().Add(aheadMax).UnixMilli()
	each := func(key string) {
		for _, r := range v.table.Siblings(key) {
			signed, b, err := decode(r.Value)
			if err != nil || b.key() != key {
				v.cfg.Log.Error("a record of the table of secrets does not count", "key", key, "by", signed.By, "err", err)
				continue
			}
			s.at[key] = max(s.at[key], b.At)
			s.take(b, limit)
		}
	}
	each(kindSites + "/" + namespace)
	for _, prefix := range prefixes {
		if strings.HasSuffix(prefix, "/") {
			v.keysOf(prefix, each)
		} else {
			each(prefix)
		}
	}
	return s
}

// keysOf calls f for each key with a prefix, outside of the table's lock.
func (v *Vault) keysOf(prefix string, f func(key string)) {
	var keys []string
	v.table.Range(prefix, func(key string, _ []byte) bool {
		keys = append(keys, strings.Clone(key))
		return true
	})
	for _, key := range keys {
		f(key)
	}
}

// sealedAnew says whether two records are one value that was sealed twice, and only
// the first to a key that is known: whoever made the other key may have been shut out
// of the mesh before anybody heard of it.
func (s *space) sealedAnew(b, other *body) bool {
	return b.At == other.At && b.By == other.By && s.keys[string(b.Public)] != nil && s.keys[string(other.Public)] == nil
}

func (s *space) take(b *body, limit int64) {
	switch b.Kind {
	case kindSites:
		s.restrict(Sites{b.All, b.Sites})
	case kindKey:
		g := s.keys[string(b.Public)]
		if g == nil {
			g = &generation{number: b.Number, public: b.Public, wraps: map[string][][]byte{}}
			s.keys[string(b.Public)] = g
		}
		g.number, g.at, g.sides = max(g.number, b.Number), max(g.at, b.At), g.sides+1
		for id, w := range b.Wraps {
			g.wraps[id] = append(g.wraps[id], w)
		}
	case kindSecret:
		old := s.secrets[b.Name]
		if old == nil {
			s.secrets[b.Name] = &stands{b, 1}
			return
		}
		old.sides++
		if s.sealedAnew(b, old.body) || !s.sealedAnew(old.body, b) && later(b, old.body, limit) {
			old.body = b
		}
	}
}

// restrict takes a list of sites: of several that stand, a site must be on all.
func (s *space) restrict(more Sites) {
	switch {
	case s.sites.All:
		s.sites = Sites{more.All, slices.Clone(more.List)}
		slices.Sort(s.sites.List)
	case !more.All:
		s.sites.List = slices.DeleteFunc(s.sites.List, func(site string) bool { return !slices.Contains(more.List, site) })
	}
	s.listed = true
}

// later says whether a value was set after another, the same at every peer; one
// of a clock far ahead was not.
func later(a, b *body, limit int64) bool {
	if ahead := a.At > limit; ahead != (b.At > limit) {
		return !ahead
	}
	return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.By, b.By), bytes.Compare(a.Sealed, b.Sealed)) > 0
}

// current is the newest key, or nil.
func (s *space) current() *generation {
	var best *generation
	for _, g := range s.keys {
		if best == nil || cmp.Or(cmp.Compare(g.number, best.number), bytes.Compare(g.public, best.public)) > 0 {
			best = g
		}
	}
	return best
}

// allowed are the peers that may have the namespace's key.
func (s *space) allowed(peers []Peer) []Peer {
	return slices.DeleteFunc(slices.Clone(peers), func(p Peer) bool { return !s.sites.Allow(p.Site) })
}

// reaches says whether any of these peers can open a key.
func (g *generation) reaches(peers []Peer) bool {
	return slices.ContainsFunc(peers, func(p Peer) bool { return len(g.wraps[p.ID]) > 0 })
}

// keyOf is a private key by its public half. A key's record has a wrap for each
// peer, so that one which was opened before is not read again.
func (v *Vault) keyOf(namespace string, public []byte) (*ecdh.PrivateKey, error) {
	v.mu.Lock()
	private := v.keys[string(public)]
	v.mu.Unlock()
	if private != nil {
		return private, nil
	}
	b := body{Kind: kindKey, Namespace: namespace, Public: public}
	g := v.read(namespace, b.key()).keys[string(public)]
	if g == nil {
		return nil, errors.New("the key that it is sealed to is gone: set it again")
	}
	private, err := v.private(namespace, g)
	if err != nil {
		return nil, fmt.Errorf("key %d of the namespace: %w", g.number, err)
	}
	return private, nil
}

// private opens a key with this peer's wrap of it.
func (v *Vault) private(namespace string, g *generation) (*ecdh.PrivateKey, error) {
	v.mu.Lock()
	private := v.keys[string(g.public)]
	v.mu.Unlock()
	if private != nil {
		return private, nil
	}
	err := error(errNoWrap)
	for _, w := range g.wraps[v.cfg.Self.ID] {
		if private, err = unwrap(v.cfg.Own, namespace, v.cfg.Self.ID, g.public, w); err == nil {
			v.mu.Lock()
			v.keys[string(g.public)] = private
			v.mu.Unlock()
			return private, nil
		}
	}
	return nil, err
}

var errNoWrap = errors.New("this peer has not been given it yet: a peer that has it must be in reach")

// Get is the value of a secret. Its errors say what to do and hold no value;
// that of a secret that is not there wraps placement.ErrNotFound, and that of one
// that may not be at this site placement.ErrConflict.
func (v *Vault) Get(_ context.Context, namespace, name string) ([]byte, error) {
	b := body{Kind: kindSecret, Namespace: namespace, Name: name}
	s := v.read(namespace, b.key())
	secret := s.secrets[name]
	what := fmt.Sprintf("secret %s of namespace %s", clip(name), clip(namespace))
	switch {
	case secret == nil:
		return nil, missing(namespace, name)
	case !s.sites.Allow(v.cfg.Self.Site):
		return nil, &notHere{placement.SecretsNotFor(namespace, placement.SiteID(v.cfg.Self.Site))}
	}
	private, err := v.keyOf(namespace, secret.Public)
	if err != nil {
		return nil, fmt.Errorf("%s can't be opened: %w", what, err)
	}
	value, err := openValue(private, namespace, name, secret.Sealed)
	if err != nil {
		return nil, fmt.Errorf("%s can't be opened: %w: set it again", what, err)
	}
	return value, nil
}

// Missing is the error of Get when there is no such secret, as far as this peer
// knows, or nil.
func (v *Vault) Missing(namespace, name string) error {
	b := body{Kind: kindSecret, Namespace: namespace, Name: name}
	if len(v.table.Siblings(b.key())) > 0 {
		return nil
	}
	return missing(namespace, name)
}

func missing(namespace, name string) error {
	return fmt.Errorf("secret %s of namespace %s %w: hansa secret set %s%s", clip(name), clip(namespace), errNone, clip(name), inNamespace(namespace))
}

// inNamespace is the flag that a command needs.
func inNamespace(namespace string) string {
	if namespace == placement.DefaultNamespace {
		return ""
	}
	return " -n " + clip(namespace)
}

// notHere is why a secret is not for this peer's site.
type notHere struct{ why string }

func (e *notHere) Error() string        { return e.why }
func (e *notHere) Is(target error) bool { return target == placement.ErrConflict }

// noSuch reads as a sentence goes on.
type noSuch struct{}

func (noSuch) Error() string        { return "does not exist" }
func (noSuch) Is(target error) bool { return target == placement.ErrNotFound }

var errNone error = noSuch{}

// List is the secrets of a namespace by name, without their values.
func (v *Vault) List(namespace string) []Secret {
	s := v.space(namespace)
	current := s.current()
	out := make([]Secret, 0, len(s.secrets))
	for name, b := range s.secrets {
		x := Secret{Name: name, At: time.UnixMilli(b.At).UTC(), By: b.By, Sides: b.sides}
		if g := s.keys[string(b.Public)]; g != nil {
			x.Key, x.Current = g.number, g == current
		}
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, b Secret) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// SitesOf is which sites may hold the secrets of a namespace.
func (v *Vault) SitesOf(namespace string) Sites { return v.read(namespace).sites }

// namespaces are those that the table says anything of, sorted.
func (v *Vault) namespaces() []string {
	var all []string
	v.keysOf("", func(key string) {
		if parts := strings.SplitN(key, "/", 3); len(parts) > 1 && IsName(parts[1]) {
			all = append(all, parts[1])
		}
	})
	slices.Sort(all)
	return slices.Compact(all)
}

// TellSites calls Config.Sites for each namespace whose sites are others than it
// was told.
func (v *Vault) TellSites() {
	if v.cfg.Sites == nil {
		return
	}
	v.keysOf(kindSites+"/", func(key string) {
		namespace := strings.TrimPrefix(key, kindSites+"/")
		now := v.SitesOf(namespace)
		v.mu.Lock()
		old, ok := v.told[namespace]
		same := ok && old.All == now.All && slices.Equal(old.List, now.List)
		v.told[namespace] = now
		v.mu.Unlock()
		if !same {
			v.cfg.Sites(namespace, now)
		}
	})
}

// Describe writes what there is, a line for each namespace.
func (v *Vault) Describe(w io.Writer) error {
	for _, namespace := range v.namespaces() {
		s := v.space(namespace)
		sites, number, wraps, has := "all", uint64(0), 0, false
		if !s.sites.All {
			sites = strings.Join(s.sites.List, ",")
		}
		if g := s.current(); g != nil {
			_, err := v.private(namespace, g)
			number, wraps, has = g.number, len(g.wraps), err == nil
		}
		if _, err := fmt.Fprintf(w, "secrets %s: %d, key %d of %d for %d peers, has it %t, sites %s\n",
			namespace, len(s.secrets), number, len(s.keys), wraps, has, sites); err != nil {
			return err
		}
	}
	return nil
}
