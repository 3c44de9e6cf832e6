package placement

import (
	"strings"
	"testing"
)

// chronicleOf is one that a peer wrote under its term.
func chronicleOf(uid UID, term Term, seq uint64, v RolloutState) *chronicleMsg {
	return &chronicleMsg{UID: uid, Term: term, Past: chronicle{Term: term, Seq: seq, Rolls: map[string]rollout{"c": {Verdict: v}}}}
}

// A keeper holds the chronicle of whoever has the term, the last that was written,
// and says which one that is; of nobody else, and of no lower term.
func TestForgedChronicle(t *testing.T) {
	p, now, shop := cutShop(t, Disconnect{})
	held := func() chronicle { return *p.keeper.pasts[shop.uid] }
	say(p, now, "b", message{Chronicle: chronicleOf(shop.uid, Term{1, "b"}, 90, RolloutReverted)})
	say(p, now, "b", message{Chronicle: chronicleOf(shop.uid, Term{9, "c"}, 90, RolloutReverted)})
	if held().Term != (Term{1, "a"}) {
		t.Fatalf("it holds what is not the steward's: %+v", held())
	}
	say(p, now, "b", message{Raise: &raiseMsg{UID: shop.uid, Term: Term{5, "b"}}})
	p.keeper.records[shop.uid].Term = Term{5, "b"} // granted, were this peer dead
	var told uint64
	for _, seq := range []uint64{3, 2, 3} {
		for _, s := range say(p, now, "b", message{Chronicle: chronicleOf(shop.uid, Term{5, "b"}, seq, RolloutGoing)}) {
			if m, err := decodeMessage(s.Body); err == nil && m.Chronicled != nil {
				told = m.Chronicled.Seq
			}
		}
		if held().Seq != 3 || told != 3 {
			t.Fatalf("after number %d it holds %d and says %d", seq, held().Seq, told)
		}
	}
	say(p, now, "a", message{Chronicle: chronicleOf(shop.uid, Term{1, "a"}, 91, RolloutDone)})
	say(p, now, "m", message{Chronicle: chronicleOf(shop.uid, Term{6, "m"}, 92, RolloutDone)})
	if held().Seq != 3 {
		t.Errorf("a lower term, or no keeper, wrote over it: %+v", held())
	}
}

// A peer that asked for a term and did not win it leaves keepers that follow
// nobody's lower one: they say so, and the steward raises a term above it. Nothing
// of a roll-out would be on record otherwise, for as long as it acts.
func TestChronicleUnderALowerTerm(t *testing.T) {
	p, now, shop := cutShop(t, Disconnect{})
	p.keeper.records[shop.uid].Term = Term{4, "c"} // which c did not win
	refused := Term{}
	for _, s := range say(p, now, "b", message{Chronicle: chronicleOf(shop.uid, Term{3, "b"}, 7, RolloutGoing)}) {
		if m, err := decodeMessage(s.Body); err == nil && m.Chronicled != nil {
			refused = m.Chronicled.Refused
		}
	}
	if refused != (Term{4, "c"}) {
		t.Errorf("a keeper that granted term 4 answers what is written under term 3 with %v", refused)
	}

	p, now, shop = cutShop(t, Disconnect{})
	if s := shop.steward; s == nil || s.term != (Term{1, "a"}) {
		t.Fatal("it does not act under term 1: the test shows nothing")
	}
	say(p, now, "b", message{Chronicled: &chronicledMsg{UID: shop.uid, Term: Term{1, "a"}, Refused: Term{4, "c"}, Life: 1}})
	pass(p, now, p.tune.RoundMax)
	if s := shop.steward; s == nil || s.term.Number <= 4 {
		t.Error("it goes on under a term that its keepers do not write for")
	}
	p, now, shop = cutShop(t, Disconnect{})
	say(p, now, "x", message{Chronicled: &chronicledMsg{UID: shop.uid, Term: Term{1, "a"}, Refused: Term{4, "c"}, Life: 1}})
	say(p, now, "b", message{Chronicled: &chronicledMsg{UID: shop.uid, Term: Term{1, "a"}, Refused: Term{1 << 40, "c"}, Life: 1}})
	if s := shop.steward; s == nil || s.term != (Term{1, "a"}) {
		t.Error("no keeper, or one that makes terms up, ended its term")
	}
}

func TestChronicleIsBounded(t *testing.T) {
	big := chronicle{}
	for range revisionsMax + goneBackMax + 1 {
		big.Past = append(big.Past, revision{})
	}
	long := chronicle{Rolls: map[string]rollout{"c": {Why: strings.Repeat("x", textMax+1)}}}
	wide := chronicle{Past: []revision{{Intent: Signed{Body: make([]byte, pastBytesMax+intentBytesMax+1)}}}}
	for _, c := range []chronicle{big, long, wide} {
		if c.check() == nil {
			t.Error("it is taken from another peer")
		}
	}
	// What this peer writes itself is never refused by others.
	c := chronicle{Rolls: map[string]rollout{}}
	for i := range 60 {
		at := Version{Millis: int64(i), Peer: "a"}
		c.Past = append([]revision{{Version: at, Intent: Signed{Body: make([]byte, 60<<10), Sig: make([]byte, 64)}}}, c.Past...)
		c.Rolls[string(rune('a'+i))] = rollout{Good: at}
		if c.trim(); c.check() != nil || len(c.Past) == 0 || c.Past[0].Version != at {
			t.Fatalf("after %d: %v, %d revisions", i, c.check(), len(c.Past))
		}
	}
}
