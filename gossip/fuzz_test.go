package gossip

import (
	"crypto/ed25519"
	"testing"
)

// FuzzMessages feeds what a member may send to all that parses it.
func FuzzMessages(f *testing.F) {
	m := newMesh(f, 0, 0)
	self, other := m.identity(0), m.identity(1)
	cfg := m.config(self)
	g, err := New(cfg)
	if err != nil {
		f.Fatal(err)
	}
	g.addSeeds([]Seed{{ID: other}})
	d, err := sealDigest(other, 5, [16]byte{}, []byte("class"), m.keys[other])
	if err != nil {
		f.Fatal(err)
	}
	f.Add(d)
	f.Add(delegate{g}.LocalState(true))
	sealed, err := (meta{Name: "x", Generation: 1}).seal(other, m.keys[other])
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Add([]byte("R\x06thingsxyz"))
	f.Add(append([]byte{suspectMsg, 0x83}, "\xabIncarnation\x01\xa4Node\xa1a\xa4From\xa1b"...))
	f.Fuzz(func(t *testing.T, b []byte) {
		dl := delegate{g}
		dl.NotifyMsg(b)
		dl.MergeRemoteState(b, false)
		g.sawPacket(b)
		_, _ = openMeta(other, b, m.keys[other].Public().(ed25519.PublicKey))
	})
}
