package node

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
)

// sees waits until a site has so many peers in reach.
func (m *mesh) sees(s *testSite, peers int) {
	m.t.Helper()
	m.until(fmt.Sprintf("%s sees %d peers", s.name, peers), time.Minute, func() error {
		if n := s.node.PeersReady(m.t.Context()); n != peers {
			return fmt.Errorf("it sees %d", n)
		}
		return nil
	})
}

// next is what a site says will be done about another's slots of an app.
func (m *mesh) next(at *testSite, app, site string) (api.PlaceStatus, error) {
	st, err := backend{at.node}.Status(m.t.Context(), placement.AppKey{Namespace: "default", App: app})
	if err != nil {
		return api.PlaceStatus{}, err
	}
	for _, p := range st.Components[0].Places {
		if p.Peer.Site == site {
			return p, nil
		}
	}
	return api.PlaceStatus{}, fmt.Errorf("%s has nothing of %s", site, app)
}

// A site that is cut off, and loses its power on top, restarts its own work by
// itself and takes deploys; after healing nothing runs twice and nothing is lost.
func TestCutOffSiteRebootsAndDeploys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 3, 40*time.Millisecond)
		defer m.close()
		put := func(at *testSite, app placement.App) {
			t.Helper()
			if _, err := (backend{at.node}).PutApp(t.Context(), api.PutRequest{App: app}); err != nil {
				t.Fatal(err)
			}
		}
		all := []string{"s1", "s2", "s3"}
		shop := serverApp("shop", 3)
		web := shop.Components["web"]
		web.Disconnect = placement.Disconnect{Replace: placement.ReplaceNever}
		shop.Components["web"] = web
		put(m.sites[1], shop)
		m.until("deployed", time.Minute, func() error { return errors.Join(m.settled(), m.runOnce(m.sites[1], "shop", 3, all...)) })
		time.Sleep(2 * time.Second) // of virtual time: summaries are told at most once a second

		cut := m.sites[0]
		m.net.Partition([]string{cut.addr}, []string{m.sites[1].addr, m.sites[2].addr})
		m.sees(cut, 1)
		m.sees(m.sites[1], 2)
		m.kill(cut, true) // the power fails
		if n := cut.world.Running(); n != 0 {
			t.Fatalf("%d programs survived the power cut", n)
		}
		m.start(cut, "")
		m.until("its own work runs again", time.Minute, func() error {
			if n := cut.world.Running(); n != 1 {
				return fmt.Errorf("%d programs run", n)
			}
			return m.runOnce(cut, "shop", 1, "s1")
		})
		put(cut, serverApp("island", 2))
		m.until("it takes deploys", time.Minute, func() error { return m.runOnce(cut, "island", 2, "s1") })

		// The others wait for it, and say so.
		time.Sleep(time.Minute) // of virtual time
		if err := m.runOnce(m.sites[1], "shop", 2, "s2", "s3"); err != nil {
			t.Errorf("replace: never: %v", err)
		}
		for _, s := range m.sites[1:] {
			if p, err := m.next(s, "shop", "s1"); err != nil || !p.Stale || p.Action != "never" || p.Next != "never replaced (replace: never): waits for site s1" {
				t.Errorf("%s says %+v, %v", s.name, p, err)
			}
		}
		if p, err := m.next(cut, "shop", "s2"); err != nil || p.Action != "never" || p.Slots == "" {
			t.Errorf("the cut-off site says of the others: %+v, %v", p, err)
		}

		m.net.Heal()
		m.until("healed", time.Minute, func() error {
			return errors.Join(m.settled(), m.runOnce(cut, "shop", 3, all...), m.runOnce(m.sites[2], "island", 2, all...))
		})
		view, err := backend{cut.node}.Mesh(t.Context())
		if err != nil || view.Since.IsZero() || view.Since.After(view.AsOf) {
			t.Errorf("settled since %v: %v", view.Since, err)
		}
	})
}

// A cut-off site stops what it was told to after stop_after, having said when; the
// others have replaced it long ago.
func TestCutOffSiteStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 3, 40*time.Millisecond)
		defer m.close()
		shop := serverApp("shop", 3)
		web := shop.Components["web"]
		web.Disconnect = placement.Disconnect{StopAfter: placement.OrNever(2 * time.Minute)}
		shop.Components["web"] = web
		if _, err := (backend{m.sites[1].node}).PutApp(t.Context(), api.PutRequest{App: shop}); err != nil {
			t.Fatal(err)
		}
		all := []string{"s1", "s2", "s3"}
		m.until("deployed", time.Minute, func() error { return errors.Join(m.settled(), m.runOnce(m.sites[1], "shop", 3, all...)) })
		cut := m.sites[0]
		m.net.Partition([]string{cut.addr}, []string{m.sites[1].addr, m.sites[2].addr})
		m.sees(cut, 1)
		since := time.Now()
		m.until("replaced", time.Minute, func() error { return m.runOnce(m.sites[1], "shop", 3, "s2", "s3") })
		m.until("it says of itself when it stops", time.Minute, func() error {
			p, err := m.next(cut, "shop", "s1")
			if err == nil && (p.Stale || p.StopsAt.Before(since.Add(time.Minute)) || p.StopsAt.After(since.Add(3*time.Minute)) || !strings.Contains(p.Next, "stop_after 2m")) {
				err = fmt.Errorf("%+v", p)
			}
			return err
		})
		m.until("it stops", 3*time.Minute, func() error {
			if n := cut.world.Running(); n != 0 {
				return fmt.Errorf("%d programs run", n)
			}
			return nil
		})
		if took := time.Since(since); took < 2*time.Minute {
			t.Errorf("it stopped after %v", took)
		}
		m.net.Heal()
		m.until("healed", time.Minute, func() error { return errors.Join(m.settled(), m.runOnce(cut, "shop", 3, all...)) })
	})
}
