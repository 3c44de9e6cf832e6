package placement

import (
	"testing"
	"time"
)

// What a core loads is looked at with the time at which it begins, not with
// none: no version is then from a clock far ahead, each is followed, and a
// conflict has the winner that it has everywhere.
func TestLoadedVersionsMeetTheClock(t *testing.T) {
	wall := time.Unix(1_800_000_000, 0)
	mine := intentBy("a", "u", testApp("shop"), func(i *Intent) { i.Alone, i.Version.Millis = true, wall.UnixMilli()-2000 })
	ahead := intentBy("m", "u", testApp("shop"), func(i *Intent) { i.Alone, i.Version.Millis = true, wall.Add(10*time.Minute).UnixMilli() })
	p := New(Config{Self: PeerRef{Peer: "q", Incarnation: 1}, Name: "q", Site: "s", Seed: 1})
	p.LoadTable(TableIntents, "default/shop", [][]byte{Encode(mine), Encode(ahead)})
	var flagged []PeerID
	for _, e := range p.Begin(Now{Wall: wall}) {
		if r, ok := e.(Record); ok && r.Event != nil && r.Event.Type == "clock-ahead" {
			flagged = append(flagged, r.Event.Peer)
		}
	}
	if len(flagged) != 1 || flagged[0] != "m" {
		t.Errorf("flagged %q as ahead, want m alone", flagged)
	}
	if p.clock.millis != wall.UnixMilli()-2000 {
		t.Errorf("the clock stands at %d, want that of the loaded version", p.clock.millis)
	}
	if won := p.apps["u"].win.intent.Version.Peer; won != "a" {
		t.Errorf("%s won, whose clock is ten minutes ahead", won)
	}
}
