package registry_test

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/hansa-mesh/hansa/node/registry"
	"github.com/hansa-mesh/hansa/node/registry/clients"
)

// serveMemory serves a registry over memory on loopback, and is where.
func serveMemory(t *testing.T) string {
	t.Helper()
	m := newMemory()
	server := httptest.NewServer(registry.New(registry.Config{Blobs: m, Mesh: m, Names: m}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// fatal ends the test if anything is wrong.
func fatal(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func digestOf(t *testing.T, image interface{ Digest() (v1.Hash, error) }) string {
	t.Helper()
	h, err := image.Digest()
	fatal(t, err)
	return h.String()
}

// randomImage has three layers, in OCI's form.
func randomImage(t *testing.T) v1.Image {
	t.Helper()
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for range 3 {
		layer, err := random.Layer(50_000, types.OCILayer)
		fatal(t, err)
		image, err = mutate.AppendLayers(image, layer)
		fatal(t, err)
	}
	return image
}

func TestCrane(t *testing.T) {
	at := serveMemory(t)
	image := randomImage(t)
	fatal(t, crane.Push(image, at+"/shop/api:1"))
	got, err := crane.Digest(at + "/shop/api:1")
	if err != nil || got != digestOf(t, image) {
		t.Fatalf("digest %s, %v", got, err)
	}
	fatal(t, crane.Copy(at+"/shop/api:1", at+"/other/api:2")) // mounts the layers
	pulled, err := crane.Pull(at + "/other/api:2")
	fatal(t, err)
	layers, err := pulled.Layers()
	fatal(t, err)
	for _, l := range layers {
		r, err := l.Uncompressed()
		fatal(t, err)
		fatal(t, r.Close())
	}
	fatal(t, crane.Tag(at+"/shop/api:1", "latest"))
	tags, err := crane.ListTags(at + "/shop/api")
	if err != nil || !slices.Equal(tags, []string{"1", "latest"}) {
		t.Errorf("tags %v, %v", tags, err)
	}
	all, err := crane.Catalog(at)
	if err != nil || !slices.Equal(all, []string{"other/api", "shop/api"}) {
		t.Errorf("catalog %v, %v", all, err)
	}
	fatal(t, crane.Delete(at+"/shop/api@"+got))
	if _, err := crane.Digest(at + "/shop/api:latest"); err == nil {
		t.Error("a tag of a deleted manifest is still there")
	}
	_, err = crane.Digest(at + "/other/api:2")
	fatal(t, err)
}

func TestCraneIndexOfArchitectures(t *testing.T) {
	at := serveMemory(t)
	index, err := random.Index(10_000, 2, 3)
	fatal(t, err)
	ref, err := name.ParseReference(at + "/shop/api:multi")
	fatal(t, err)
	fatal(t, remote.WriteIndex(ref, index))
	got, err := remote.Index(ref)
	fatal(t, err)
	if digestOf(t, got) != digestOf(t, index) {
		t.Error("another index came back")
	}
	m, err := index.IndexManifest()
	fatal(t, err)
	for _, d := range m.Manifests {
		_, err := crane.Pull(at + "/shop/api@" + d.Digest.String())
		fatal(t, err)
	}
}

// A Helm chart is an artifact of a config and one layer, as `helm push` sends it,
// and a provenance beside it refers to it.
func TestArtifactsAsHelmPushesThem(t *testing.T) {
	at := serveMemory(t)
	chart := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), "application/vnd.cncf.helm.config.v1+json")
	chart, err := mutate.AppendLayers(chart, static.NewLayer([]byte("a chart"), "application/vnd.cncf.helm.chart.content.v1.tar+gzip"))
	fatal(t, err)
	fatal(t, crane.Push(chart, at+"/charts/shop:0.1.0"))
	d, err := remote.Get(mustName(t, at+"/charts/shop:0.1.0"))
	fatal(t, err)
	subject := v1.Descriptor{MediaType: d.MediaType, Size: d.Size, Digest: d.Digest}
	provenance := mutate.Subject(mutate.ConfigMediaType(empty.Image, "application/vnd.test.provenance"), subject).(v1.Image)
	fatal(t, crane.Push(provenance, at+"/charts/shop@"+digestOf(t, provenance)))
	index, err := remote.Referrers(mustName(t, at+"/charts/shop@"+d.Digest.String()).(name.Digest))
	fatal(t, err)
	m, err := index.IndexManifest()
	fatal(t, err)
	if len(m.Manifests) != 1 || m.Manifests[0].Digest.String() != digestOf(t, provenance) {
		t.Errorf("referrers: %+v", m.Manifests)
	}
}

func mustName(t *testing.T, text string) name.Reference {
	t.Helper()
	ref, err := name.ParseReference(text)
	fatal(t, err)
	return ref
}

func TestSkopeo(t *testing.T) {
	at := serveMemory(t)
	dir := filepath.Join(t.TempDir(), "layout")
	l, err := layout.Write(dir, empty.Index)
	fatal(t, err)
	image := randomImage(t)
	for ref, image := range map[string]v1.Image{"1": image, "2": randomImage(t)} {
		fatal(t, l.AppendImage(image, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": ref})))
	}

	skopeo := func(args ...string) string { return clients.Run(t, nil, "skopeo", args...) }
	skopeo("copy", "--insecure-policy", "--dest-tls-verify=false", "oci:"+dir+":1", "docker://"+at+"/shop/api:1")
	if out := skopeo("inspect", "--tls-verify=false", "docker://"+at+"/shop/api:1"); !strings.Contains(out, digestOf(t, image)) {
		t.Errorf("inspect: %s", out)
	}
	// Layers that zstd compresses on the way, of another image, since it knows those
	// that it pushed; and Docker's forms of manifests.
	skopeo("copy", "--insecure-policy", "--dest-tls-verify=false", "--dest-compress-format", "zstd",
		"oci:"+dir+":2", "docker://"+at+"/shop/api:zstd")
	if out := skopeo("inspect", "--raw", "--tls-verify=false", "docker://"+at+"/shop/api:zstd"); !strings.Contains(out, "tar+zstd") {
		t.Errorf("no layer is zstd: %s", out)
	}
	skopeo("copy", "--insecure-policy", "--dest-tls-verify=false", "--format", "v2s2", "oci:"+dir+":1", "docker://"+at+"/shop/api:docker")
	skopeo("copy", "--insecure-policy", "--src-tls-verify=false", "docker://"+at+"/shop/api:docker", "dir:"+filepath.Join(t.TempDir(), "pulled"))
	skopeo("copy", "--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false", "docker://"+at+"/shop/api:zstd", "docker://"+at+"/copy/api:zstd")
	if out := skopeo("list-tags", "--tls-verify=false", "docker://"+at+"/shop/api"); !strings.Contains(out, `"zstd"`) {
		t.Errorf("tags: %s", out)
	}
	skopeo("delete", "--tls-verify=false", "docker://"+at+"/shop/api:zstd")
	if out := skopeo("list-tags", "--tls-verify=false", "docker://"+at+"/shop/api"); strings.Contains(out, `"zstd"`) {
		t.Errorf("tags after a deletion: %s", out)
	}
}

// The programs, beside what crane is made of.
func TestCraneAndOrasCommands(t *testing.T) {
	at := serveMemory(t)
	dir := t.TempDir()
	fatal(t, crane.SaveOCI(randomImage(t), filepath.Join(dir, "image")))
	cmd := func(name string, args ...string) string {
		return strings.TrimSpace(clients.Run(t, []string{"HOME=" + dir}, name, args...))
	}
	cmd("crane", "push", filepath.Join(dir, "image"), at+"/shop/api:1")
	pushed := cmd("crane", "digest", at+"/shop/api:1")
	cmd("crane", "copy", at+"/shop/api:1", at+"/other/api:1")
	cmd("crane", "validate", "--remote", at+"/other/api:1")

	cmd("oras", "cp", "--from-plain-http", "--to-plain-http", at+"/shop/api:1", at+"/third/api:1")
	if got := cmd("oras", "resolve", "--plain-http", at+"/third/api:1"); got != pushed {
		t.Errorf("%s was pushed and %s was copied", pushed, got)
	}
	note := filepath.Join(dir, "note.txt")
	fatal(t, os.WriteFile(note, []byte("a note"), 0o600))
	cmd("oras", "attach", "--plain-http", "--disable-path-validation", "--artifact-type", "application/vnd.test.note", at+"/shop/api:1", note+":text/plain")
	if out := cmd("oras", "discover", "--plain-http", "--format", "json", at+"/shop/api:1"); !strings.Contains(out, "application/vnd.test.note") {
		t.Errorf("what is attached is not found: %s", out)
	}
	if out := cmd("oras", "repo", "tags", "--plain-http", at+"/third/api"); out != "1" {
		t.Errorf("tags: %s", out)
	}
	cmd("oras", "manifest", "delete", "--plain-http", "--force", at+"/third/api:1")
	if _, err := crane.Digest(at + "/third/api:1"); err == nil {
		t.Error("it was deleted and is still there")
	}
}
