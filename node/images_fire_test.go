package node

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/node/sweep"
)

// longSince has a node behave as if it had run for long: it has promised nothing that it
// does not know of.
func longSince(n *Node) {
	first := true
	n.images.guard = sweep.NewGuard(n.id.ID(), func() time.Duration {
		if first { // when it begins
			first = false
			return -time.Hour
		}
		return n.clock.mono()
	})
}

// onDisk says whether a file lies at a site, whether its peer runs or not.
func (s *testSite) onDisk(digest string) bool {
	hexed := digest[len("sha256:"):]
	_, err := os.Stat(filepath.Join(s.dir, "blobs", "sha256", hexed[:2], hexed))
	return err == nil
}

// clockFiles gives files that the file system dated, by its own clock, the time of the
// bubble.
func (m *mesh) clockFiles() {
	for _, s := range m.sites {
		if s.node == nil {
			continue
		}
		all, err := s.node.store.Blobs().List()
		if err != nil {
			m.t.Fatal(err)
		}
		for _, b := range all {
			if b.Used.After(time.Now()) {
				m.used(s, b.Digest, 0)
			}
		}
	}
}

// Peers that have no room at all sweep all the time, while people push, remove and stage,
// and peers are killed and cut off: of every image that was acknowledged each file stays
// somewhere, and in the end its keepers hold all of it.
func TestSweepsUnderFire(t *testing.T) {
	seeds := uint64(3)
	if testing.Short() {
		seeds = 1
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { sweepUnderFire(t, rand.New(rand.NewPCG(seed, 1))) })
		})
	}
}

func sweepUnderFire(t *testing.T, r *rand.Rand) {
	m := newMesh(t, 4, 20*time.Millisecond)
	defer m.close()
	m.made = func(n *Node) {
		longSince(n)
		n.cfg.ImagesGrace, n.cfg.ImagesMax = 5*time.Second, 1
	}
	for _, s := range m.sites { // begin with peers that are made so
		m.kill(s, false)
		m.start(s, "")
	}
	m.until("all know all", time.Minute, func() error {
		for _, s := range m.sites {
			if n := s.node.PeersReady(t.Context()); n != len(m.sites) {
				return fmt.Errorf("%s knows %d peers", s.name, n)
			}
		}
		return nil
	})
	named := map[string][]string{} // what was acknowledged, by tag
	swept := int64(0)
	anyOf := func() *testSite {
		for {
			if s := m.sites[r.IntN(len(m.sites))]; s.node != nil {
				return s
			}
		}
	}
	for step := range 40 {
		var work sync.WaitGroup
		for range 2 {
			s := anyOf()
			work.Go(func() { _ = s.node.sweep(t.Context()) })
		}
		at, tag := anyOf(), fmt.Sprint(r.IntN(6))
		switch what := r.IntN(10); {
		case what < 4 && named[tag] == nil:
			if parts, err := m.push(at, "shop/api", tag, 2000); err == nil {
				named[tag] = parts
			}
		case what < 5 && named[tag] != nil:
			if _, err := at.node.findImage(t.Context(), "shop/api:"+tag); err == nil {
				delete(named, tag) // whether or not it is answered
				_ = m.untag(at, "shop/api", tag)
			}
		case what < 7:
			_, _ = backend{at.node}.Stage(t.Context(), api.StageRequest{Image: "shop/api:" + tag})
		case what < 8:
			work.Wait()
			swept += at.node.images.counts().Swept
			m.kill(at, false)
			m.start(at, "")
		case what < 9:
			m.net.Partition([]string{at.addr}, addresses(m.sites, at))
		default:
			m.net.Heal()
		}
		work.Wait()
		time.Sleep(time.Duration(r.IntN(8000)) * time.Millisecond)
		m.clockFiles()
		for tag, parts := range named {
			for _, d := range parts {
				if !slices.ContainsFunc(m.sites, func(s *testSite) bool { return s.onDisk(d) }) {
					t.Fatalf("step %d: of shop/api:%s, which was acknowledged, %s is nowhere", step, tag, d)
				}
			}
		}
	}
	m.net.Heal()
	m.until("the keepers hold all", 20*time.Minute, func() error {
		var errs []error
		for tag, parts := range named {
			if got := m.hold(parts); len(got) < 2 {
				errs = append(errs, fmt.Errorf("shop/api:%s is held by %v", tag, got))
			}
		}
		return errors.Join(errs...)
	})
	for _, s := range m.sites {
		swept += s.node.images.counts().Swept
	}
	if t.Logf("%d files were let go, %d images stand", swept, len(named)); swept == 0 {
		t.Error("nothing was ever let go")
	}
}

func addresses(sites []*testSite, but *testSite) (out []string) {
	for _, s := range sites {
		if s != but {
			out = append(out, s.addr)
		}
	}
	return out
}
