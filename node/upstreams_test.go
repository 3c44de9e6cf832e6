package node

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/node/image"
	"github.com/hansa-mesh/hansa/node/upstream"
	"github.com/hansa-mesh/hansa/placement"
)

// outside is a registry that is not of the mesh.
type outside struct {
	*httptest.Server
	password atomic.Value // that it wants; "" for none
	asked    asked
	between  atomic.Value // func(path string), called before an answer
}

func newOutside(t *testing.T) *outside {
	o := &outside{}
	o.password.Store("")
	inner := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)), ggcr.WithReferrersSupport(true))
	o.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.asked.note(r.URL.Path)
		want := o.password.Load().(string)
		if _, got, _ := r.BasicAuth(); want != "" && got != want {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"not `+got+`"}]}`, http.StatusUnauthorized)
			return
		}
		if f, ok := o.between.Load().(func(string)); ok {
			f(r.URL.Path)
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(o.Close)
	return o
}

func (o *outside) name(rest string) string { return strings.TrimPrefix(o.URL, "http://") + "/" + rest }

// push puts an image for this machine and for another one there.
func (o *outside) push(t *testing.T, to string) (digest string) {
	t.Helper()
	var index v1.ImageIndex = empty.Index
	for _, arch := range []string{ownArch, "mips"} {
		img, err := random.Image(100_000, 2)
		if err != nil {
			t.Fatal(err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
	}
	ref, err := name.ParseReference(o.name(to))
	if err == nil {
		err = remote.WriteIndex(ref, index)
	}
	if err != nil {
		t.Fatal(err)
	}
	hash, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return hash.String()
}

// webOf is an app of one container.
func webOf(app, image string) placement.App {
	return placement.App{Namespace: "default", Name: app, Components: map[string]placement.Component{
		"web": {Container: &placement.Container{Image: image}},
	}}
}

// deployed puts an app, and is what the mesh made of it.
func (m *mesh) deployed(at *testSite, app placement.App) (api.PutResult, api.AppDetail) {
	m.t.Helper()
	r, err := backend{at.node}.PutApp(m.t.Context(), api.PutRequest{App: app})
	if err != nil {
		m.t.Fatal(err)
	}
	d, err := backend{at.node}.GetApp(m.t.Context(), app.Key())
	if err != nil {
		m.t.Fatal(err)
	}
	return r, d
}

func says(notes []string, what string) bool {
	return slices.ContainsFunc(notes, func(n string) bool { return strings.Contains(n, what) })
}

// TestImagesFromOutside: the peer that accepts an app pulls its image, the mesh holds
// it, and what runs is pinned until the next deploy; without the registry the mesh
// goes on with what it has.
func TestImagesFromOutside(t *testing.T) {
	m := wallMesh(t, 3)
	for _, s := range m.sites {
		s.node.upstreams.registries = upstream.New(upstream.Config{AnswerMax: time.Second, QuietMax: time.Second})
	}
	o := newOutside(t)
	first := o.push(t, "shop/api:1")
	app := webOf("shop", o.name("shop/api:1"))

	_, d := m.deployed(m.sites[0], app)
	if got := d.Spec.Components["web"].Container.Image; got != o.name("shop/api:1@"+first) {
		t.Errorf("what runs is %s, want the tag pinned to %s", got, first)
	}
	if len(d.Artifacts) != 1 || !d.Artifacts[0].Tree || d.Artifacts[0].Digest != first || d.Artifacts[0].Arch != ownArch || d.Artifacts[0].Size < 200_000 {
		t.Errorf("its artifacts are %+v", d.Artifacts)
	}
	m.until("two peers hold it", time.Minute, func() error {
		holders := 0
		for _, s := range m.sites {
			if tree, err := image.Walk(treeStore{s.node.store.Blobs()}, first, ownArch); err == nil && tree.Whole() {
				holders++
			}
		}
		if holders < 2 {
			return fmt.Errorf("%d do", holders)
		}
		return nil
	})

	// Nothing happens to what runs when the tag moves, until it is deployed again.
	second := o.push(t, "shop/api:1")
	r, d := m.deployed(m.sites[1], webOf("other", o.name("shop/api@"+first)))
	if got := d.Spec.Components["web"].Container.Image; got != o.name("shop/api@"+first) || len(d.Artifacts) != 1 {
		t.Errorf("an app that names a digest of the mesh is %s with %+v: %v", got, d.Artifacts, r.Warnings)
	}
	m.until("the second peer knows of the app", time.Minute, func() error {
		_, err := backend{m.sites[1].node}.GetApp(t.Context(), app.Key())
		return err
	})
	r, d = m.deployed(m.sites[1], app)
	if got := d.Spec.Components["web"].Container.Image; r.Unchanged || !strings.HasSuffix(got, second) || !says(r.Warnings, "has moved") {
		t.Errorf("deployed again it is %s, unchanged: %v, %q", got, r.Unchanged, r.Warnings)
	}
	if r, _ = m.deployed(m.sites[1], app); !r.Unchanged {
		t.Error("deployed a third time it is another")
	}

	// What the registry has not, or gives to others, is refused, by name.
	if _, err := (backend{m.sites[0].node}).PutApp(t.Context(), api.PutRequest{App: webOf("none", o.name("shop/none:1"))}); !errors.Is(err, placement.ErrInvalid) ||
		!strings.Contains(err.Error(), "components.web.container.image") || !strings.Contains(err.Error(), o.name("")[:9]) {
		t.Errorf("an image that is nowhere: %v", err)
	}
	o.password.Store("right-one-of-the-registry")
	if _, err := (backend{m.sites[0].node}).PutSecret(t.Context(), "default", "registry", []byte("ann:wrong-one-of-ann")); err != nil {
		t.Fatal(err)
	}
	wrong := webOf("wrong", o.name("shop/api:1"))
	wrong.Components["web"].Container.Credentials = "registry"
	if _, err := (backend{m.sites[0].node}).PutApp(t.Context(), api.PutRequest{App: wrong}); !errors.Is(err, placement.ErrInvalid) ||
		!strings.Contains(err.Error(), "credentials") || strings.Contains(err.Error(), "wrong-one") {
		t.Errorf("wrong credentials: %v", err)
	}
	if _, err := (backend{m.sites[0].node}).PutSecret(t.Context(), "default", "registry", []byte("ann:right-one-of-the-registry\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := (backend{m.sites[0].node}).PutApp(t.Context(), api.PutRequest{App: wrong}); err != nil {
		t.Errorf("right credentials: %v", err)
	}

	// The registry dies: the mesh has what it had of it.
	o.CloseClientConnections()
	o.Close()
	r, d = m.deployed(m.sites[2], webOf("late", o.name("shop/api:1")))
	if got := d.Spec.Components["web"].Container.Image; !strings.HasSuffix(got, second) || !says(r.Warnings, "ago") || !says(r.Warnings, "is what was pulled at") {
		t.Errorf("without the registry it is %s, %q", got, r.Warnings)
	}
	if plan, err := (backend{m.sites[2].node}).Plan(t.Context(), app); err != nil || !says(plan.Warnings, "ago") {
		t.Errorf("the plan says %q, %v", plan.Warnings, err)
	}
	r, d = m.deployed(m.sites[2], webOf("unknown", o.name("shop/another:1")))
	if got := d.Spec.Components["web"].Container.Image; got != o.name("shop/another:1") || len(d.Artifacts) != 0 || !says(r.Warnings, "left to each host's engine") {
		t.Errorf("what nobody has is %s with %+v, %q", got, d.Artifacts, r.Warnings)
	}
}

// TestImagesOfTheMesh: a name of the mesh is what it stands for at the deploy, and
// comes before one of a registry outside.
func TestImagesOfTheMesh(t *testing.T) {
	m := wallMesh(t, 2)
	at := m.sites[0]
	first := at.pushImage(t, "shop/web:2", "first")
	r, d := m.deployed(at, webOf("shop", "shop/web:2"))
	if got := d.Spec.Components["web"].Container.Image; got != "shop/web:2@"+first || len(d.Artifacts) != 1 || !d.Artifacts[0].Tree || d.Artifacts[0].Arch != "" {
		t.Errorf("it is %s with %+v, %q", got, d.Artifacts, r.Warnings)
	}
	second := at.pushImage(t, "shop/web:2", "second")
	if d, err := (backend{at.node}).GetApp(t.Context(), d.Spec.Key()); err != nil || d.Spec.Components["web"].Container.Image != "shop/web:2@"+first {
		t.Errorf("the tag moved, and with it what runs: %+v, %v", d.Spec, err)
	}
	if plan, err := (backend{at.node}).Plan(t.Context(), webOf("shop", "shop/web:2")); err != nil || plan.Change != "update" {
		t.Errorf("a deploy would be %q, %v", plan.Change, err)
	}
	if r, d = m.deployed(at, webOf("shop", "shop/web:2")); d.Spec.Components["web"].Container.Image != "shop/web:2@"+second || !says(r.Warnings, "has moved") {
		t.Errorf("deployed again it is %+v, %q", d.Spec.Components["web"].Container, r.Warnings)
	}
	// What was pinned stays that, as a deploy of what is shown does.
	if r, d = m.deployed(at, webOf("shop", "shop/web:2@"+first)); !strings.HasSuffix(d.Spec.Components["web"].Container.Image, first) || len(d.Artifacts) != 1 {
		t.Errorf("pinned by hand it is %+v, %q", d.Spec.Components["web"].Container, r.Warnings)
	}
	if _, err := (backend{at.node}).PutApp(t.Context(), api.PutRequest{App: webOf("bad", "Shop/../web")}); !errors.Is(err, placement.ErrInvalid) {
		t.Errorf("what is no name: %v", err)
	}
}

// TestEngines: the engine of this machine reads, nobody else, and nothing is written.
func TestEngines(t *testing.T) {
	asked := 0
	e := &engines{password: "p", next: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked++ })}
	for _, tc := range []struct {
		method, user, password string
		status                 int
	}{
		{http.MethodGet, "", "", http.StatusUnauthorized},
		{http.MethodGet, enginesUser, "q", http.StatusUnauthorized},
		{http.MethodGet, "ann", "p", http.StatusUnauthorized},
		{http.MethodPost, enginesUser, "p", http.StatusMethodNotAllowed},
		{http.MethodDelete, enginesUser, "p", http.StatusMethodNotAllowed},
		{http.MethodHead, enginesUser, "p", http.StatusOK},
		{http.MethodGet, enginesUser, "p", http.StatusOK},
	} {
		w, r := httptest.NewRecorder(), httptest.NewRequest(tc.method, "/v2/shop/api/manifests/1", nil)
		r.SetBasicAuth(tc.user, tc.password)
		if e.ServeHTTP(w, r); w.Code != tc.status {
			t.Errorf("%s by %s:%s is %d, want %d", tc.method, tc.user, tc.password, w.Code, tc.status)
		}
	}
	if asked != 2 {
		t.Errorf("%d requests came through, want 2", asked)
	}
}
