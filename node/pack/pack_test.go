package pack

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"cuelabs.dev/go/oci/ociregistry"
	"cuelabs.dev/go/oci/ociregistry/ociclient"
	"cuelabs.dev/go/oci/ociregistry/ocimem"
	"cuelabs.dev/go/oci/ociregistry/ociserver"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hansa-mesh/hansa/node/pack/disk"
	"github.com/hansa-mesh/hansa/placement"
)

// served is a registry that is spoken to over HTTP.
type served struct {
	ociregistry.Interface
	host string
	mem  *ocimem.Registry
}

// serve serves a registry; around may see and change what is asked.
func serve(t *testing.T, around func(http.Handler) http.Handler) served {
	t.Helper()
	mem := ocimem.New()
	var handler http.Handler = ociserver.New(mem, nil)
	if around != nil {
		handler = around(handler)
	}
	web := httptest.NewServer(handler)
	t.Cleanup(web.Close)
	host := strings.TrimPrefix(web.URL, "http://")
	client, err := ociclient.New(host, &ociclient.Options{Insecure: true})
	if err != nil {
		t.Fatal(err)
	}
	return served{client, host, mem}
}

func (s served) at(repository string) Remote { return Remote{s.Interface, repository} }

// yard is a folder with an app of all kinds.
type yard struct {
	dir   string
	app   placement.App
	disk  []byte
	index v1.ImageIndex
}

func noise(seed uint64, size int) []byte {
	rnd, out := rand.NewChaCha8([32]byte{byte(seed)}), make([]byte, size)
	_, _ = rnd.Read(out) // never fails
	return out
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// newYard makes one: a function, a program for two architectures, a machine, and
// a container whose image is for two.
func newYard(t *testing.T) yard {
	t.Helper()
	y := yard{dir: t.TempDir(), disk: append(noise(1, 3<<20), make([]byte, 2<<20)...)}
	write(t, filepath.Join(y.dir, "price.wasm"), noise(2, 40_000))
	write(t, filepath.Join(y.dir, "meter-amd64"), noise(3, 9<<20))
	write(t, filepath.Join(y.dir, "meter-arm64"), noise(4, 30_000))
	write(t, filepath.Join(y.dir, "vmlinuz"), noise(5, 20_000))
	write(t, filepath.Join(y.dir, "db.qcow2"), y.disk)
	for _, arch := range []string{"amd64", "arm64"} {
		img, err := random.Image(2048, 2)
		if err != nil {
			t.Fatal(err)
		}
		// What tools turn into others on their way are images of Docker's own types.
		img = mutate.ConfigMediaType(mutate.MediaType(img, types.OCIManifestSchema1), types.OCIConfigJSON)
		if y.index == nil {
			y.index = mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
		}
		y.index = mutate.AppendManifests(y.index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
	}
	writeLayout(t, filepath.Join(y.dir, "web"), y.index)
	y.app = placement.App{Name: "shop", Components: map[string]placement.Component{
		"price": {Function: &placement.Function{Module: "./price.wasm"}},
		"meter": {Server: &placement.Server{Process: &placement.Process{Command: []string{"./meter"}, Artifact: placement.PackageOf(map[string]string{"amd64": "./meter-amd64", "arm64": "./meter-arm64"})}}},
		"db":    {Server: &placement.Server{Image: "./db.qcow2", Kernel: "./vmlinuz"}},
		"web":   {Container: &placement.Container{Image: "./web", Credentials: "registry"}},
	}}
	return y
}

func writeLayout(t *testing.T, dir string, index v1.ImageIndex) {
	t.Helper()
	path, err := layout.Write(dir, empty.Index)
	if err == nil {
		err = path.AppendIndex(index)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (y yard) options() Options {
	f := Finder{Dir: y.dir, Registry: func(ref Ref) (Remote, error) { return Remote{}, fmt.Errorf("no registry for %s", ref) }}
	return Options{Dir: y.dir, Find: f.Find}
}

// build packs the yard's app and tags it.
func (y yard) build(t *testing.T, to Target, ref Ref) Manifest {
	t.Helper()
	m, err := Build(t.Context(), []placement.App{y.app}, to, y.options())
	if err == nil {
		err = to.Tag(t.Context(), m.Descriptor, m.Data, ref)
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

var shop = Ref{Repository: "shop", Tag: "1.4"}

// A package goes to a registry, to a tar file, to a folder and to another
// registry, and is what it was.
func TestPackageTravels(t *testing.T) {
	y, first, second := newYard(t), serve(t, nil), serve(t, nil)
	built := y.build(t, first.at("shop"), shop)
	var from Source = first.at("shop")
	for _, name := range []string{filepath.Join(t.TempDir(), "shop.tar"), filepath.Join(t.TempDir(), "shop")} {
		w, err := CreateLayout(name)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Discard()
		copyTo(t, from, built.Descriptor, w, shop)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		l, err := OpenLayout(name)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		root, as, err := l.Root("")
		if err != nil || root.Digest != built.Descriptor.Digest || as != "shop:1.4" {
			t.Fatalf("the layout holds %s as %q: %v", root.Digest, as, err)
		}
		from = l
	}
	there := second.at("elsewhere/shop")
	ref := Ref{Repository: "elsewhere/shop", Tag: "new"}
	copyTo(t, from, built.Descriptor, there, ref)
	m, err := there.Resolve(t.Context(), ref)
	if err != nil || m.Descriptor.Digest != built.Descriptor.Digest {
		t.Fatalf("the tag is %s: %v", m.Descriptor.Digest, err)
	}
	p, err := Read(t.Context(), there, m)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Unfold(t.Context(), there); err != nil {
		t.Fatal(err)
	}
	y.check(t, p.Deploy(ref), there)
}

func copyTo(t *testing.T, from Source, root ocispec.Descriptor, to Target, ref Ref) {
	t.Helper()
	m, err := Copy(t.Context(), from, root, to)
	if err == nil {
		err = to.Tag(t.Context(), m.Descriptor, m.Data, ref)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// check sees that apps name what is in the repository.
func (y yard) check(t *testing.T, apps []placement.App, at Remote) {
	t.Helper()
	if len(apps) != 1 || apps[0].Name != "shop" {
		t.Fatalf("the apps are %v", apps)
	}
	c := apps[0].Components
	for file, digest := range map[string]string{
		"price.wasm": c["price"].Function.Module, "meter-arm64": c["meter"].Server.Process.Artifact.For("arm64"),
		"meter-amd64": c["meter"].Server.Process.Artifact.For("amd64"), "vmlinuz": string(c["db"].Server.Kernel),
	} {
		data, err := os.ReadFile(filepath.Join(y.dir, file))
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("sha256:%x", sha256.Sum256(data)); digest != want {
			t.Errorf("%s is %q, and is %s", file, digest, want)
		}
		d := ocispec.Descriptor{MediaType: layerType, Digest: refOf(t, "x@"+digest).Digest, Size: int64(len(data))}
		if got, err := readAll(t.Context(), at, d, 1<<30); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s is read as %d bytes, %v", file, len(got), err)
		}
	}
	web := refOf(t, c["web"].Container.Image)
	want, err := y.index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if web.Repository != at.Repository || string(web.Digest) != want.String() || c["web"].Container.Credentials != "" {
		t.Errorf("the image is %s with credentials %q, and is %s", web, c["web"].Container.Credentials, want)
	}
	if m, err := at.Resolve(t.Context(), web); err != nil || m.Descriptor.MediaType != ocispec.MediaTypeImageIndex {
		t.Errorf("the image can't be pulled: %v", err)
	}
	if got := y.joined(t, refOf(t, string(c["db"].Server.Image)), at); !bytes.Equal(got, y.disk) {
		t.Error("the disk is another")
	}
}

func refOf(t *testing.T, text string) Ref {
	t.Helper()
	ref, err := ParseRef(text)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// joined is a disk, put together.
func (y yard) joined(t *testing.T, ref Ref, at Remote) []byte {
	t.Helper()
	m, err := at.Resolve(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	_, parsed, err := readManifest(t.Context(), at, m.Descriptor)
	if err != nil {
		t.Fatal(err)
	}
	data, err := readAll(t.Context(), at, *parsed.Config, disk.IndexMax)
	if err != nil {
		t.Fatal(err)
	}
	x, err := disk.Parse(data, parsed.Layers)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := x.Join(t.Context(), parsed.Layers, at.Open, f); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return whole
}

// What is there is not sent again, and the same files are the same package.
func TestPackedAgainSendsNothing(t *testing.T) {
	y, r := newYard(t), serve(t, nil)
	first := Count(r.at("shop"))
	built := y.build(t, first, shop)
	second := Count(r.at("shop"))
	if again := y.build(t, second, shop); again.Descriptor.Digest != built.Descriptor.Digest {
		t.Errorf("it is %s now, and was %s", again.Descriptor.Digest, built.Descriptor.Digest)
	}
	if first.Sent.Load() == 0 || second.Sent.Load() != 0 || second.There.Load() == 0 {
		t.Errorf("first %d were sent, then %d, and %d were there", first.Sent.Load(), second.Sent.Load(), second.There.Load())
	}
}

// failing is a target that fails after so many have arrived.
type failing struct {
	Target
	mu   sync.Mutex // guards left
	left int
}

var errCut = errors.New("the line is cut")

func (f *failing) Put(ctx context.Context, d ocispec.Descriptor, open func() (io.ReadCloser, error)) error {
	f.mu.Lock()
	f.left--
	left := f.left
	f.mu.Unlock()
	if left < 0 {
		return errCut
	}
	return f.Target.Put(ctx, d, open)
}

func TestInterruptedPackGoesOn(t *testing.T) {
	y := newYard(t)
	for _, to := range map[string]Target{"a registry": serve(t, nil).at("shop"), "a folder": folderAt(t)} {
		cut := &failing{Target: to, left: 6}
		if _, err := Build(t.Context(), []placement.App{y.app}, cut, y.options()); !errors.Is(err, errCut) {
			t.Fatalf("it is %v", err)
		}
		rest := Count(to)
		y.build(t, rest, shop)
		// Of a manifest a folder does not say that it is there: they are small.
		if rest.There.Load() < 4 {
			t.Errorf("6 were there, and %d of them were found", rest.There.Load())
		}
	}
}

func folderAt(t *testing.T) Target {
	t.Helper()
	w, err := CreateLayout(filepath.Join(t.TempDir(), "layout"))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// A long upload goes on where the connection broke.
func TestUploadIsResumed(t *testing.T) {
	var mu sync.Mutex
	var came, broke int64
	r := serve(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, rq *http.Request) {
			if rq.Method == http.MethodPatch {
				mu.Lock()
				came += rq.ContentLength
				cut := came > 2*uploadPart && broke == 0
				if cut {
					broke = rq.ContentLength
				}
				mu.Unlock()
				if cut {
					panic(http.ErrAbortHandler)
				}
			}
			next.ServeHTTP(w, rq)
		})
	})
	data := noise(6, 4*uploadPart+5)
	d := describe(layerType, data)
	to := r.at("shop")
	if err := to.Put(t.Context(), d, fromMemory(data)); err != nil {
		t.Fatal(err)
	}
	if broke == 0 || came > d.Size+2*uploadPart {
		t.Errorf("%d bytes were sent of %d, of which %d broke off", came, d.Size, broke)
	}
	if got, err := readAll(t.Context(), to, d, d.Size); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes arrived: %v", len(got), err)
	}
}

// A registry that takes ranges at their word is not told of one that ends before it
// begins, whatever part of a blob comes last.
func TestUploadsEndWithoutARange(t *testing.T) {
	registry := ociserver.New(ocimem.New(), nil)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, rq *http.Request) {
		var first, last int64
		if _, err := fmt.Sscanf(rq.Header.Get("Content-Range"), "%d-%d", &first, &last); err == nil && last < first {
			http.Error(w, "a range that is none", http.StatusBadRequest)
			return
		}
		registry.ServeHTTP(w, rq)
	}))
	t.Cleanup(web.Close)
	at, err := Peer(strings.TrimPrefix(web.URL, "http://"), true, http.DefaultTransport)
	if err != nil {
		t.Fatal(err)
	}
	to, err := at(shop)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{100, uploadPart, uploadPart + 5, 2 * uploadPart, 2*uploadPart + 5} {
		data := noise(8, size)
		if err := to.Put(t.Context(), describe(layerType, data), fromMemory(data)); err != nil {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

// A download goes on where the connection broke.
func TestDownloadIsResumed(t *testing.T) {
	var mu sync.Mutex
	var cuts int
	r := serve(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, rq *http.Request) {
			mu.Lock()
			cut := rq.Method == http.MethodGet && strings.Contains(rq.URL.Path, "/blobs/") && cuts < 2
			if cut {
				cuts++
			}
			mu.Unlock()
			if cut {
				w = &shortWriter{ResponseWriter: w, left: 100_000}
			}
			next.ServeHTTP(w, rq)
		})
	})
	data := noise(7, 1<<20)
	d := describe(layerType, data)
	from := r.at("shop")
	if err := from.Put(t.Context(), d, fromMemory(data)); err != nil {
		t.Fatal(err)
	}
	if got, err := readAll(t.Context(), from, d, d.Size); err != nil || !bytes.Equal(got, data) || cuts != 2 {
		t.Errorf("%d bytes after %d cuts: %v", len(got), cuts, err)
	}
}

// shortWriter breaks the connection after so many bytes.
type shortWriter struct {
	http.ResponseWriter
	left int
}

func (s *shortWriter) Write(p []byte) (int, error) {
	if len(p) > s.left {
		_, _ = s.ResponseWriter.Write(p[:s.left])
		s.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	s.left -= len(p)
	return s.ResponseWriter.Write(p)
}

func TestPlatformsAreChosen(t *testing.T) {
	y, r := newYard(t), serve(t, nil)
	o := y.options()
	o.Platforms = []string{"linux/arm64"}
	to := r.at("shop")
	m, err := Build(t.Context(), []placement.App{y.app}, to, o)
	if err == nil {
		err = to.Tag(t.Context(), m.Descriptor, m.Data, shop)
	}
	if err != nil {
		t.Fatal(err)
	}
	p, err := Read(t.Context(), to, m)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Images) != 1 {
		t.Errorf("%d images are in it, and one is for linux/arm64", len(p.Images))
	}
	o.Platforms = []string{"plan9/amd64"}
	if _, err := Build(t.Context(), []placement.App{y.app}, to, o); err == nil || !strings.Contains(err.Error(), "linux/amd64") {
		t.Errorf("of a platform that it has not: %v", err)
	}
}

// What docker save writes is an image too.
func TestSavedImage(t *testing.T) {
	y, r := newYard(t), serve(t, nil)
	img, err := random.Image(5000, 3)
	if err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag("web:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := tarball.WriteToFile(filepath.Join(y.dir, "web.tar"), tag, img); err != nil {
		t.Fatal(err)
	}
	y.app.Components = map[string]placement.Component{"web": {Container: &placement.Container{Image: "./web.tar"}}}
	to := r.at("shop")
	m := y.build(t, to, shop)
	p, err := Read(t.Context(), to, m)
	if err != nil {
		t.Fatal(err)
	}
	web := refOf(t, p.Deploy(shop)[0].Components["web"].Container.Image)
	found, err := to.Resolve(t.Context(), web)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Copy(t.Context(), to, found.Descriptor, folderAt(t)); err != nil {
		t.Errorf("it is not whole: %v", err)
	}
}

func TestMistakesOfManifests(t *testing.T) {
	y, to := newYard(t), serve(t, nil).at("shop")
	cases := map[string]struct {
		c    placement.Component
		says string
	}{
		"no such file":        {placement.Component{Function: &placement.Function{Module: "./none.wasm"}}, "no such file"},
		"a folder":            {placement.Component{Function: &placement.Function{Module: "./web"}}, "not a regular file"},
		"a digest":            {placement.Component{Function: &placement.Function{Module: "sha256:" + strings.Repeat("0", 64)}}, "name one as"},
		"no image":            {placement.Component{Container: &placement.Container{Image: "./price.wasm"}}, "neither an OCI image layout"},
		"no name":             {placement.Component{Container: &placement.Container{Image: "Shop/../etc"}}, "no name of"},
		"no such registry":    {placement.Component{Container: &placement.Container{Image: "nowhere.example/web"}}, "no registry for"},
		"no image of engines": {placement.Component{Container: &placement.Container{Image: "docker-daemon:-o"}}, "names no image"},
	}
	for what, c := range cases {
		app := placement.App{Name: "shop", Components: map[string]placement.Component{"c": c.c}}
		_, err := Build(t.Context(), []placement.App{app}, to, y.options())
		if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "components.c.") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestRefs(t *testing.T) {
	digest := "sha256:" + strings.Repeat("a", 64)
	good := map[string]string{
		"shop": "shop:latest", "shop:1.4": "shop:1.4", "a/b_c/d-e:x": "a/b_c/d-e:x", "shop@" + digest: "shop@" + digest,
		"localhost/shop:1": "localhost/shop:1", "r.example:5000/shop": "r.example:5000/shop:latest", "[::1]:5000/a:b": "[::1]:5000/a:b",
		"shop:1.4@" + digest: "shop:1.4@" + digest,
	}
	for text, want := range good {
		if ref, err := ParseRef(text); err != nil || ref.String() != want {
			t.Errorf("%q is %s, %v; want %s", text, ref, err, want)
		}
	}
	for _, text := range []string{"", ":", "Shop", "shop:", "shop:a/b", "../shop", "shop//a", "shop:-x", "shop@sha256:00", "shop@md5:" + strings.Repeat("a", 32),
		strings.Repeat("a", 256), "shop:" + strings.Repeat("a", 129), "-shop", "a..b/../c:1", "exa mple.com/a", "shop:1\n", "shop:../../etc"} {
		if ref, err := ParseRef(text); err == nil {
			t.Errorf("%q is read as %s", text, ref)
		}
	}
}

func TestDeployNamesTheRepository(t *testing.T) {
	y, r := newYard(t), serve(t, nil)
	to := r.at("shop")
	m := y.build(t, to, shop)
	p, err := Read(t.Context(), to, m)
	if err != nil {
		t.Fatal(err)
	}
	before := slices.Clone(p.Apps)
	one, two := p.Deploy(shop), p.Deploy(Ref{Repository: "other", Digest: m.Descriptor.Digest})
	if got := one[0].Components["web"].Container.Image; !strings.HasPrefix(got, "shop@sha256:") {
		t.Errorf("the image is %s", got)
	}
	if got := two[0].Components["web"].Container.Image; !strings.HasPrefix(got, "other@sha256:") {
		t.Errorf("the image is %s", got)
	}
	if !strings.HasPrefix(before[0].Components["web"].Container.Image, "@") {
		t.Error("the package was changed")
	}
}
