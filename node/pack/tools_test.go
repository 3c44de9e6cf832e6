package pack

import (
	"path/filepath"
	"testing"

	"github.com/hansa-mesh/hansa/node/registry/clients"
)

// Whatever copies images copies packages, and all of one arrives.
func TestToolsCopyPackages(t *testing.T) {
	y, first := newYard(t), serve(t, nil)
	built := y.build(t, first.at("shop"), shop)
	from := first.host + "/shop:1.4"
	cases := map[string]func(to string) []string{
		"skopeo": func(to string) []string {
			return []string{"copy", "--all", "--src-tls-verify=false", "--dest-tls-verify=false", "docker://" + from, "docker://" + to}
		},
		"crane": func(to string) []string { return []string{"copy", "--insecure", from, to} },
		"oras":  func(to string) []string { return []string{"cp", "--from-plain-http", "--to-plain-http", from, to} },
	}
	for name, args := range cases {
		t.Run(name, func(t *testing.T) {
			second := serve(t, nil)
			clients.Run(t, nil, name, args(second.host+"/copy:1")...)
			m := y.arrived(t, second.at("copy"), Ref{Repository: "copy", Tag: "1"})
			// Old releases of skopeo write the index without what they do not know.
			if name != "skopeo" && m.Descriptor.Digest != built.Descriptor.Digest {
				t.Errorf("it is %s, and was %s", m.Descriptor.Digest, built.Descriptor.Digest)
			}
		})
	}
	t.Run("skopeo to a layout", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "layout")
		clients.Run(t, nil, "skopeo", "copy", "--all", "--src-tls-verify=false", "docker://"+from, "oci:"+dir+":1.4")
		l, err := OpenLayout(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		root, _, err := l.Root("1.4")
		if err != nil {
			t.Fatal(err)
		}
		to := serve(t, nil).at("shop")
		copyTo(t, l, root, to, shop)
		y.arrived(t, to, shop)
	})
	t.Run("skopeo from a layout", func(t *testing.T) {
		dir, second := filepath.Join(t.TempDir(), "layout"), serve(t, nil)
		w, err := CreateLayout(dir)
		if err != nil {
			t.Fatal(err)
		}
		copyTo(t, first.at("shop"), built.Descriptor, w, shop)
		clients.Run(t, nil, "skopeo", "copy", "--all", "--dest-tls-verify=false", "oci:"+dir+":1.4", "docker://"+second.host+"/copy:1")
		y.arrived(t, second.at("copy"), Ref{Repository: "copy", Tag: "1"})
	})
}

// arrived sees that all of a package has arrived.
func (y yard) arrived(t *testing.T, at Remote, ref Ref) Manifest {
	t.Helper()
	m, err := at.Resolve(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	p, err := Read(t.Context(), at, m)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Unfold(t.Context(), at); err != nil {
		t.Fatal(err)
	}
	y.check(t, p.Deploy(ref), at)
	return m
}
