package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/gossip"
	"github.com/hansa-mesh/hansa/gossip/table"
	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
)

// note is what a peer says about another one, by name.
func (m *mesh) note(at *testSite, name string) []string {
	m.t.Helper()
	list, err := backend{at.node}.Peers(m.t.Context(), api.Page{Limit: 100})
	if err != nil {
		m.t.Fatal(err)
	}
	var notes []string
	for _, p := range list.Items {
		if p.Name == name && p.State != "forgotten" {
			notes = append(notes, p.ID+": "+p.Note)
		}
	}
	return notes
}

func (m *mesh) forgotten(at *testSite, id string) func() error {
	return func() error {
		if err := at.node.trust.Admitted(id); err == nil {
			return fmt.Errorf("%s still takes it for a peer", at.name)
		}
		return nil
	}
}

// TestRevocationsCannotBeRemoved: a table takes everybody's word for what was
// removed; who belongs to the mesh does not depend on it.
func TestRevocationsCannotBeRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 4, 20*time.Millisecond)
		defer m.close()
		first, accomplice, bystander, out := m.sites[0], m.sites[1], m.sites[2], m.sites[3]
		id := out.node.ID()
		replica := accomplice.node.tables[tableTrust]
		// Before: what the first peer will write next is said to be gone already.
		var next []table.Dot
		replica.Range("admission/", func(key string, _ []byte) bool {
			for _, r := range replica.Siblings(key) {
				if d := r.Dot; d.Peer == first.node.ID() {
					for i := range uint64(50) {
						next = append(next, table.Dot{Peer: d.Peer, Incarnation: d.Incarnation, Counter: d.Counter + 1 + i})
					}
				}
			}
			return len(next) == 0
		})
		if err := replica.RemoveOver(t.Context(), "nothing", next); err != nil {
			t.Fatal(err)
		}
		if err := (backend{first.node}).Forget(t.Context(), id, false); err != nil {
			t.Fatal(err)
		}
		m.until("the bystander knows", time.Minute, m.forgotten(bystander, id))
		m.until("the accomplice knows", time.Minute, m.forgotten(accomplice, id))
		// After: what was written is removed, and so is what let the first in.
		gone := 0
		for _, prefix := range []string{"revocation/", "admission/" + first.node.ID()} {
			var keys []string
			replica.Range(prefix, func(key string, _ []byte) bool { keys = append(keys, key); return true })
			for _, key := range keys {
				if ok, err := replica.Remove(t.Context(), key); err != nil || !ok {
					t.Fatalf("remove %s: %v %v", key, ok, err)
				}
				gone++
			}
		}
		if gone != 2 {
			t.Fatalf("%d records were removed, want 2", gone)
		}
		m.until("the records are back", 2*time.Minute, func() error {
			for _, s := range []*testSite{first, bystander} {
				for _, prefix := range []string{"revocation/", "admission/" + first.node.ID()} {
					found := false
					s.node.tables[tableTrust].Range(prefix, func(string, []byte) bool { found = true; return false })
					if !found {
						return fmt.Errorf("%s has no %s", s.name, prefix)
					}
				}
			}
			return nil
		})
		for _, s := range []*testSite{first, bystander} {
			m.kill(s, false)
			m.start(s, "")
			if err := m.forgotten(s, id)(); err != nil {
				t.Error("after a restart:", err)
			}
			if err := s.node.trust.Admitted(first.node.ID()); err != nil {
				t.Error("after a restart:", err)
			}
		}
	})
}

// TestBothSidesOfACutLetPeersIn: one invitation and one name, used on both
// sides: all are held, shown when the cut heals, and the later one takes no
// work.
func TestBothSidesOfACutLetPeersIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 2, 20*time.Millisecond)
		defer m.close()
		one, two := m.sites[0], m.sites[1]
		token, err := one.node.Invite(t.Context(), InviteOptions{Name: "twin", Site: "s3"})
		if err != nil {
			t.Fatal(err)
		}
		m.net.Partition([]string{one.addr, "10.0.3.1:7600"}, []string{two.addr, "10.0.4.1:7600"})
		if err := m.join("s3", token, one); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		if err := m.join("s4", token, two); err != nil {
			t.Fatal(err)
		}
		m.net.Heal()
		m.until("both are shown as a conflict, everywhere", 2*time.Minute, func() error {
			for _, s := range m.sites {
				notes := m.note(s, "twin")
				if len(notes) != 2 {
					return fmt.Errorf("%s: %q", s.name, notes)
				}
				for _, n := range notes {
					if !strings.Contains(n, "2 keys have the name twin") || !strings.Contains(n, "invitation was used by 2 peers") {
						return fmt.Errorf("%s: %q", s.name, notes)
					}
				}
			}
			return nil
		})
		cordoned := func(s *testSite) bool {
			digests, err := one.node.digests(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return digests[placement.PeerID(s.node.ID())].Digest.Full != ""
		}
		m.until("the later one takes no work", 2*time.Minute, func() error {
			if cordoned(m.sites[2]) || !cordoned(m.sites[3]) {
				return fmt.Errorf("earlier %v, later %v", cordoned(m.sites[2]), cordoned(m.sites[3]))
			}
			return nil
		})
		// Whoever is forgotten ends the conflict.
		if err := (backend{one.node}).Forget(t.Context(), m.sites[2].node.ID(), false); err != nil {
			t.Fatal(err)
		}
		m.until("the other takes work", 2*time.Minute, func() error {
			if cordoned(m.sites[3]) {
				return fmt.Errorf("still cordoned: %q", m.note(one, "twin"))
			}
			if notes := m.note(one, "twin"); len(notes) != 1 || !strings.HasSuffix(notes[0], ": ") {
				return fmt.Errorf("still in doubt: %q", notes)
			}
			return nil
		})
	})
}

// TestStrayFindsItsMesh: a peer whose store is lost and whose address changed,
// when those that let it in are gone: nobody can find it, so it must find the
// others.
func TestStrayFindsItsMesh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 3, 20*time.Millisecond)
		defer m.close()
		first, left := m.sites[0], m.sites[1]
		stray := m.sites[2]
		time.Sleep(2 * keepKnownEvery) // it has noted who is there
		m.kill(stray, false)
		m.kill(first, false)
		entries, err := os.ReadDir(stray.dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Name() != identityDir {
				if err := os.RemoveAll(filepath.Join(stray.dir, e.Name())); err != nil {
					t.Fatal(err)
				}
			}
		}
		stray.addr = "10.0.9.1:7600"
		m.start(stray, "")
		m.until("the peer that is left sees it", time.Minute, func() error {
			for _, p := range left.node.gossip.Members() {
				if p.Peer == stray.node.ID() && p.State.String() == "alive" && p.Addr == stray.addr {
					return nil
				}
			}
			return fmt.Errorf("%+v", left.node.gossip.Members())
		})
	})
}

// TestFirstSiteIsGone: the peer that founded the mesh made an invitation and
// is lost; any other redeems it, and makes and redeems others. What a peer
// that was shut out had made is refused.
func TestFirstSiteIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 3, 20*time.Millisecond)
		defer m.close()
		first, second, third := m.sites[0], m.sites[1], m.sites[2]
		invite := func(at *testSite, name string) string {
			token, err := at.node.Invite(t.Context(), InviteOptions{Name: name, Site: name})
			if err != nil {
				t.Fatal(err)
			}
			return token
		}
		byFirst, byThird := invite(first, "s4"), invite(third, "s6")
		m.kill(first, true)
		if err := m.join("s4", byFirst, second); err != nil {
			t.Fatal(err)
		}
		fourth := m.sites[3]
		m.until("the newcomer is known", time.Minute, func() error {
			for _, s := range []*testSite{second, third, fourth} {
				if n := s.node.PeersReady(t.Context()); n != 3 {
					return fmt.Errorf("%s knows %d peers", s.name, n)
				}
			}
			return nil
		})
		if err := m.join("s5", invite(fourth, "s5"), fourth); err != nil { // and lets others in itself
			t.Fatal(err)
		}
		if err := (backend{second.node}).Forget(t.Context(), third.node.ID(), false); err != nil {
			t.Fatal(err)
		}
		m.until("it is out", time.Minute, m.forgotten(fourth, third.node.ID()))
		if err := m.join("s6", byThird, fourth); err == nil || !strings.Contains(err.Error(), "was shut out") {
			t.Errorf("an invitation of one that was shut out: %v", err)
		}
	})
}

func TestInviteRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 1, 0)
		defer m.close()
		for _, o := range []InviteOptions{{Name: "a b"}, {Name: strings.Repeat("n", 64)}, {Name: "n", Site: "s/1"}} {
			if _, err := m.sites[0].node.Invite(t.Context(), o); err == nil || !strings.Contains(err.Error(), "use letters") {
				t.Errorf("%+v: %v", o, err)
			}
		}
	})
}

func TestClockAhead(t *testing.T) {
	now := time.Now()
	for ahead, want := range map[time.Duration]time.Duration{
		-time.Hour: 0, 0: 0, clockAheadMax - time.Second: 0, clockAheadMax + time.Second: clockAheadMax + time.Second, 30 * time.Hour: 30 * time.Hour,
	} {
		if got := clockAhead(gossip.Digest{Sequence: uint64(now.Add(ahead).UnixMilli()), AsOf: now}); got != want {
			t.Errorf("%v ahead is shown as %v", ahead, got)
		}
	}
	if got := clockAhead(gossip.Digest{Sequence: 1<<63 + 1, AsOf: now}); got != 0 {
		t.Errorf("no time at all is shown as %v", got)
	}
}
