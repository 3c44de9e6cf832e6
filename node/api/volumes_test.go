package api

import (
	"testing"

	"github.com/hansa-mesh/hansa/placement"
)

func TestVolumeQuery(t *testing.T) {
	v := Volume{Namespace: "default", App: "shop", Peer: "p1", PeerName: "fra-1"}
	for _, q := range []VolumeQuery{{}, {App: "shop"}, {Namespace: "default", Peer: "p1"}, {Peer: "fra-1"}} {
		if !q.Matches(v) {
			t.Errorf("%+v does not match", q)
		}
	}
	for _, q := range []VolumeQuery{{App: "other"}, {Namespace: "x"}, {Peer: "fra"}} {
		if q.Matches(v) {
			t.Errorf("%+v matches", q)
		}
	}
	two, ten := Volume{Slot: 2}, Volume{Slot: 10}
	if VolumeKey(two) > VolumeKey(ten) {
		t.Error("slot 10 stands before slot 2")
	}
	for _, text := range []string{"", "a", "a/b", "a/b/c", "a/b/-1", "/b/1", "a/b/1/2", "a/b/99999999999"} {
		if id, err := placement.ParseVolumeID(text); err == nil {
			t.Errorf("%q is %v", text, id)
		}
	}
}
