package gossip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/hashicorp/memberlist"
)

func TestForgeriesAreRefused(t *testing.T) {
	m := newMesh(t, 0, 0)
	victim, forger, stranger := m.identity(1), m.identity(2), m.identity(3)
	g, err := New(m.config(m.identity(0)))
	if err != nil {
		t.Fatal(err)
	}
	meta1 := meta{Name: "v", Addr: "good:1", Generation: 5, Revision: 1}
	seal := func(mm meta, about, by string) []byte {
		b, err := mm.seal(about, m.keys[by])
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	node := func(id string, sealed []byte) *memberlist.Node {
		return &memberlist.Node{Name: id, Meta: sealed, Addr: placeholderIP, Port: placeholderPort,
			PMin: memberlist.ProtocolVersionMin, PMax: memberlist.ProtocolVersionMax, PCur: protocolVersion}
	}
	alive := func(id string, sealed []byte) error { return g.notifyAlive(node(id, sealed)) }
	altered := func(change func(*memberlist.Node)) error {
		n := node(victim, seal(meta{Name: "v", Addr: "good:1", Generation: 5, Revision: 2}, victim, victim))
		change(n)
		return g.notifyAlive(n)
	}
	genuine := seal(meta1, victim, victim)
	if err := alive(victim, genuine); err != nil {
		t.Fatal(err)
	}
	newer := meta{Name: "v", Addr: "evil:1", Generation: 6}
	older := meta{Name: "v", Addr: "old:1", Generation: 4}
	twin := meta{Name: "v", Addr: "twin:1", Generation: 5, Revision: 1}
	flipped := bytes.Clone(genuine)
	flipped[len(flipped)-1] ^= 1
	gone := seal(meta{Generation: 1}, stranger, stranger)
	m.mu.Lock()
	delete(m.keys, stranger)
	m.mu.Unlock()
	for name, c := range map[string]struct {
		err    error
		want   error
		unkeyd bool
	}{
		"signed by another": {alive(victim, seal(newer, victim, forger)), errForged, false},
		"about another":     {alive(victim, seal(newer, forger, victim)), errForged, false},
		"replayed":          {alive(victim, seal(older, victim, victim)), errStale, false},
		"a twin":            {alive(victim, seal(twin, victim, victim)), errStale, false},
		"flipped":           {alive(victim, flipped), errForged, false},
		"empty":             {alive(victim, nil), errMalformed, false},
		"not admitted":      {alive(stranger, gone), errNotAdmitted, false},
		// What is genuine, with what is not signed changed on the way.
		"another address":     {altered(func(n *memberlist.Node) { n.Addr = []byte{10, 0, 0, 1} }), errMalformed, false},
		"another port":        {altered(func(n *memberlist.Node) { n.Port++ }), errMalformed, false},
		"an older protocol":   {altered(func(n *memberlist.Node) { n.PMax = 1 }), errMalformed, false},
		"a later protocol":    {altered(func(n *memberlist.Node) { n.PCur, n.PMax = 200, 200 }), errMalformed, false},
		"an unknown delegate": {altered(func(n *memberlist.Node) { n.DMin, n.DCur = 3, 3 }), errMalformed, false},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v, want %v", name, c.err, c.want)
		}
	}
	if got := g.Members(); len(got) != 1 || got[0].Addr != "good:1" {
		t.Errorf("members %+v", got)
	}

	digest := func(about, by string, seq uint64) []byte {
		b, err := sealDigest(about, seq, [16]byte{}, []byte("c"), m.keys[by])
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	d := delegate{g}
	d.NotifyMsg(digest(victim, victim, 7))
	d.NotifyMsg(digest(victim, forger, 9))
	d.NotifyMsg(digest(victim, victim, 3))
	long := append(digest(victim, victim, 11), make([]byte, ClassBytesMax)...)
	d.NotifyMsg(long)
	if got, ok := g.Digest(victim); !ok || got.Sequence != 7 {
		t.Errorf("digest %+v %v", got, ok)
	}
	if len(digest(victim, victim, 7))-2 > 150-ClassBytesMax {
		t.Errorf("a digest has %d bytes without its class", len(digest(victim, victim, 7))-2)
	}
	before := g.Stats().RefusedDigests
	flood := pushPull{From: forger}
	for i := range 1000 {
		flood.Digests = append(flood.Digests, digest(victim, forger, uint64(100+i)))
	}
	for i := range peersMax { // and would leave no room for coordinates that are true
		flood.Coords = append(flood.Coords, coordOf{fmt.Sprint("made-up-", i), g.coords.Own()})
	}
	merge := func(s pushPull) {
		b, err := encoder.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		d.MergeRemoteState(b, false)
	}
	merge(flood)
	if n := g.Stats().RefusedDigests - before; n > forgedMax+1 {
		t.Errorf("%d forged digests of one message were verified", n)
	}
	merge(pushPull{From: forger, Coords: append(flood.Coords, coordOf{victim, g.coords.Own()})})
	if g.coords.Held() != 1 {
		t.Errorf("%d coordinates are held, of one peer that is known", g.coords.Held())
	}
	g.Forget(victim)
	if err := alive(victim, genuine); !errors.Is(err, errNotAdmitted) || len(g.Members()) != 0 {
		t.Errorf("forgotten: %v", err)
	}
}

// config is a peer's on a wire, without the rest.
func (m *mesh) config(id string) Config {
	p := m.wire.plug(id)
	return Config{Self: id, PacketConn: p, Dial: p.dial, Accept: p.accept, Signer: m.keys[id], KeyOf: m.keyOf}
}

func TestConfig(t *testing.T) {
	m := newMesh(t, 0, 0)
	good := m.config(m.identity(0))
	for name, spoil := range map[string]func(*Config){
		"no id":      func(c *Config) { c.Self = "" },
		"no network": func(c *Config) { c.Dial = nil },
		"no key":     func(c *Config) { c.Signer = nil },
		"long name":  func(c *Config) { c.Name = string(make([]byte, nameBytesMax+1)) },
		"long addr":  func(c *Config) { c.Addr = string(make([]byte, addrBytesMax+1)) },
		"bad state":  func(c *Config) { c.Load = func() ([]byte, error) { return nil, errors.New("disk") } },
	} {
		c := good
		spoil(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	g, err := New(good)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Leave(context.Background(), 0); !errors.Is(err, ErrNotRunning) {
		t.Errorf("leave: %v", err)
	}
	if err := g.Join(context.Background(), []Seed{{ID: m.identity(1)}}); !errors.Is(err, ErrNotRunning) {
		t.Errorf("join: %v", err)
	}
}
