package node

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/node/image"
	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/transport"
)

// A peer that has lost a manifest that it has to hold can't tell what that needs: no
// other peer has a file deleted there meanwhile. What is no manifest at all, and never
// will be, does not make it so.
func TestBlindPeerDropsNothingForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 2, 20*time.Millisecond)
		defer m.close()
		parts, err := m.push(m.sites[0], "shop/api", "1", 1000)
		if err != nil {
			t.Fatal(err)
		}
		m.until("both hold it", time.Minute, func() error { return m.staged(m.sites[0], "shop/api:1", "") })
		s := m.sites[1].node
		none := m.write(m.sites[1], "", []byte("hello")).Digest.String()
		invalid := []placement.Reference{{Artifact: placement.Artifact{Digest: none, Tree: true}, Here: true}}
		if needs, missing := s.needsOf(invalid); needs.blind || len(missing) != 1 {
			t.Errorf("what is no manifest: blind %v, missing %v", needs.blind, missing)
		}
		if err := s.deleteFile(parts[len(parts)-1]); err != nil {
			t.Fatal(err)
		}
		s.images.trees = image.NewTrees(treeStore{s.store.Blobs()}) // as after a start
		if err := s.tells(t.Context()); err == nil {
			t.Fatal("the manifest is still known")
		}
		for _, digest := range parts[:3] {
			a, err := transport.CallTyped[dropQuery, dropAnswer](t.Context(), m.sites[0].node.link, s.ID(), methodDrop, dropQuery{digest})
			if err == nil || !s.store.Blobs().Has(digest) {
				t.Errorf("%s: %+v, %v", digest, a, err)
			}
		}
		s.sweepSoon()
		m.until("it is whole again", time.Minute, func() error { return s.tells(t.Context()) })
	})
}
