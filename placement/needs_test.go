package placement

import (
	"slices"
	"strings"
	"testing"
)

func TestNeeds(t *testing.T) {
	hex := strings.Repeat("a", 64)
	a, b := "sha256:"+hex, "sha256:"+strings.Repeat("b", 64)
	container := func(image string) Component { return Component{Container: &Container{Image: image}} }
	server := func(s Server) Component { return Component{Server: &s} }
	asked := func(artifact Package, command string, check ...string) Component {
		return Component{Server: &Server{Process: &Process{Command: []string{command}, Artifact: artifact}}, Health: &Health{Exec: &ExecCheck{Command: check}}}
	}
	files := PackageOf(map[string]string{"amd64": a, "arm64": b})
	for name, c := range map[string]struct {
		c    Component
		arch string
		want []Need
	}{
		"pinned":              {container("shop/api:1.4@" + a), "", []Need{{"shop/api:1.4@" + a, "shop/api", a}}},
		"by a tag":            {container("shop/api:1.4"), "", []Need{{"shop/api:1.4", "shop/api", ""}}},
		"a port":              {container("localhost:5000/api@" + a), "", []Need{{"localhost:5000/api@" + a, "localhost:5000/api", a}}},
		"a port and no tag":   {container("localhost:5000/api"), "", []Need{{"localhost:5000/api", "localhost:5000/api", ""}}},
		"no digest":           {container("shop/api@sha256:12"), "", []Need{{"shop/api@sha256:12", "shop/api", ""}}},
		"a function":          {Component{Function: &Function{Module: a}}, "", []Need{{a, "", a}}},
		"a program":           {server(Server{Process: &Process{Command: []string{"./x"}, Artifact: files}}), "arm64", []Need{{b, "", b}}},
		"of any":              {server(Server{Process: &Process{Command: []string{"./x"}, Artifact: files}}), "", []Need{{a, "", a}, {b, "", b}}},
		"of none":             {server(Server{Process: &Process{Command: []string{"./x"}, Artifact: files}}), "mips", []Need{{Name: "./x"}}},
		"the host's":          {server(Server{Process: &Process{Command: []string{"/bin/sh", "-c", "x"}}}), "", []Need{{Name: "/bin/sh -c x"}}},
		"asked by the host":   {asked(Package(a), "./x", "/bin/sh", "-c", "y"), "", []Need{{a, "", a}, {Name: "/bin/sh -c y"}}},
		"asked by itself":     {asked(Package(a), "./x", "./x", "--healthy"), "", []Need{{a, "", a}}},
		"asked by a name":     {asked(Package(a), "x", "x"), "", []Need{{a, "", a}, {Name: "x"}}},
		"asked from above":    {asked(Package(a), "../x", "../x"), "", []Need{{a, "", a}, {Name: "../x"}}},
		"asked by another":    {asked(Package(a), "./x", "./y"), "", []Need{{a, "", a}, {Name: "./y"}}},
		"asked on the host":   {asked("", "/bin/x", "/bin/y"), "", []Need{{Name: "/bin/x"}, {Name: "/bin/y"}}},
		"a container's check": {Component{Container: &Container{Image: "shop@" + a}, Health: &Health{Exec: &ExecCheck{Command: []string{"/x"}}}}, "", []Need{{"shop@" + a, "shop", a}}},
		"a machine":           {server(Server{Image: Package(a), Kernel: Package(b), Initrd: Package(b)}), "amd64", []Need{{a, "", a}, {b, "", b}}},
		"a packed disk":       {server(Server{Image: Package("shop@" + a)}), "amd64", []Need{{"shop@" + a, "shop", a}}},
		"what is no digest":   {server(Server{Image: "/a/path"}), "amd64", []Need{{Name: "/a/path"}}},
	} {
		if got := c.c.Needs(c.arch); !slices.Equal(got, c.want) {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}
