package node

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/node/signature"
	"github.com/hansa-mesh/hansa/placement"
)

func signingKey(t *testing.T) (crypto.Signer, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := signature.EncodePublic(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return key, string(public)
}

// sign puts a signature of a manifest beside it, as a push does. as is the repository
// that it says.
func (m *mesh) sign(s *testSite, key crypto.Signer, repository, digest, as string) {
	m.t.Helper()
	n, ctx := s.node, m.t.Context()
	open := func(ctx context.Context, d ocispec.Descriptor, max int64) ([]byte, error) {
		return n.readFile(ctx, d.Digest.String(), d.Size, max)
	}
	var old []byte
	var view placement.ImageView
	if err := n.loop.look(ctx, func(core *placement.Peer) {
		view, _ = core.Image(placement.ImageKey(repository, signature.Tag(digest)))
	}); err != nil {
		m.t.Fatal(err)
	}
	if view.Image.Digest != "" {
		var err error
		if old, err = n.readFile(ctx, view.Image.Digest, view.Image.Size, 1<<20); err != nil {
			m.t.Fatal(err)
		}
	}
	top, blobs, err := signature.Sign(ctx, key, signature.Subject{Repository: as, Digest: digest}, old, open)
	if err != nil {
		m.t.Fatal(err)
	}
	size := top.Descriptor.Size
	for _, b := range append(blobs, *top) {
		m.write(s, b.Descriptor.MediaType, b.Data)
		size += b.Descriptor.Size
	}
	image := placement.Image{Repository: repository, Reference: signature.Tag(digest), Digest: top.Descriptor.Digest.String(),
		MediaType: top.Descriptor.MediaType, Size: top.Descriptor.Size}
	if _, err := n.submit(ctx, func(ticket uint64) placement.Event {
		return placement.Submit{Ticket: ticket, App: image.App(), Artifacts: []placement.Artifact{{Digest: image.Digest, Size: size, Tree: true}}, Copies: 2}
	}); err != nil {
		m.t.Fatal(err)
	}
}

// fileApp runs a file by its digest.
func fileApp(namespace, name, digest string) placement.App {
	app := serverApp(name, 1)
	app.Namespace = namespace
	c := app.Components["web"]
	c.Server = &placement.Server{Process: &placement.Process{Command: []string{"./run"}, Artifact: placement.Package(digest)}}
	app.Components["web"] = c
	return app
}

func (m *mesh) demand(at *testSite, namespace, images string, keys ...string) {
	m.t.Helper()
	p, err := backend{at.node}.PutPolicy(m.t.Context(), namespace, "", []api.SignatureRule{{Images: images, Keys: keys}})
	if err != nil || len(p.Signatures) != 1 {
		m.t.Fatal(p, err)
	}
	for _, s := range m.sites {
		m.until("the policy is known", time.Minute, func() error {
			if p, err := (backend{s.node}).Policy(m.t.Context(), namespace); err != nil || len(p.Signatures) == 0 {
				return fmt.Errorf("%s: %+v %w", s.name, p, err)
			}
			return nil
		})
	}
}

// refuses says whether a deploy is refused for want of a signature.
func refuses(err error, texts ...string) error {
	if !errors.Is(err, api.ErrForbidden) {
		return fmt.Errorf("not refused: %v", err)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			return fmt.Errorf("%q is not in %w", text, err)
		}
	}
	return nil
}

// Where a namespace demands signatures, nothing is deployed that no demanded key
// signed, at any peer: a wrong key, another repository and another image do not do,
// and what is in a signed package does.
func TestSignaturesAreDemanded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 3, 40*time.Millisecond)
		defer m.close()
		key, public := signingKey(t)
		wrong, _ := signingKey(t)
		m.demand(m.sites[0], "prod", "", public)
		parts, err := m.push(m.sites[0], "shop", "1.4", 50_000)
		if err != nil {
			t.Fatal(err)
		}
		file, root := parts[1], parts[len(parts)-1]
		put := func(at *testSite, app placement.App) error {
			t.Helper()
			if err := at.node.fetchFile(t.Context(), file, 0, nil); err != nil {
				t.Fatal(err)
			}
			_, err := backend{at.node}.PutApp(t.Context(), api.PutRequest{App: app})
			return err
		}
		app := fileApp("prod", "shop", file)
		for _, s := range m.sites {
			refusal := put(s, app)
			if err := refuses(refusal, "not signed by a key that namespace prod demands", file); err != nil {
				t.Errorf("%s, unsigned: %v", s.name, err)
			} else if plan, err := (backend{s.node}).Plan(t.Context(), app); err != nil || "components.web: "+plan.Components[0].Refused != refusal.Error() {
				t.Errorf("%s: a plan says %+v, %v; a deploy %v", s.name, plan, err, refusal)
			}
		}
		m.sign(m.sites[0], wrong, "shop", root, "shop")
		m.sign(m.sites[1], key, "shop", root, "shop/api") // that it is of shop/api it may say, but not here
		if err := refuses(put(m.sites[2], app), "not signed by a key"); err != nil {
			t.Errorf("by a wrong key, and for another repository: %v", err)
		}
		image := func(name string) placement.Component {
			return placement.Component{Container: &placement.Container{Image: name}}
		}
		check := func(at *testSite, namespace, name string) error {
			return at.node.permitted(t.Context(), namespace, image(name), "")
		}
		if err := refuses(check(m.sites[1], "prod", "shop:1.4@"+root), "signed as", "not as shop"); err != nil {
			t.Errorf("the image: %v", err)
		}
		m.sign(m.sites[1], key, "shop", root, "127.0.0.1:7601/shop")
		m.until("the signature is known", time.Minute, func() error { return put(m.sites[2], app) })
		if plan, err := (backend{m.sites[2].node}).Plan(t.Context(), app); err != nil || plan.Components[0].Refused != "" {
			t.Errorf("signed: a plan says %+v, %v", plan, err)
		}
		m.until("it runs", time.Minute, func() error { return m.runOnce(m.sites[0], "shop", 1, "s1", "s2", "s3") })
		if err := put(m.sites[0], fileApp("test", "free", file)); err != nil {
			t.Errorf("another namespace: %v", err)
		}
		for name, want := range map[string][]string{
			"shop:1.4@" + root:      nil,
			"shop@" + file:          nil, // a part of what is signed
			"shop/api@" + root:      {"not signed", "no signature"},
			"shop:1.4":              {"not pinned"},
			"shop@" + absentDigest:  {"not signed"},
			"other.host/x@" + root:  {"not signed"},
			"shop:1.4@sha256:short": {"not pinned"},
		} {
			err := check(m.sites[2], "prod", name)
			if want != nil {
				err = refuses(err, want...)
			}
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		host := serverApp("sh", 1)
		host.Namespace = "prod"
		if err := refuses(put(m.sites[0], host), "program of the host"); err != nil {
			t.Errorf("a program of the host: %v", err)
		}
		m.demand(m.sites[2], "strict", "shop/*", public)
		for name, want := range map[string]bool{"shop/api@" + root: false, "elsewhere/api@" + root: true} {
			if err := check(m.sites[0], "strict", name); (err == nil) != want {
				t.Errorf("a rule for shop/*: %s: %v", name, err)
			}
		}
	})
}

const absentDigest = "sha256:00000000000000000000000000000000000000000000000000000000000000aa"

// A policy that is set later, or that the accepting peer did not know, holds at the
// peer that would run it, which says why it does not; once it is signed it starts.
func TestSignaturesAreCheckedAtTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 2, 20*time.Millisecond)
		defer m.close()
		key, public := signingKey(t)
		parts, err := m.push(m.sites[0], "shop", "1.4", 50_000)
		if err != nil {
			t.Fatal(err)
		}
		file, root := parts[1], parts[len(parts)-1]
		if _, err := (backend{m.sites[0].node}).PutApp(t.Context(), api.PutRequest{App: fileApp("late", "shop", file)}); err != nil {
			t.Fatal(err)
		}
		m.until("it runs", time.Minute, func() error { return m.runOnce(m.sites[0], "shop", 1, "s1", "s2") })
		m.demand(m.sites[1], "late", "", public)
		if err := m.runOnce(m.sites[0], "shop", 1, "s1", "s2"); err != nil {
			t.Errorf("what runs is not stopped: %v", err)
		}
		for _, s := range m.sites {
			s.world.KillAll()
		}
		reason := func() error {
			list, err := backend{m.sites[0].node}.Allocations(t.Context(), api.AllocationQuery{App: "shop", Page: api.Page{Limit: 10}})
			if err != nil {
				return err
			}
			for _, a := range list.Items {
				if strings.Contains(a.Reason, "not signed by a key that namespace late demands") && a.State != string(placement.AllocRunning) {
					return nil
				}
			}
			return fmt.Errorf("%+v", list.Items)
		}
		m.until("it is not started again, and says why", 5*time.Minute, reason)
		m.sign(m.sites[1], key, "shop", root, "shop")
		m.until("it runs once it is signed", 10*time.Minute, func() error { return m.runOnce(m.sites[0], "shop", 1, "s1", "s2") })
	})
}

// Signatures come with an image, so that a site that is cut off has them.
func TestSignaturesTravelWithTheirImage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 5, 20*time.Millisecond)
		defer m.close()
		key, public := signingKey(t)
		m.demand(m.sites[0], "prod", "", public)
		parts, err := m.push(m.sites[0], "shop/api", "1.4", 50_000)
		if err != nil {
			t.Fatal(err)
		}
		root := parts[len(parts)-1]
		m.sign(m.sites[0], key, "shop/api", root, "shop/api")
		last := m.sites[4]
		m.until("the signature is known there", time.Minute, func() error {
			_, err := registryNames{last.node}.Get(t.Context(), "shop/api", signature.Tag(root))
			return err
		})
		m.until("staged", time.Minute, func() error { return m.staged(last, "shop/api:1.4", "site=s5") })
		if held := m.hold(parts); len(held) == len(m.sites) {
			t.Fatal("all sites hold it: nothing was staged")
		}
		m.net.Partition([]string{last.addr}, []string{m.sites[0].addr, m.sites[1].addr, m.sites[2].addr, m.sites[3].addr})
		m.until("it is cut off", time.Minute, func() error {
			if n := last.node.PeersReady(t.Context()); n != 1 {
				return fmt.Errorf("it sees %d", n)
			}
			return nil
		})
		c := placement.Component{Container: &placement.Container{Image: "shop/api:1.4@" + root}}
		if err := last.node.permitted(t.Context(), "prod", c, ""); err != nil {
			t.Error(err)
		}
		other := placement.Component{Container: &placement.Container{Image: "shop/api@" + absentDigest}}
		if err := refuses(last.node.permitted(t.Context(), "prod", other, "")); err != nil {
			t.Error(err)
		}
	})
}
