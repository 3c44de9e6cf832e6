package placement

import (
	"slices"
	"strings"
	"testing"
)

// A disk of a package is a tree that a host of its architecture needs, beside files.
func TestPinnedDisksAreNeeded(t *testing.T) {
	digest := func(c string) string { return "sha256:" + strings.Repeat(c, 64) }
	c := Component{Server: &Server{
		Image:  PackageOf(map[string]string{"amd64": "shop@" + digest("a"), "arm64": "shop:1.4@" + digest("b")}),
		Kernel: Package(digest("c")),
	}}
	app := App{Name: "shop", Components: map[string]Component{"db": c}}
	if err := app.Validate(); err != nil {
		t.Fatal(err)
	}
	if got := app.Artifacts(); !slices.Equal(got, []string{digest("c")}) {
		t.Errorf("the files are %v", got)
	}
	if got := app.ImageDigests(); !slices.Equal(got, []string{digest("a"), digest("b")}) {
		t.Errorf("the trees are %v", got)
	}
	if got := app.DiskDigests(); len(got) != 2 || !got[digest("b")] {
		t.Errorf("the disks are %v", got)
	}
	i := &Intent{App: app, Artifacts: []Artifact{{Digest: digest("a"), Size: 5, Tree: true}, {Digest: digest("b"), Size: 6, Tree: true}, {Digest: digest("c"), Size: 7}}}
	want := []Artifact{{Digest: digest("c"), Size: 7}, {Digest: digest("b"), Size: 6, Tree: true, Arch: "arm64"}}
	if got := c.needs(i, "arm64"); !slices.Equal(got, want) {
		t.Errorf("a host of arm64 needs %v", got)
	}
}

func TestPinnedDisksAreChecked(t *testing.T) {
	good := "sha256:" + strings.Repeat("a", 64)
	for name, ok := range map[string]bool{
		"shop@" + good: true, "a/b:1@" + good: true, good: true,
		"@" + good: false, "Shop@" + good: false, "../x@" + good: false, "shop:a b@" + good: false, "shop@sha256:00": false, "shop:1.4": false,
	} {
		err := App{Name: "a", Components: map[string]Component{"c": {Server: &Server{Image: Package(name)}}}}.Validate()
		if (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
	// Nothing else of an app is a tree.
	for field, c := range map[string]Component{
		"kernel": {Server: &Server{Kernel: Package("shop@" + good)}}, "module": {Function: &Function{Module: "shop@" + good}},
	} {
		if err := (App{Name: "a", Components: map[string]Component{"c": c}}).Validate(); err == nil {
			t.Errorf("a %s may be one", field)
		}
	}
}
