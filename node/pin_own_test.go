package node

import (
	"errors"
	"strings"
	"testing"

	"github.com/hansa-mesh/hansa/placement"
)

// Who names an image as they pushed it, with the peer's address, means the mesh's: it
// is pinned under the mesh's name, and never asked for outside.
func TestImageOfOwnRegistry(t *testing.T) {
	m := wallMeshOf(t, func(n *Node) {
		n.cfg.API, n.cfg.APIHosts = "127.0.0.1:7601", []string{"peer.example"}
	}, 2)
	n := m.sites[0].node
	digest := m.sites[0].pushImage(t, "shop/api:1", "layer")
	for name, want := range map[string]string{
		"127.0.0.1:7601/shop/api:1":                                 "shop/api:1@" + digest,
		"localhost:7601/shop/api:1":                                 "shop/api:1@" + digest,
		"peer.example:7601/shop/api:1":                              "shop/api:1@" + digest,
		"127.0.0.1:7601/shop/api:1@" + digest:                       "shop/api:1@" + digest,
		"127.0.0.1:7601/shop/api@" + digest:                         "shop/api@" + digest,
		"127.0.0.1:7601/shop/api":                                   "", // no tag latest
		"127.0.0.1:7601/shop/api:2":                                 "",
		"127.0.0.1:7601/alone:1":                                    "",
		"127.0.0.1:7601/shop/api@sha256:" + strings.Repeat("0", 64): "",
	} {
		p := n.pinImage(t.Context(), "default", pinKey{image: name}, true)
		switch {
		case want == "" && (!errors.Is(p.err, placement.ErrInvalid) || !strings.Contains(p.err.Error(), "the mesh has no")):
			t.Errorf("%s: %q, %v; want that the mesh has none", name, p.image, p.err)
		case want != "" && (p.err != nil || p.image != want || len(p.trees) != 1):
			t.Errorf("%s: %q, %v; want %q", name, p.image, p.err, want)
		}
	}
	for _, other := range []string{"127.0.0.1:5000", "registry.example:7601", "docker.io", "127.0.0.1"} {
		if n.ownRegistry(other) {
			t.Errorf("%s is taken for this peer", other)
		}
	}
}
