package placement

import (
	"strconv"
	"testing"
	"time"
)

// Work of a large part of the mesh that is lost at once waits, and only then: a
// peer that was shut out is no loss, nor are sites that died long ago.
func TestMassLoss(t *testing.T) {
	const second = time.Second
	type at struct {
		when  time.Duration
		peer  PeerID
		site  SiteID // "" as the table of trust has it: it does not say
		state MemberState
	}
	for _, c := range []struct {
		name   string
		events []at
		waits  bool
	}{
		{"one of five", []at{{second, "p1", "s1", MemberDead}}, false},
		{"two of five", []at{{second, "p1", "s1", MemberDead}, {2 * second, "p2", "s2", MemberDead}}, true},
		{"two of five, one is back", []at{{second, "p1", "s1", MemberDead}, {2 * second, "p2", "s2", MemberDead}, {3 * second, "p1", "s1", MemberAlive}}, false},
		{"two of five, an hour apart", []at{{second, "p1", "s1", MemberDead}, {time.Hour, "p2", "s2", MemberDead}}, false},
		{"two of five shut out", []at{{second, "p1", "", MemberForgotten}, {2 * second, "p2", "", MemberForgotten}}, false},
		{"one of five, and two are shut out that never came", []at{
			{second, "p1", "s1", MemberDead}, {second, "x", "", MemberForgotten}, {second, "y", "", MemberForgotten}}, false},
		{"one of five, and one that was heard of before its site was known", []at{
			{second, "p4", "s4", MemberDead}, {2 * second, "p5", "", MemberDead}, {3 * second, "p4", "s4", MemberAlive},
			{4 * second, "p5", "s4", MemberAlive}, {5 * second, "p1", "s1", MemberDead}}, false},
		{"two of five, one of them shut out then", []at{{second, "p1", "s1", MemberDead}, {2 * second, "p2", "s2", MemberDead}, {3 * second, "p2", "", MemberForgotten}}, false},
	} {
		m := newMembers("p0", "s0", Tuning{}.withDefaults())
		for _, n := range []string{"1", "2", "3", "4"} {
			m.change(0, MemberChanged{Peer: PeerID("p" + n), Site: SiteID("s" + n), State: MemberAlive})
		}
		var now time.Duration
		for _, e := range c.events {
			now = e.when
			m.change(now, MemberChanged{Peer: e.peer, Site: e.site, State: e.state})
		}
		if got := m.massLoss(now); got != c.waits {
			t.Errorf("%s: waits %v, want %v", c.name, got, c.waits)
		}
	}
}

// TestDigestsOutliveTheClock: what a peer says of itself is believed though its
// clock was set back, and it was started again, since it spoke last.
func TestDigestsOutliveTheClock(t *testing.T) {
	a, now := newTestPeer("a")
	b, its := newTestPeer("b")
	tell := func() *Digest {
		step(a, now, DigestChanged{Digest: b.Digest()})
		return a.members.peers["b"].digest
	}
	step(a, now, MemberChanged{Peer: "b", Site: "sb", State: MemberAlive})
	tell()
	its.Wall = its.Wall.Add(-time.Hour)
	step(b, its, HostChanged{Host: Host{ID: "h", Cordoned: true}})
	if tell().Full == "" {
		t.Error("a digest from before the clock was set back outweighs the one after it")
	}
	limit := b.counters.limit
	b = New(Config{Self: PeerRef{Peer: "b", Incarnation: 1}, Name: "b", Site: "s", Seed: 1})
	if err := b.Load(tableMeta, keyCounter, []byte(strconv.FormatUint(limit, 10))); err != nil {
		t.Fatal(err)
	}
	effects := b.Begin(*its)
	if full := tell().Full; full != "the host is not known yet" {
		t.Errorf("a peer that starts says %q of itself, as others hear it", full)
	}
	drive(b, its, effects)
	step(b, its, HostChanged{Host: Host{ID: "h"}})
	if full := tell().Full; full != "" {
		t.Errorf("a peer that has started says %q of itself, as others hear it", full)
	}
}

// TestDigestAge: what a live peer said last holds until it says something else; what a
// suspect said ages from when it was held alive.
func TestDigestAge(t *testing.T) {
	m := newMembers("p0", "s0", Tuning{}.withDefaults())
	age := func(at time.Duration) time.Duration {
		t.Helper()
		for _, c := range m.candidates(at) {
			if c.Digest.Peer.Peer == "p1" {
				return time.Duration(c.Age) * time.Millisecond
			}
		}
		t.Fatal("it is no candidate")
		return 0
	}
	state := func(at time.Duration, s MemberState) {
		m.change(at, MemberChanged{Peer: "p1", Site: "s1", State: s})
	}
	state(time.Second, MemberAlive)
	m.digestChanged(time.Second, Digest{Peer: PeerRef{Peer: "p1"}})
	if a := age(time.Hour); a != 0 {
		t.Errorf("alive for an hour: %v", a)
	}
	state(time.Hour, MemberSuspect)
	state(time.Hour+time.Second, MemberSuspect)
	if a := age(time.Hour + 3*time.Second); a != 3*time.Second {
		t.Errorf("suspect for three seconds: %v", a)
	}
	m.digestChanged(time.Hour+4*time.Second, Digest{Peer: PeerRef{Peer: "p1"}})
	if a := age(time.Hour + 5*time.Second); a != time.Second {
		t.Errorf("suspect, and heard of a second ago: %v", a)
	}
	state(time.Hour+6*time.Second, MemberAlive)
	if a := age(2 * time.Hour); a != 0 {
		t.Errorf("alive again: %v", a)
	}
}
