package secrets

import (
	"context"
	"fmt"
	"testing"

	"github.com/hansa-mesh/hansa/gossip/table"
	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/transport/identity"
)

// large is a vault of a mesh of so many peers, with so many secrets.
func large(b *testing.B, peers, secrets int) (*Vault, *space) {
	b.Helper()
	var all []Peer
	var self *identity.Identity
	for range peers {
		id, err := identity.New()
		if err != nil {
			b.Fatal(err)
		}
		all, self = append(all, Peer{ID: id.ID(), Site: "a", Key: id.SealingKey().PublicKey()}), id
	}
	v := New(Config{
		Self: all[peers-1], Own: self.SealingKey(), Sign: func(body []byte) []byte { return self.SignFor(Context, body) },
		Verify: func(placement.Signed) error { return nil }, Peers: func() []Peer { return all },
	})
	cfg := v.TableConfig()
	cfg.Self, cfg.Incarnation = self.ID(), 1
	t, err := table.Open(table.ReplicaConfig{Table: cfg, Log: memory{}})
	if err != nil {
		b.Fatal(err)
	}
	v.Open(t)
	for i := range secrets {
		if _, err := v.Set(context.Background(), "default", fmt.Sprintf("s%d", i), make([]byte, 32)); err != nil {
			b.Fatal(err)
		}
	}
	return v, v.space("default")
}

// BenchmarkGet opens one secret of many, as each start does.
func BenchmarkGet(b *testing.B) {
	v, _ := large(b, 1000, 200)
	for b.Loop() {
		if _, err := v.Get(context.Background(), "default", "s7"); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkNewKey makes another key for a thousand peers, as after forgetting one.
func BenchmarkNewKey(b *testing.B) {
	v, s := large(b, 1000, 1)
	for b.Loop() {
		if _, err := v.makeKey(context.Background(), s, v.cfg.Peers()); err != nil {
			b.Fatal(err)
		}
	}
	raw, _ := v.table.Get(kindKey + "/default/" + fmt.Sprintf("%x", s.current().public))
	b.ReportMetric(float64(len(raw)), "bytes/record")
}

// BenchmarkReseal seals one secret to another key.
func BenchmarkReseal(b *testing.B) {
	v, _ := large(b, 3, 1)
	for b.Loop() {
		s := v.space("default")
		if err := v.reseal(context.Background(), s, "s0", s.current(), s.current()); err != nil {
			b.Fatal(err)
		}
	}
}
