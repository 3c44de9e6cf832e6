package node

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/gossip"
	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
)

var shopKey = placement.AppKey{Namespace: placement.DefaultNamespace, App: "shop"}

// keptBy waits until every peer that lives says that these sites keep the shop,
// in this epoch, and that one of them drives it with the consent of most.
func (m *mesh) keptBy(epoch uint64, sites ...string) {
	m.t.Helper()
	m.until(fmt.Sprintf("kept by %v in epoch %d", sites, epoch), 3*time.Minute, func() error {
		for _, s := range m.sites {
			if s.node == nil {
				continue
			}
			st, err := backend{s.node}.Status(m.t.Context(), shopKey)
			if err != nil {
				return err
			}
			var kept []string
			for _, k := range st.Keepers {
				kept = append(kept, k.Site)
			}
			if slices.Sort(kept); !slices.Equal(kept, sites) || st.Epoch != epoch {
				return fmt.Errorf("%s says that %v keep it, in epoch %d", s.name, kept, st.Epoch)
			}
			if len(st.Next) > 0 || st.Deputy || !slices.Contains(sites, st.Steward.Site) {
				return fmt.Errorf("%s says that %v are next and %s drives it (deputy: %t)", s.name, st.Next, st.Steward.Name, st.Deputy)
			}
		}
		return nil
	})
}

// keepersOf are the sites that keep the shop, and the one that does not.
func (m *mesh) keepersOf() (keepers []*testSite, other *testSite) {
	m.t.Helper()
	st, err := backend{m.sites[0].node}.Status(m.t.Context(), shopKey)
	if err != nil {
		m.t.Fatal(err)
	}
	for _, s := range m.sites {
		if slices.ContainsFunc(st.Keepers, func(p api.PeerRef) bool { return p.Site == s.name }) {
			keepers = append(keepers, s)
		} else {
			other = s
		}
	}
	if len(keepers) != 3 || other == nil || keepers[0] != m.sites[0] {
		m.t.Fatalf("the keepers are %v", st.Keepers)
	}
	return keepers, other
}

// edited makes an edit at a site that more than one keeper must hold, on the
// version that the site shows.
func (m *mesh) edited(at *testSite, replicas int) {
	m.t.Helper()
	shown, err := backend{at.node}.GetApp(m.t.Context(), shopKey)
	if err != nil {
		m.t.Fatal(err)
	}
	r, err := backend{at.node}.PutApp(m.t.Context(), api.PutRequest{App: serverApp("shop", replicas), IfMatch: shown.ETag, MinCopies: 2})
	if err != nil || !r.Durability.Quorum {
		m.t.Fatalf("an edit at %s: %+v, %v", at.name, r.Durability, err)
	}
}

// A keeper that is forgotten is replaced by itself, at once.
func TestKeepersAreReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 4, 20*time.Millisecond)
		defer m.close()
		m.put(m.sites[0], serverApp("shop", 4))
		keepers, other := m.keepersOf()
		m.keptBy(1, siteNames(keepers...)...)
		time.Sleep(2 * time.Minute) // of virtual time: who has just come is named no keeper
		lost := keepers[2]
		m.kill(lost, true)
		at := keepers[1]
		m.sees(at, 3)
		if err := (backend{at.node}).Forget(t.Context(), lost.name+"-1", false); err != nil {
			t.Fatal(err)
		}
		m.keptBy(2, siteNames(keepers[0], keepers[1], other)...)
		m.edited(other, 6)
		m.until("it runs whole", time.Minute, func() error {
			return errors.Join(m.runOnce(other, "shop", 6, siteNames(keepers[0], keepers[1], other)...), m.settled())
		})
	})
}

// With two of three keepers gone for good nothing is decided over their heads
// until a person does; then the app is driven and edited as before.
func TestForceEpochOverLostKeepers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 4, 20*time.Millisecond)
		defer m.close()
		m.put(m.sites[0], serverApp("shop", 4))
		keepers, other := m.keepersOf()
		m.keptBy(1, siteNames(keepers...)...)
		time.Sleep(2 * time.Minute) // of virtual time
		left := keepers[1]
		var gone []string
		for _, lost := range []*testSite{keepers[0], keepers[2]} {
			gone = append(gone, lost.node.ID())
			m.kill(lost, true)
		}
		m.until("they are given up", time.Minute, func() error {
			for _, id := range gone {
				if member, _ := other.node.memberOf(id); member.State != gossip.StateDead {
					return fmt.Errorf("%s is %s", id, member.State)
				}
			}
			return nil
		})
		at := backend{other.node}
		forget := func(s *testSite) (api.ForceResult, error) {
			if err := at.Forget(t.Context(), s.name+"-1", false); err != nil {
				t.Fatal(err)
			}
			return at.ForceEpoch(t.Context(), s.name+"-1")
		}
		r, err := forget(keepers[0])
		if err != nil || len(r.Forced) != 0 || len(r.Refused) != 1 {
			t.Fatalf("another keeper may come back, and the answer is %+v, %v", r, err)
		}
		// It is on two disks, and one of them is a keeper's: no majority.
		if r, err := at.PutApp(t.Context(), api.PutRequest{App: serverApp("shop", 5)}); err != nil || r.Durability.Quorum {
			t.Fatalf("an edit with one keeper of three: %+v, %v", r, err)
		}
		if r, err = forget(keepers[2]); err != nil || len(r.Forced) != 1 || len(r.Refused) != 0 {
			t.Fatalf("both are gone, and the answer is %+v, %v", r, err)
		}
		both := siteNames(left, other)
		m.keptBy(2, both...)
		m.until("the edit before it counts", time.Minute, func() error { return m.runOnce(left, "shop", 5, both...) })
		m.edited(left, 6)
		m.edited(other, 3)
		m.until("it runs whole", time.Minute, func() error {
			return errors.Join(m.runOnce(left, "shop", 3, both...), m.runOnce(other, "shop", 3, both...), m.settled())
		})
	})
}

func siteNames(sites ...*testSite) (names []string) {
	for _, s := range sites {
		names = append(names, s.name)
	}
	slices.Sort(names)
	return names
}
