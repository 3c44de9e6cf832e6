package gossip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/gossip/table"
)

func value(r *table.Replica, key string) string {
	v, _ := r.Get(key)
	return string(v)
}

func everywhere(nodes []*node, key, want string) func() bool {
	return func() bool {
		for _, n := range nodes {
			if value(n.table, key) != want {
				return false
			}
		}
		return true
	}
}

func allSettled(nodes []*node) func() bool {
	return func() bool {
		for _, n := range nodes {
			if ok, _ := n.Settled(); !ok {
				return false
			}
		}
		return true
	}
}

// TestCutAndHeal: both sides go on, and whatever the length of the cut, all is
// well again some seconds after its end.
func TestCutAndHeal(t *testing.T) {
	for _, length := range []time.Duration{20 * time.Second, 10 * time.Minute, 2 * time.Hour} {
		t.Run(length.String(), func(t *testing.T) {
			if testing.Short() && length > 10*time.Minute {
				t.Skip("a long cut")
			}
			synctest.Test(t, func(t *testing.T) {
				m := newMesh(t, 100*time.Millisecond, 0.01)
				nodes := m.startMany(6, true)
				left := map[string]bool{nodes[0].id: true, nodes[1].id: true}
				m.wire.setCut(func(a, b string) bool { return left[a] != left[b] })
				time.Sleep(length)
				if ok, v := nodes[0].Settled(); !ok || len(v.Unheard) != 4 {
					t.Errorf("cut off: settled %v, %+v", ok, v)
				}
				for i, n := range nodes {
					if err := n.table.Put(t.Context(), fmt.Sprint("by/", i), []byte("x")); err != nil {
						t.Fatal(err)
					}
					if err := n.table.Put(t.Context(), "shared", []byte(fmt.Sprint(i))); err != nil {
						t.Fatal(err)
					}
					if err := n.SetDigest([]byte{byte(i)}, nil); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(5 * time.Second)
				m.wire.setCut(func(string, string) bool { return false })
				joined := m.eventually(10*time.Second, "all see all", func() bool { return allAlive(nodes, nodes) })
				settled := m.eventually(20*time.Second, "all are settled", allSettled(nodes))
				t.Logf("after %v: all alive in %v, settled %v later", length, joined, settled)
				for _, n := range nodes {
					if n.table.Len() != 7 || len(n.table.Siblings("shared")) < 2 || n.table.Hash() != nodes[0].table.Hash() {
						t.Errorf("%d keys, %d sides of the conflict", n.table.Len(), len(n.table.Siblings("shared")))
					}
				}
				m.eventually(20*time.Second, "digests are known across", func() bool {
					for _, n := range nodes {
						for i, o := range nodes {
							if d, ok := n.Digest(o.id); !ok || !bytes.Equal(d.Class, []byte{byte(i)}) {
								return false
							}
						}
					}
					return true
				})
			})
		})
	}
}

// TestOneWayCut: a peer that hears nobody, though it is heard, does not keep
// the others from agreeing once it is over.
func TestOneWayCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 50*time.Millisecond, 0)
		nodes := m.startMany(5, true)
		deaf := nodes[0].id
		m.wire.setCut(func(a, b string) bool { return b == deaf && a != deaf })
		time.Sleep(time.Minute)
		m.wire.setCut(func(string, string) bool { return false })
		m.eventually(15*time.Second, "all see all", func() bool { return allAlive(nodes, nodes) })
		m.eventually(15*time.Second, "all are settled", allSettled(nodes))
	})
}

// TestDownForAnHour: one exchange brings what was missed, and only that.
func TestDownForAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 100*time.Millisecond, 0)
		nodes := m.startMany(5, true)
		for i := range 2000 {
			if err := nodes[i%5].table.Put(t.Context(), fmt.Sprint("k", i), make([]byte, 200)); err != nil {
				t.Fatal(err)
			}
			if i%20 == 0 {
				time.Sleep(200 * time.Millisecond)
			}
		}
		m.eventually(2*time.Minute, "all have all", func() bool { return nodes[4].table.Len() == 2000 && allSettled(nodes)() })
		gone := nodes[4]
		m.kill(gone)
		time.Sleep(time.Hour)
		for i := range 10 {
			if err := nodes[0].table.Put(t.Context(), fmt.Sprint("k", i*7), []byte("new")); err != nil {
				t.Fatal(err)
			}
			if _, err := nodes[1].table.Remove(t.Context(), fmt.Sprint("k", i*7+1)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		back := m.start(gone.id, gone.table, nodes[0].id)
		took := m.eventually(15*time.Second, "it caught up", func() bool { return back.table.Hash() == nodes[0].table.Hash() })
		s := back.Stats()
		t.Logf("caught up in %v with %d exchanges, %d B", took, s.Syncs, s.SyncBytes)
		// Both ends may begin a stream at once: all is exchanged on one of them.
		if s.Syncs > 1 || s.SyncStreams > 2 {
			t.Errorf("it took %d exchanges on %d streams, want one", s.Syncs, s.SyncStreams)
		}
		if s.SyncBytes > 30_000 || back.table.Len() != 1990 {
			t.Errorf("%d B moved, %d keys", s.SyncBytes, back.table.Len())
		}
		m.eventually(15*time.Second, "all are settled", allSettled(append(nodes[:4:4], back)))
	})
}

func TestSpread(t *testing.T) {
	for _, n := range []int{10, 50} {
		synctest.Test(t, func(t *testing.T) {
			m := newMesh(t, 100*time.Millisecond, 0.02)
			nodes := m.startMany(n, true)
			m.eventually(time.Minute, "all are settled", allSettled(nodes))
			if err := nodes[0].table.Put(t.Context(), "small", []byte("1")); err != nil {
				t.Fatal(err)
			}
			small := m.eventually(10*time.Second, "a small value is everywhere", everywhere(nodes, "small", "1"))
			large := string(make([]byte, 50_000))
			if err := nodes[1].table.Put(t.Context(), "large", []byte(large)); err != nil {
				t.Fatal(err)
			}
			big := m.eventually(30*time.Second, "a large value is everywhere", everywhere(nodes, "large", large))
			if err := nodes[2].SetDigest([]byte("class"), make([]byte, 5000)); err != nil {
				t.Fatal(err)
			}
			// Rumours reach all but one peer in some thousands; push/pull reaches that one.
			digest := m.eventually(4*pushPullEvery, "a digest is everywhere", func() bool {
				for _, o := range nodes {
					if _, ok := o.Digest(nodes[2].id); !ok {
						return false
					}
				}
				return true
			})
			m.eventually(30*time.Second, "all are settled", allSettled(nodes))
			t.Logf("%d peers: 1 B value %v, 50 kB value %v, digest %v", n, small, big, digest)
			for _, o := range nodes {
				if s := o.Stats(); s.Oversized+s.Pruned+s.RumoursDropped > 0 || s.QueueDepth > 200 {
					t.Errorf("%+v", s)
				}
			}
		})
	}
}

// Many values at once come as fast as one, nearly: packets would take a minute.
func TestSpreadOfMany(t *testing.T) {
	const values = 1000
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 100*time.Millisecond, 0.02)
		nodes := m.startMany(20, true)
		m.eventually(time.Minute, "all are settled", allSettled(nodes))
		for i := range values {
			if err := nodes[i%len(nodes)].table.Put(t.Context(), fmt.Sprint("many", i), make([]byte, 300)); err != nil {
				t.Fatal(err)
			}
		}
		took := m.eventually(10*time.Second, "all values are everywhere", func() bool {
			for _, o := range nodes {
				for i := range values {
					if value(o.table, fmt.Sprint("many", i)) == "" {
						return false
					}
				}
			}
			return true
		})
		m.eventually(30*time.Second, "all are settled", allSettled(nodes))
		t.Logf("%d values at %d peers after %v", values, len(nodes), took)
		for _, o := range nodes {
			if s := o.Stats(); s.Oversized+s.Pruned+s.RumoursDropped+s.PushesDropped > 0 || s.QueueDepth > 200 {
				t.Errorf("%+v", s)
			}
		}
	})
}

// Words about members go first in packets, and in a mesh of a thousand with losses they
// leave room for digests and none for operations: those have packets of their own then.
func TestSpreadBesideMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 100*time.Millisecond, 0.02)
		nodes := m.startMany(40, true)
		m.eventually(time.Minute, "all are settled", allSettled(nodes))
		talk, stop := context.WithCancel(t.Context())
		defer stop()
		for _, n := range nodes {
			go func() {
				for pause(talk, 500*time.Millisecond) {
					n.mu.Lock()
					n.resealed = true
					n.mu.Unlock()
					n.wake()
				}
			}()
		}
		time.Sleep(10 * time.Second)
		var last time.Duration
		for i := range 10 {
			key := fmt.Sprint("key", i)
			if err := nodes[i].table.Put(t.Context(), key, make([]byte, 300)); err != nil {
				t.Fatal(err)
			}
			last = max(last, m.eventually(time.Minute, "a value is everywhere", everywhere(nodes, key, string(make([]byte, 300)))))
		}
		t.Logf("everywhere after %v at most", last)
		if last > everywhereMax {
			t.Errorf("%v until a value is everywhere, at most %v", last, everywhereMax)
		}
	})
}

// What is no bundle is not taken for one.
func FuzzBundle(f *testing.F) {
	b := newBundler()
	b.add([]byte{rumourMsg, 1, 't', 'x'})
	b.add([]byte{announceMsg})
	f.Add(b.take())
	f.Add([]byte{bundleMsg, 0})
	f.Add([]byte{bundleMsg, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, m []byte) {
		if len(m) > 0 {
			(&Gossip{}).takeBundle(m[1:])
		}
	})
}

func TestDigestWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 20*time.Millisecond, 0)
		nodes := m.startMany(3, false)
		a, b := nodes[0], nodes[1]
		if _, err := b.Refresh(t.Context(), a.id); !errors.Is(err, ErrNoDigest) {
			t.Errorf("before there is one: %v", err)
		}
		set := func(class, whole string) {
			t.Helper()
			if err := a.SetDigest([]byte(class), []byte(whole)); err != nil {
				t.Fatal(err)
			}
		}
		set("c1", "w1")
		m.eventually(5*time.Second, "the class is known", func() bool { d, ok := b.Digest(a.id); return ok && string(d.Class) == "c1" })
		if d, err := b.Refresh(t.Context(), a.id); err != nil || string(d.Whole) != "w1" || !d.Current {
			t.Fatalf("%+v %v", d, err)
		}
		// A burst is one digest, and a pull between gets the newest already.
		first, _ := b.Digest(a.id)
		for i := range 50 {
			set("c2", fmt.Sprint("w2-", i))
		}
		pulled, err := a.WholeDigest()
		if err != nil || !bytes.HasSuffix(pulled, []byte("w2-49")) {
			t.Fatalf("%q %v", pulled, err)
		}
		if again, err := a.WholeDigest(); err != nil || !bytes.Equal(again, pulled) {
			t.Errorf("signed anew for each that pulls: %v", err)
		}
		m.eventually(10*time.Second, "the second class is known", func() bool { d, _ := b.Digest(a.id); return string(d.Class) == "c2" })
		d, _ := b.Digest(a.id)
		if d.Current || string(d.Whole) != "w1" || d.Sequence <= first.Sequence {
			t.Errorf("before the pull: %+v", d)
		}
		// What is pulled before it is gossiped is news to nobody else until it is.
		set("c3", "w3")
		if d, err := b.Refresh(t.Context(), a.id); err != nil || string(d.Whole) != "w3" || !d.Current {
			t.Errorf("after the pull: %+v %v", d, err)
		}
		m.eventually(5*time.Second, "the third class is known", func() bool { d, _ := nodes[2].Digest(a.id); return string(d.Class) == "c3" })
		if n := m.count(EventDigest, a.id); n > 5 { // two observers, three digests, of which one pulled the last
			t.Errorf("%d digests were seen", n)
		}
		if err := a.SetDigest(make([]byte, ClassBytesMax+1), nil); err == nil {
			t.Error("a class too large was taken")
		}
	})
}

func TestRestartAtAnotherAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 50*time.Millisecond, 0)
		nodes := m.startMany(4, true)
		for _, wait := range []time.Duration{0, time.Minute} { // before and after its death is known
			old := nodes[3]
			m.kill(old)
			time.Sleep(wait)
			addr := fmt.Sprint("moved-", wait, ":1")
			m.adapt = func(c *Config) { c.Addr = addr }
			nodes[3] = m.start(old.id, m.replica(old.id, 2), nodes[0].id)
			m.eventually(15*time.Second, "the new address is known and all are alive", func() bool {
				for _, n := range nodes[:3] {
					for _, mem := range n.Members() {
						if mem.Peer == old.id && mem.Addr != addr {
							return false
						}
					}
				}
				return allAlive(nodes, nodes)
			})
		}
	})
}

// TestForgetfulPeer: a peer that lost its state and whose clock went back is
// believed again.
func TestForgetfulPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 50*time.Millisecond, 0)
		id := m.identity(3)
		future := func() ([]byte, error) {
			return encoder.Marshal(saved{Generation: uint64(time.Now().Add(10 * 365 * 24 * time.Hour).UnixMilli()),
				Sequence: 1 << 60})
		}
		m.adapt = func(c *Config) {
			if c.Self == id {
				c.Load = future
			}
		}
		nodes := m.startMany(4, true)
		if err := nodes[3].SetDigest([]byte("before"), nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		m.kill(nodes[3])
		m.adapt = func(c *Config) {
			if c.Self == id {
				c.Addr = "after:1"
			}
		}
		nodes[3] = m.start(id, m.replica(id, 2), nodes[0].id)
		if err := nodes[3].SetDigest([]byte("after"), nil); err != nil {
			t.Fatal(err)
		}
		m.eventually(30*time.Second, "its metadata and digest are taken", func() bool {
			for _, n := range nodes[:3] {
				d, _ := n.Digest(id)
				if stateOf(n, id) != StateAlive || string(d.Class) != "after" {
					return false
				}
				for _, mem := range n.Members() {
					if mem.Peer == id && mem.Addr != "after:1" {
						return false
					}
				}
			}
			return true
		})
		m.eventually(30*time.Second, "all are settled", allSettled(nodes))
	})
}

func TestLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 50*time.Millisecond, 0)
		nodes := m.startMany(4, false)
		gone := nodes[3]
		if err := gone.Leave(t.Context(), 90*time.Second); err != nil {
			t.Fatal(err)
		}
		m.kill(gone)
		m.eventually(3*time.Second, "all know that it left", func() bool {
			for _, n := range nodes[:3] {
				if stateOf(n, gone.id) != StateLeft {
					return false
				}
			}
			return true
		})
		for _, mem := range nodes[0].Members() {
			if mem.Peer == gone.id && mem.BackWithin != 90*time.Second {
				t.Errorf("back within %v", mem.BackWithin)
			}
		}
		if n := m.count(EventDead, gone.id); n > 0 {
			t.Errorf("%d called it dead", n)
		}
		nodes[3] = m.start(gone.id, nil, nodes[1].id)
		m.eventually(10*time.Second, "it is back", func() bool { return allAlive(nodes, nodes) })
	})
}

func TestForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 50*time.Millisecond, 0)
		nodes := m.startMany(4, true)
		bad := nodes[3]
		m.mu.Lock()
		delete(m.keys, bad.id)
		m.mu.Unlock()
		for _, n := range nodes[:3] {
			n.Forget(bad.id)
		}
		time.Sleep(time.Minute)
		for _, n := range nodes[:3] {
			for _, mem := range n.Members() {
				if mem.Peer == bad.id {
					t.Errorf("still a member: %+v", mem)
				}
			}
			if n.Stats().RefusedPackets == 0 {
				t.Error("nothing of it was refused")
			}
			if err := n.HandleSync(t.Context(), bad.id, nil); !errors.Is(err, errNotAdmitted) {
				t.Errorf("tables are exchanged with it: %v", err)
			}
		}
		m.eventually(10*time.Second, "the others are settled", allSettled(nodes[:3]))
	})
}

func TestStateOutlivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 50*time.Millisecond, 0)
		disk := map[string][]byte{}
		m.adapt = func(c *Config) {
			id := c.Self
			c.Load = func() ([]byte, error) { return disk[id], nil }
			c.Save = func(b []byte) error {
				m.mu.Lock()
				defer m.mu.Unlock()
				disk[id] = b
				return nil
			}
		}
		nodes := m.startMany(4, false)
		time.Sleep(5 * time.Minute)
		old := nodes[3]
		m.kill(old)
		nodes[3] = m.start(old.id, nil) // knows nobody but from its state
		if rtt, c, ok := nodes[3].RTT(nodes[0].id, nodes[1].id); !ok || rtt < 10*time.Millisecond || c < 0.1 {
			t.Errorf("RTT of others at once: %v %v %v", rtt, c, ok)
		}
		m.eventually(10*time.Second, "it found the mesh again", func() bool { return allAlive(nodes, nodes) })
		disk[old.id] = []byte("garbage")
		m.kill(nodes[3])
		nodes[3] = m.start(old.id, nil, nodes[0].id)
		m.eventually(30*time.Second, "it starts without a state", func() bool { return allAlive(nodes, nodes) })
	})
}

// TestPowerReturnsToAll: everybody starts at once, each knowing some.
func TestPowerReturnsToAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 100*time.Millisecond, 0.02)
		start := time.Now()
		nodes := m.startMany(50, true)
		all := time.Since(start)
		settled := m.eventually(time.Minute, "all are settled", allSettled(nodes))
		t.Logf("50 peers: all see all after %v, settled %v later", all, settled)
	})
}

// TestOneTableRulesAnother: a newcomer can't judge the records of a table
// before it has another one, and takes few that it can't judge. It gets both
// all the same; and a table that it never takes keeps it from no other.
func TestOneTableRulesAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 50*time.Millisecond, 0)
		ids := []string{m.identity(0), m.identity(1), m.identity(2)}
		tables := func(id string) (rules, judged, never, last *table.Replica) {
			open := func(name string, check func(string, []byte) error) *table.Replica {
				r, err := table.Open(table.ReplicaConfig{Log: memoryLog{},
					Table: table.Config{Name: name, Self: id, Incarnation: 1, Check: check}})
				if err != nil {
					t.Fatal(err)
				}
				return r
			}
			rules = open("rules", nil)
			judged = open("judged", func(string, []byte) error {
				if _, ok := rules.Get("known"); !ok {
					return errors.New("who wrote this?")
				}
				return nil
			})
			return rules, judged, open("never", func(string, []byte) error { return errors.New("no") }), open("z-last", nil)
		}
		var all [3][4]*table.Replica
		m.adapt = func(c *Config) {
			rules, judged, never, last := tables(c.Self)
			all[slices.Index(ids, c.Self)] = [4]*table.Replica{rules, judged, never, last}
			c.Tables, c.OpenSync = all[slices.Index(ids, c.Self)][:], m.openSync(c.Self)
		}
		m.start(ids[0], nil)
		fill := func(r *table.Replica, n int) {
			for i := range n {
				if err := r.Put(t.Context(), fmt.Sprint("k", i), []byte("v")); err != nil {
					t.Fatal(err)
				}
			}
		}
		fill(all[0][1], 3000)
		fill(all[0][2], 3000)
		fill(all[0][3], 1)
		if err := all[0][0].Put(t.Context(), "known", nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) // no rumour is left
		m.start(ids[1], nil, ids[0])
		m.eventually(30*time.Second, "the newcomer has what it may have", func() bool {
			return all[1][0].Len() == 1 && all[1][1].Len() == 3000 && all[1][3].Len() == 1
		})
		if n := all[1][2].Len(); n != 0 {
			t.Errorf("it took %d records that it refuses", n)
		}
	})
}

// TestServingIsShared: one peer that opens many exchanges and says nothing
// takes one place, and not for long.
func TestServingIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 50*time.Millisecond, 0)
		nodes := m.startMany(3, true)
		m.eventually(time.Minute, "all are settled", allSettled(nodes))
		host, bad, good := nodes[0], nodes[1], nodes[2]
		for range 10 {
			if _, err := m.openSync(bad.id)(t.Context(), host.id); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		if err := good.table.Put(t.Context(), "k", []byte("v")); err != nil {
			t.Fatal(err)
		}
		rw, err := m.openSync(good.id)(t.Context(), host.id)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := good.table.Sync(t.Context(), rw); err != nil || value(host.table, "k") != "v" {
			t.Errorf("a second peer is not served: %v", err)
		}
		if err := rw.Close(); err != nil {
			t.Fatal(err)
		}
		m.eventually(time.Minute+time.Second, "the silent one is given up", func() bool {
			host.mu.Lock()
			defer host.mu.Unlock()
			return len(host.served) == 0
		})
	})
}

// TestServingWaitsForTheStreamBefore: a peer that has closed a stream and opens
// another may be heard of the second first.
func TestServingWaitsForTheStreamBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 50*time.Millisecond, 0)
		nodes := m.startMany(2, true)
		m.eventually(time.Minute, "all are settled", allSettled(nodes))
		host, guest := nodes[0], nodes[1]
		first, err := m.openSync(guest.id)(t.Context(), host.id)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		second, err := m.openSync(guest.id)(t.Context(), host.id)
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Second, func() { _ = first.Close() })
		if _, err := guest.table.Sync(t.Context(), second); err != nil {
			t.Errorf("the second stream is not served: %v", err)
		}
		if err := second.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestDeathOutOfTheBlue: a member that calls a live peer dead is not believed
// by those who can ask that peer themselves.
func TestDeathOutOfTheBlue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 100*time.Millisecond, 0)
		nodes := m.startMany(10, false)
		liar, victim := nodes[9], nodes[0]
		for _, from := range []string{liar.id, victim.id} { // from itself: as one that leaves
			for round := range uint32(5) {
				word := memberlistWord(deadMsg, victim.id, from, 100*(round+1))
				for _, n := range nodes[1:9] {
					if _, err := liar.port.WriteTo(word, peerAddr(n.id)); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(5 * time.Second)
			}
		}
		if n := m.count(EventDead, victim.id) + m.count(EventLeft, victim.id); n > 0 {
			t.Errorf("%d times it was believed", n)
		}
		if n := m.count(EventSuspect, victim.id); n < 8 {
			t.Errorf("the accusation was noticed %d times: it proves nothing", n)
		}
		if !allAlive(nodes, nodes) {
			t.Error("not all are alive")
		}
		m.kill(victim)
		m.eventually(10*time.Second, "its real death is known", func() bool {
			for _, n := range nodes[1:] {
				if stateOf(n, victim.id) != StateDead {
					return false
				}
			}
			return true
		})
	})
}

// TestAccusationNobodyCanRefute: memberlist refutes with an incarnation above
// the accusation's, and there is none above the highest.
func TestAccusationNobodyCanRefute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 50*time.Millisecond, 0)
		nodes := m.startMany(5, false)
		liar, victim := nodes[4], nodes[0]
		for _, kind := range []byte{suspectMsg, deadMsg} {
			word := memberlistWord(kind, victim.id, liar.id, math.MaxUint32)
			for _, n := range nodes[:4] {
				compound := append([]byte{compoundMsg, 1, 0, byte(len(word))}, word...)
				nested := append([]byte{compoundMsg, 1, 0, byte(len(compound))}, compound...)
				for _, packet := range [][]byte{word, compound, nested} {
					if _, err := liar.port.WriteTo(packet, peerAddr(n.id)); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		time.Sleep(time.Minute)
		if n := m.count(EventDead, victim.id); n > 0 || !allAlive(nodes, nodes) {
			t.Errorf("%d times it was called dead", n)
		}
		if n := nodes[1].Stats().RefusedPackets; n == 0 {
			t.Error("nothing was refused")
		}
	})
}

const userMsg = 8 // of memberlist's

// TestNoiseOfAMember: what an admitted peer sends may be anything; the others
// go on, and hold no more than before.
func TestNoiseOfAMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 20*time.Millisecond, 0)
		nodes := m.startMany(4, true)
		host, bad := nodes[0], nodes[3]
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		rng := rand.New(rand.NewPCG(seed, 0))
		// What is sent is a real message, cut, changed or prolonged, or noise.
		real := [][]byte{
			memberlistWord(suspectMsg, nodes[1].id, bad.id, 1), memberlistWord(aliveMsg, nodes[1].id, bad.id, 1),
			memberlistWord(deadMsg, "nobody", bad.id, 1), delegate{host.Gossip}.LocalState(true),
			append([]byte{compoundMsg, 3, 0, 4, 0, 9, 255, 255}, "some and more"...), {compoundMsg, 255}, {hasCRCMsg, 1, 2, 3, 4},
			append([]byte{userMsg, digestMsg}, make([]byte, digestHead)...), append([]byte{userMsg, hashMsg}, make([]byte, hashMsgSize)...),
			append([]byte{userMsg, rumourMsg, 6}, "thingsx"...), {userMsg, announceMsg, 0xa3, 1, 0x66},
		}
		noise := func() []byte {
			b := bytes.Clone(real[rng.IntN(len(real))])
			for range rng.IntN(4) {
				b[rng.IntN(len(b))] = byte(rng.Uint32())
			}
			if rng.IntN(3) == 0 {
				b = b[:1+rng.IntN(len(b))]
			}
			for range rng.IntN(3) * 20 {
				b = append(b, byte(rng.Uint32()))
			}
			if rng.IntN(4) == 0 {
				b[0] = byte(rng.IntN(16))
			}
			return b
		}
		for range 200 {
			for range 20 {
				if _, err := bad.port.WriteTo(noise(), peerAddr(host.id)); err != nil {
					t.Fatal(err)
				}
			}
			c, err := bad.port.dial(t.Context(), host.id)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Write(noise()); err != nil {
				t.Fatal(err)
			}
			if rng.IntN(2) == 0 {
				time.Sleep(time.Second)
			}
			_ = c.Close()
		}
		time.Sleep(time.Minute)
		good := nodes[:3]
		m.eventually(time.Minute, "the others are well", func() bool { return allAlive(good, good) })
		if n := len(host.Members()); n != 3 {
			t.Errorf("%d members were made of noise", n-3)
		}
		if err := good[1].table.Put(t.Context(), "k", []byte("v")); err != nil {
			t.Fatal(err)
		}
		m.eventually(time.Minute, "tables spread", everywhere(good, "k", "v"))
	})
}
