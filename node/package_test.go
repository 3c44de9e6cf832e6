package node

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/node/pack"
	"github.com/hansa-mesh/hansa/placement"
)

// packages is the registry of a site's peer, for packages.
func (s *testSite) packages(t *testing.T) pack.Remote {
	t.Helper()
	web := httptest.NewServer(s.node.registry)
	t.Cleanup(web.Close)
	at, err := pack.Peer(strings.TrimPrefix(web.URL, "http://"), true, http.DefaultTransport)
	if err != nil {
		t.Fatal(err)
	}
	remote, err := at(pack.Ref{Repository: "shop"})
	if err != nil {
		t.Fatal(err)
	}
	return remote
}

// A package that was pushed to one peer is deployed at another: the trees and files
// that its app names are found, also of a disk of which only the package speaks.
func TestPackageIsDeployedAtAnotherPeer(t *testing.T) {
	m := wallMesh(t, 3)
	dir, data := t.TempDir(), append(diskOf(9, 2<<20), make([]byte, 1<<20)...)
	for name, content := range map[string][]byte{"db.raw": data, "vmlinuz": diskOf(10, 9000)} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	app := placement.App{Name: "shop", Components: map[string]placement.Component{
		"db": {Server: &placement.Server{Image: "./db.raw", Kernel: "./vmlinuz"}},
	}}
	ref := pack.Ref{Repository: "shop", Tag: "1"}
	first, last := m.sites[0].packages(t), m.sites[2]
	built, err := pack.Build(t.Context(), []placement.App{app}, first, pack.Options{Dir: dir})
	if err == nil {
		err = first.Tag(t.Context(), built.Descriptor, built.Data, ref)
	}
	if err != nil {
		t.Fatal(err)
	}
	var deployed placement.App
	m.until("the name is known at the last peer", time.Minute, func() error {
		at := last.packages(t)
		root, err := at.Resolve(t.Context(), ref)
		if err != nil {
			return err
		}
		p, err := pack.Read(t.Context(), at, root)
		if err == nil {
			deployed = p.Deploy(ref)[0]
		}
		return err
	})
	m.until("it is deployed there", time.Minute, func() error {
		_, err := backend{last.node}.PutApp(t.Context(), api.PutRequest{App: deployed})
		return err
	})
	manifest := deployed.Components["db"].DiskDigest(ownArch)
	if err := last.node.fetchArtifact(t.Context(), placement.Artifact{Digest: manifest, Tree: true, Arch: ownArch}, nil); err != nil {
		t.Fatal(err)
	}
	path, err := last.node.disks.path(t.Context(), manifest)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, data) {
		t.Errorf("the disk is another: %v", err)
	}
}
