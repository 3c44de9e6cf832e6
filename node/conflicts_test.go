package node

import (
	"errors"
	"fmt"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/gossip"
	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
)

// cutLast cuts the last site off, and waits until both sides take the other for
// suspect, or for dead.
func (m *mesh) cutLast(seen gossip.State) {
	m.t.Helper()
	last := len(m.sites) - 1
	var rest []string
	for _, s := range m.sites[:last] {
		rest = append(rest, s.addr)
	}
	m.net.Partition([]string{m.sites[last].addr}, rest)
	m.until("both sides know of the cut", time.Minute, func() error {
		out := m.sites[last].node
		for _, s := range m.sites[:last] {
			for _, pair := range [][2]*Node{{out, s.node}, {s.node, out}} {
				if member, _ := pair[0].memberOf(pair[1].ID()); member.State != seen && member.State != gossip.StateDead {
					return fmt.Errorf("%s is %s to %s", pair[1].member.Name, member.State, pair[0].member.Name)
				}
			}
		}
		return nil
	})
}

func (m *mesh) put(at *testSite, app placement.App) {
	m.t.Helper()
	if _, err := (backend{at.node}).PutApp(m.t.Context(), api.PutRequest{App: app}); err != nil {
		m.t.Fatal(err)
	}
}

// conflict is the one conflict that every peer sees, the same at each.
func (m *mesh) conflict() api.Conflict {
	m.t.Helper()
	var found api.Conflict
	m.until("all see the conflict", time.Minute, func() error {
		for i, s := range m.sites {
			l, err := backend{s.node}.Conflicts(m.t.Context(), api.Page{Limit: 10})
			if err != nil || len(l.Items) != 1 || len(l.Items[0].Sides) != 2 {
				return fmt.Errorf("%s sees %d conflicts, %v", s.name, len(l.Items), err)
			}
			if c := l.Items[0]; i == 0 {
				found = c
			} else if c.ID != found.ID || c.ETag != found.ETag || c.Sides[0].Revision != found.Sides[0].Revision {
				return fmt.Errorf("%s sees %s, with the first side %s", s.name, c.ID, c.Sides[0].Revision)
			}
		}
		return nil
	})
	return found
}

// told is how many events of a type the mesh knows of, asked of one peer.
func (m *mesh) told(at *testSite, kind string) int {
	m.t.Helper()
	l, err := backend{at.node}.Events(m.t.Context(), api.EventQuery{Type: kind, Page: api.Page{Limit: 100}})
	if err != nil {
		m.t.Fatal(err)
	}
	return len(l.Items)
}

func TestConflictIsResolved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 3, 40*time.Millisecond)
		defer m.close()
		all := []string{"s1", "s2", "s3"}
		m.put(m.sites[0], serverApp("shop", 2))
		m.until("deployed", time.Minute, func() error { return m.runOnce(m.sites[0], "shop", 2, all...) })
		m.cutLast(gossip.StateDead)
		m.put(m.sites[0], serverApp("shop", 3))
		m.put(m.sites[2], serverApp("shop", 5))
		m.net.Heal()
		c := m.conflict()
		m.until("it is told of", time.Minute, func() error {
			if n := m.told(m.sites[1], "conflict"); n != 1 {
				return fmt.Errorf("%d times", n)
			}
			return nil
		})
		var island api.Side
		for _, s := range c.Sides {
			if s.Peer.Name == "s3-1" {
				island = s
			}
		}
		if !island.Alone || island.Spec.Components["web"].Wanted() != 5 {
			t.Errorf("the side of the cut-off site: %+v", island)
		}
		if len(c.Fields) != 1 || c.Fields[0].Field != "components.web.replicas" || len(c.Fields[0].Values) != 2 {
			t.Errorf("they differ in %+v", c.Fields)
		}
		m.until("it is known what runs of each side", time.Minute, func() error {
			l, err := backend{m.sites[1].node}.Conflicts(t.Context(), api.Page{Limit: 10})
			if err != nil || len(l.Items) != 1 || l.Items[0].Sides[0].Running["web"] == "" {
				return fmt.Errorf("%+v %v", l.Items, err)
			}
			return nil
		})

		at := backend{m.sites[1].node}
		resolve := func(r api.Resolution) (api.ResolveResult, error) { return at.Resolve(t.Context(), r) }
		if _, err := resolve(api.Resolution{ID: conflictID(placement.AppKey{Namespace: "default", App: "shop"}, "another-etag"), Take: island.Revision}); !errors.Is(err, placement.ErrConflict) {
			t.Errorf("with the id of other sides: %v", err)
		}
		if _, err := resolve(api.Resolution{ID: c.ID, Take: island.Revision, IfMatch: "another-etag"}); !errors.Is(err, placement.ErrConflict) {
			t.Errorf("with another ETag: %v", err)
		}
		if _, err := resolve(api.Resolution{ID: c.ID, Take: "no-such-revision"}); !errors.Is(err, placement.ErrInvalid) {
			t.Errorf("a side that is none: %v", err)
		}
		other := serverApp("other", 1)
		if _, err := resolve(api.Resolution{ID: c.ID, App: &other}); !errors.Is(err, placement.ErrInvalid) {
			t.Errorf("a manifest of another app: %v", err)
		}
		var first api.ResolveResult
		m.until("it is resolved", time.Minute, func() (err error) { // the app may be changing hands since the heal
			first, err = resolve(api.Resolution{ID: c.ID, Take: island.Revision, IfMatch: c.ETag, IdempotencyKey: "once"})
			return err
		})
		if !first.Durability.Quorum {
			t.Errorf("%+v", first)
		}
		m.until("settled", time.Minute, func() error { return errors.Join(m.settled(), m.runOnce(m.sites[0], "shop", 5, all...)) })
		again, err := resolve(api.Resolution{ID: c.ID, Take: island.Revision, IfMatch: c.ETag, IdempotencyKey: "once"})
		if err != nil || again.Revision != first.Revision {
			t.Errorf("sent again: %s, %v; was %s", again.Revision, err, first.Revision)
		}
		if _, err := resolve(api.Resolution{ID: c.ID, Take: island.Revision}); !errors.Is(err, placement.ErrNotFound) {
			t.Errorf("what was resolved: %v", err)
		}
		if n, begun := m.told(m.sites[0], "conflict-ended"), m.told(m.sites[0], "conflict"); n != 1 || begun != 1 {
			t.Errorf("its end was told of %d times, its beginning %d", n, begun)
		}
	})
}

// Two apps that were made under one name on both sides of a cut: a person takes
// one, whichever, and the other ends with its work.
func TestTwoAppsOfOneName(t *testing.T) {
	for name, taken := range map[string]int{"the followed": 0, "the other": 1} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMesh(t, 3, 40*time.Millisecond)
				defer m.close()
				m.cutLast(gossip.StateSuspect) // so that keepers are named whom nothing reaches
				m.put(m.sites[0], serverApp("shop", 2))
				m.put(m.sites[2], serverApp("shop", 3))
				m.until("the island's", time.Minute, func() error { return m.runOnce(m.sites[2], "shop", 3, "s3") })
				m.net.Heal()
				// At once, while either side may be writing its app anew: what the answer
				// says stands. That its sides are others by now is an answer too.
				var side api.Side
				var want int
				m.until("it is resolved", time.Minute, func() error {
					c := m.conflict()
					side = c.Sides[taken]
					if c.Sides[0].UID == c.Sides[1].UID {
						t.Fatal("it is one app: the test shows nothing")
					}
					want = side.Spec.Components["web"].Wanted()
					r, err := backend{m.sites[1].node}.Resolve(t.Context(), api.Resolution{ID: c.ID, Take: side.Revision, IfMatch: c.ETag})
					if err == nil && r.UID != side.UID {
						t.Fatalf("%+v is not of %s", r, side.UID)
					}
					return err
				})
				m.until("one is left", 2*time.Minute, func() error {
					running := 0
					for _, s := range m.sites {
						running += s.world.Running()
					}
					if running != want {
						return fmt.Errorf("%d pieces of work run, not %d", running, want)
					}
					return errors.Join(m.settled(), m.runOnce(m.sites[0], "shop", want, "s1", "s2", "s3"))
				})
			})
		})
	}
}

// Edits of different components need nobody: after the heal there is one app
// with both, and no conflict was told of.
func TestEditsOfDifferentComponentsMerge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 3, 40*time.Millisecond)
		defer m.close()
		all := []string{"s1", "s2", "s3"}
		app := func(web, db int) placement.App {
			a := serverApp("shop", web)
			a.Components = maps.Clone(a.Components)
			a.Components["db"] = serverApp("shop", db).Components["web"]
			return a
		}
		m.put(m.sites[0], app(1, 1))
		m.until("deployed", time.Minute, func() error { return m.runOnce(m.sites[0], "shop", 2, all...) })
		m.cutLast(gossip.StateDead)
		m.put(m.sites[0], app(3, 1))
		m.put(m.sites[2], app(1, 2))
		m.net.Heal()
		m.until("both edits stand", time.Minute, func() error {
			errs := []error{m.settled(), m.runOnce(m.sites[1], "shop", 5, all...)}
			for _, s := range m.sites {
				d, err := backend{s.node}.GetApp(t.Context(), placement.AppKey{Namespace: "default", App: "shop"})
				if err != nil || d.Conflict || d.Spec.Components["web"].Wanted() != 3 || d.Spec.Components["db"].Wanted() != 2 {
					errs = append(errs, fmt.Errorf("%s: %+v %v", s.name, d.Spec, err))
				}
			}
			return errors.Join(errs...)
		})
		if n, merged := m.told(m.sites[0], "conflict"), m.told(m.sites[0], "merged"); n != 0 || merged != 1 {
			t.Errorf("told of %d conflicts and %d merges", n, merged)
		}
	})
}
