package placement

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
)

// These tests are an admitted peer, "m" for Mallory, that lies: about who has
// the term, about others' votes, copies and claims, about amounts and clocks.

// newShop is peer a, which made the app shop with the keepers a, b and c; m is
// admitted, and no keeper.
func newShop(t *testing.T) (p *Peer, now *Now, shop *app) {
	t.Helper()
	p, now = newTestPeer("a")
	for i, id := range []PeerID{"b", "c", "m"} {
		site := SiteID("s" + string(id))
		step(p, now, MemberChanged{Peer: id, Site: site, State: MemberAlive})
		step(p, now, RTTChanged{Peer: id, RTT: time.Duration(i+1) * time.Millisecond})
		step(p, now, DigestChanged{Digest: Digest{Peer: PeerRef{id, 1}, Name: string(id), Site: site, Full: "full"}})
	}
	step(p, now, Submit{Ticket: 1, App: testApp("shop")})
	shop = p.find(AppKey{"default", "shop"})
	if shop == nil || fmt.Sprint(shop.keeperIDs()) != "[a b c]" || len(p.ledger.claims) != 1 {
		t.Fatalf("the keepers are %v, with %d claims: the test shows nothing", shop.keeperIDs(), len(p.ledger.claims))
	}
	return p, now, shop
}

// say is a message that arrives, and what it makes the core send.
func say(p *Peer, now *Now, from PeerID, m message) []Send {
	return step(p, now, Receive{From: from, Body: Encode(m)})
}

// intentBy is an intent that a peer signed.
func intentBy(by PeerID, uid UID, a App, edit func(*Intent)) Signed {
	i := Intent{UID: uid, Key: a.Key(), Version: Version{Millis: 1_800_000_000_000, Peer: by}, App: a, MinSchema: Schema}
	if edit != nil {
		edit(&i)
	}
	return Signed{Body: Encode(i), By: by}
}

func listBy(by PeerID, uid UID, epoch uint64, peers ...PeerID) Signed {
	k := Keepers{UID: uid, Epoch: epoch}
	for _, id := range peers {
		k.Peers = append(k.Peers, PeerRef{id, 1})
	}
	return Signed{Body: Encode(k), By: by}
}

func onlyClaim(t *testing.T, p *Peer) *claim {
	t.Helper()
	for _, c := range p.ledger.claims {
		return c
	}
	t.Fatal("the claim is gone")
	return nil
}

// Only a keeper of the app gives orders under a term, and only under its own.
func TestOrdersUnderAForeignTerm(t *testing.T) {
	for _, from := range []PeerID{"m", "b"} {
		for _, term := range []Term{{1, "a"}, {50, "m"}, {50, "c"}, {math.MaxUint64, "m"}, {math.MaxUint64, "b"}, {termJumpMax + 10, "b"}} {
			t.Run(fmt.Sprint(from, term), func(t *testing.T) {
				p, now, shop := newShop(t)
				c := onlyClaim(t, p)
				ask := askMsg{ID: AskID{from, 1, 7}, UID: shop.uid, Term: term, Intent: shop.win.signed, Component: "c", Slots: SlotsOf(5)}
				for _, m := range []message{
					{Ask: &ask},
					{Release: &releaseMsg{UID: shop.uid, Term: term, Version: Version{Millis: millisMax}, Claim: c.ID, Order: 9}},
					{Pin: &pinMsg{UID: shop.uid, Term: term, Claim: c.ID, Slots: c.Slots, Order: 9}},
					{Commit: &commitMsg{UID: shop.uid, Term: term, Claim: c.ID}},
					{Hold: &holdMsg{UID: shop.uid, Term: term, Holders: []PeerID{"ghost"}, Number: 1}},
					{Store: &storeMsg{UID: shop.uid, Term: term, Intents: []Signed{shop.win.signed}, Keepers: shop.keepers.signed, Holders: []PeerID{"ghost"}}},
					{Raise: &raiseMsg{UID: shop.uid, Term: term}},
				} {
					for _, s := range say(p, now, from, m) {
						if in, err := Inspect(s.Body); err == nil && (in.Kind == "offer" && !in.Granted.IsEmpty() || in.Kind == "held" || in.Kind == "stored") {
							t.Errorf("%s was obeyed: %s", in.Kind, in.Detail())
						}
					}
				}
				kr := p.keeper.records[shop.uid]
				if at := p.ledger.terms[shop.uid]; at != (Term{1, "a"}) || kr.heard != at || kr.Term != at {
					t.Errorf("the ledger follows %v, the keeper granted %v and heard %v", at, kr.Term, kr.heard)
				}
				if c := onlyClaim(t, p); c.Slots.Len() != 2 || len(c.pinned.Slice()) > 0 || len(p.ledger.claims) != 1 {
					t.Errorf("%d slots are left, %s pinned, %d claims", c.Slots.Len(), c.pinned, len(p.ledger.claims))
				}
				if len(kr.Holders) != 0 && kr.Holders[0] == "ghost" || shop.steward == nil {
					t.Errorf("holders %v, steward %v", kr.Holders, shop.steward)
				}
			})
		}
	}
}

// An order that names another app does not get past the fence of the one whose
// claim it is about.
func TestOrdersThatNameAnotherApp(t *testing.T) {
	p, now, _ := newShop(t)
	c := onlyClaim(t, p)
	c.State, c.expires = claimReserved, now.Mono+time.Hour
	say(p, now, "m", message{Pin: &pinMsg{UID: "other", Term: Term{9, "m"}, Claim: c.ID, Slots: c.Slots, Order: 1}})
	say(p, now, "m", message{Commit: &commitMsg{UID: "other", Term: Term{9, "m"}, Claim: c.ID}})
	if c.State != claimReserved || !c.pinned.IsEmpty() || c.pinTerm != (Term{}) {
		t.Errorf("the claim is %s, pinned %s under %v", c.State, c.pinned, c.pinTerm)
	}
}

// Votes and copies are those of the keepers.
func TestVotesAndCopiesOfStrangers(t *testing.T) {
	p, now, shop := newShop(t)
	shop.steward.raise()
	term := shop.steward.term
	say(p, now, "m", message{Raised: &raisedMsg{UID: shop.uid, Term: term, Granted: true, Known: true}})
	if shop.steward == nil || shop.steward.phase != phaseRaising {
		t.Error("a stranger's vote made a steward")
	}
	say(p, now, "m", message{Raised: &raisedMsg{UID: shop.uid, Term: term, Known: true, Highest: Term{99, "b"}, Heard: Term{99, "b"}}})
	if shop.steward == nil || p.keeper.records[shop.uid].heard.Peer == "b" {
		t.Error("a stranger's refusal ended a steward")
	}
	say(p, now, "m", message{Stored: &storedMsg{UID: shop.uid, Versions: []Version{shop.win.intent.Version}}})
	say(p, now, "m", message{Stored: &storedMsg{UID: shop.uid, Refused: Term{70, "b"}}})
	say(p, now, "m", message{Stored: &storedMsg{UID: shop.uid, Gone: true}})
	if e := p.edits.open[1]; e == nil || e.copies[PeerRef{"m", 1}] || shop.steward == nil {
		t.Error("a stranger's copy counts, or its refusal")
	}
}

// A ledger that says that the term is over is not believed before a keeper is.
func TestFenceIsConfirmed(t *testing.T) {
	p, now, shop := newShop(t)
	s := shop.steward
	s.asks[99] = &openAsk{m: &askMsg{ID: AskID{"a", 1, 99}, UID: shop.uid, Intent: shop.win.signed, Slots: SlotsOf(1)}, to: "m", component: "c", first: now.Mono}
	sent := say(p, now, "m", message{Offer: &offerMsg{Ask: AskID{"a", 1, 99}, UID: shop.uid, Refused: SlotsOf(1), Fence: Term{5, "b"}}})
	if shop.steward != s {
		t.Fatal("the steward is over on one peer's word")
	}
	asked := 0
	for _, m := range sent {
		if in, _ := Inspect(m.Body); in.Kind == "raise" {
			asked++
		}
	}
	if asked != 2 {
		t.Errorf("%d of the 2 other keepers were asked", asked)
	}
	say(p, now, "b", message{Raised: &raisedMsg{UID: shop.uid, Term: s.term, Known: true, Highest: Term{5, "b"}, Heard: Term{5, "b"}}})
	if shop.steward == s {
		t.Error("the steward goes on although a keeper granted a higher term")
	}
}

// What an offer, a report or a pin says is about its sender's own claims, and
// about what was asked.
func TestClaimsOfOthers(t *testing.T) {
	p, now, shop := newShop(t)
	c := onlyClaim(t, p)
	s := shop.steward
	s.asks[99] = &openAsk{m: &askMsg{ID: AskID{"a", 1, 99}, UID: shop.uid, Intent: shop.win.signed, Slots: SlotsOf(7)}, to: "m", component: "c", first: now.Mono}
	own := ClaimID{AskID{"a", 1, 99}, PeerRef{"m", 1}}
	for _, o := range []offerMsg{
		{Claim: own, Granted: SlotRange(0, 1000)},                                 // more than was asked
		{Claim: c.ID, Granted: SlotsOf(7)},                                        // another's claim
		{Claim: ClaimID{AskID{"a", 1, 98}, PeerRef{"m", 1}}, Granted: SlotsOf(7)}, // another ask
	} {
		o.Ask, o.UID, o.Digest = AskID{"a", 1, 99}, shop.uid, Digest{Peer: PeerRef{"m", 1}}
		say(p, now, "m", message{Offer: &o})
		if shop.rows["m"] != nil {
			t.Errorf("believed: claim %v of slots %s", o.Claim, o.Granted)
			delete(shop.rows, "m")
		}
	}
	twice := claimStatus{ID: own, Component: "c", Slots: SlotsOf(0), Running: SlotsOf(0)}
	for _, claims := range [][]claimStatus{{{ID: c.ID, Component: "c", Slots: c.Slots}}, {twice, twice}} {
		say(p, now, "m", message{Report: &reportMsg{UID: shop.uid, Peer: PeerRef{"m", 1}, Order: order{Incarnation: 1, Boot: 1}, Claims: claims}})
		if shop.rows["m"] != nil {
			t.Errorf("believed: %v", claims)
			delete(shop.rows, "m")
		}
	}
	say(p, now, "m", message{Report: &reportMsg{UID: shop.uid, Peer: PeerRef{"m", 1}, Order: order{Incarnation: 1, Boot: 1}, Term: Term{40, "m"}}})
	if p.knownTerm(shop) != (Term{1, "a"}) {
		t.Errorf("a report made this peer believe in %v", p.knownTerm(shop))
	}
	say(p, now, "m", message{Pinned: &pinnedMsg{UID: shop.uid, Term: s.term, Claim: c.ID, Slots: c.Slots}})
	if len(s.pins) > 0 {
		t.Error("m confirmed what runs at another peer")
	}
}

// What nobody could submit is granted to nobody, and books stay true.
func TestImpossibleIntents(t *testing.T) {
	huge := map[string]func(*Intent){
		"less than nothing": func(i *Intent) { alter(i, func(c *Component) { c.Resources = Resources{CPU: -1 << 40, Memory: -1} }) },
		"overflow": func(i *Intent) {
			alter(i, func(c *Component) { c.Resources = Resources{CPU: math.MaxInt64, Disk: math.MaxInt64} })
		},
		"replicas":   func(i *Intent) { alter(i, func(c *Component) { n := 1 << 40; c.Replicas = &n }) },
		"no command": func(i *Intent) { alter(i, func(c *Component) { c.Server.Process.Command = nil }) },
		"env": func(i *Intent) {
			alter(i, func(c *Component) { c.Env = map[string]string{"A": strings.Repeat("x", envBytesMax+1)} })
		},
		"another's version": func(i *Intent) { i.Version.Peer = "a" },
		"another name":      func(i *Intent) { i.Key.App = "other" },
		"end of time":       func(i *Intent) { i.Version.Millis = math.MaxInt64 },
		"before time":       func(i *Intent) { i.Version.Millis = -5 },
		"path as a digest":  func(i *Intent) { i.Artifacts = []Artifact{{Digest: "sha256:../../etc/passwd"}} },
		"negative artifact": func(i *Intent) { i.Artifacts = []Artifact{{Digest: "sha256:" + strings.Repeat("a", 64), Size: -1}} },
		"long past":         func(i *Intent) { i.Over = make([]Ancestor, 60_000) },
		"large": func(i *Intent) {
			i.Before = map[string]int{strings.Repeat("x", intentBytesMax): 1}
		},
	}
	for name, edit := range huge {
		t.Run(name, func(t *testing.T) {
			p, now := newTestPeer("a")
			step(p, now, MemberChanged{Peer: "m", Site: "v", State: MemberAlive})
			s := intentBy("m", "u", testApp("evil"), edit)
			if _, err := p.catalog.readIntent(s); err == nil {
				t.Error("it is read")
			}
			say(p, now, "m", message{Ask: &askMsg{ID: AskID{"m", 1, 1}, UID: "u", Term: Term{1, "m"}, Intent: s, Component: "c", Slots: FirstSlots(SlotsMax)}})
			say(p, now, "m", message{Store: &storeMsg{UID: "u", Term: Term{1, "m"}, Intents: []Signed{s}, Keepers: listBy("m", "u", 1, "m", "a")}})
			step(p, now, RecordChanged{Table: TableIntents, Key: "default/evil", Siblings: [][]byte{Encode(s)}})
			if used, _ := p.Used(); used != (Resources{}) || len(p.ledger.claims)+len(p.keeper.records)+len(p.apps)+len(p.ledger.terms) > 0 {
				t.Errorf("used %v, %d claims, %d kept, %d apps, %d terms", used, len(p.ledger.claims), len(p.keeper.records), len(p.apps), len(p.ledger.terms))
			}
		})
	}
}

func alter(i *Intent, f func(*Component)) {
	c := i.App.Components["c"]
	f(&c)
	i.App.Components["c"] = c
}

// Slots that need nothing still have an end, and one step starts few of them.
func TestSlotsThatNeedNothing(t *testing.T) {
	p, now := newTestPeer("a")
	n := SlotsMax
	a := testApp("swarm")
	c := a.Components["c"]
	c.Replicas, c.Resources = &n, Resources{}
	a.Components["c"] = c
	s := intentBy("m", "u", a, nil)
	for i := range uint64(40) {
		say(p, now, "m", message{Ask: &askMsg{ID: AskID{"m", 1, i + 1}, UID: "u", Term: Term{1, "m"}, Intent: s, Component: "c", Slots: FirstSlots(SlotsMax)}})
	}
	if p.ledger.slots != slotsHeldMax || len(p.work.allocs) != slotsHeldMax {
		t.Errorf("%d slots held, %d allocations: want %d", p.ledger.slots, len(p.work.allocs), slotsHeldMax)
	}
}

// What a peer remembers of those that ask does not grow with what they ask.
func TestAsksLeaveNothing(t *testing.T) {
	p, now := newTestPeer("a")
	a := testApp("big")
	c := a.Components["c"]
	c.Resources.CPU = cpuMax // never fits
	a.Components["c"] = c
	for i := range uint64(2000) {
		uid := UID(fmt.Sprint("u", i))
		say(p, now, "m", message{Ask: &askMsg{ID: AskID{"m", Incarnation(i + 1), i + 1}, Floor: i, UID: uid, Term: Term{1, "m"},
			Intent: intentBy("m", uid, a, nil), Component: "c", Slots: SlotsOf(1)}})
	}
	if len(p.ledger.askers) > 1 || len(p.ledger.terms) > 0 {
		t.Errorf("%d askers and %d terms are remembered", len(p.ledger.askers), len(p.ledger.terms))
	}
	// A claim whose intent never came leaves no term behind either.
	uid := UID("v")
	say(p, now, "m", message{Ask: &askMsg{ID: AskID{"m", 5000, 1}, UID: uid, Term: Term{1, "m"}, Intent: intentBy("m", uid, testApp("x"), nil), Component: "c", Slots: SlotsOf(1)}})
	id := AllocationID{Slot: 1}
	for cid := range p.ledger.claims {
		id.Claim = cid
	}
	now.Mono += 2 * time.Minute
	step(p, now, TimerFired{})
	step(p, now, WorkChanged{ID: id, State: WorkState{State: AllocStopped}})
	if len(p.ledger.claims)+len(p.ledger.terms) > 0 {
		t.Errorf("%d claims, %d terms", len(p.ledger.claims), len(p.ledger.terms))
	}
	// An asker's earlier life asks for nothing any more.
	sent := say(p, now, "m", message{Ask: &askMsg{ID: AskID{"m", 4999, 1}, UID: uid, Term: Term{1, "m"}, Intent: intentBy("m", uid, testApp("x"), nil), Component: "c", Slots: SlotsOf(1)}})
	if len(sent) != 1 || len(p.ledger.claims) > 0 {
		t.Errorf("%d answers, %d claims", len(sent), len(p.ledger.claims))
	}
}

// A keeper's record is full of what stands; a flood of versions pushes none out.
func TestFloodOfVersions(t *testing.T) {
	p, now, shop := newShop(t)
	mine := shop.win.intent.Version
	for i := range 40 {
		s := intentBy("m", shop.uid, testApp("shop"), func(i2 *Intent) { i2.Version.Millis += int64(i); i2.Alone = true })
		say(p, now, "m", message{Store: &storeMsg{UID: shop.uid, Intents: []Signed{s}, Keepers: shop.keepers.signed}})
	}
	kr := p.keeper.records[shop.uid]
	held := false
	for _, v := range kr.versions {
		held = held || v.intent.Version == mine
	}
	if !held || len(kr.versions) > siblingsMax {
		t.Errorf("of %d versions held, the one of a person: %t", len(kr.versions), held)
	}
	if n := len(Encode(kr)); n > messageBytesMax {
		t.Errorf("the record takes %d bytes, and can't be loaded again", n)
	}
}

// A keeper list is what the app was made with.
func TestForgedKeepers(t *testing.T) {
	p, now, shop := newShop(t)
	genuine := Encode(shop.keepers.signed)
	for _, forged := range []Signed{
		listBy("m", shop.uid, 2, "m"), listBy("m", shop.uid, math.MaxUint64, "m", "a"),
		listBy("m", shop.uid, 1, "m"), listBy("m", shop.uid, 1, "a", "m"), listBy("m", shop.uid, 1, "m", "m", "m"),
	} {
		step(p, now, RecordChanged{Table: TableKeepers, Key: string(shop.uid), Siblings: [][]byte{Encode(forged), genuine}})
		step(p, now, RecordChanged{Table: TableKeepers, Key: string(shop.uid), Siblings: [][]byte{Encode(forged)}})
		say(p, now, "m", message{Store: &storeMsg{UID: shop.uid, Term: Term{2, "m"}, Intents: []Signed{shop.win.signed}, Keepers: forged}})
		if got := fmt.Sprint(shop.keeperIDs()); got != "[a b c]" {
			t.Fatalf("the keepers are %s now", got)
		}
	}
	// Another peer, that only has the table, keeps what it knew.
	q, qnow := newTestPeer("q")
	step(q, qnow, RecordChanged{Table: TableKeepers, Key: string(shop.uid), Siblings: [][]byte{genuine}})
	step(q, qnow, RecordChanged{Table: TableKeepers, Key: string(shop.uid), Siblings: [][]byte{Encode(listBy("m", shop.uid, 1, "m"))}})
	if got := q.catalog.keepers[shop.uid].list; len(got.Peers) != 3 {
		t.Errorf("the list became %v", got)
	}
}

// An app is not ended by a record under another name that has its UID.
func TestUIDUnderAnotherName(t *testing.T) {
	p, now, shop := newShop(t)
	step(p, now, RecordChanged{Table: TableIntents, Key: "default/shop", Siblings: [][]byte{Encode(shop.win.signed)}})
	evil := intentBy("m", shop.uid, testApp("evil"), nil)
	step(p, now, RecordChanged{Table: TableIntents, Key: "default/evil", Siblings: [][]byte{Encode(evil)}})
	say(p, now, "m", message{Store: &storeMsg{UID: shop.uid, Intents: []Signed{evil}, Keepers: shop.keepers.signed}})
	step(p, now, RecordChanged{Table: TableIntents, Key: "default/evil"})
	if p.apps[shop.uid] == nil || !p.catalog.has(shop.uid) || len(shop.versions) != 1 || onlyClaim(t, p).Slots.Len() != 2 {
		t.Error("the app, or its work, ended with another's record")
	}
}

// A clock far ahead is flagged once, not followed, and wins no conflict; when
// its time has come it is a version as any other.
func TestClockFarAhead(t *testing.T) {
	p, now := newTestPeer("q")
	mine := intentBy("a", "u", testApp("shop"), nil)
	ahead := intentBy("m", "u", testApp("shop"), func(i *Intent) {
		i.Alone, i.Version.Millis = true, now.Wall.Add(10*time.Minute).UnixMilli()
	})
	flags := 0
	look := func(ev Event) Version {
		for _, e := range p.Step(*now, ev) {
			if r, ok := e.(Record); ok && r.Event != nil && r.Event.Type == "clock-ahead" && r.Event.Peer == "m" {
				flags++
			}
		}
		return p.apps["u"].win.intent.Version
	}
	for range 3 {
		if won := look(RecordChanged{Table: TableIntents, Key: "default/shop", Siblings: [][]byte{Encode(mine), Encode(ahead)}}); won.Peer != "a" {
			t.Errorf("%v won", won)
		}
	}
	if flags != 1 || p.clock.millis > now.Wall.UnixMilli() {
		t.Errorf("flagged %d times; the clock is %d ms ahead", flags, p.clock.millis-now.Wall.UnixMilli())
	}
	now.Mono += 9*time.Minute + time.Second
	now.Wall = now.Wall.Add(9*time.Minute + time.Second)
	if won := look(TimerFired{}); won.Peer != "m" {
		t.Error("it is not ahead any more, and still loses")
	}
}

// A ledger grants nothing from a version of a clock far ahead, unless the mesh
// lists it: nobody could take that back with a version of today.
func TestAskFromAClockFarAhead(t *testing.T) {
	p, now := newTestPeer("a")
	s := intentBy("m", "u", testApp("x"), func(i *Intent) { i.Version.Millis = now.Wall.Add(time.Hour).UnixMilli() })
	ask := func(n uint64) {
		say(p, now, "m", message{Ask: &askMsg{ID: AskID{"m", 1, n}, UID: "u", Term: Term{1, "m"}, Intent: s, Component: "c", Slots: SlotsOf(0)}})
	}
	if ask(1); len(p.ledger.claims) != 0 {
		t.Error("granted")
	}
	step(p, now, RecordChanged{Table: TableIntents, Key: "default/x", Siblings: [][]byte{Encode(s)}})
	if ask(2); len(p.ledger.claims) != 1 {
		t.Error("not granted, although listed")
	}
}

func TestClockNeverStepsBack(t *testing.T) {
	wall := time.Unix(1_800_000_000, 0)
	c := hlc{peer: "a"}
	last := Version{Millis: wall.UnixMilli() + 1000, Logical: math.MaxUint32, Peer: "m"}
	c.observe(last, wall)
	for range 3 {
		v := c.next(wall)
		if v.Compare(last) <= 0 {
			t.Fatalf("%v is not after %v", v, last)
		}
		last = v
	}
	far := Version{Millis: wall.UnixMilli() + 1e9, Logical: math.MaxUint32, Peer: "z"}
	if v := c.after(far, wall); v.Compare(far) <= 0 {
		t.Errorf("%v is not after %v", v, far)
	}
}

// A peer that reports before failure detection spoke of it.
func TestNearAStranger(t *testing.T) {
	p, now, _ := newShop(t)
	a := testApp("pair")
	c := a.Components["c"]
	c.Place.Near = &Near{Component: "c"}
	a.Components["d"] = c
	step(p, now, Submit{Ticket: 2, App: a})
	pair := p.find(a.Key())
	id := ClaimID{AskID{"a", 1, 1 << 40}, PeerRef{"stranger", 1}}
	say(p, now, "stranger", message{Report: &reportMsg{UID: pair.uid, Peer: PeerRef{"stranger", 1}, Order: order{Incarnation: 1, Boot: 1},
		Claims: []claimStatus{{ID: id, Component: "c", Slots: SlotsOf(900)}}}})
	if near := p.nearTimes(c.Place.Near, pair.hostsOf("c")); near["a"].RTT != 0 {
		t.Errorf("near: %v", near)
	}
}

// The answer to a forwarded edit is that of the peer that was asked.
func TestForgedAnswer(t *testing.T) {
	p, now := newTestPeer("q")
	for _, id := range []PeerID{"a", "b", "m"} {
		step(p, now, MemberChanged{Peer: id, Site: "s", State: MemberAlive})
	}
	step(p, now, RecordChanged{Table: TableKeepers, Key: "u", Siblings: [][]byte{Encode(listBy("a", "u", 1, "a", "b"))}})
	step(p, now, RecordChanged{Table: TableIntents, Key: "default/shop", Siblings: [][]byte{Encode(intentBy("a", "u", testApp("shop"), nil))}})
	sent := step(p, now, Submit{Ticket: 1, App: testApp("shop")})
	if len(sent) != 1 || sent[0].To != "a" {
		t.Fatalf("forwarded to nobody: %d sends", len(sent))
	}
	m, _ := decodeMessage(sent[0].Body)
	say(p, now, "m", message{Forwarded: &forwardedMsg{Request: m.Forward.Request, UID: "u", Quorum: true}})
	if len(p.edits.open) != 1 {
		t.Error("m answered for a")
	}
	say(p, now, "a", message{Forwarded: &forwardedMsg{Request: m.Forward.Request, UID: "u", Quorum: true}})
	if len(p.edits.open) != 0 {
		t.Error("a's answer was not taken")
	}
}
