package node

import (
	"strings"
	"sync"
	"testing"
	"time"

	digests "github.com/opencontainers/go-digest"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/node/pack"
	"github.com/hansa-mesh/hansa/node/upstream"
)

// packages is the registry outside, for packages and signatures.
func (o *outside) packages(t *testing.T, repository string) (pack.Remote, pack.Ref) {
	t.Helper()
	ref, err := pack.ParseRef(o.name(repository))
	if err != nil {
		t.Fatal(err)
	}
	at, err := pack.Upstream(ref)
	if err != nil {
		t.Fatal(err)
	}
	return at, ref
}

// asked remembers what a registry was asked for.
type asked struct {
	mu    sync.Mutex // guards paths
	paths []string
}

func (a *asked) note(path string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.paths = append(a.paths, path)
}

// count is how many of the questions had a text in them, since the last count.
func (a *asked) count(text string) (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, path := range a.paths {
		n += btoi(strings.Contains(path, text))
	}
	a.paths = nil
	return n
}

// Where a namespace demands signatures, those of an image outside are asked for before
// its bytes: what none of the keys signed there is refused, and none of its layers came;
// what one signed runs, at a peer that heard of the signature from the mesh alone.
func TestSignedImagesFromOutside(t *testing.T) {
	m := wallMesh(t, 3)
	for _, s := range m.sites {
		s.node.upstreams.registries = upstream.New(upstream.Config{AnswerMax: time.Second, QuietMax: time.Second})
	}
	o := newOutside(t)
	seen := &o.asked
	key, public := signingKey(t)
	wrong, _ := signingKey(t)
	m.demand(m.sites[0], "prod", "", public)
	digest := o.push(t, "shop/api:1")
	at, ref := o.packages(t, "shop/api:1")
	app := webOf("shop", o.name("shop/api:1"))
	app.Namespace = "prod"
	put := func(s *testSite) error {
		_, err := backend{s.node}.PutApp(t.Context(), api.PutRequest{App: app})
		return err
	}

	seen.count("")
	if err := refuses(put(m.sites[0]), "no signature", "prod"); err != nil {
		t.Errorf("unsigned: %v", err)
	}
	if plan, err := (backend{m.sites[0].node}).Plan(t.Context(), app); err != nil || plan.Components[0].Refused != "" ||
		!strings.Contains(strings.Join(plan.Warnings, "\n"), "a deploy asks") {
		t.Errorf("what only its registry can tell: a plan says %+v, %v", plan, err)
	}
	if _, err := pack.Sign(t.Context(), wrong, at, ref, digests.Digest(digest)); err != nil {
		t.Fatal(err)
	}
	seen.count("")
	if err := refuses(put(m.sites[0]), "not signed by any of the keys"); err != nil {
		t.Errorf("signed by another key: %v", err)
	}
	if n := seen.count("/blobs/"); n > 2 { // the payload and the config of the signature
		t.Errorf("%d blobs of what is refused were asked for", n)
	}
	if _, err := pack.Sign(t.Context(), key, at, ref, digests.Digest(digest)); err != nil {
		t.Fatal(err)
	}
	if err := put(m.sites[1]); err != nil {
		t.Fatalf("signed: %v", err)
	}
	if seen.count("/blobs/") == 0 {
		t.Error("it was not pulled")
	}
	for _, s := range m.sites {
		pinned := webOf("shop", o.name("shop/api:1@"+digest)).Components["web"]
		m.until(s.name+" would start it", time.Minute, func() error { return s.node.permitted(t.Context(), "prod", pinned, ownArch) })
	}

	// A rule about what comes from a registry holds however it is named.
	n := m.sites[0].node
	m.demand(m.sites[0], "ports", strings.ReplaceAll(strings.TrimSuffix(o.name(""), "/"), ":", "__")+"/*", public)
	if err := refuses(n.permitted(t.Context(), "ports", webOf("x", o.name("x@"+absentDigest)).Components["web"], ""), "no signature"); err != nil {
		t.Errorf("a rule about a registry with a port: %v", err)
	}
	m.demand(m.sites[0], "hub", "docker.io/library/*", public)
	if err := refuses(n.permitted(t.Context(), "hub", webOf("x", "nginx:1").Components["web"], ""), "not pinned"); err != nil {
		t.Errorf("a rule about Docker Hub: %v", err)
	}
	if err := n.permitted(t.Context(), "hub", webOf("x", "shop/own@"+absentDigest).Components["web"], ""); err != nil {
		t.Errorf("an image of the mesh under a rule about Docker Hub: %v", err)
	}

	// One that is here already, and was signed since, is asked for again.
	later := o.push(t, "shop/web:1")
	m.deployed(m.sites[2], webOf("free", o.name("shop/web:1")))
	app.Components = webOf("shop", o.name("shop/web@"+later)).Components
	if err := refuses(put(m.sites[2]), "no signature"); err != nil {
		t.Errorf("what is here and unsigned: %v", err)
	}
	at, ref = o.packages(t, "shop/web:1")
	if _, err := pack.Sign(t.Context(), key, at, ref, digests.Digest(later)); err != nil {
		t.Fatal(err)
	}
	if err := put(m.sites[2]); err != nil {
		t.Errorf("signed since: %v", err)
	}
	// The registry is gone: what it said is known; of what it did not say, that is said.
	o.CloseClientConnections()
	o.Close()
	if err := put(m.sites[0]); err != nil {
		t.Errorf("without the registry: %v", err)
	}
	app.Components = webOf("shop", o.name("shop/web@"+absentDigest)).Components
	if err := refuses(put(m.sites[0]), "no signature", "is not known"); err != nil {
		t.Errorf("one that nobody knows, without the registry: %v", err)
	}
}
