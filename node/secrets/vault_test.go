package secrets

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/gossip/table"
	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/transport/identity"
)

// mesh is vaults whose tables exchange what they have when that is asked for.
type mesh struct {
	t     *testing.T
	peers []*testPeer
	out   map[string]bool // forgotten
	dead  map[string]bool
	more  []Peer // that have no vault
}

type testPeer struct {
	*Vault
	id    *identity.Identity
	site  string
	table *table.Replica

	mu      sync.Mutex // guards what follows
	sites   map[string]Sites
	rumours [][]byte
}

// memory is a log that forgets.
type memory struct{}

func (memory) Load(func(string, []byte) error) error      { return nil }
func (memory) Apply(context.Context, []table.Write) error { return nil }

func newMesh(t *testing.T, sites ...string) *mesh {
	m := &mesh{t: t, out: map[string]bool{}, dead: map[string]bool{}}
	for _, site := range sites {
		m.add(site)
	}
	slices.SortFunc(m.peers, func(a, b *testPeer) int { return strings.Compare(a.site, b.site) })
	return m
}

func (m *mesh) add(site string) *testPeer {
	m.t.Helper()
	id, err := identity.New()
	if err != nil {
		m.t.Fatal(err)
	}
	p := &testPeer{id: id, site: site, sites: map[string]Sites{}}
	own := id.SealingKey()
	p.Vault = New(Config{
		Self: Peer{ID: id.ID(), Site: site, Key: own.PublicKey()}, Own: own,
		Sign:   func(body []byte) []byte { return id.SignFor(Context, body) },
		Verify: m.verify, Peers: m.members,
		Sites: func(ns string, s Sites) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.sites[ns] = s
		},
	})
	cfg := p.TableConfig()
	cfg.Self, cfg.Incarnation = id.ID(), 1
	if p.table, err = table.Open(table.ReplicaConfig{Table: cfg, Log: memory{}, Publish: func(r []byte) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.rumours = append(p.rumours, r)
	}}); err != nil {
		m.t.Fatal(err)
	}
	p.Open(p.table)
	m.peers = append(m.peers, p)
	return p
}

func (m *mesh) verify(s placement.Signed) error {
	for _, p := range m.peers {
		if p.id.ID() == string(s.By) && identity.VerifyFor(p.id.Public(), Context, s.Body, s.Sig) {
			return nil
		}
	}
	return errors.New("not signed by one of them")
}

func (m *mesh) members() []Peer {
	all := slices.Clone(m.more)
	for _, p := range m.peers {
		if !m.out[p.id.ID()] {
			all = append(all, Peer{ID: p.id.ID(), Site: p.site, Key: p.id.SealingKey().PublicKey(), Alive: !m.dead[p.id.ID()]})
		}
	}
	return all
}

// spread carries everything between these peers until nothing is new.
func (m *mesh) spread(among ...*testPeer) {
	m.t.Helper()
	for _, from := range among {
		from.mu.Lock()
		rumours := slices.Clone(from.rumours)
		from.mu.Unlock()
		for _, to := range among {
			if to == from {
				continue
			}
			for _, r := range rumours {
				if err := to.table.Apply(m.t.Context(), r); err != nil {
					m.t.Fatal(err)
				}
			}
		}
	}
}

// settle lets these peers tend and exchange until nothing changes.
func (m *mesh) settle(among ...*testPeer) {
	m.t.Helper()
	for range 20 {
		before := m.hash(among)
		m.spread(among...)
		for _, p := range among {
			p.tend(m.t.Context())
		}
		m.spread(among...)
		if m.hash(among) == before {
			return
		}
	}
	m.t.Fatal("they do not come to rest")
}

func (m *mesh) hash(among []*testPeer) string {
	var b strings.Builder
	for _, p := range among {
		fmt.Fprintf(&b, "%x ", p.table.Hash())
	}
	return b.String()
}

func (m *mesh) set(p *testPeer, name, value string) {
	m.t.Helper()
	dot, err := p.Set(m.t.Context(), "default", name, []byte(value))
	if err != nil || !p.Holds(m.t.Context(), dot) {
		m.t.Fatal(dot, err)
	}
}

// reads demands that a peer reads a value or, with "", that it reads none.
func (m *mesh) reads(p *testPeer, name, want string) {
	m.t.Helper()
	got, err := p.Get(m.t.Context(), "default", name)
	switch {
	case want == "" && err == nil:
		m.t.Errorf("%s reads %s, and must not", p.site, name)
	case want != "" && string(got) != want:
		m.t.Errorf("%s reads %q, %v of %s; want %q", p.site, got, err, name, want)
	}
}

func TestSetAndGet(t *testing.T) {
	m := newMesh(t, "a", "b", "c")
	a, b, c := m.peers[0], m.peers[1], m.peers[2]
	m.set(a, "db-password", "one")
	m.settle(m.peers...)
	for _, p := range m.peers {
		m.reads(p, "db-password", "one")
	}
	m.set(c, "db-password", "two")
	m.set(c, "empty-end", "x\x00\n")
	m.settle(m.peers...)
	for _, p := range m.peers {
		m.reads(p, "db-password", "two")
		m.reads(p, "empty-end", "x\x00\n")
	}
	if list := a.List("default"); len(list) != 2 || list[0].Name != "db-password" || list[0].By != c.id.ID() || list[0].Key != 1 || !list[0].Current || list[0].Sides != 1 {
		t.Errorf("%+v", list)
	}
	if err := b.Delete(t.Context(), "default", "db-password"); err != nil {
		t.Fatal(err)
	}
	if err := b.Delete(t.Context(), "default", "db-password"); !errors.Is(err, placement.ErrNotFound) {
		t.Errorf("deleted twice: %v", err)
	}
	m.settle(m.peers...)
	_, err := a.Get(t.Context(), "default", "db-password")
	if want := "secret db-password of namespace default does not exist: hansa secret set db-password"; err == nil || err.Error() != want || !errors.Is(err, placement.ErrNotFound) {
		t.Errorf("%v; want %s", err, want)
	}
	if _, err := a.Get(t.Context(), "other", "x"); err == nil || !strings.HasSuffix(err.Error(), "set x -n other") {
		t.Errorf("%v", err)
	}
}

func TestRefusedValues(t *testing.T) {
	m := newMesh(t, "a")
	a := m.peers[0]
	for _, c := range []struct {
		ns, name string
		value    []byte
	}{
		{"default", "", []byte("x")}, {"default", "A", []byte("x")}, {"default", "a/b", []byte("x")}, {"default", "-a", []byte("x")},
		{"", "a", []byte("x")}, {"default", strings.Repeat("a", 64), []byte("x")}, {"default", "a", nil},
		{"default", "a", make([]byte, ValueBytesMax+1)},
	} {
		if _, err := a.Set(t.Context(), c.ns, c.name, c.value); !errors.Is(err, placement.ErrInvalid) {
			t.Errorf("%s/%s of %d bytes: %v", c.ns, c.name, len(c.value), err)
		}
	}
	largest := bytes.Repeat([]byte("x"), ValueBytesMax)
	m.set(a, "largest", string(largest))
	m.reads(a, "largest", string(largest))
	for i := range EachMax - 1 {
		m.set(a, fmt.Sprintf("s%d", i), "v")
	}
	if _, err := a.Set(t.Context(), "default", "one-more", []byte("x")); !errors.Is(err, placement.ErrLimit) {
		t.Errorf("one more than %d: %v", EachMax, err)
	}
	m.set(a, "s7", "again") // what is there may still be changed
	for _, s := range []Sites{{}, {List: []string{"nowhere"}}, {All: true, List: []string{"a"}}, {List: make([]string, SitesMax+1)}} {
		if err := a.SetSites(t.Context(), "default", s); !errors.Is(err, placement.ErrInvalid) {
			t.Errorf("sites %d: %v", len(s.List), err)
		}
	}
}

func TestSites(t *testing.T) {
	m := newMesh(t, "a", "b", "c")
	a, b, c := m.peers[0], m.peers[1], m.peers[2]
	if err := a.SetSites(t.Context(), "default", Sites{List: []string{"b", "a", "b"}}); err != nil {
		t.Fatal(err)
	}
	m.settle(m.peers...)
	m.set(c, "x", "by one that may not have it") // the public half is enough
	m.settle(m.peers...)
	m.reads(a, "x", "by one that may not have it")
	m.reads(b, "x", "by one that may not have it")
	m.reads(c, "x", "")
	if _, err := c.Get(t.Context(), "default", "x"); err == nil || err.Error() != "the secrets of namespace default are not for site c" {
		t.Error(err)
	}
	if g := c.space("default").current(); len(g.wraps) != 2 || len(g.wraps[c.id.ID()]) != 0 {
		t.Errorf("wraps for %v", slices.Collect(maps.Keys(g.wraps)))
	}
	for _, p := range m.peers {
		if s := p.sites["default"]; s.All || !slices.Equal(s.List, []string{"a", "b"}) {
			t.Errorf("%s was told %+v", p.site, s)
		}
	}

	// A site less: a key without it, and all sealed to that.
	if err := b.SetSites(t.Context(), "default", Sites{List: []string{"b"}}); err != nil {
		t.Fatal(err)
	}
	m.settle(m.peers...)
	g := b.space("default").current()
	if g.number != 2 || len(g.wraps) != 1 || len(g.wraps[b.id.ID()]) != 1 {
		t.Errorf("key %d for %d peers", g.number, len(g.wraps))
	}
	m.reads(b, "x", "by one that may not have it")
	m.reads(a, "x", "")
	if s := a.space("default").secrets["x"]; !bytes.Equal(s.Public, g.public) || s.By != c.id.ID() {
		t.Error("the value was not sealed to the new key, or is another's now")
	}
	if _, err := a.private("default", a.space("default").current()); err == nil {
		t.Error("a opens the key that was made without it")
	}

	// And every site.
	if err := c.SetSites(t.Context(), "default", Sites{All: true}); err != nil {
		t.Fatal(err)
	}
	m.settle(m.peers...)
	for _, p := range m.peers {
		m.reads(p, "x", "by one that may not have it")
	}
}

func TestForgottenPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, "a", "b", "c")
		a, b, c := m.peers[0], m.peers[1], m.peers[2]
		m.set(a, "x", "old")
		m.settle(m.peers...)
		old := a.space("default").current()
		m.out[c.id.ID()] = true
		m.settle(a, b)
		g := a.space("default").current()
		if g.number != 2 || len(g.wraps) != 2 || len(g.wraps[c.id.ID()]) != 0 {
			t.Fatalf("key %d for %d peers", g.number, len(g.wraps))
		}
		m.set(b, "x", "new")
		m.settle(a, b)
		m.spread(a, b, c) // what is on the way reaches it all the same
		if _, err := c.private("default", g); err == nil {
			t.Error("a forgotten peer opens the new key")
		}
		if _, err := c.private("default", old); err != nil {
			t.Error("the test's forgotten peer can't open what it had:", err)
		}
		for _, secret := range c.space("default").secrets {
			if !bytes.Equal(secret.Public, g.public) {
				t.Error("a secret is sealed to the key that the forgotten peer has")
			}
		}
		m.reads(a, "x", "new")
		// Often, one after another: the old keys do not pile up.
		for range keysKept + 4 {
			extra := m.add("d")
			m.settle(slices.DeleteFunc(slices.Clone(m.peers), func(p *testPeer) bool { return m.out[p.id.ID()] })...)
			m.reads(extra, "x", "new")
			m.out[extra.id.ID()] = true
			time.Sleep(rotateEvery) // in virtual time
			m.settle(a, b)
		}
		if n := len(a.space("default").keys); n > keysKept+1 {
			t.Errorf("%d keys", n)
		}
		m.reads(b, "x", "new")
	})
}

func TestNewcomerAndLostHolders(t *testing.T) {
	m := newMesh(t, "a", "b")
	a, b := m.peers[0], m.peers[1]
	m.set(a, "x", "v")
	m.settle(a, b)
	c := m.add("c")
	m.dead[a.id.ID()] = true // whoever is first by id, the other acts
	m.settle(b, c)
	m.reads(c, "x", "v")
	// All that had the key are gone for good: a value can be set again.
	m.out[a.id.ID()], m.out[b.id.ID()], m.out[c.id.ID()] = true, true, true
	d := m.add("d")
	m.spread(c, d)
	m.settle(d)
	if _, err := d.Get(t.Context(), "default", "x"); err == nil || !strings.Contains(err.Error(), "key 1 of the namespace") {
		t.Error(err)
	}
	m.set(d, "x", "again")
	m.reads(d, "x", "again")
}

func TestCut(t *testing.T) { synctest.Test(t, testCut) }

func testCut(t *testing.T) {
	m := newMesh(t, "a", "b", "c", "d")
	left, right := m.peers[:2], m.peers[2:]
	m.set(left[0], "x", "left")
	m.set(left[0], "only-left", "l")
	m.settle(left...)
	time.Sleep(time.Second) // in virtual time
	m.set(right[0], "x", "right, later")
	m.set(right[1], "only-right", "r")
	m.settle(right...)
	m.reads(left[1], "x", "left")
	if n := len(left[0].space("default").keys); n != 1 {
		t.Fatalf("%d keys on one side", n)
	}
	m.spread(m.peers...)
	if list := left[0].List("default"); len(list) != 3 || list[2].Name != "x" || list[2].Sides != 2 {
		t.Errorf("two values are not told: %+v", list)
	}
	m.settle(m.peers...)
	for _, p := range m.peers {
		m.reads(p, "x", "right, later")
		m.reads(p, "only-left", "l")
		m.reads(p, "only-right", "r")
		for _, s := range p.List("default") {
			if s.Sides != 1 || !s.Current {
				t.Errorf("%s has %+v", p.site, s)
			}
		}
	}
	// Sites said on both sides: only those on both lists.
	if err := errors.Join(left[0].SetSites(t.Context(), "default", Sites{List: []string{"a", "b"}}),
		right[0].SetSites(t.Context(), "default", Sites{List: []string{"b", "c"}})); err != nil {
		t.Fatal(err)
	}
	m.settle(m.peers...)
	for _, p := range m.peers {
		want := ""
		if p.site == "b" {
			want = "r"
		}
		m.reads(p, "only-right", want)
	}
}

// TestNoSiteLeft: with no peer that may have them, secrets stay with those that
// had them, unread, until there is one.
func TestNoSiteLeft(t *testing.T) {
	m := newMesh(t, "a", "b")
	a, b := m.peers[0], m.peers[1]
	m.set(a, "x", "v")
	m.settle(a, b)
	if err := errors.Join(a.SetSites(t.Context(), "default", Sites{List: []string{"a"}}),
		b.SetSites(t.Context(), "default", Sites{List: []string{"b"}})); err != nil {
		t.Fatal(err)
	}
	m.settle(a, b)
	m.reads(a, "x", "")
	m.reads(b, "x", "")
	if _, err := a.Set(t.Context(), "default", "y", []byte("v")); !errors.Is(err, placement.ErrConflict) {
		t.Errorf("%v; want that no peer may hold it", err)
	}
	if err := a.SetSites(t.Context(), "default", Sites{List: []string{"b"}}); err != nil {
		t.Fatal(err)
	}
	m.settle(a, b)
	m.reads(b, "x", "v")
}

func TestDescribeTellsNoValue(t *testing.T) {
	m := newMesh(t, "a")
	m.set(m.peers[0], "x", "canary-value")
	var b strings.Builder
	if err := m.peers[0].Describe(&b); err != nil {
		t.Fatal(err)
	}
	if got, want := b.String(), "secrets default: 1, key 1 of 1 for 1 peers, has it true, sites all\n"; got != want {
		t.Errorf("%q; want %q", got, want)
	}
	m.peers[0].table.Range("", func(key string, raw []byte) bool {
		if bytes.Contains(raw, []byte("canary")) {
			t.Errorf("%s holds the value", key)
		}
		return true
	})
}

// A value that somebody sealed to a key that nobody else heard of is read, and sealed
// anew, from the record whose key there is; in whichever order they come.
func TestSealedToAKeyThatIsUnknown(t *testing.T) {
	known := &body{Kind: kindSecret, Name: "db", Public: []byte("known"), At: 7, By: "a", Sealed: []byte("x")}
	lost := &body{Kind: kindSecret, Name: "db", Public: []byte("lost"), At: 7, By: "a", Sealed: []byte("y")}
	other := &body{Kind: kindSecret, Name: "db", Public: []byte("lost"), At: 8, By: "b", Sealed: []byte("z")}
	for _, c := range []struct {
		records []*body
		want    *body
	}{{[]*body{known, lost}, known}, {[]*body{lost, known}, known}, {[]*body{known, other}, other}, {[]*body{other, known}, other}} {
		s := &space{keys: map[string]*generation{"known": {}}, secrets: map[string]*stands{}}
		for _, b := range c.records {
			s.take(b, 100)
		}
		if got := s.secrets["db"]; got.body != c.want || got.sides != 2 {
			t.Errorf("of %s and %s counts %s", c.records[0].Sealed, c.records[1].Sealed, got.Sealed)
		}
	}
}
