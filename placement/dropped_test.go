package placement

import "testing"

// A version that its writer takes back is dropped by a keeper that had begun to
// raise a term for it: nobody learned it there, since nobody but itself voted.
// One that won its term keeps what it may have told others of.
func TestTakenBackFromWhoOnlyVotedForItself(t *testing.T) {
	for _, won := range []bool{false, true} {
		p, now := newTestPeer("a")
		step(p, now, MemberChanged{Peer: "b", Site: "sb", State: MemberAlive}) // w is not seen, and a comes after it
		s := intentBy("w", "u", testApp("x"), nil)
		say(p, now, "w", message{Store: &storeMsg{UID: "u", Term: Term{1, "w"}, Intents: []Signed{s}, Keepers: listBy("w", "u", 1, "w", "a", "b")}})
		r := p.keeper.records["u"]
		if r == nil || r.Term != (Term{2, "a"}) {
			t.Fatalf("the record is %+v: it voted for nobody", r)
		}
		if won {
			say(p, now, "b", message{Raised: &raisedMsg{UID: "u", Term: r.Term, Granted: true, Highest: r.Term, Known: true}})
		}
		say(p, now, "w", message{Drop: &dropMsg{UID: "u", Version: Version{Millis: 1_800_000_000_000, Peer: "w"}}})
		if kept := p.keeper.records["u"] != nil; kept != won {
			t.Errorf("won %t: kept %t", won, kept)
		}
		if e := p.keeper.ended["u"]; !won && e.Term != (Term{2, "a"}) {
			t.Errorf("its vote is forgotten: %v", e.Term)
		}
	}
}
