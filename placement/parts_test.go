package placement

import (
	"slices"
	"testing"
)

// An image may be in the mesh for some architectures alone: its name has a tree for
// each, and so have apps, also those that two sides of a cut were merged to.
func TestImagesForSomeArchitectures(t *testing.T) {
	digest := digestOf("e")
	parts := []Artifact{{Digest: digest, Size: 5, Tree: true, Arch: "amd64"}, {Digest: digest, Size: 7, Tree: true, Arch: "arm64"}}
	name := Image{Repository: "docker.io/library/nginx", Reference: "1", Digest: digest, MediaType: "application/vnd.oci.image.index.v1+json", Size: 2}.App()
	if err := name.checkTree(parts); err != nil {
		t.Error(err)
	}
	web := Component{Container: &Container{Image: "nginx:1@" + digest}}
	intent := &Intent{App: App{Namespace: "default", Name: "shop", Components: map[string]Component{"web": web}}, Artifacts: parts}
	for arch, want := range map[string]int64{"amd64": 5, "arm64": 7} {
		needs := web.needs(intent, arch)
		if len(needs) != 1 || needs[0].Size != want || needs[0].Arch != arch || !needs[0].Tree {
			t.Errorf("on %s it needs %+v", arch, needs)
		}
	}
	if got := artifactsOf(intent.App, []*Intent{intent, intent}); !slices.Equal(got, parts) {
		t.Errorf("merged it has %+v", got)
	}
}
