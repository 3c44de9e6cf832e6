package placement

import (
	"testing"
	"time"
)

// A side that is being cut off calls its keepers dead one after another. Between
// two verdicts its steward still takes itself for having a majority, and must
// not place anew what runs on the other side.
func TestCutOffVerdictsComeOneByOne(t *testing.T) {
	p, now, _ := cutShop(t, Disconnect{})
	silent := func(d time.Duration) { // nothing comes through any more
		for end := now.Mono + d; now.Mono < end; {
			now.Mono, now.Wall = now.Mono+100*time.Millisecond, now.Wall.Add(100*time.Millisecond)
			step(p, now, TimerFired{Key: wakeTimer})
		}
	}
	silent(2 * time.Second)
	die(p, now, "b")
	silent(3 * time.Second)
	if n := heldHere(p).Len(); n != 1 {
		t.Errorf("%d slots here between the verdicts, want 1", n)
	}
	die(p, now, "c")
	silent(30 * time.Second)
	if n := heldHere(p).Len(); n != 1 {
		t.Errorf("%d slots here when it is cut off, want 1", n)
	}
}

// An answer from before the loss, or one that is claimed to be of the future,
// makes nobody sure.
func TestSureOfWhat(t *testing.T) {
	p, now, shop := cutShop(t, Disconnect{})
	s := shop.steward
	at := now.Mono
	say(p, now, "b", message{Raised: &raisedMsg{UID: shop.uid, Term: s.term, Granted: true, Known: true, Asked: int64(at - time.Second)}})
	say(p, now, "b", message{Raised: &raisedMsg{UID: shop.uid, Term: s.term, Granted: true, Known: true, Asked: int64(at + time.Hour)}})
	if s.sureOf(at) {
		t.Error("sure by an answer to what was asked before")
	}
	now.Mono += time.Second
	s.p.out.now = *now
	s.sureOf(at)
	say(p, now, "b", message{Raised: &raisedMsg{UID: shop.uid, Term: s.term, Granted: true, Known: true}}) // of an older release
	if !s.sureOf(at) {
		t.Error("not sure by an answer of an older release to what was asked last")
	}
	now.Mono += sureFor
	s.p.out.now = *now
	if s.sureOf(at) {
		t.Error("sure for ever")
	}
}
