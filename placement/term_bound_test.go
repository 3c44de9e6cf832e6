package placement

import (
	"math"
	"testing"
	"time"
)

// A peer that is admitted, and lies about the term that it wrote under, comes before
// nothing that was decided: not with an edit, not with one made alone, which would
// seem to know all of it, and not with one that keepers are to hold.
func TestIntentOfATermThatNobodyGranted(t *testing.T) {
	for _, alone := range []bool{false, true} {
		for _, stored := range []bool{false, true} {
			for _, term := range []uint64{math.MaxUint64, termJumpMax + 2} {
				p, now, shop := newShop(t)
				real := shop.win.intent
				forged := intentBy("m", shop.uid, testApp("shop"), func(i *Intent) {
					i.Version.Millis, i.Term, i.Alone = real.Version.Millis-1000, term, alone
				})
				if stored {
					say(p, now, "m", message{Store: &storeMsg{UID: shop.uid, Intents: []Signed{forged}, Keepers: shop.keepers.signed}})
				} else {
					step(p, now, RecordChanged{Table: TableIntents, Key: "default/shop", Siblings: [][]byte{Encode(shop.win.signed), Encode(forged)}})
				}
				stands := false
				for _, v := range p.apps[shop.uid].versions {
					stands = stands || v.intent.Version == real.Version
				}
				if !stands || len(p.apps[shop.uid].versions) != 1+btoi(alone) {
					t.Errorf("alone %t, stored %t, term %d: %d versions stand, what was decided among them %t", alone, stored, term, len(p.apps[shop.uid].versions), stands)
				}
				if _, at := baseOf(p.apps[shop.uid].versions); at != firstTerm {
					t.Errorf("alone %t, stored %t: an edit of a side would say that it knows of term %d", alone, stored, at)
				}
			}
		}
	}
}

// It is not believed after a restart either, and what a keeper knows of terms is.
func TestBoundOfTermsOutlivesARestart(t *testing.T) {
	list := listBy("a", "u", 1, "a", "b")
	for _, c := range []struct{ heard, said, want uint64 }{
		{5, math.MaxUint64, 0}, {5, 5, 5}, {2 * termJumpMax, 2*termJumpMax + 1, 2*termJumpMax + 1}, {2 * termJumpMax, 4 * termJumpMax, 0},
	} {
		i := intentBy("a", "u", testApp("shop"), func(i *Intent) { i.Term = c.said })
		p := New(Config{Self: PeerRef{"b", 1}, Name: "b", Site: "s", Seed: 1})
		r := keepRecord{UID: "u", Key: AppKey{"default", "shop"}, Intents: []Signed{i}, Keepers: list, Term: Term{c.heard, "a"}, Heard: Term{c.heard, "a"}}
		if err := p.Load(tableKeep, "u", Encode(r)); err != nil {
			t.Fatal(err)
		}
		if got := p.keeper.records["u"].versions[0].intent.Term; got != c.want {
			t.Errorf("of term %d where %d was heard of %d is believed, not %d", c.said, c.heard, got, c.want)
		}
	}
}

// A list that a person forces begins above all terms that anything known here was
// written under, by whoever had them: this peer need never have heard from them.
func TestForcedListBeginsAbovePastTerms(t *testing.T) {
	p := New(Config{Self: PeerRef{"c", 1}, Name: "c", Site: "sc", Seed: 1})
	now := &Now{Wall: time.Unix(1_800_000_000, 0)}
	written := intentBy("a", "u", testApp("shop"), func(i *Intent) { i.Term = 5000 })
	list := Keepers{UID: "u", Epoch: 2, Peers: []PeerRef{{"a", 1}, {"b", 1}}, Term: Term{7000, "a"}}
	p.LoadTable(TableIntents, "default/shop", [][]byte{Encode(written)})
	p.LoadTable(TableKeepers, "u", [][]byte{Encode(Signed{Body: Encode(list), By: "a"})})
	drive(p, now, p.Begin(*now))
	step(p, now, MemberChanged{Peer: "a", Site: "sa", State: MemberForgotten})
	step(p, now, MemberChanged{Peer: "b", Site: "sb", State: MemberForgotten})
	for _, past := range []uint64{7000, 5000} {
		a := p.apps["u"]
		if got := p.pastTerm(a); got < past {
			t.Errorf("term %d is taken for the last, and %d was", got, past)
		}
		a.keepers.list.Term.Number = 0 // what is written alone
	}
	p.Step(*now, ForceEpoch{Ticket: 1, Peer: "a"})
	if k := p.apps["u"].keepers.list; !k.Forced || k.Term.Number <= 5000 {
		t.Errorf("epoch %d, forced %t, begins with term %d", k.Epoch, k.Forced, k.Term.Number)
	}
}
