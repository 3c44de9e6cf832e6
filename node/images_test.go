package node

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	digests "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
)

// layer is bytes that a name and a size make.
func layer(name string, size int) []byte {
	seed := sha256.Sum256([]byte(name))
	out := make([]byte, size)
	_, _ = rand.NewChaCha8(seed).Read(out)
	return out
}

// write stores a file at a peer, as an upload does. Its times are those of the bubble,
// which the file system does not know.
func (m *mesh) write(s *testSite, mediaType string, data []byte) ocispec.Descriptor {
	m.t.Helper()
	digest := digests.FromBytes(data)
	blobs := s.node.store.Blobs()
	w, err := blobs.Create(m.t.Context(), digest.String(), int64(len(data)))
	if err == nil && !blobs.Has(digest.String()) {
		if _, err = w.Write(data); err == nil {
			err = w.Commit()
		}
	}
	if err = errors.Join(err, w.Close()); err != nil {
		m.t.Fatal(err)
	}
	s.node.come(digest.String())
	m.used(s, digest.String(), 0)
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest, Size: int64(len(data))}
}

// used sets when a file was used last.
func (m *mesh) used(s *testSite, digest string, ago time.Duration) {
	at := time.Now().Add(-ago)
	if err := os.Chtimes(s.node.store.Blobs().Path(digest), at, at); err != nil && !errors.Is(err, os.ErrNotExist) {
		m.t.Fatal(err)
	}
}

// age has all files at a peer not used for so long.
func (m *mesh) age(s *testSite, ago time.Duration) {
	m.t.Helper()
	all, err := s.node.store.Blobs().List()
	if err != nil {
		m.t.Fatal(err)
	}
	for _, b := range all {
		m.used(s, b.Digest, ago)
	}
}

// image writes an image with layers of its own and one that all share, and gives its
// root and the digests of all of it.
func (m *mesh) image(s *testSite, name string, size int) (root ocispec.Descriptor, parts []string) {
	config := m.write(s, ocispec.MediaTypeImageConfig, []byte(`{"name":"`+name+`"}`))
	layers := []ocispec.Descriptor{
		m.write(s, ocispec.MediaTypeImageLayer, layer("shared", size)),
		m.write(s, ocispec.MediaTypeImageLayer, layer(name, size)),
	}
	manifest, err := json.Marshal(ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: layers})
	if err != nil {
		m.t.Fatal(err)
	}
	root = m.write(s, ocispec.MediaTypeImageManifest, manifest)
	for _, d := range append(layers, config, root) {
		parts = append(parts, d.Digest.String())
	}
	return root, parts
}

// push writes an image and gives it a name, as a push does.
func (m *mesh) push(s *testSite, repository, tag string, size int) (parts []string, err error) {
	m.t.Helper()
	root, parts := m.image(s, repository+":"+tag, size)
	image := placement.Image{Repository: repository, Reference: tag, Digest: root.Digest.String(), MediaType: root.MediaType, Size: root.Size}
	total := int64(0)
	for _, d := range parts {
		n, err := s.node.store.Blobs().Size(d)
		if err != nil {
			return parts, err
		}
		total += n
	}
	_, err = s.node.submit(m.t.Context(), func(ticket uint64) placement.Event {
		return placement.Submit{Ticket: ticket, App: image.App(), Artifacts: []placement.Artifact{{Digest: image.Digest, Size: total, Tree: true}}, Copies: 2}
	})
	return parts, err
}

// untag removes a name.
func (m *mesh) untag(s *testSite, repository, tag string) error {
	_, err := s.node.submit(m.t.Context(), func(ticket uint64) placement.Event {
		return placement.Remove{Ticket: ticket, Key: placement.ImageKey(repository, tag)}
	})
	return err
}

// hold says which sites hold all of some files, verified.
func (m *mesh) hold(parts []string) (holders []string) {
	for _, s := range m.sites {
		if s.node != nil && !slices.ContainsFunc(parts, func(d string) bool { return s.node.store.Blobs().Check(d) != nil }) {
			holders = append(holders, s.name)
		}
	}
	return holders
}

func (m *mesh) staged(at *testSite, image, where string) error {
	r, err := backend{at.node}.Stage(m.t.Context(), api.StageRequest{Image: image, Where: where})
	if err == nil && !r.Done {
		err = fmt.Errorf("%+v", r.Peers)
	}
	return err
}

func (m *mesh) happenedAt(s *testSite, kind string) error {
	if !slices.ContainsFunc(s.node.events.all(), func(e event) bool { return e.What.Type == kind }) {
		return fmt.Errorf("no event %s at %s", kind, s.name)
	}
	return nil
}

// A push is acknowledged when others hold it; then its origin may be lost. What is
// staged comes from those that are left, and every peer shows where the image is.
func TestImageOutlivesItsOrigin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 5, 40*time.Millisecond)
		defer m.close()
		parts, err := m.push(m.sites[0], "shop/api", "1.4", 100_000)
		if err != nil {
			t.Fatal(err)
		}
		if got := m.hold(parts); len(got) < 2 {
			t.Fatalf("acknowledged when %v hold it", got)
		}
		m.kill(m.sites[0], true)
		other := m.sites[4]
		m.until("staged", time.Minute, func() error { return m.staged(other, "shop/api:1.4", "site in (s2, s3, s4, s5)") })
		if got := m.hold(parts); !slices.Equal(got, []string{"s2", "s3", "s4", "s5"}) {
			t.Errorf("held by %v", got)
		}
		m.until("all see it", time.Minute, func() error {
			for _, s := range m.sites[1:] {
				l, err := backend{s.node}.Images(t.Context(), api.ImageQuery{Repository: "shop/api", Page: api.Page{Limit: 10}})
				if err != nil || len(l.Items) != 1 {
					return fmt.Errorf("%s lists %+v, %w", s.name, l.Items, err)
				}
				alive := 0
				for _, h := range l.Items[0].Holders {
					alive += btoi(h.State == "alive")
				}
				if alive != 4 || l.Items[0].Holders[0].ID != s.node.ID() {
					return fmt.Errorf("%s says it is held by %+v", s.name, l.Items[0].Holders)
				}
			}
			return nil
		})
		if _, err := (backend{other.node}).Stage(t.Context(), api.StageRequest{Image: "shop/api:1.5"}); !errors.Is(err, placement.ErrNotFound) {
			t.Errorf("an image that is not: %v", err)
		}
		if _, err := (backend{other.node}).Stage(t.Context(), api.StageRequest{Image: "shop/api:1.4", Where: "site=mars"}); !errors.Is(err, placement.ErrInvalid) {
			t.Errorf("peers that are not: %v", err)
		}
	})
}

// A peer that is cut off while it pushes takes the name all the same, and says how few
// hold it; healed, the mesh has it.
func TestPushAcrossACut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 3, 40*time.Millisecond)
		defer m.close()
		m.net.Partition([]string{m.sites[0].addr}, []string{m.sites[1].addr, m.sites[2].addr})
		parts, err := m.push(m.sites[0], "shop/api", "1.4", 100_000)
		if err != nil {
			t.Fatal(err)
		}
		if got := m.hold(parts); !slices.Equal(got, []string{"s1"}) {
			t.Fatalf("cut off, and held by %v", got)
		}
		m.net.Heal()
		m.until("copied", 2*time.Minute, func() error {
			if got := m.hold(parts); len(got) < 2 {
				return fmt.Errorf("held by %v", got)
			}
			return nil
		})
		m.until("known", time.Minute, func() error { return m.staged(m.sites[2], "shop/api:1.4", "") })
		if got := m.hold(parts); len(got) != 3 {
			t.Errorf("staged everywhere, and held by %v", got)
		}
	})
}

// What rots on a disk is found though nobody reads it, put aside, and whole again from
// another peer; and so is what someone deleted by hand.
func TestRottenFileIsHealed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 2, 40*time.Millisecond)
		defer m.close()
		parts, err := m.push(m.sites[0], "shop/api", "1.4", 100_000)
		if err != nil {
			t.Fatal(err)
		}
		m.until("all keepers hold it", time.Minute, func() error {
			if got := m.hold(parts); len(got) != 2 {
				return fmt.Errorf("held by %v", got)
			}
			return nil
		})
		s := m.sites[1]
		for i, d := range parts {
			path := s.node.store.Blobs().Path(d)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			data[len(data)/2] ^= 1
			if i == 0 {
				err = os.Remove(path)
			} else {
				err = os.WriteFile(path, data, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		took := m.until("healed", 30*time.Minute, func() error {
			for _, d := range parts {
				if _, err := s.node.store.Blobs().Size(d); err != nil {
					return err
				}
			}
			if c := s.node.images.counts(); c.Rotten != int64(len(parts)-1) || c.Healed != c.Rotten {
				return fmt.Errorf("%+v; want %d rotten and healed", c, len(parts)-1)
			}
			return errors.Join(m.happenedAt(s, "image-quarantined"), m.happenedAt(s, "image-healed"))
		})
		t.Logf("healed after %v", took)
		if got := m.hold(parts); len(got) != 2 {
			t.Errorf("held by %v", got)
		}
	})
}

// What no name needs goes after the grace time, everywhere; what one needs stays with
// those that keep it, and goes from others only when there is too little room.
func TestImagesAreSwept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 4, 20*time.Millisecond)
		defer m.close()
		sweep := func() {
			t.Helper()
			for _, s := range m.sites {
				if err := s.node.sweep(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
		first := m.sites[0]
		kept, err := m.push(first, "shop/api", "1", 50_000)
		if err != nil {
			t.Fatal(err)
		}
		moved, err := m.push(first, "shop/api", "2", 50_000)
		if err != nil {
			t.Fatal(err)
		}
		own := slices.DeleteFunc(slices.Clone(moved), func(d string) bool { return slices.Contains(kept, d) })
		for _, image := range []string{"shop/api:1", "shop/api:2"} {
			m.until("staged", time.Minute, func() error { return m.staged(first, image, "") })
		}
		if err := m.untag(first, "shop/api", "2"); err != nil {
			t.Fatal(err)
		}
		m.until("the removal is known", time.Minute, func() error {
			for _, s := range m.sites {
				if _, err := s.node.findImage(t.Context(), "shop/api:2"); !errors.Is(err, placement.ErrNotFound) {
					return fmt.Errorf("%s still has it: %w", s.name, err)
				}
			}
			return nil
		})
		for _, s := range m.sites {
			m.age(s, 0)
		}
		if sweep(); len(m.hold(append(moved, kept...))) != 4 {
			t.Fatalf("nothing is old enough, and all is held by %v only", m.hold(append(moved, kept...)))
		}

		uploaded := m.write(first, "", layer("an upload without a name", 1000)).Digest.String()
		for _, s := range m.sites {
			m.age(s, graceDefault+time.Hour)
			for _, d := range own { // as after so much time
				s.node.images.guard.Forget(d)
			}
		}
		m.used(first, uploaded, 0)
		m.until("what nothing needs is gone", time.Minute, func() error { // once all have heard so
			sweep()
			for _, d := range own {
				if got := m.hold([]string{d}); len(got) != 0 {
					return fmt.Errorf("nothing needs %s, and it is held by %v", d, got)
				}
			}
			return nil
		})
		if got := m.hold(kept); len(got) != 4 {
			t.Errorf("what is needed is held by %v; there is room", got)
		}
		if !first.node.store.Blobs().Has(uploaded) {
			t.Error("what was just uploaded is gone")
		}

		for _, s := range m.sites {
			s.node.cfg.ImagesMax = 1
		}
		if sweep(); len(m.hold(kept)) != 4 {
			t.Errorf("peers that have just started may have promised to hold it: held by %v", m.hold(kept))
		}
		for _, s := range m.sites {
			longSince(s.node)
		}
		m.until("too little room", time.Minute, func() error { // and all know who holds what
			if sweep(); len(m.hold(kept)) > 3 {
				return fmt.Errorf("still held by %v", m.hold(kept))
			}
			return nil
		})
		sweep()
		if got := m.hold(kept); len(got) != 3 {
			t.Errorf("held by %v; want its three keepers", got)
		}
		if list, err := first.node.store.Blobs().List(); err != nil || len(list) != len(kept)+1 {
			t.Errorf("%d files, %v; want what it keeps, and the upload, which is young", len(list), err)
		}
	})
}

// Files that are needed by name only where the name is known, and dropped on a
// person's word: one that something needs stays, and what needs it is named.
func TestForgetFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 3, 20*time.Millisecond)
		defer m.close()
		parts, err := m.push(m.sites[0], "shop/api", "1", 1000)
		if err != nil {
			t.Fatal(err)
		}
		loose := m.write(m.sites[0], "", []byte("loose")).Digest.String()
		m.write(m.sites[1], "", []byte("loose"))
		at := m.sites[2].node
		if size, err := at.findFile(t.Context(), loose); err != nil || size != 5 {
			t.Errorf("found %d bytes, %v", size, err)
		}
		if err := at.fetchFile(t.Context(), loose, 0, nil); err != nil {
			t.Errorf("nobody is known to hold it, and two do: %v", err)
		}
		if user, err := at.forgetFile(t.Context(), loose); user != "" || err != nil || len(m.hold([]string{loose})) != 0 {
			t.Errorf("used by %q, %v; held by %v", user, err, m.hold([]string{loose}))
		}
		if user, err := at.forgetFile(t.Context(), parts[0]); user == "" || err != nil || len(m.hold(parts)) < 2 {
			t.Errorf("used by %q, %v; held by %v", user, err, m.hold(parts))
		}
		if _, err := at.findFile(t.Context(), loose); !errors.Is(err, placement.ErrNotFound) {
			t.Errorf("it is still found: %v", err)
		}
		begin := time.Now()
		if err := at.fetchFile(t.Context(), loose, 0, nil); !errors.Is(err, placement.ErrNotFound) || time.Since(begin) > 2*searchMax {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
	})
}
