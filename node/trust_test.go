package node

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/gossip"
	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/node/driver/fake"
	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/transport/memnet"
)

// join tries to let another peer in, at one that did not invite it.
func (m *mesh) join(name, token string, at *testSite) error {
	i := len(m.sites)
	s := &testSite{name: name, dir: filepath.Join(m.t.TempDir(), name), addr: fmt.Sprintf("10.0.%d.1:7600", i+1), world: fake.NewWorld()}
	for _, o := range m.sites {
		m.net.SetLink(s.addr, o.addr, memnet.Link{Latency: 10 * time.Millisecond})
	}
	conn, err := m.net.Listen(s.addr)
	if err != nil {
		m.t.Fatal(err)
	}
	n, err := New(m.t.Context(), Config{DataDir: s.dir, Listen: s.addr, Advertise: s.addr, API: apiNone, Token: token, Join: []string{at.addr}},
		Deps{Conn: conn, Drivers: s.drivers()})
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	m.run(s, n, conn)
	m.sites = append(m.sites, s)
	return nil
}

// An invitation is good once, at any peer; a name belongs to one peer; who is
// forgotten is out, everywhere.
func TestTrustInTheMesh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 2, 20*time.Millisecond)
		defer m.close()
		first, second := m.sites[0], m.sites[1]
		if _, err := first.node.Invite(t.Context(), InviteOptions{Name: "s2-1"}); !errors.Is(err, placement.ErrConflict) {
			t.Errorf("a name in use: %v", err)
		}
		token, err := first.node.Invite(t.Context(), InviteOptions{Name: "s3-1", Site: "s3"})
		if err != nil {
			t.Fatal(err)
		}
		later, err := first.node.Invite(t.Context(), InviteOptions{Name: "s3-1", Site: "s3"})
		if err != nil {
			t.Fatal(err)
		}
		if err := m.join("s3", token, second); err != nil {
			t.Fatal(err)
		}
		m.until("all know all", time.Minute, func() error {
			for _, s := range m.sites {
				if n := s.node.PeersReady(t.Context()); n != 3 {
					return fmt.Errorf("%s knows %d peers", s.name, n)
				}
			}
			return nil
		})
		for what, c := range map[string]struct{ token, want string }{
			"used":        {token, "used already"},
			"name in use": {later, "has it"},
			"cut":         {token[:60], "cut or changed"},
		} {
			if err := m.join("s4", c.token, first); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if err := (backend{first.node}).Forget(t.Context(), "s1-1", false); err == nil {
			t.Error("a peer forgot itself")
		}
		if err := (backend{first.node}).Forget(t.Context(), "s3-1", false); err != nil {
			t.Fatal(err)
		}
		m.until("it is out", time.Minute, func() error {
			for i, want := range []int{2, 2, 1} {
				if n := m.sites[i].node.PeersReady(t.Context()); n != want {
					return fmt.Errorf("%s knows %d peers, not %d", m.sites[i].name, n, want)
				}
			}
			return nil
		})
		if err := m.join("s5", later, first); err != nil { // the name is free again
			t.Fatal(err)
		}
		again := m.sites[len(m.sites)-1].node.ID()
		if id, err := first.node.findPeer("s3-1"); err != nil || id != again {
			t.Errorf("the name means %s, %v; want who has it now, %s", id, err, again)
		}
	})
}

// An app is removed whole although a site that ran it is gone for good, once
// people have forgotten its peer; until then the removal waits for it.
func TestRemovalDoesNotWaitForTheForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 4, 20*time.Millisecond)
		defer m.close()
		key := placement.AppKey{Namespace: "default", App: "shop"}
		at := backend{m.sites[0].node}
		if _, err := at.PutApp(t.Context(), api.PutRequest{App: serverApp("shop", 4)}); err != nil {
			t.Fatal(err)
		}
		m.until("deployed", time.Minute, func() error { return m.runOnce(m.sites[0], "shop", 4, "s1", "s2", "s3", "s4") })
		m.kill(m.sites[3], true)
		m.until("re-placed", time.Minute, func() error { return m.runOnce(m.sites[0], "shop", 4, "s1", "s2", "s3") })
		if _, err := at.DeleteApp(t.Context(), api.DeleteRequest{Key: key}); err != nil {
			t.Fatal(err)
		}
		gone := func() error {
			for _, s := range m.sites[:3] {
				if list, err := (backend{s.node}).ListApps(t.Context(), api.AppQuery{Page: api.Page{Limit: 10}}); err != nil || len(list.Items) > 0 {
					return fmt.Errorf("%s lists %v, %v", s.name, list.Items, err)
				}
			}
			return nil
		}
		time.Sleep(time.Minute) // of virtual time
		if gone() == nil {
			t.Error("the removal did not wait for a peer that may come back")
		}
		if err := at.Forget(t.Context(), "s4-1", false); err != nil {
			t.Fatal(err)
		}
		m.until("removed", time.Minute, gone)
	})
}

// A peer that is shut out says so and takes nothing new; what it ran is stopped
// here and runs elsewhere. One that was away meanwhile is told by those that turn
// it away: it says so, and its work goes on.
func TestForgottenPeerSaysSo(t *testing.T) {
	for name, away := range map[string]bool{"while it is there": false, "while it is away": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMesh(t, 4, 20*time.Millisecond)
				defer m.close()
				first, out := m.sites[0], m.sites[3]
				m.put(first, serverApp("shop", 4))
				m.until("deployed", time.Minute, func() error { return m.runOnce(first, "shop", 4, "s1", "s2", "s3", "s4") })
				if away {
					m.cutLast(gossip.StateDead)
				}
				if err := (backend{first.node}).Forget(t.Context(), "s4-1", false); err != nil {
					t.Fatal(err)
				}
				m.net.Heal()
				m.until("it says so", 2*time.Minute, func() error {
					err := backend{out.node}.Ready()
					if err == nil || !strings.Contains(err.Error(), "s1-1") {
						return fmt.Errorf("ready: %v", err)
					}
					return nil
				})
				m.until("its work runs elsewhere", time.Minute, func() error { return m.runOnce(first, "shop", 4, "s1", "s2", "s3") })
				if away {
					if n := out.world.Running(); n != 1 {
						t.Errorf("%d pieces of work run where nobody proved anything, not 1", n)
					}
					return
				}
				m.until("and not there", time.Minute, func() error {
					if n := out.world.Running(); n != 0 {
						return fmt.Errorf("%d pieces of work run", n)
					}
					return nil
				})
				at := backend{out.node}
				if _, err := at.PutApp(t.Context(), api.PutRequest{App: serverApp("other", 1)}); !errors.Is(err, api.ErrForbidden) {
					t.Errorf("a deploy there: %v", err)
				}
				if _, err := at.Invite(t.Context(), api.InviteRequest{Name: "x"}); !errors.Is(err, api.ErrForbidden) {
					t.Errorf("an invitation there: %v", err)
				}
				if m.told(out, "forgotten") == 0 {
					t.Error("no event tells of it")
				}
				m.kill(out, false) // and it stays so over a restart
				m.start(out, "")
				if err := (backend{out.node}).Ready(); !errors.Is(err, api.ErrForbidden) {
					t.Errorf("after a restart: %v", err)
				}
			})
		})
	}
}

// TestNewcomersTellNothingTwice: who comes into a mesh waits for what the others have of
// trust, and writes nothing of that once more.
func TestNewcomersTellNothingTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 6, 20*time.Millisecond)
		defer m.close()
		time.Sleep(2 * keepTrustEvery)
		for _, s := range m.sites {
			keys := 0
			s.node.tables[tableTrust].Range("", func(key string, _ []byte) bool {
				keys++
				for i, r := range s.node.tables[tableTrust].Siblings(key) {
					if i > 0 || r.Dot.Peer != m.sites[0].node.ID() {
						t.Errorf("%s has %s from %s, which let nobody in", s.node.ID(), key, r.Dot.Peer)
					}
				}
				return true
			})
			if want := 1 + 2*5; keys != want { // the founder; who came, and with which invitation
				t.Errorf("%s has %d records, want %d", s.node.ID(), keys, want)
			}
		}
	})
}
