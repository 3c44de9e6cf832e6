package placement

import (
	"testing"
	"time"
)

// listed is how a peer is told that the mesh lists these versions of an app.
func listed(key AppKey, versions ...Intent) RecordChanged {
	ev := RecordChanged{Table: TableIntents, Key: key.String()}
	for _, i := range versions {
		ev.Siblings = append(ev.Siblings, Encode(Signed{Body: Encode(i), By: i.Version.Peer}))
	}
	return ev
}

// A keeper that saw an app removed takes what is from before that for late, in
// whatever run of the daemon: it unlists it, and tells whoever still keeps it. An
// edit that the removal had not seen brings the app back.
func TestRemovedAppStaysRemoved(t *testing.T) {
	p, now := newTestPeer("a")
	app := testApp("shop")
	first := Intent{UID: "u", Key: app.Key(), Version: Version{Millis: 5, Peer: "b"}, App: app, MinSchema: Schema, Incarnation: 1}
	removal := first
	removal.Version, removal.Removed, removal.Over = Version{Millis: 10, Peer: "b"}, true, []Ancestor{{first.Version, 1}}
	edit := first
	edit.Version, edit.Alone, edit.Base = Version{Millis: 8, Peer: "c"}, true, first.Version
	p.keeper.ended["u"] = ending{Term: Term{Number: 2, Peer: "b"}, Removal: &removal}

	var unlisted bool
	for _, e := range p.Step(*now, listed(app.Key(), first)) {
		if publish, ok := e.(Publish); ok && publish.Table == TableIntents && publish.Value == nil {
			unlisted = true
		}
	}
	if _, known := p.App(app.Key()); known || !unlisted {
		t.Errorf("a record from before the removal: known %t, unlisted %t", known, unlisted)
	}
	for name, c := range map[string]struct {
		intent Intent
		over   bool
	}{"from before": {first, true}, "the removal itself": {removal, true}, "an edit beside it": {edit, false}} {
		if got := p.over("u", []version{{intent: c.intent}}); got != c.over {
			t.Errorf("%s: over %t", name, got)
		}
	}
	p.Step(*now, listed(app.Key(), edit))
	if _, known := p.App(app.Key()); !known {
		t.Error("an edit that the removal had not seen did not bring the app back")
	}
}

// What its writer took back is taken from nobody, or two keepers would bring it
// to each other for ever.
func TestTakenBackIsTakenFromNobody(t *testing.T) {
	p, _ := newTestPeer("a")
	v := Version{Millis: 5, Peer: "w"}
	p.dropped.add(dropKey("u", v))
	for _, from := range []PeerID{"w", "k"} {
		if !p.takenBack(from, "u", v) {
			t.Errorf("it is taken from %s", from)
		}
	}
}

// A holder that has not repeated its report may hold nothing any more: the
// report that said so was lost, and is not repeated. It is asked.
func TestSilentHolderIsAsked(t *testing.T) {
	p, now, shop := newShop(t)
	held := claimStatus{ID: ClaimID{Ask: AskID{"a", 1, 99}, Owner: PeerRef{"b", 1}}, Component: "c", Slots: SlotsOf(1), Running: SlotsOf(1)}
	shop.rows["b"] = &row{at: now.Mono, report: reportMsg{UID: shop.uid, Peer: PeerRef{"b", 1}, Claims: []claimStatus{held}}}
	asked := func(d time.Duration) (n int) {
		for end := now.Mono + d; now.Mono < end; now.Mono += 100 * time.Millisecond {
			for _, s := range step(p, now, TimerFired{Key: wakeTimer}) {
				if in, err := Inspect(s.Body); err == nil && s.To == "b" && in.Kind == "census" {
					n++
				}
			}
		}
		return n
	}
	every := Tuning{}.withDefaults().ReportEvery
	if n := asked(every); n > 0 {
		t.Errorf("asked %d times before its report was due again", n)
	}
	if asked(2*every) == 0 {
		t.Error("it was not asked")
	}
}
