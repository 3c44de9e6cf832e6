package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/fake"
	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/transport/memnet"
)

// mesh is real peers (QUIC, memberlist, Badger) on an in-memory network, with
// work that is only pretended, in virtual time.
type mesh struct {
	t     *testing.T
	net   *memnet.Network
	sites []*testSite
	deps  func(*Deps) // changes what sites are started with from now on; nil for nothing
	made  func(*Node) // changes nodes before they run; nil for nothing
}

type testSite struct {
	name, dir, addr string
	world           *fake.World
	wrap            func(*fake.Driver) []driver.Driver // nil for the driver alone
	node            *Node
	cancel          context.CancelCauseFunc
	done            chan error
}

// newMesh starts a mesh. The sites' data folders are in dirs, or temporary.
func newMesh(t *testing.T, sites int, rtt time.Duration, dirs ...string) *mesh {
	return newMeshOf(t, nil, sites, rtt, dirs...)
}

// newMeshOf starts a mesh of nodes that made has changed before they ran.
func newMeshOf(t *testing.T, made func(*Node), sites int, rtt time.Duration, dirs ...string) *mesh {
	m := &mesh{t: t, net: memnet.New(1), made: made}
	for len(dirs) < sites {
		dirs = append(dirs, t.TempDir())
	}
	for i := range sites {
		name := fmt.Sprintf("s%d", i+1)
		m.sites = append(m.sites, &testSite{
			name: name, dir: filepath.Join(dirs[i], name), addr: fmt.Sprintf("10.0.%d.1:7600", i+1), world: fake.NewWorld(),
		})
		for _, s := range m.sites[:i] {
			m.net.SetLink(s.addr, m.sites[i].addr, memnet.Link{Latency: rtt / 2})
		}
	}
	first := m.sites[0]
	if _, err := Init(InitConfig{DataDir: first.dir, Name: "s1-1", Site: "s1"}); err != nil {
		t.Fatal(err)
	}
	m.start(first, "")
	for _, s := range m.sites[1:] {
		token, err := first.node.Invite(t.Context(), InviteOptions{Name: s.name + "-1", Site: s.name})
		if err != nil {
			t.Fatal(err)
		}
		m.start(s, token)
	}
	m.until("all know all", time.Minute, func() error {
		for _, s := range m.sites {
			if n := s.node.PeersReady(t.Context()); n != len(m.sites) {
				return fmt.Errorf("%s knows %d peers", s.name, n)
			}
		}
		return nil
	})
	return m
}

func (m *mesh) start(s *testSite, token string) {
	m.t.Helper()
	conn, err := m.net.Listen(s.addr)
	if err != nil {
		m.t.Fatal(err)
	}
	cfg := Config{
		DataDir: s.dir, Listen: s.addr, Advertise: s.addr, API: apiNone, Upstream: upstreamNone,
		Capacity: placement.Resources{CPU: 4000, Memory: 4 << 30, Disk: 4 << 30},
	}
	if token != "" {
		cfg.Token, cfg.Join = token, []string{m.sites[0].addr}
	}
	deps := Deps{
		Conn: conn, Version: "test",
		Log:     slog.New(slog.NewTextHandler(testLog{m.t}, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Drivers: s.drivers(),
	}
	if m.deps != nil {
		m.deps(&deps)
	}
	n, err := New(m.t.Context(), cfg, deps)
	if err != nil {
		m.t.Fatal(err)
	}
	if m.made != nil {
		m.made(n)
	}
	m.run(s, n, conn)
}

// drivers are pretended ones on the site's machine.
func (s *testSite) drivers() func(string, func(driver.Event), *slog.Logger) ([]driver.Driver, error) {
	return func(_ string, events func(driver.Event), _ *slog.Logger) ([]driver.Driver, error) {
		d := fake.New(fake.Config{Name: "process", World: s.world, Events: events})
		if s.wrap != nil {
			return s.wrap(d), nil
		}
		return []driver.Driver{d}, nil
	}
}

func (m *mesh) run(s *testSite, n *Node, conn net.PacketConn) {
	ctx, cancel := context.WithCancelCause(context.Background())
	s.node, s.cancel, s.done = n, cancel, make(chan error, 1)
	go func() {
		err := n.Run(ctx)
		s.done <- errors.Join(err, conn.Close())
	}()
	<-n.Started()
}

// kill ends a peer without a goodbye, and its work if the whole site is lost.
func (m *mesh) kill(s *testSite, work bool) {
	m.t.Helper()
	s.cancel(ErrKilled)
	if err := <-s.done; err != nil {
		m.t.Fatal(err)
	}
	if work {
		s.world.KillAll()
	}
	s.node = nil
}

func (m *mesh) close() {
	for _, s := range m.sites {
		if s.node != nil {
			s.cancel(nil)
			if err := <-s.done; err != nil {
				m.t.Error(err)
			}
		}
		s.world.KillAll()
	}
	m.net.Close()
	time.Sleep(time.Minute) // memberlist's last probes end by themselves, in virtual time
}

// until waits in virtual time.
func (m *mesh) until(what string, max time.Duration, condition func() error) time.Duration {
	m.t.Helper()
	begin := time.Now()
	for {
		err := condition()
		if err == nil {
			return time.Since(begin)
		}
		if time.Since(begin) > max {
			m.t.Fatalf("%s: not within %v: %v", what, max, err)
		}
		time.Sleep(50 * time.Millisecond) // of virtual time
	}
}

type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// runOnce says whether every slot of the app runs once, on the given sites.
func (m *mesh) runOnce(at *testSite, app string, want int, sites ...string) error {
	list, err := backend{at.node}.Allocations(m.t.Context(), api.AllocationQuery{App: app, Page: api.Page{Limit: 1000}})
	if err != nil {
		return err
	}
	seen := map[string]string{}
	for _, a := range list.Items {
		if a.State != string(placement.AllocRunning) || !slices.Contains(sites, a.Site) {
			continue
		}
		key := fmt.Sprintf("%s[%d]", a.Component, a.Slot)
		if seen[key] != "" {
			return fmt.Errorf("%s runs at %s and at %s", key, seen[key], a.Site)
		}
		seen[key] = a.Site
	}
	if len(seen) != want {
		return fmt.Errorf("%d of %d slots of %s run: %v", len(seen), want, app, seen)
	}
	return nil
}

func (m *mesh) settled() error {
	for _, s := range m.sites {
		if s.node == nil {
			continue
		}
		view, err := backend{s.node}.Mesh(m.t.Context())
		if err != nil {
			return err
		}
		if !view.Settled {
			return fmt.Errorf("%s is not settled: %v", s.name, view.Open)
		}
	}
	return nil
}

// serverApp is an app of one server with so many slots, one to a site where
// there are enough.
func serverApp(name string, replicas int) placement.App {
	return placement.App{
		Name: name, Namespace: "default",
		Components: map[string]placement.Component{
			"web": {
				Server:   &placement.Server{Process: &placement.Process{Command: []string{"run"}}},
				Replicas: &replicas, Resources: placement.Resources{CPU: 100, Memory: 64 << 20},
				Place: placement.Place{Spread: "site"},
			},
		},
	}
}

func TestMeshLosesASite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 3, 40*time.Millisecond)
		defer m.close()
		begin := time.Now()
		r, err := backend{m.sites[0].node}.PutApp(t.Context(), api.PutRequest{App: serverApp("shop", 5)})
		if err != nil {
			t.Fatal(err)
		}
		if r.Durability.Copies < 2 {
			t.Errorf("on disk at %d keepers", r.Durability.Copies)
		}
		m.until("deployed", time.Minute, func() error { return m.runOnce(m.sites[0], "shop", 5, "s1", "s2", "s3") })
		t.Logf("deployed in %v", time.Since(begin))

		m.kill(m.sites[0], true)
		took := m.until("re-placed", time.Minute, func() error { return m.runOnce(m.sites[1], "shop", 5, "s2", "s3") })
		t.Logf("re-placed in %v", took)

		m.start(m.sites[0], "")
		took = m.until("settled", time.Minute, func() error {
			return errors.Join(m.settled(), m.runOnce(m.sites[0], "shop", 5, "s1", "s2", "s3"))
		})
		t.Logf("settled in %v", took)
	})
}

// A plain deploy costs one negotiation round trip, the keepers' copies in
// parallel. In virtual time that is exact, whatever the machine.
func TestDeployCostsARoundTrip(t *testing.T) {
	for _, rtt := range []time.Duration{0, 100 * time.Millisecond} {
		t.Run(rtt.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMesh(t, 3, rtt)
				defer m.close()
				begin := time.Now()
				r, err := backend{m.sites[0].node}.PutApp(t.Context(), api.PutRequest{App: serverApp("shop", 3)})
				if err != nil {
					t.Fatal(err)
				}
				accepted := time.Since(begin)
				for { // what runs, at the peers themselves: nobody has to be asked
					running := 0
					for _, s := range m.sites {
						running += s.world.Running()
					}
					if running == 3 {
						break
					}
					if time.Since(begin) > time.Minute {
						t.Fatalf("%d of 3 run", running)
					}
					time.Sleep(time.Millisecond)
				}
				running := time.Since(begin)
				t.Logf("RTT %v: accepted by %d keepers after %v, running after %v", rtt, r.Durability.Copies, accepted, running)
				if r.Durability.Copies < 2 {
					t.Errorf("accepted by %d keepers", r.Durability.Copies)
				}
				if limit := rtt + rtt/5 + 20*time.Millisecond; accepted > limit || running > limit {
					t.Errorf("accepted after %v, running after %v: more than %v", accepted, running, limit)
				}
			})
		})
	}
}

// Cut off, both sides go on; healed, nothing runs twice and nothing is lost.
func TestMeshIsCutAndHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 3, 40*time.Millisecond)
		defer m.close()
		put := func(at *testSite, name string, replicas int) {
			t.Helper()
			if _, err := (backend{at.node}).PutApp(t.Context(), api.PutRequest{App: serverApp(name, replicas)}); err != nil {
				t.Fatal(err)
			}
		}
		put(m.sites[0], "shop", 6)
		all := []string{"s1", "s2", "s3"}
		m.until("deployed", time.Minute, func() error { return m.runOnce(m.sites[0], "shop", 6, all...) })

		m.net.Partition([]string{m.sites[0].addr}, []string{m.sites[1].addr, m.sites[2].addr})
		m.until("both sides know", time.Minute, func() error {
			if a, b := m.sites[0].node.PeersReady(t.Context()), m.sites[1].node.PeersReady(t.Context()); a != 1 || b != 2 {
				return fmt.Errorf("they see %d and %d peers", a, b)
			}
			return nil
		})
		put(m.sites[0], "island", 2)
		put(m.sites[1], "mainland", 2)
		put(m.sites[2], "shop", 8) // an edit where the majority is
		m.until("the island's app", time.Minute, func() error { return m.runOnce(m.sites[0], "island", 2, "s1") })
		m.until("the mainland's app", time.Minute, func() error { return m.runOnce(m.sites[1], "mainland", 2, "s2", "s3") })
		m.until("re-placed", time.Minute, func() error { return m.runOnce(m.sites[1], "shop", 8, "s2", "s3") })

		m.net.Heal()
		took := m.until("healed", time.Minute, func() error {
			errs := []error{m.settled()}
			for _, s := range m.sites {
				errs = append(errs, m.runOnce(s, "shop", 8, all...), m.runOnce(s, "island", 2, all...), m.runOnce(s, "mainland", 2, all...))
			}
			return errors.Join(errs...)
		})
		t.Logf("healed in %v", took)
		running := 0
		for _, s := range m.sites {
			running += s.world.Running()
		}
		if running != 12 {
			t.Errorf("%d pieces of work run, not 12", running)
		}
	})
}

// A steward knows how far two other peers are apart, from their coordinates:
// "near" does not depend on who decides.
func TestNearIsMeasuredBetweenOthers(t *testing.T) {
	if testing.Short() {
		t.Skip("coordinates need many virtual minutes; not with -short")
	}
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 4, 200*time.Millisecond)
		defer m.close()
		m.net.SetLink(m.sites[1].addr, m.sites[2].addr, memnet.Link{Latency: 5 * time.Millisecond})
		apart := func(a, b *testSite) time.Duration {
			rtt, _, _ := m.sites[0].node.gossip.RTT(a.node.ID(), b.node.ID())
			return rtt
		}
		m.until("the first knows how far others are from each other", 30*time.Minute, func() error {
			near, far := apart(m.sites[1], m.sites[2]), apart(m.sites[1], m.sites[3])
			if near > 50*time.Millisecond || far < 150*time.Millisecond {
				return fmt.Errorf("it takes them for %v and %v apart", near, far)
			}
			return nil
		})
		app := serverApp("pair", 1)
		db := app.Components["web"]
		db.Place = placement.Place{Where: "site=s2"}
		web := app.Components["web"]
		web.Place = placement.Place{Where: "site!=s2", Near: &placement.Near{Component: "db", RTT: placement.Duration(60 * time.Millisecond)}}
		app.Components = map[string]placement.Component{"db": db, "web": web}
		if _, err := (backend{m.sites[0].node}).PutApp(t.Context(), api.PutRequest{App: app}); err != nil {
			t.Fatal(err)
		}
		m.until("the pair runs", time.Minute, func() error { return m.runOnce(m.sites[0], "pair", 2, "s2", "s3") })
	})
}

// A peer that is restarted on purpose announces that it will be back: its work,
// which outlives it, is neither placed elsewhere meanwhile nor started anew. One
// that does not come back in time is as lost as any other.
func TestPlannedRestartMovesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 3, 20*time.Millisecond)
		defer m.close()
		if _, err := (backend{m.sites[0].node}).PutApp(t.Context(), api.PutRequest{App: serverApp("shop", 6)}); err != nil {
			t.Fatal(err)
		}
		m.until("deployed", time.Minute, func() error { return m.runOnce(m.sites[0], "shop", 6, "s1", "s2", "s3") })
		started := func() (n int) {
			for _, s := range m.sites {
				n += s.world.Starts()
			}
			return n
		}
		before, site := started(), m.sites[1]
		stop := func() {
			site.node.cfg.BackWithin = time.Minute
			site.cancel(nil)
			if err := <-site.done; err != nil {
				t.Fatal(err)
			}
			site.node = nil
		}
		stop()
		time.Sleep(40 * time.Second) // of virtual time: far beyond the dead verdict
		if n := started(); n != before {
			t.Errorf("%d programs were started while the peer was away as announced", n-before)
		}
		m.start(site, "")
		m.until("settled", time.Minute, func() error {
			return errors.Join(m.settled(), m.runOnce(m.sites[0], "shop", 6, "s1", "s2", "s3"))
		})
		if n := started(); n != before {
			t.Errorf("%d programs were started by a restart", n-before)
		}
		stop()
		m.until("placed elsewhere, since it did not come back", 3*time.Minute, func() error {
			return m.runOnce(m.sites[0], "shop", 6, "s1", "s3")
		})
	})
}

// An app that is deployed at a site in the moment when it is cut off, before it
// can know, runs there whole: what was asked of the others comes to nothing.
func TestDeployInTheMomentOfACut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 3, 40*time.Millisecond)
		defer m.close()
		m.net.Partition([]string{m.sites[0].addr}, []string{m.sites[1].addr, m.sites[2].addr})
		r, err := backend{m.sites[0].node}.PutApp(t.Context(), api.PutRequest{App: serverApp("island", 6)})
		if err != nil {
			t.Fatal(err)
		}
		if r.Durability.Quorum {
			t.Errorf("accepted with %+v", r.Durability)
		}
		m.until("it runs here", time.Minute, func() error { return m.runOnce(m.sites[0], "island", 6, "s1") })
		m.net.Heal()
		// A claim of a version that came to nothing is given back after a minute.
		m.until("settled", 3*time.Minute, func() error {
			return errors.Join(m.settled(), m.runOnce(m.sites[1], "island", 6, "s1", "s2", "s3"))
		})
	})
}

// What is deployed as it is already is said to be so.
func TestDeployUnchanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 2, 0)
		defer m.close()
		for i, want := range []bool{false, true, false} {
			r, err := backend{m.sites[0].node}.PutApp(t.Context(), api.PutRequest{App: serverApp("shop", 1+i/2)})
			if err != nil || r.Unchanged != want {
				t.Errorf("deploy %d: unchanged %t, %v", i, r.Unchanged, err)
			}
		}
	})
}
