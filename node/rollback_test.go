package node

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/placement"
)

// shopAs is an app whose program has an argument of its own in each version.
func shopAs(argument string, replicas int) placement.App {
	app := serverApp("shop", replicas)
	c := app.Components["web"]
	healthy, deadline := placement.Duration(2*time.Second), placement.Duration(30*time.Second)
	c.Server.Process.Command = []string{"run", argument}
	c.Update = &placement.Update{MinHealthy: &healthy, Deadline: &deadline}
	app.Components["web"] = c
	return app
}

// ran is how many slots run with each argument, over all sites.
func (m *mesh) ran() string {
	count := map[string]int{}
	for _, s := range m.sites {
		for _, task := range s.world.Tasks() {
			count[task.Process.Command[1]]++
		}
	}
	return fmt.Sprint(count)
}

func (m *mesh) rollout(at *testSite) (api.RolloutStatus, error) {
	st, err := backend{at.node}.Status(m.t.Context(), placement.AppKey{Namespace: "default", App: "shop"})
	if err != nil || st.Components[0].Rollout == nil {
		return api.RolloutStatus{}, fmt.Errorf("%s knows of no roll-out: %w", at.name, err)
	}
	return *st.Components[0].Rollout, nil
}

// A bad version is reverted, over all sites and although its steward is lost
// meanwhile; every site knows why, and what was deployed before; and a person goes
// back to any of it.
func TestRollBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 4, 40*time.Millisecond)
		defer m.close()
		key := placement.AppKey{Namespace: "default", App: "shop"}
		for _, s := range m.sites {
			s.world.OnStart(func(task driver.Task) error {
				if task.Process.Command[1] == "bad" {
					return errors.New("the config file is missing")
				}
				return nil
			})
		}
		put := func(app placement.App) {
			t.Helper()
			if _, err := (backend{m.sites[3].node}).PutApp(t.Context(), api.PutRequest{App: app}); err != nil {
				t.Fatal(err)
			}
		}
		is := func(what, state, ran string, at ...*testSite) {
			t.Helper()
			m.until(what, 3*time.Minute, func() error {
				for _, s := range at {
					r, err := m.rollout(s)
					if err == nil && (r.State != state || m.ran() != ran) {
						err = fmt.Errorf("%s: %s, and it runs %s", s.name, r.State, m.ran())
					}
					if err != nil {
						return err
					}
				}
				return nil
			})
		}
		put(shopAs("one", 4))
		is("deployed", "done", "map[one:4]", m.sites...)
		put(shopAs("two", 4))
		is("rolled out", "done", "map[two:4]", m.sites...)
		put(shopAs("bad", 4))
		m.until("it has begun", time.Minute, func() error {
			if r, err := m.rollout(m.sites[1]); err != nil || r.State != "going" {
				return fmt.Errorf("%v, %w", r, err)
			}
			return nil
		})
		view, err := m.sites[0].node.appHere(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		var left []*testSite
		for _, s := range m.sites {
			if s.node.self().Peer == view.Steward {
				m.kill(s, true)
			} else {
				left = append(left, s)
			}
		}
		is("reverted", "reverted", "map[two:4]", left...)
		r, err := m.rollout(left[0])
		if err != nil || !strings.Contains(r.Why, "the config file is missing") || r.Previous == "" || r.Updated != 4 {
			t.Errorf("%+v, %v", r, err)
		}
		for _, s := range left {
			l, err := backend{s.node}.History(t.Context(), key)
			if err != nil || len(l.Items) != 3 || l.Items[0].Number != 3 || !l.Items[0].Current || len(l.Items[1].InUse) != 1 {
				t.Fatalf("%s: %+v, %v", s.name, l.Items, err)
			}
		}
		at := backend{left[1].node}
		if _, err := at.Rollback(t.Context(), api.Rollback{Key: key, Revision: "7"}); !errors.Is(err, placement.ErrNotFound) || !strings.Contains(err.Error(), "[3 2 1]") {
			t.Errorf("to what is not kept: %v", err)
		}
		if _, err := at.Rollback(t.Context(), api.Rollback{Key: key, IfMatch: "other"}); !errors.Is(err, placement.ErrConflict) {
			t.Errorf("over another version: %v", err)
		}
		if _, err := at.Rollback(t.Context(), api.Rollback{Key: key, Revision: "1"}); err != nil {
			t.Fatal(err)
		}
		is("rolled back", "done", "map[one:4]", left...)
	})
}
