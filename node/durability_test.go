package node

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/gossip"
	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
)

// The peer that accepted an edit burns down the moment after its answer: a new
// app, a change and a removal are known to the others, and the next steward
// drives them.
func TestAcceptingPeerIsKilledAtTheAnswer(t *testing.T) {
	key := placement.AppKey{Namespace: "default", App: "shop"}
	for name, edit := range map[string]func(m *mesh) (api.Durability, error){
		"create": func(m *mesh) (api.Durability, error) {
			r, err := backend{m.sites[0].node}.PutApp(m.t.Context(), api.PutRequest{App: serverApp("shop", 4), MinCopies: 2})
			return r.Durability, err
		},
		"update": func(m *mesh) (api.Durability, error) {
			m.put(m.sites[0], serverApp("shop", 2))
			m.until("deployed", time.Minute, func() error { return m.runOnce(m.sites[0], "shop", 2, "s1", "s2", "s3") })
			r, err := backend{m.sites[0].node}.PutApp(m.t.Context(), api.PutRequest{App: serverApp("shop", 4), MinCopies: 2})
			return r.Durability, err
		},
		"remove": func(m *mesh) (api.Durability, error) {
			m.put(m.sites[0], serverApp("shop", 2))
			m.until("deployed", time.Minute, func() error { return m.runOnce(m.sites[0], "shop", 2, "s1", "s2", "s3") })
			r, err := backend{m.sites[0].node}.DeleteApp(m.t.Context(), api.DeleteRequest{Key: key, MinCopies: 2})
			return r.Durability, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMesh(t, 3, 40*time.Millisecond)
				defer m.close()
				d, err := edit(m)
				m.kill(m.sites[0], true) // no virtual time has passed since the answer
				if err != nil || !d.Quorum {
					t.Fatalf("%+v %v", d, err)
				}
				m.until("the others drive it", 2*time.Minute, func() error {
					if name == "remove" {
						return errors.Join(m.runOnce(m.sites[1], "shop", 0, "s2", "s3"), m.runOnce(m.sites[2], "shop", 0, "s2", "s3"))
					}
					st, err := backend{m.sites[1].node}.Status(t.Context(), key)
					if err != nil || st.Steward.Site == "s1" || st.Steward.Name == "" {
						return fmt.Errorf("driven by %q, %v", st.Steward.Name, err)
					}
					if len(st.KeepersOut) != 1 || st.KeepersOut[0].Name != "s1-1" || st.Epoch < 1 {
						return fmt.Errorf("keepers out of reach: %v, epoch %d", st.KeepersOut, st.Epoch)
					}
					return m.runOnce(m.sites[1], "shop", 4, "s2", "s3")
				})
			})
		})
	}
}

// Too few copies are refused before anything is written, for removals as well;
// a removal that is sent again is one.
func TestRemovalInsistsOnCopies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 3, 20*time.Millisecond)
		defer m.close()
		key := placement.AppKey{Namespace: "default", App: "shop"}
		m.put(m.sites[0], serverApp("shop", 3))
		m.until("deployed", time.Minute, func() error { return m.runOnce(m.sites[0], "shop", 3, "s1", "s2", "s3") })
		m.cutLast(gossip.StateDead)
		island := backend{m.sites[2].node}
		if _, err := island.DeleteApp(t.Context(), api.DeleteRequest{Key: key, MinCopies: 2}); !errors.Is(err, placement.ErrTooFew) {
			t.Errorf("below two copies: %v", err)
		}
		if d, err := island.GetApp(t.Context(), key); err != nil || d.State == "removing" {
			t.Errorf("what was refused: %+v %v", d.State, err)
		}
		first, err := island.DeleteApp(t.Context(), api.DeleteRequest{Key: key, IdempotencyKey: "once"})
		if err != nil || first.Durability.Quorum || first.Durability.Copies != 1 {
			t.Fatalf("alone: %+v %v", first, err)
		}
		again, err := island.DeleteApp(t.Context(), api.DeleteRequest{Key: key, IdempotencyKey: "once"})
		if err != nil || again.Revision != first.Revision {
			t.Errorf("sent again: %+v %v", again, err)
		}
		m.net.Heal()
		m.until("removed everywhere", 2*time.Minute, func() error {
			for _, s := range m.sites {
				if n := s.world.Running(); n != 0 {
					return fmt.Errorf("%d pieces of work run at %s", n, s.name)
				}
			}
			return m.settled()
		})
	})
}

// A peer that was away for long, and lost its power meanwhile, neither brings back
// what was removed nor loses what it accepted; its work of the removed app, which
// ran on, is stopped.
func TestLongAbsence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 4, 20*time.Millisecond)
		defer m.close()
		first, away := m.sites[0], m.sites[3]
		all := []string{"s1", "s2", "s3", "s4"}
		for _, name := range []string{"removed", "replaced", "kept"} {
			m.put(first, serverApp(name, 4))
			m.until("deployed", time.Minute, func() error { return m.runOnce(first, name, 4, all...) })
		}
		m.cutLast(gossip.StateDead)
		m.put(away, serverApp("island", 2)) // accepted there alone
		m.until("the island's own", time.Minute, func() error { return m.runOnce(away, "island", 2, "s4") })
		before := away.world.Running()
		m.kill(away, false)

		at := backend{first.node}
		for _, name := range []string{"removed", "replaced"} {
			if _, err := at.DeleteApp(t.Context(), api.DeleteRequest{Key: placement.AppKey{Namespace: "default", App: name}}); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 20 { // the mesh goes on: the tables' contexts move far past what it saw
			name := fmt.Sprintf("passing%d", i)
			m.put(first, serverApp(name, 1))
			if _, err := at.DeleteApp(t.Context(), api.DeleteRequest{Key: placement.AppKey{Namespace: "default", App: name}}); err != nil {
				t.Fatal(err)
			}
		}
		absence := 30 * time.Minute
		if testing.Short() {
			absence = 5 * time.Minute
		}
		time.Sleep(absence) // of virtual time
		if n := away.world.Running(); n != before {
			t.Errorf("%d of %d pieces of work run on without their daemon", n, before)
		}
		m.net.Heal()
		m.start(away, "")
		m.until("as if it had never been away", 5*time.Minute, func() error {
			for _, s := range m.sites {
				l, err := backend{s.node}.ListApps(t.Context(), api.AppQuery{Page: api.Page{Limit: 100}})
				if err != nil {
					return err
				}
				var names []string
				for _, a := range l.Items {
					names = append(names, a.App)
				}
				if got := strings.Join(names, " "); got != "island kept" {
					return fmt.Errorf("%s lists %s", s.name, got)
				}
			}
			running := 0
			for _, s := range m.sites {
				running += s.world.Running()
			}
			if running != 6 {
				return fmt.Errorf("%d pieces of work run, not 6", running)
			}
			return errors.Join(m.settled(), m.runOnce(first, "kept", 4, all...), m.runOnce(first, "island", 2, all...))
		})
	})
}

// A person's order to force keepers goes to the core and its answer comes back,
// in order; of a peer that is in the mesh it is refused.
func TestForceEpochReachesTheCore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 2, 20*time.Millisecond)
		defer m.close()
		at := backend{m.sites[0].node}
		if _, err := at.ForceEpoch(t.Context(), "s2-1"); !errors.Is(err, placement.ErrInvalid) {
			t.Errorf("of a peer in the mesh: %v", err)
		}
		if _, err := at.ForceEpoch(t.Context(), "nobody"); !errors.Is(err, placement.ErrNotFound) {
			t.Errorf("of nobody: %v", err)
		}
		answered := make(chan placement.Forced, 1)
		n := m.sites[0].node
		n.mu.Lock()
		n.forcing[99] = answered
		n.mu.Unlock()
		key := func(app string) placement.AppKey { return placement.AppKey{Namespace: "default", App: app} }
		n.carry(placement.Forced{Ticket: 99, Apps: []placement.AppKey{key("b"), key("a")},
			Refused: map[placement.AppKey]string{key("d"): "why " + n.ID(), key("c"): "why"}})
		n.carry(placement.Forced{Ticket: 99}) // nobody waits any more
		r := n.forceResult(n.ID(), <-answered)
		if fmt.Sprint(r.Forced) != "[default/a default/b]" || len(r.Refused) != 2 || r.Refused[0].App != "c" || r.Refused[1].Reason != "why s1-1" {
			t.Errorf("%+v", r)
		}
	})
}
