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
	see("k", MemberDead)
	goes("a keeper is away", true, 0, "l", "m")
	see("k", MemberAlive)
	p.ledger.terms["u"] = Term{2, "x"}
	goes("somebody else drives", true, 0, "k", "l", "m")
}
