package secrets

import (
	"bytes"
	"crypto/ecdh"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/hansa-mesh/hansa/gossip/table"
	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/transport/identity"
)

func TestSealing(t *testing.T) {
	private, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	public := private.PublicKey().Bytes()
	other, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	sizes := map[int]bool{}
	for _, n := range []int{0, 1, 8, padTo - 4, padTo - 3, ValueBytesMax} {
		value := bytes.Repeat([]byte{7}, n)
		sealed, err := sealValue(public, "default", "x", value)
		if err != nil {
			t.Fatal(err)
		}
		if len(sealed) > sealedMax {
			t.Errorf("%d bytes are sealed in %d", n, len(sealed))
		}
		sizes[len(sealed)] = true
		got, err := openValue(private, "default", "x", sealed)
		if err != nil || !bytes.Equal(got, value) {
			t.Errorf("%d bytes: %d come back, %v", n, len(got), err)
		}
		for name, open := range map[string]func() ([]byte, error){
			"another name":      func() ([]byte, error) { return openValue(private, "default", "y", sealed) },
			"another namespace": func() ([]byte, error) { return openValue(private, "other", "x", sealed) },
			"another key":       func() ([]byte, error) { return openValue(other, "default", "x", sealed) },
			"cut short":         func() ([]byte, error) { return openValue(private, "default", "x", sealed[:len(sealed)-1]) },
			"nothing":           func() ([]byte, error) { return openValue(private, "default", "x", nil) },
			"a flipped bit": func() ([]byte, error) {
				bad := bytes.Clone(sealed)
				bad[len(bad)/2] ^= 1
				return openValue(private, "default", "x", bad)
			},
		} {
			if _, err := open(); !errors.Is(err, errOpen) {
				t.Errorf("%s: %v; want that it does not open", name, err)
			}
		}
	}
	if len(sizes) != 3 {
		t.Errorf("lengths of values show: %v", sizes)
	}
}

func TestWraps(t *testing.T) {
	id, err := identity.New()
	if err != nil {
		t.Fatal(err)
	}
	own := id.SealingKey()
	private, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	public := private.PublicKey().Bytes()
	w, err := wrap(private, "default", Peer{ID: id.ID(), Key: own.PublicKey()})
	if err != nil || len(w) > wrapBytesMax {
		t.Fatal(len(w), err)
	}
	if got, err := unwrap(own, "default", id.ID(), public, w); err != nil || !got.Equal(private) {
		t.Fatal(err)
	}
	other, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unwrap(own, "default", id.ID(), other.PublicKey().Bytes(), w); err == nil {
		t.Error("it is taken for the wrap of another key")
	}
	if _, err := unwrap(own, "shop", id.ID(), public, w); err == nil {
		t.Error("it is taken for that of another namespace")
	}
	// Whoever seals another private key under this public one is found out.
	lie, err := seal(own.PublicKey(), info(purposeWrap, "default", string(public), id.ID()), other.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unwrap(own, "default", id.ID(), public, lie); err == nil {
		t.Error("a wrap with another key inside is taken")
	}
}

// TestHostileRecords: what an admitted peer, or another, could write.
func TestHostileRecords(t *testing.T) {
	m := newMesh(t, "a", "b")
	a, b := m.peers[0], m.peers[1]
	stranger := newMesh(t, "x").peers[0]
	public := bytes.Repeat([]byte{9}, keyBytes)
	good := body{Kind: kindSecret, Namespace: "default", Name: "x", Public: public, Sealed: []byte("sealed"), By: b.id.ID(), At: 5}
	key := body{Kind: kindKey, Namespace: "default", Number: 1, Public: public, Wraps: map[string][]byte{b.id.ID(): []byte("w")}}
	sites := body{Kind: kindSites, Namespace: "default", Sites: []string{"a"}}
	for _, ok := range []body{good, key, sites} {
		if err := a.Check(ok.key(), signed(t, b, ok)); err != nil {
			t.Fatalf("%s: %v", ok.Kind, err)
		}
	}
	change := func(b body, f func(*body)) body { f(&b); return b }
	for name, bad := range map[string]body{
		"no kind":          change(good, func(b *body) { b.Kind = "" }),
		"namespace":        change(good, func(b *body) { b.Namespace = "a/b" }),
		"name":             change(good, func(b *body) { b.Name = "../x" }),
		"no name":          change(good, func(b *body) { b.Name = "" }),
		"short key":        change(good, func(b *body) { b.Public = public[:31] }),
		"nothing sealed":   change(good, func(b *body) { b.Sealed = nil }),
		"too much sealed":  change(good, func(b *body) { b.Sealed = make([]byte, sealedMax+1) }),
		"by nobody":        change(good, func(b *body) { b.By = strings.Repeat("A", 26) }),
		"time":             change(good, func(b *body) { b.At = math.MaxInt64 }),
		"time before 1970": change(good, func(b *body) { b.At = -1 }),
		"number 0":         change(key, func(b *body) { b.Number = 0 }),
		"number":           change(key, func(b *body) { b.Number = math.MaxUint64 }),
		"wrap for nobody":  change(key, func(b *body) { b.Wraps = map[string][]byte{"x": []byte("w")} }),
		"empty wrap":       change(key, func(x *body) { x.Wraps = map[string][]byte{b.id.ID(): nil} }),
		"large wrap":       change(key, func(x *body) { x.Wraps = map[string][]byte{b.id.ID(): make([]byte, wrapBytesMax+1)} }),
		"many sites":       change(sites, func(b *body) { b.Sites = make([]string, SitesMax+1) }),
		"all and some":     change(sites, func(b *body) { b.All = true }),
		"empty site":       change(sites, func(b *body) { b.Sites = []string{""} }),
		"long site":        change(sites, func(b *body) { b.Sites = []string{strings.Repeat("s", siteMax+1)} }),
	} {
		if err := a.Check(bad.key(), signed(t, b, bad)); err == nil {
			t.Errorf("%s: it is taken", name)
		}
	}
	raw := signed(t, b, good)
	for name, c := range map[string]struct {
		key string
		raw []byte
	}{
		"under another name":      {"secret/default/y", raw},
		"under another namespace": {"secret/shop/x", raw},
		"as another kind":         {"sites/default", raw},
		"of a stranger":           {good.key(), signed(t, stranger, good)},
		"in another's name":       {good.key(), forged(t, b, a.id.ID(), good)},
		"changed":                 {good.key(), bytes.Replace(raw, []byte("sealed"), []byte("soaked"), 2)},
		"for another purpose":     {good.key(), signedFor(t, b, "hansa record 1", good)},
		"nothing":                 {good.key(), nil},
		"too large":               {good.key(), make([]byte, recordMax+1)},
		"more after it":           {good.key(), append(bytes.Clone(raw), 0)},
	} {
		if err := a.Check(c.key, c.raw); err == nil {
			t.Errorf("%s: it is taken", name)
		}
	}
}

func signed(t *testing.T, p *testPeer, b body) []byte { return signedFor(t, p, Context, b) }

func signedFor(t *testing.T, p *testPeer, context string, b body) []byte {
	return envelope(t, p, p.id.ID(), context, b)
}

func forged(t *testing.T, p *testPeer, by string, b body) []byte {
	return envelope(t, p, by, Context, b)
}

func envelope(t *testing.T, p *testPeer, by, context string, b body) []byte {
	t.Helper()
	inner, err := encoder.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := encoder.Marshal(placement.Signed{Body: inner, By: placement.PeerID(by), Sig: p.id.SignFor(context, inner)})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestFalseWraps: an admitted peer that writes wraps which nobody can open keeps
// nobody from a secret that is set after.
func TestFalseWraps(t *testing.T) {
	m := newMesh(t, "a", "b")
	a, b := m.peers[0], m.peers[1]
	m.set(a, "x", "v")
	m.settle(a, b)
	g := a.space("default").current()
	false1 := body{Kind: kindKey, Namespace: "default", Number: g.number, Public: g.public, At: 1,
		Wraps: map[string][]byte{a.id.ID(): []byte("false"), b.id.ID(): []byte("false")}}
	siblings := b.table.Siblings(false1.key())
	if err := b.table.PutOver(t.Context(), false1.key(), signed(t, b, false1), nil); err != nil {
		t.Fatal(err)
	}
	if len(siblings) != 1 {
		t.Fatalf("%d siblings", len(siblings))
	}
	m.spread(a, b)
	m.reads(a, "x", "v")
	fresh := m.add("c") // has not opened it before
	m.settle(m.peers...)
	m.reads(fresh, "x", "v")
	m.reads(b, "x", "v")
	if g := a.space("default").current(); g.sides != 1 {
		t.Errorf("%d sides stand", g.sides)
	}
	// A value that is sealed to nothing is told apart from one that is not there.
	lie := body{Kind: kindSecret, Namespace: "default", Name: "y", Public: g.public, Sealed: []byte("lie"), By: b.id.ID(), At: 1}
	if err := b.table.Put(t.Context(), lie.key(), signed(t, b, lie)); err != nil {
		t.Fatal(err)
	}
	m.settle(m.peers...)
	if _, err := a.Get(t.Context(), "default", "y"); err == nil || errors.Is(err, placement.ErrNotFound) || !strings.Contains(err.Error(), "set it again") {
		t.Error(err)
	}
	m.set(a, "y", "true")
	m.settle(m.peers...)
	m.reads(b, "y", "true")
}

// TestPeerThatNothingIsSealedTo: one with such a key goes without, and the others
// come to rest.
func TestPeerThatNothingIsSealedTo(t *testing.T) {
	m := newMesh(t, "a", "b")
	a, b := m.peers[0], m.peers[1]
	zero, err := ecdh.X25519().NewPublicKey(make([]byte, keyBytes))
	if err != nil {
		t.Fatal(err)
	}
	m.more = []Peer{{ID: strings.Repeat("z", 26), Site: "a", Key: zero, Alive: true}}
	m.set(a, "x", "v")
	m.settle(a, b)
	m.add("c")
	m.settle(m.peers...)
	m.reads(m.peers[2], "x", "v")
	if a.rested == "" && b.rested == "" {
		t.Error("nobody rests")
	}
}

// TestClockAhead: a value whose writer's clock is far ahead stands beside another
// and does not count.
func TestClockAhead(t *testing.T) {
	m := newMesh(t, "a", "b")
	a, b := m.peers[0], m.peers[1]
	m.set(a, "x", "first")
	m.settle(a, b)
	s := b.space("default")
	sealed, err := sealValue(s.current().public, "default", "x", []byte("from 2200"))
	if err != nil {
		t.Fatal(err)
	}
	far := body{Kind: kindSecret, Namespace: "default", Name: "x", Public: s.current().public, Sealed: sealed, By: b.id.ID(), At: 7258118400000}
	if err := b.table.PutOver(t.Context(), far.key(), signed(t, b, far), []table.Dot{}); err != nil {
		t.Fatal(err)
	}
	m.settle(a, b)
	m.reads(a, "x", "first")
	m.reads(b, "x", "first")
	m.set(a, "x", "second")
	m.settle(a, b)
	m.reads(b, "x", "second")
}

func FuzzDecode(f *testing.F) {
	for _, b := range []body{
		{Kind: kindSites, Namespace: "default", Sites: []string{"a"}, At: 1},
		{Kind: kindKey, Namespace: "default", Number: 3, Public: make([]byte, keyBytes), Wraps: map[string][]byte{strings.Repeat("a", 26): []byte("w")}},
		{Kind: kindSecret, Namespace: "default", Name: "x", Public: make([]byte, keyBytes), Sealed: []byte("s"), By: strings.Repeat("a", 26)},
	} {
		inner, err := encoder.Marshal(b)
		if err != nil {
			f.Fatal(err)
		}
		raw, err := encoder.Marshal(placement.Signed{Body: inner, By: "p", Sig: []byte("s")})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		_, b, err := decode(raw)
		if err != nil {
			return
		}
		s := &space{name: b.Namespace, sites: Sites{All: true}, keys: map[string]*generation{}, secrets: map[string]*stands{}, at: map[string]int64{}}
		s.take(b, 0)
		s.take(b, math.MaxInt64)
		if len(b.Sealed) > sealedMax || len(b.Wraps) > wrapsMax || !IsName(b.Namespace) {
			t.Errorf("out of bounds: %+v", b)
		}
	})
}
