package placement

import (
	"strings"
	"testing"
	"time"
)

// What can't start anywhere is over within seconds, whatever the deadline: with
// nothing to go back to the roll-out stalls, else what was there before comes back.
func TestFailedForGoodEverywhere(t *testing.T) {
	m := newMachine()
	m.do(Submit{Ticket: 1, App: shopOf("gone", 2, nil)})
	m.pass(12*time.Second, nil)
	got := m.rollout(t)
	if got.State != RolloutStalled || !strings.Contains(got.Why, "no such image") {
		t.Fatalf("%+v", got)
	}
	m.do(Submit{Ticket: 2, App: shopOf("1", 2, nil)})
	m.pass(12*time.Second, nil)
	if got = m.rollout(t); got.State != RolloutDone || m.at() != "map[1:2]" {
		t.Fatalf("and then one that works: %s, %+v", m.at(), got)
	}
	m.do(Submit{Ticket: 3, App: shopOf("gone", 2, nil)})
	fewest := 2
	m.pass(14*time.Second, func() { fewest = min(fewest, len(m.runs)) })
	if got = m.rollout(t); got.State != RolloutReverted || m.at() != "map[1:2]" || !strings.Contains(got.Why, "no such image") {
		t.Fatalf("after one that never starts: %s, %+v", m.at(), got)
	}
	if fewest < 1 {
		t.Errorf("%d of 2 slots ran meanwhile", fewest)
	}
	m.do(Submit{Ticket: 4, App: shopOf("2", 2, nil)})
	m.pass(14*time.Second, nil)
	if got = m.rollout(t); got.State != RolloutDone || m.at() != "map[2:2]" {
		t.Fatalf("and then one that works: %s, %+v", m.at(), got)
	}
}

// A peer that can't be had now, or has no room, may do better: the roll-out waits.
func TestFailedForGoodAtOnePeer(t *testing.T) {
	m := newMachine()
	other := m.p.Digest()
	other.Peer, other.Name, other.Free, other.Fits, other.Full = PeerRef{Peer: "b", Incarnation: 1}, "b", Resources{}, nil, "its disk is full"
	m.do(MemberChanged{Peer: "b", Site: "s", State: MemberAlive})
	m.do(DigestChanged{Digest: other})
	m.do(Submit{Ticket: 1, App: shopOf("gone", 1, nil)})
	m.pass(12*time.Second, nil)
	if got := m.rollout(t); got.State != RolloutGoing || !strings.Contains(got.Why+m.why(), "no such image") {
		t.Fatalf("%s, %+v", m.why(), got)
	}
	other.Drivers, other.Sequence = nil, other.Sequence+1
	m.do(DigestChanged{Digest: other})
	m.pass(14*time.Second, nil)
	if got := m.rollout(t); got.State != RolloutStalled {
		t.Fatalf("a peer without the driver is waited for: %+v", got)
	}
}

// why is what the peer says of the app.
func (m *machine) why() string { return strings.Join(m.p.Open(), "\n") }
