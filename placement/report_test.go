package placement

import (
	"slices"
	"testing"
	"time"
)

// Who drives an app is told of each change here at once, the other keepers of what
// has come together in a while: and all at once where one is not in reach, where it is
// not known who drives, or where nothing changed and it is only said again.
func TestReportsGoToTheDriverFirst(t *testing.T) {
	p, now := newTestPeer("a")
	see := func(id PeerID, s MemberState) { drive(p, now, p.Step(*now, MemberChanged{Peer: id, State: s})) }
	for _, id := range []PeerID{"m", "k", "l"} {
		see(id, MemberAlive)
	}
	p.ledger.terms["u"] = Term{1, "m"}
	goes := func(what string, touched bool, after time.Duration, want ...PeerID) {
		t.Helper()
		p.out.now.Mono += after
		if touched {
			p.touchReport("u")
		}
		if got := p.reportTo("u", map[PeerID]bool{"m": true, "k": true, "l": true}); !slices.Equal(got, want) {
			t.Errorf("%s: it goes to %v, want %v", what, got, want)
		}
	}
	every := p.tune.SummaryEvery
	goes("a change", true, 0, "m")
	goes("another", true, every/2, "m")
	goes("the others' turn", false, every/2, "k", "l")
	goes("said again", false, 20*every, "k", "l", "m")
	goes("a change", true, 0, "m")
	goes("a change when it is the others' turn", true, every, "k", "l", "m")
	ripens := func() {
		t := p.telling["u"]
		t.fresh = p.out.now.Mono
		p.telling["u"] = t
	}
	ripens()
	goes("slots that count in a roll-out from now on", false, 0, "m")
	goes("said again", false, 20*every, "k", "l", "m")
	goes("a change", true, 0, "m")
	ripens()
	goes("such slots when it is the others' turn", false, every, "k", "l", "m")
	see("k", MemberDead)
	goes("a keeper is away", true, 0, "l", "m")
	see("k", MemberAlive)
	p.ledger.terms["u"] = Term{2, "x"}
	goes("somebody else drives", true, 0, "k", "l", "m")
}

// Who drives an app is told of changes that go on and on less and less closely, until the
// others have been told, and of the first after that as closely as before.
func TestReportsOfManyChanges(t *testing.T) {
	p, now := newTestPeer("a")
	for _, id := range []PeerID{"m", "k", "l"} {
		drive(p, now, p.Step(*now, MemberChanged{Peer: id, State: MemberAlive}))
	}
	p.ledger.terms["u"] = Term{1, "m"}
	var told []time.Duration
	began := p.out.now.Mono
	for p.out.now.Mono-began < 2*p.tune.SummaryEvery {
		p.touchReport("u")
		p.out.now.Mono += 10 * time.Millisecond
		for d, ok := p.timers.due(p.out.now.Mono); ok; d, ok = p.timers.due(p.out.now.Mono) {
			if d.kind == timerReport {
				told = append(told, p.out.now.Mono-began)
				p.reportTo("u", map[PeerID]bool{"m": true, "k": true, "l": true})
			}
		}
	}
	if d := p.tune.ReportDelay; len(told) < 8 || len(told) > 12 || told[0] > d+10*time.Millisecond {
		t.Errorf("with a change every 10 ms it told after %v", told)
	}
	fresh := false
	for i := 1; i < len(told); i++ {
		fresh = fresh || told[i]-told[i-1] <= p.tune.ReportDelay+10*time.Millisecond
	}
	if !fresh {
		t.Errorf("it never begins anew: %v", told)
	}
}

// The last word of a holder that gave everything back may be lost, and is said once: a
// keeper that does not drive the app goes by what it said before for a while, and then by
// what everyone is told.
func TestSilentHoldersDoNotCount(t *testing.T) {
	v := newVillage(t, FaultNone, "a", "b", "c")
	v.deploy("a")
	v.pass(time.Second)
	b := v.peers["b"]
	if len(b.apps) != 1 || b.keeper.records[b.uids()[0]] == nil || b.apps[b.uids()[0]].steward != nil {
		t.Fatal("b keeps the app and does not drive it: else this proves nothing")
	}
	a := b.apps[b.uids()[0]]
	running := func() int { return b.viewComponent(a, "c").States[AllocRunning] }
	before := running()
	id := ClaimID{Ask: AskID{"a", 1, 99}, Owner: PeerRef{"c", 1}}
	gone := &row{at: b.out.now.Mono, granted: map[ClaimID]grantedClaim{}, report: reportMsg{UID: a.uid, Peer: PeerRef{"c", 1},
		Claims: []claimStatus{{ID: id, Component: "c", Slots: SlotsOf(7, 8), Running: SlotsOf(7, 8)}}}}
	a.rows["c"] = gone
	if got := running(); got != before+2 {
		t.Fatalf("%d run as long as it was heard of: want %d", got, before+2)
	}
	gone.at -= 2*b.tune.ReportEvery + time.Second
	if got := running(); got != before {
		t.Errorf("%d run long after: want %d", got, before)
	}
}
