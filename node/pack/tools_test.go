package pack

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// tool is a program of others, which CI installs.
func tool(t *testing.T, name string, required bool) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if required && os.Getenv("CI") == "true" {
		t.Fatalf("%s is not on this machine, and CI installs it", name)
	}
	t.Skipf("%s is not on this machine", name)
	return ""
}

// Whatever copies images copies packages, and all of one arrives.
func TestToolsCopyPackages(t *testing.T) {
	y, first := newYard(t), serve(t, nil)
	built := y.build(t, first.at("shop"), shop)
	from := first.host + "/shop:1.4"
	cases := map[string]struct {
		required bool
		args     func(to string) []string
	}{
		"skopeo": {true, func(to string) []string {
			return []string{"copy", "--all", "--src-tls-verify=false", "--dest-tls-verify=false", "docker://" + from, "docker://" + to}
		}},
		"crane": {false, func(to string) []string { return []string{"copy", "--insecure", from, to} }},
		"oras":  {false, func(to string) []string { return []string{"cp", "--from-plain-http", "--to-plain-http", from, to} }},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			path, second := tool(t, name, c.required), serve(t, nil)
			run(t, path, c.args(second.host+"/copy:1")...)
			m := y.arrived(t, second.at("copy"), Ref{Repository: "copy", Tag: "1"})
			// Old releases of skopeo write the index without what they do not know.
			if name != "skopeo" && m.Descriptor.Digest != built.Descriptor.Digest {
				t.Errorf("it is %s, and was %s", m.Descriptor.Digest, built.Descriptor.Digest)
			}
		})
	}
	t.Run("skopeo to a layout", func(t *testing.T) {
		path, dir := tool(t, "skopeo", true), filepath.Join(t.TempDir(), "layout")
		run(t, path, "copy", "--all", "--src-tls-verify=false", "docker://"+from, "oci:"+dir+":1.4")
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
		path, dir, second := tool(t, "skopeo", true), filepath.Join(t.TempDir(), "layout"), serve(t, nil)
		w, err := CreateLayout(dir)
		if err != nil {
			t.Fatal(err)
		}
		copyTo(t, first.at("shop"), built.Descriptor, w, shop)
		run(t, path, "copy", "--all", "--dest-tls-verify=false", "oci:"+dir+":1.4", "docker://"+second.host+"/copy:1")
		y.arrived(t, second.at("copy"), Ref{Repository: "copy", Tag: "1"})
	})
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
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
