package placement

import (
	"slices"
	"testing"
	"time"
)

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

// What is written after a version that was taken back is another version, even where both
// come after one of a clock far ahead, which this peer's own does not pass: keepers
// that dropped the first, or held it for a while, would be counted for the second.
func TestTakenBackVersionIsNotMadeAgain(t *testing.T) {
	p, now, shop := newShop(t)
	ahead := editOf("b", now.Wall.Add(10*time.Minute).UnixMilli(), shop.versions, scaled(3), false)
	ahead.intent.UID = shop.uid
	step(p, now, RecordChanged{Table: TableIntents, Key: "default/shop", Siblings: [][]byte{Encode(Signed{Body: Encode(ahead.intent), By: "b"})}})
	var made []Version
	for ticket := range uint64(3) {
		step(p, now, Submit{Ticket: 10 + ticket, App: scaled(4 + int(ticket))})
		for _, e := range p.edits.open {
			if e.phase == editStoring && e.version.Compare(ahead.intent.Version) > 0 {
				made = append(made, e.version)
				p.takeBack(e)
				p.finish(e, Result{Err: ErrConflict})
			}
		}
	}
	if len(made) != 3 || p.clock.millis > now.Wall.UnixMilli() {
		t.Fatalf("%v were made after %v: the test shows nothing", made, ahead.intent.Version)
	}
	slices.SortFunc(made, Version.Compare)
	if len(slices.Compact(slices.Clone(made))) != 3 {
		t.Errorf("%v: two edits are one version", made)
	}
}
