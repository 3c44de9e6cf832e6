package placement

import (
	"testing"
	"time"
)

// answers is what a message about a commit makes the ledger say.
func answers(t *testing.T, sent []Send) []committedMsg {
	t.Helper()
	var out []committedMsg
	for _, s := range sent {
		if m, err := decodeMessage(s.Body); err == nil && m.Committed != nil {
			out = append(out, *m.Committed)
		}
	}
	return out
}

// reserve asks for a slot with commit=later, and gives the claim.
func reserve(t *testing.T, p *Peer, now *Now, listed bool) *claim {
	t.Helper()
	s := intentBy("m", "u", testApp("x"), nil)
	if listed {
		step(p, now, RecordChanged{Table: TableIntents, Key: "default/x", Siblings: [][]byte{Encode(s)}})
	}
	say(p, now, "m", message{Ask: &askMsg{ID: AskID{"m", 1, 1}, UID: "u", Term: Term{1, "m"}, Intent: s, Component: "c", Slots: SlotsOf(0), Later: true}})
	c := onlyClaim(t, p)
	if c.State != claimReserved || len(p.work.allocs) > 0 || p.ledger.slots != 1 {
		t.Fatalf("the claim is %s, %d allocations, %d slots held", c.State, len(p.work.allocs), p.ledger.slots)
	}
	return c
}

func commitOf(c *claim) message {
	return message{Commit: &commitMsg{UID: c.UID, Term: Term{1, "m"}, Claim: c.ID}}
}

// A reservation holds capacity and runs nothing; its commit is answered once it
// is on disk, again when it is repeated, and runs the work.
func TestReserveThenCommit(t *testing.T) {
	p, now := newTestPeer("a")
	c := reserve(t, p, now, true)
	for range 2 {
		got := answers(t, say(p, now, "m", commitOf(c)))
		if len(got) != 1 || got[0].Not != "" || c.State != claimActive || len(p.work.allocs) != 1 {
			t.Fatalf("answers %v, the claim is %s, %d allocations", got, c.State, len(p.work.allocs))
		}
	}
	now.Mono += time.Hour
	step(p, now, TimerFired{})
	if c.State != claimActive || !c.Slots.Contains(0) {
		t.Error("what was committed expired")
	}
}

// What is committed before its intent is in the catalog waits for that, as a
// grant does, and is given back if it never comes.
func TestCommitOfAnUnlistedApp(t *testing.T) {
	p, now := newTestPeer("a")
	c := reserve(t, p, now, false)
	if say(p, now, "m", commitOf(c)); c.State != claimUnconfirmed || len(p.work.allocs) != 1 {
		t.Fatalf("the claim is %s", c.State)
	}
	now.Mono += p.tune.ConfirmExpiry + time.Second
	if step(p, now, TimerFired{}); c.State != claimReleasing {
		t.Errorf("the claim is %s, and its intent never came", c.State)
	}
}

// A reservation that is not committed in its time is free again, and a commit
// that is late learns so. In another life of the store nothing is known of it.
func TestLateCommit(t *testing.T) {
	p, now := newTestPeer("a")
	c := reserve(t, p, now, true)
	now.Mono += p.tune.ReserveExpiry + time.Second
	step(p, now, TimerFired{})
	if len(p.ledger.claims) > 0 || p.ledger.slots > 0 || p.ledger.used != (Resources{}) {
		t.Errorf("%d claims, %d slots, %v used", len(p.ledger.claims), p.ledger.slots, p.ledger.used)
	}
	if got := answers(t, say(p, now, "m", commitOf(c))); len(got) != 1 || got[0].Not != commitExpired {
		t.Errorf("answers %v, want %s", got, commitExpired)
	}
	c.ID.Owner.Incarnation = 7
	if got := answers(t, say(p, now, "m", commitOf(c))); len(got) != 1 || got[0].Not != commitUnknown {
		t.Errorf("answers %v, want %s", got, commitUnknown)
	}
}

// An expiry is what was left, from the restart on.
func TestReservationOverARestart(t *testing.T) {
	p, now := newTestPeer("a")
	c := reserve(t, p, now, true)
	q, qnow := New(Config{Self: PeerRef{"a", 1}, Name: "a", Site: "s", Seed: 2}), &Now{Mono: 0, Wall: now.Wall}
	if err := q.Load(tableClaims, c.ID.String(), Encode(c)); err != nil {
		t.Fatal(err)
	}
	drive(q, qnow, q.Begin(*qnow))
	qnow.Mono += q.tune.ReserveExpiry - time.Second
	if step(q, qnow, TimerFired{}); len(q.ledger.claims) != 1 {
		t.Error("it expired early")
	}
	qnow.Mono += 2 * time.Second
	if step(q, qnow, TimerFired{}); len(q.ledger.claims) != 0 {
		t.Error("it never expires")
	}
}

// A commit that is not on disk is none: the reservation stands, and expires.
func TestCommitThatIsNotWritten(t *testing.T) {
	p, now := newTestPeer("a")
	c := reserve(t, p, now, true)
	for _, e := range p.Step(*now, Receive{From: "m", Body: Encode(commitOf(c))}) {
		if w, ok := e.(Persist); ok {
			sent := drive(p, now, p.Step(*now, PersistFailed{Token: w.Token, Err: "no space", Full: true}))
			if len(answers(t, sent)) > 0 {
				t.Error("it was acknowledged")
			}
		}
	}
	if c.State != claimReserved || len(p.work.allocs) > 0 {
		t.Errorf("the claim is %s, %d allocations", c.State, len(p.work.allocs))
	}
	now.Mono += p.tune.ReserveExpiry + time.Second
	if step(p, now, TimerFired{}); len(p.ledger.claims) > 0 {
		t.Error("it never expires")
	}
}

// A term that could not be written is written with the next order under it.
func TestTermThatIsNotWritten(t *testing.T) {
	p, now := newTestPeer("a")
	ask := func(n uint64) (terms int) {
		m := message{Ask: &askMsg{ID: AskID{"m", 1, n}, UID: "u", Term: Term{4, "m"}, Intent: intentBy("m", "u", testApp("x"), nil), Component: "c", Slots: SlotsOf(Slot(n))}}
		for _, e := range p.Step(*now, Receive{From: "m", Body: Encode(m)}) {
			if w, ok := e.(Persist); ok {
				for _, wr := range w.Writes {
					if wr.Table == tableTerms {
						terms++
					}
				}
				if n == 1 {
					drive(p, now, p.Step(*now, PersistFailed{Token: w.Token, Err: "no space", Full: true}))
				} else {
					drive(p, now, p.Step(*now, Persisted{Token: w.Token}))
				}
			}
		}
		return terms
	}
	for n, want := range []int{1: 1, 2: 1, 3: 0} {
		if n == 0 {
			continue
		}
		if got := ask(uint64(n)); got != want {
			t.Errorf("ask %d wrote %d terms, want %d", n, got, want)
		}
	}
}
