package node

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
)

// A policy is set on one side of a cut, and on the other side, which can't know of it,
// what it forbids is deployed and runs. When the link heals that goes on, as what ran
// before any policy does; it is not deployed again, and once it has ended no peer
// starts it anew, and says why.
func TestPolicyFromTheOtherSideOfACut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 4, 20*time.Millisecond)
		defer m.close()
		key, public := signingKey(t)
		wrong, _ := signingKey(t)
		here, there := m.sites[0], m.sites[2]
		parts, err := m.push(there, "shop", "1.4", 50_000)
		if err != nil {
			t.Fatal(err)
		}
		file, root := parts[1], parts[len(parts)-1]
		if err := there.node.fetchFile(t.Context(), file, 0, nil); err != nil {
			t.Fatal(err)
		}
		m.sign(there, wrong, "shop", root, "shop")
		m.net.Partition([]string{here.addr, m.sites[1].addr}, []string{there.addr, m.sites[3].addr})
		for _, s := range m.sites {
			m.until("it is cut in two", time.Minute, func() error {
				if n := s.node.PeersReady(t.Context()); n != 2 {
					return fmt.Errorf("%s sees %d", s.name, n)
				}
				return nil
			})
		}
		if _, err := (backend{here.node}).PutPolicy(t.Context(), "prod", "", []api.SignatureRule{{Keys: []string{public}}}); err != nil {
			t.Fatal(err)
		}
		app := fileApp("prod", "shop", file)
		if _, err := (backend{there.node}).PutApp(t.Context(), api.PutRequest{App: app}); err != nil {
			t.Fatalf("where nobody knows of the policy: %v", err)
		}
		m.until("it runs there", time.Minute, func() error { return m.runOnce(there, "shop", 1, "s3", "s4") })

		m.net.Heal()
		for _, s := range m.sites {
			m.until("the policy is known", 5*time.Minute, func() error {
				if p, err := (backend{s.node}).Policy(t.Context(), "prod"); err != nil || len(p.Signatures) == 0 {
					return fmt.Errorf("%s: %+v %w", s.name, p, err)
				}
				return nil
			})
		}
		all := []string{"s1", "s2", "s3", "s4"}
		m.until("what ran runs on", 5*time.Minute, func() error { return m.runOnce(there, "shop", 1, all...) })
		for _, s := range m.sites {
			if err := s.node.fetchFile(t.Context(), file, 0, nil); err != nil {
				t.Fatal(err)
			}
			if _, err := (backend{s.node}).PutApp(t.Context(), api.PutRequest{App: app}); refuses(err, "not signed by a key that namespace prod demands") != nil {
				t.Errorf("deployed again at %s: %v", s.name, err)
			}
		}
		for _, s := range m.sites {
			s.world.KillAll()
		}
		m.until("it is not started anew, and says why", 10*time.Minute, func() error {
			list, err := backend{here.node}.Allocations(t.Context(), api.AllocationQuery{App: "shop", Page: api.Page{Limit: 10}})
			if err != nil {
				return err
			}
			for _, a := range list.Items {
				if a.State == string(placement.AllocRunning) {
					return fmt.Errorf("it runs: %+v", a)
				}
				if strings.Contains(a.Reason, "not signed by a key that namespace prod demands") {
					return nil
				}
			}
			return fmt.Errorf("%+v", list.Items)
		})
		m.sign(here, key, "shop", root, "shop")
		m.until("it runs once it is signed", 10*time.Minute, func() error { return m.runOnce(there, "shop", 1, all...) })
	})
}
