package placement

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestPolicyDefaults(t *testing.T) {
	lost := func(d time.Duration) *Duration { v := Duration(d); return &v }
	process := Component{Server: &Server{Process: &Process{Command: []string{"x"}}}}
	for name, c := range map[string]struct {
		comp Component
		set  Disconnect
		want Policy
	}{
		"function":  {Component{Function: &Function{}}, Disconnect{}, Policy{Replace: "majority", Reconcile: "best_score"}},
		"container": {Component{Container: &Container{}}, Disconnect{}, Policy{Replace: "majority", Reconcile: "best_score"}},
		"process":   {process, Disconnect{}, Policy{Replace: "majority", Reconcile: "keep_original"}},
		"VM":        {Component{Server: &Server{Image: "x"}}, Disconnect{}, Policy{LostAfter: Duration(5 * time.Minute), Replace: "never", Reconcile: "keep_original"}},
		"VM that is to be replaced at once": {Component{Server: &Server{Image: "x"}}, Disconnect{LostAfter: lost(0), Replace: "always"},
			Policy{Replace: "always", Reconcile: "keep_original"}},
		"all of it": {process, Disconnect{LostAfter: lost(time.Second), StopAfter: OrNever(time.Minute), Replace: "never", Reconcile: "longest_running"},
			Policy{Duration(time.Second), OrNever(time.Minute), "never", "longest_running"}},
		"of a newer release": {process, Disconnect{Replace: "sometimes", Reconcile: "by_vote"}, Policy{Replace: "majority", Reconcile: "keep_original"}},
	} {
		c.comp.Disconnect = c.set
		if got := c.comp.Policy(); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func TestStopAfterText(t *testing.T) {
	for text, want := range map[string]string{
		`"10m"`: "10m", `"2h"`: "2h", `"1h30m"`: "1h30m", `"90s"`: "1m30s", `"30s"`: "30s", `"1h5s"`: "1h0m5s", `"never"`: "never", `"0s"`: "error", `"soon"`: "error", `5`: "error",
	} {
		var d OrNever
		got := "error"
		if err := json.Unmarshal([]byte(text), &d); err == nil {
			got = d.String()
			if back, err := json.Marshal(d); err != nil || string(back) != `"`+got+`"` {
				t.Errorf("%s is written as %s (%v)", text, back, err)
			}
		}
		if got != want {
			t.Errorf("%s is read as %s, want %s", text, got, want)
		}
	}
}

func TestPolicyIsChecked(t *testing.T) {
	app := testApp("shop")
	c := app.Components["c"]
	minus := Duration(-time.Second)
	for field, d := range map[string]Disconnect{
		"lost_after": {LostAfter: &minus}, "stop_after": {StopAfter: OrNever(time.Second)},
		"replace": {Replace: "maybe"}, "reconcile": {Reconcile: "keep_both"},
	} {
		c.Disconnect = d
		app.Components["c"] = c
		if err := app.Validate(); err == nil || !strings.HasPrefix(err.Error(), "components.c.disconnect."+field) {
			t.Errorf("%s: %v", field, err)
		}
	}
	for _, replace := range Replaces {
		for _, keep := range Reconciles {
			c.Disconnect = Disconnect{StopAfter: OrNever(time.Hour), Replace: replace, Reconcile: keep}
			app.Components["c"] = c
			if err := app.Validate(); err != nil {
				t.Errorf("%s, %s: %v", replace, keep, err)
			}
		}
	}
}

// cutShop is peer a, the steward of the app shop with its keepers a, b and c,
// whose component has this policy and three slots: one each at a, b and c, as b
// and c reported.
func cutShop(t *testing.T, d Disconnect) (p *Peer, now *Now, shop *app) {
	t.Helper()
	p, now = newTestPeer("a")
	for _, id := range []PeerID{"b", "c"} {
		step(p, now, MemberChanged{Peer: id, Site: SiteID("s" + id), State: MemberAlive})
		step(p, now, DigestChanged{Digest: Digest{Peer: PeerRef{id, 1}, Name: string(id), Site: SiteID("s" + id), Full: "full"}})
	}
	app := testApp("shop")
	c, three := app.Components["c"], 3
	c.Replicas, c.Disconnect = &three, d
	app.Components["c"] = c
	step(p, now, HostChanged{Host: Host{ID: "h", Arch: "amd64", Drivers: []string{DriverProcess}, Capacity: c.Resources}}) // for one
	step(p, now, Submit{Ticket: 1, App: app})
	shop = p.find(AppKey{"default", "shop"})
	if shop == nil || len(shop.keeperIDs()) != 3 || len(p.ledger.claims) != 1 {
		t.Fatal("the shop was not made: the test shows nothing")
	}
	own := onlyClaim(t, p)
	at := map[PeerID]Slots{}
	rest := FirstSlots(3).Minus(own.Slots).Slice()
	at["b"], at["c"] = SlotsOf(rest[0]), SlotsOf(rest[1])
	for _, id := range []PeerID{"b", "c"} {
		say(p, now, id, message{Report: &reportMsg{UID: shop.uid, Peer: PeerRef{id, 1}, Order: order{1, 1, 1}, Claims: []claimStatus{{
			ID: ClaimID{AskID{"a", 1, 90}, PeerRef{id, 1}}, Component: "c", Version: shop.win.intent.Version, Spec: own.SpecHash,
			Slots: at[id], Running: at[id], FirstRunning: 1,
		}}}})
		say(p, now, id, message{Stored: &storedMsg{UID: shop.uid, Versions: []Version{shop.win.intent.Version}}})
	}
	room := c.Resources.Times(3)
	step(p, now, HostChanged{Host: Host{ID: "h", Arch: "amd64", Drivers: []string{DriverProcess}, Capacity: room}})
	pass(p, now, time.Second)
	if n := heldHere(p).Len(); n != 1 {
		t.Fatalf("%d slots are here, of three in all places: the test shows nothing", n)
	}
	return p, now, shop
}

// pass lets time go by; keepers that live confirm the steward's term.
func pass(p *Peer, now *Now, d time.Duration) {
	for end := now.Mono + d; now.Mono < end; {
		now.Mono, now.Wall = now.Mono+100*time.Millisecond, now.Wall.Add(100*time.Millisecond)
		for _, s := range step(p, now, TimerFired{Key: wakeTimer}) {
			if m, err := decodeMessage(s.Body); err == nil && m.Raise != nil && p.members.live(s.To) {
				say(p, now, s.To, message{Raised: &raisedMsg{UID: m.Raise.UID, Term: m.Raise.Term, Granted: true, Known: true, Asked: m.Raise.Asked}})
			}
		}
	}
}

func heldHere(p *Peer) Slots {
	var slots Slots
	for _, c := range p.ledger.sorted() {
		slots = slots.Union(c.Slots)
	}
	return slots
}

func die(p *Peer, now *Now, ids ...PeerID) {
	for _, id := range ids {
		step(p, now, MemberChanged{Peer: id, Site: SiteID("s" + id), State: MemberDead})
	}
}

// What was at a peer that died is placed anew as its policy says, and the status
// says so before.
func TestLostSlots(t *testing.T) {
	later := Duration(30 * time.Second)
	for _, c := range []struct {
		name   string
		policy Disconnect
		dead   []PeerID
		soon   int // slots at a after 5 s,
		late   int // and after 40 s more
		kind   FateKind
	}{
		{"majority", Disconnect{}, []PeerID{"c"}, 2, 2, FateReplaced},
		{"lost_after", Disconnect{LostAfter: &later}, []PeerID{"c"}, 1, 2, FateReplaced},
		{"never", Disconnect{Replace: ReplaceNever}, []PeerID{"c"}, 1, 1, FateNever},
		{"without a majority", Disconnect{}, []PeerID{"b", "c"}, 1, 1, FateElsewhere},
		{"always", Disconnect{Replace: ReplaceAlways}, []PeerID{"b", "c"}, 3, 3, FateReplaced},
		{"always, after a while", Disconnect{Replace: ReplaceAlways, LostAfter: &later}, []PeerID{"b", "c"}, 1, 3, FateReplaced},
		{"never, without a majority", Disconnect{Replace: ReplaceNever}, []PeerID{"b", "c"}, 1, 1, FateNever},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, now, shop := cutShop(t, c.policy)
			pass(p, now, 10*time.Second) // the start is over
			died := now.Wall
			die(p, now, c.dead...)
			pass(p, now, 5*time.Second)
			if n := heldHere(p).Len(); n != c.soon {
				t.Errorf("%d slots here, want %d", n, c.soon)
			}
			view, _ := p.App(shop.key)
			for _, row := range view.Components[0].Sites {
				if row.Peer == "c" {
					at := died.Add(time.Duration(view.Components[0].Policy.LostAfter)).UnixMilli()
					if row.Next.Kind != c.kind || c.kind == FateReplaced && (row.Next.At < at || row.Next.At > at+1000) {
						t.Errorf("what is to become of it: %+v, want %s at %d", row.Next, c.kind, at)
					}
				}
			}
			pass(p, now, 40*time.Second)
			if n := heldHere(p).Len(); n != c.late {
				t.Errorf("later %d slots here, want %d", n, c.late)
			}
		})
	}
}

// Who is shut out never comes back: not even replace: never waits for it.
func TestForgottenIsNotWaitedFor(t *testing.T) {
	p, now, shop := cutShop(t, Disconnect{Replace: ReplaceNever})
	die(p, now, "c")
	pass(p, now, 5*time.Second)
	shown := func() bool {
		view, _ := p.App(shop.key)
		c := view.Components[0]
		told := slices.ContainsFunc(c.Sites, func(row SiteCount) bool { return row.Peer == "c" })
		if told != (c.States[AllocLost] > 0) {
			t.Errorf("c is told of: %t, and %d slots are lost", told, c.States[AllocLost])
		}
		return told
	}
	if !shown() {
		t.Error("what it has is not told of before it is replaced")
	}
	step(p, now, MemberChanged{Peer: "c", Site: "sc", State: MemberForgotten})
	pass(p, now, 20*time.Second)
	if n := heldHere(p).Len(); n != 2 {
		t.Errorf("%d slots here, want 2", n)
	}
	if shown() {
		t.Error("what it had is told of for ever")
	}
}

// A steward that knows a peer only from its summary, since it began later, waits
// for it as the one before did.
func TestSummarySaysWhatIsWaitedFor(t *testing.T) {
	p, now, shop := cutShop(t, Disconnect{Replace: ReplaceNever})
	slots := shop.rows["c"].report.Claims[0].Slots
	sum := Summaries{Peer: PeerRef{"c", 1}, Site: "sc", Apps: []Summary{{UID: shop.uid, Counts: []SlotCount{{"c", AllocRunning, 1}},
		Slots: map[string]Slots{"c": slots}}}}
	delete(shop.rows, "c")
	step(p, now, RecordChanged{Table: TableStatus, Key: "1.1/c", Siblings: [][]byte{Encode(Signed{Body: Encode(sum), By: "c"})}})
	die(p, now, "c")
	pass(p, now, time.Minute)
	if n := heldHere(p).Len(); n != 1 {
		t.Errorf("%d slots here, want 1", n)
	}
	if open := fmt.Sprint(p.Open()); !strings.Contains(open, "slots "+slots.String()+" at c wait for it (replace: never)") {
		t.Errorf("open is %s", open)
	}
	sum.Peer.Incarnation = 1
	step(p, now, DigestChanged{Digest: Digest{Peer: PeerRef{"c", 2}, Name: "c", Site: "sc", Full: "full"}})
	pass(p, now, 20*time.Second)
	if n := heldHere(p).Len(); n != 2 {
		t.Errorf("its store was lost: %d slots here, want 2", n)
	}
}

// More than a third of the sites lost at once waits, and says so and until when.
func TestMassLossWaits(t *testing.T) {
	p, now, _ := cutShop(t, Disconnect{})
	for i := range 3 { // of six sites two are a third
		id := PeerID(fmt.Sprint("x", i))
		step(p, now, MemberChanged{Peer: id, Site: SiteID("s" + id), State: MemberAlive})
	}
	pass(p, now, 10*time.Second)
	var told []string
	for _, id := range []PeerID{"x0", "x1", "c"} {
		for _, e := range p.Step(*now, MemberChanged{Peer: id, Site: SiteID("s" + id), State: MemberDead}) {
			if r, ok := e.(Record); ok && r.Event != nil {
				told = append(told, r.Event.Type+": "+r.Event.Message)
			}
		}
	}
	until := now.Wall.Add(p.tune.MassWait).UTC().Format(time.TimeOnly)
	want := "mass-loss: 3 of 6 sites were lost at once: what ran there is not placed anew before " + until + ", unless they come back"
	if len(told) != 1 || told[0] != want {
		t.Errorf("told %q, want %q", told, want)
	}
	pass(p, now, p.tune.MassWait-time.Second)
	if n := heldHere(p).Len(); n != 1 || !strings.Contains(fmt.Sprint(p.Open()), "more than a third of the sites were lost at once: until "+until) {
		t.Errorf("%d slots here, and open is %v", n, p.Open())
	}
	pass(p, now, p.tune.RoundMax+2*time.Second)
	if n := heldHere(p).Len(); n != 2 {
		t.Errorf("%d slots here after the wait, want 2", n)
	}
}
