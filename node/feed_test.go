package node

import (
	"testing"
	"testing/synctest"
	"time"
)

// Where nothing happens no peer tells of itself anew: a digest is the same bytes as
// long as it says the same.
func TestIdleDigestsRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 3, 40*time.Millisecond)
		defer m.close()
		time.Sleep(time.Minute)
		var before []uint64
		for _, s := range m.sites {
			d, ok := s.node.gossip.Digest(s.node.id.ID())
			if !ok {
				t.Fatalf("%s tells no digest", s.name)
			}
			before = append(before, d.Sequence)
		}
		time.Sleep(10 * time.Minute)
		for i, s := range m.sites {
			if d, _ := s.node.gossip.Digest(s.node.id.ID()); d.Sequence != before[i] {
				t.Errorf("%s told of itself anew", s.name)
			}
		}
	})
}
