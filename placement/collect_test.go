package placement

import "testing"

// What is over the ledger says of its own grants alone, and never because it has
// not heard of one.
func TestEndedIsWhatTheLedgerEnded(t *testing.T) {
	self := PeerRef{Peer: "a", Incarnation: 7}
	id := func(inc Incarnation, n uint64) ClaimID {
		return ClaimID{Ask: AskID{Asker: "s", Incarnation: inc, Counter: n}, Owner: self}
	}
	l := newLedger(self, Tuning{}, 0)
	for n := range uint64(6) {
		l.add(&claim{ID: id(2, n), UID: "u", Slots: SlotsOf(0)})
	}
	l.remove(l.claims[id(2, 2)])
	l.remove(l.claims[id(2, 4)])
	l.raiseFloor(l.askers[askerKey{"s", 2}], 4) // the asker knows that 2 is over; 3 still stands
	stopped := l.claims[id(2, 5)]
	l.release(stopped, stopped.Slots)
	l.stopped(stopped, 0) // gone, and the disk does not say so yet

	others, earlier := id(2, 2), id(2, 2)
	others.Owner.Peer, earlier.Owner.Incarnation = "b", 6
	for name, c := range map[string]struct {
		id   ClaimID
		over bool
	}{
		"below the floor":            {id(2, 2), true},
		"spent":                      {id(2, 4), true},
		"of the asker's life before": {id(1, 9), true},
		"held, below the floor":      {id(2, 3), false},
		"held below others":          {id(2, 1), false},
		"never asked":                {id(2, 6), false},
		"of a life to come":          {id(3, 1), false},
		"of another asker":           {ClaimID{Ask: AskID{Asker: "x", Incarnation: 2, Counter: 2}, Owner: self}, false},
		"of another owner":           {others, false},
		"of an earlier life":         {earlier, false},
		"not on disk yet":            {id(2, 5), false},
	} {
		if over := l.ended(c.id); over != c.over {
			t.Errorf("%s: ended %t", name, over)
		}
	}
	_, written := l.debts()
	written()
	if !l.ended(id(2, 5)) {
		t.Error("what ended is not over once the disk says so")
	}
	for n := range uint64(4) {
		if empty := newLedger(self, Tuning{}, 0); empty.ended(id(2, n)) {
			t.Error("an empty store takes something for over")
		}
	}
}
