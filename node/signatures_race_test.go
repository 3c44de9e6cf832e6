package node

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	digests "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hansa-mesh/hansa/node/pack"
	"github.com/hansa-mesh/hansa/node/signature"
	"github.com/hansa-mesh/hansa/node/upstream"
	"github.com/hansa-mesh/hansa/placement"
)

// Somebody signs a copy in the mesh, also through another peer, while the signatures of
// its registry are on their way here: that push was acknowledged, and stands.
func TestSignedWhileSignaturesComeFromOutside(t *testing.T) {
	for _, beforeToo := range []bool{false, true} {
		t.Run(fmt.Sprintf("signed before: %v", beforeToo), func(t *testing.T) {
			m := wallMesh(t, 3)
			for _, s := range m.sites {
				s.node.upstreams.registries = upstream.New(upstream.Config{})
			}
			o := newOutside(t)
			key, public := signingKey(t)
			own, ownPublic := signingKey(t)
			digest := o.push(t, "shop/api:1")
			at, target := o.packages(t, "shop/api:1")
			if _, err := pack.Sign(t.Context(), key, at, target, digests.Digest(digest)); err != nil {
				t.Fatal(err)
			}
			ref, err := upstream.Parse(o.name("shop/api@" + digest))
			if err != nil {
				t.Fatal(err)
			}
			want := []string{public, ownPublic}
			if beforeToo {
				first, firstPublic := signingKey(t)
				m.sign(m.sites[0], first, ref.Cached(), digest, ref.Cached())
				want = append(want, firstPublic)
			}
			var once sync.Once
			o.between.Store(func(path string) {
				if strings.Contains(path, "/blobs/") { // what was there before is known by now
					once.Do(func() { m.sign(m.sites[1], own, ref.Cached(), digest, ref.Cached()) })
				}
			})
			if n, err := m.sites[0].node.mirrorSignatures(t.Context(), "default", "", ref); err != nil || n != 1 {
				t.Fatal(n, err)
			}
			for i, public := range want {
				m.demand(m.sites[0], fmt.Sprintf("by%d", i), "", public)
				c := webOf("x", o.name("shop/api@"+digest)).Components["web"]
				if err := m.sites[0].node.permitted(t.Context(), fmt.Sprintf("by%d", i), c, ""); err != nil {
					t.Errorf("the signature of key %d is gone: %v", i, err)
				}
			}
		})
	}
}

// Two sides of a cut signed the same image, by a key each. What is brought from its
// registry then ends the conflict, and all three have signed it.
func TestSignaturesFromOutsideJoinBothSides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 4, 20*time.Millisecond)
		defer m.close()
		here, there := m.sites[0], m.sites[2]
		parts, err := m.push(here, "shop", "1.4", 50_000)
		if err != nil {
			t.Fatal(err)
		}
		root := parts[len(parts)-1]
		m.net.Partition([]string{here.addr, m.sites[1].addr}, []string{there.addr, m.sites[3].addr})
		for _, s := range m.sites {
			m.until("it is cut in two", time.Minute, func() error {
				if n := s.node.PeersReady(t.Context()); n != 2 {
					return fmt.Errorf("%s sees %d", s.name, n)
				}
				return nil
			})
		}
		var publics []string
		for _, s := range []*testSite{here, there} {
			key, public := signingKey(t)
			m.sign(s, key, "shop", root, "shop")
			publics = append(publics, public)
		}
		m.net.Heal()
		var view placement.ImageView
		see := func() (err error) {
			view, _, err = here.node.imageNamed(t.Context(), "shop", signature.Tag(root))
			return err
		}
		m.until("the conflict is known", 5*time.Minute, func() error {
			if err := see(); err != nil || len(view.Sides) != 2 {
				return fmt.Errorf("%+v %w", view, err)
			}
			return nil
		})
		for _, side := range view.Sides { // nothing is new in what a side has
			var data []byte
			m.until("this peer reads what a side has", time.Minute, func() (err error) {
				data, err = here.node.readFile(t.Context(), side.Digest, side.Size, 1<<20)
				return err // its name may come before this peer reaches those who have it
			})
			if isNew, err := here.node.mirrorOver(t.Context(), side, data); isNew || err != nil {
				t.Errorf("what a side has: %v, %v", isNew, err)
			}
		}
		named, data, public := m.signedAlone(here, root)
		m.until("those who decide know of both sides", 5*time.Minute, func() error {
			isNew, err := here.node.mirrorOver(t.Context(), named, data)
			switch {
			case errors.Is(err, placement.ErrConflict) || errors.Is(err, placement.ErrUnavailable):
				return err // or who has a side's bytes is not heard of again yet
			case err != nil || !isNew:
				t.Fatal(isNew, err)
			}
			return nil
		})
		m.until("this peer hears that it is over", time.Minute, func() error { // who decides may be another
			if err := see(); err != nil || view.Conflict {
				return fmt.Errorf("%+v %w", view, err)
			}
			return nil
		})
		for i, public := range append(publics, public) {
			namespace := fmt.Sprintf("by%d", i)
			m.demand(here, namespace, "", public)
			c := placement.Component{Container: &placement.Container{Image: "shop@" + root}}
			if err := here.node.permitted(t.Context(), namespace, c, ""); err != nil {
				t.Errorf("the signature of key %d is gone: %v", i, err)
			}
		}
	})
}

// signedAlone are the files of a signature at a peer, and the name that they are to get.
func (m *mesh) signedAlone(s *testSite, root string) (named placement.Image, manifest []byte, public string) {
	m.t.Helper()
	key, public := signingKey(m.t)
	top, blobs, err := signature.Sign(m.t.Context(), key, signature.Subject{Repository: "shop", Digest: root}, nil, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	for _, b := range append(blobs, *top) {
		m.write(s, b.Descriptor.MediaType, b.Data)
	}
	return placement.Image{Repository: "shop", Reference: signature.Tag(root), Digest: top.Descriptor.Digest.String(),
		MediaType: ocispec.MediaTypeImageManifest, Size: top.Descriptor.Size}, top.Data, public
}

// All peers bring signatures of one image at once, each two other ones: none is lost.
func TestSignaturesFromOutsideAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 4, 20*time.Millisecond)
		defer m.close()
		parts, err := m.push(m.sites[0], "shop", "1.4", 50_000)
		if err != nil {
			t.Fatal(err)
		}
		root := parts[len(parts)-1]
		var publics []string
		var all sync.WaitGroup
		for _, s := range append(m.sites, m.sites...) {
			named, data, public := m.signedAlone(s, root)
			publics = append(publics, public)
			all.Go(func() {
				if isNew, err := s.node.mirrorBeside(t.Context(), named, data); !isNew || err != nil {
					t.Errorf("%s: %v, %v", s.name, isNew, err)
				}
			})
		}
		all.Wait()
		for i, public := range publics {
			namespace := fmt.Sprintf("by%d", i)
			m.demand(m.sites[0], namespace, "", public)
			c := placement.Component{Container: &placement.Container{Image: "shop@" + root}}
			m.until("all are known", time.Minute, func() error { return m.sites[0].node.permitted(t.Context(), namespace, c, "") })
		}
	})
}

// The mesh has an image for two architectures, the manifest of the first can't be had,
// and that of the second is at another peer: what that is made of is signed still, and
// of what it is not made of nobody knows.
func TestPartOfWithoutAnArchitecture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 2, 20*time.Millisecond)
		defer m.close()
		s, other := m.sites[0], m.sites[1]
		layer := m.write(other, ocispec.MediaTypeImageLayer, []byte("layer"))
		config := m.write(other, ocispec.MediaTypeImageConfig, []byte("{}"))
		here := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: []ocispec.Descriptor{layer}}
		manifest := m.write(other, ocispec.MediaTypeImageManifest, marshal(t, here))
		manifest.Platform = &ocispec.Platform{OS: "linux", Architecture: "arm64"}
		absent := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: absentDigest, Size: 100, Platform: &ocispec.Platform{OS: "linux", Architecture: "amd64"}}
		root := m.write(s, ocispec.MediaTypeImageIndex, marshal(t, ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2},
			MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{absent, manifest}})).Digest.String()
		var refs []placement.Reference
		for _, arch := range []string{"amd64", "arm64"} {
			refs = append(refs, placement.Reference{Artifact: placement.Artifact{Digest: root, Tree: true, Arch: arch}})
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		digest := layer.Digest.String()
		if err := s.node.partOf(ctx, root, digest, refs); err != nil {
			t.Errorf("what is of the other one: %v", err)
		}
		if err := s.node.partOf(ctx, root, digests.FromString("other").String(), refs); !errors.Is(err, placement.ErrUnavailable) {
			t.Errorf("what may be of the one that is not here: %v", err)
		}
	})
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// Two sign at once at two peers, as other programs do: each has read what was there,
// and pushes that with its own. Neither is lost; what has all is put as it came, and
// what is too large together is refused.
func TestPushedSignaturesJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 3, 20*time.Millisecond)
		defer m.close()
		root := m.sites[0].pushImage(t, "shop:1", "layer")
		path := "/v2/shop/manifests/" + signature.Tag(root)
		push := func(s *testSite, key crypto.Signer, old []byte) ([]byte, *httptest.ResponseRecorder) {
			open := func(ctx context.Context, d ocispec.Descriptor, max int64) ([]byte, error) {
				return s.node.readFile(ctx, d.Digest.String(), d.Size, max)
			}
			top, blobs, err := signature.Sign(t.Context(), key, signature.Subject{Repository: "shop", Digest: root}, old, open)
			if err != nil {
				t.Error(err)
				return nil, nil
			}
			for _, b := range blobs {
				s.ask(t, "POST", "/v2/shop/blobs/uploads/?digest="+b.Descriptor.Digest.String(), string(b.Data))
			}
			return top.Data, s.ask(t, "PUT", path, string(top.Data))
		}
		s := m.sites[0]
		var publics []string
		var data []byte
		for _, s := range m.sites[:2] {
			key, public := signingKey(t)
			publics = append(publics, public)
			var w *httptest.ResponseRecorder
			if data, w = push(s, key, data); w == nil || w.Code != http.StatusCreated || s.ask(t, "GET", path, "").Body.String() != string(data) {
				t.Fatalf("%s: what has all that was there is not put as it is: %v", s.name, w)
			}
		}
		var all sync.WaitGroup
		for _, s := range m.sites {
			key, public := signingKey(t)
			publics = append(publics, public)
			all.Go(func() {
				if _, w := push(s, key, data); w == nil || w.Code != http.StatusCreated {
					t.Errorf("%s: %v", s.name, w)
				}
			})
		}
		all.Wait()
		for i, public := range publics {
			namespace := fmt.Sprintf("by%d", i)
			m.demand(s, namespace, "", public)
			c := placement.Component{Container: &placement.Container{Image: "shop@" + root}}
			m.until("it is signed", time.Minute, func() error { return s.node.permitted(t.Context(), namespace, c, "") })
		}
		var many ocispec.Manifest
		if err := json.Unmarshal(data, &many); err != nil {
			t.Fatal(err)
		}
		l := many.Layers[0]
		many.Layers = nil
		for i := range 256 { // none of which it has
			l.Annotations = map[string]string{"dev.cosignproject.cosign/signature": fmt.Sprint(i)}
			many.Layers = append(many.Layers, l)
		}
		if w := s.ask(t, "PUT", path, string(marshal(t, many))); w.Code != http.StatusRequestEntityTooLarge || !strings.Contains(w.Body.String(), "delete some first") {
			t.Errorf("too many together: %d %s", w.Code, w.Body)
		}
	})
}
