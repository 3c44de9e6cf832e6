package node

import (
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/docker"
	"github.com/hansa-mesh/hansa/node/driver/fake"
	"github.com/hansa-mesh/hansa/placement"
)

// What an engine was given to run goes from it by the rules for files: while it runs
// it stays, what the mesh needs goes for want of room alone, and what nothing needs
// after the grace time.
func TestEnginesLetGoOfImages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 1, 0)
		defer m.close()
		s := m.sites[0]
		m.kill(s, false)
		m.deps = func(d *Deps) {
			d.Drivers = func(_ string, events func(driver.Event), _ *slog.Logger) ([]driver.Driver, error) {
				return []driver.Driver{fake.New(fake.Config{Name: docker.Name, World: s.world, Events: events})}, nil
			}
		}
		m.start(s, "")
		s.node.cfg.ImagesGrace = 20 * time.Minute
		key := placement.AppKey{Namespace: "default", App: "shop"}
		runs := func(tag string) (root string) {
			t.Helper()
			parts, err := m.push(s, "shop/api", tag, 10_000)
			if err != nil {
				t.Fatal(err)
			}
			m.deployed(s, webOf("shop", "shop/api:"+tag))
			m.until("it runs", time.Minute, func() error {
				if got := s.world.Images(); !slices.Contains(got, parts[len(parts)-1]) || s.world.Running() != 1 {
					return fmt.Errorf("%d run, of %v", s.world.Running(), got)
				}
				return nil
			})
			return parts[len(parts)-1]
		}
		remove := func() {
			t.Helper()
			if _, err := (backend{s.node}).DeleteApp(t.Context(), api.DeleteRequest{Key: key}); err != nil {
				t.Fatal(err)
			}
			m.until("removed", time.Minute, func() error {
				if n := s.world.Running(); n > 0 {
					return fmt.Errorf("%d run", n)
				}
				return nil
			})
		}
		pruned := func(short, want bool, root, why string) {
			t.Helper()
			needs, err := s.node.needsNow(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			s.node.sweepEngines(t.Context(), needs, short)
			if got := s.world.Images(); slices.Contains(got, root) == want {
				t.Errorf("%s: the engine has %v", why, got)
			}
		}
		root := runs("1")
		time.Sleep(30 * time.Minute) // of virtual time, as all below
		pruned(true, false, root, "it runs, and there is no room")
		remove()
		time.Sleep(5 * time.Minute)
		pruned(true, false, root, "it was used just now")
		time.Sleep(20 * time.Minute)
		pruned(false, false, root, "a name stands for it")
		pruned(true, true, root, "nothing has used it for long, and there is no room")

		root = runs("1")
		remove()
		if err := m.untag(s, "shop/api", "1"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute)
		pruned(false, false, root, "nothing needs it, but for a moment")
		m.until("the sweep lets it go", time.Hour, func() error {
			if got := s.world.Images(); len(got) > 0 {
				return fmt.Errorf("the engine has %v", got)
			}
			return nil
		})
		if n := s.node.images.counts().Pruned; n != 2 {
			t.Errorf("%d were counted", n)
		}
	})
}
