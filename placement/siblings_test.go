package placement

import (
	"fmt"
	"slices"
	"testing"
)

// All that a table lists under a name is known, and what is published keeps it: what was
// not looked at would be removed with what was.
func TestAllSidesOfANameAreKnown(t *testing.T) {
	p, _ := newTestPeer("a")
	var all []version
	for n := range listedMax {
		v := editOf(PeerID(fmt.Sprint("p", n)), int64(1000+n), nil, testApp("shop"), true)
		v.intent.UID = UID(fmt.Sprintf("u%02d", n))
		v.signed = Signed{Body: Encode(v.intent), By: v.intent.Version.Peer}
		all = append(all, v)
	}
	list(p, all...)
	if got := len(p.Siblings(AppKey{"default", "shop"})); got != listedMax {
		t.Errorf("%d of %d sides are known", got, listedMax)
	}
	if beside := p.others(p.apps["u00"]); len(beside) != listedMax-1 {
		t.Errorf("what is published of one app would end %d others", listedMax-1-len(beside))
	}
}

// Of an app with more sides than a keeper holds all stand, in whatever order they are
// listed, its keepers are asked to hold the newest, and take what a person makes of them.
func TestMoreSidesThanAKeeperHolds(t *testing.T) {
	p, now, shop := newShop(t)
	base := *shop.win
	var all []version
	for n := range siblingsMax + 4 {
		by := PeerID(fmt.Sprint("p", n))
		v := editOf(by, base.intent.Version.Millis+int64(n)+1, []version{base}, scaled(n+3), true)
		v.intent.UID = base.intent.UID
		v.signed = Signed{Body: Encode(v.intent), By: by}
		all = append(all, v)
	}
	var stand []Version
	for range 2 {
		list(p, all...)
		var got []Version
		for _, v := range shop.versions {
			got = append(got, v.intent.Version)
		}
		if len(got) != len(all) || stand != nil && !slices.Equal(got, stand) {
			t.Errorf("%d of %d versions stand, as before %t", len(got), len(all), slices.Equal(got, stand))
		}
		stand = got
		slices.Reverse(all)
	}
	delete(p.stores, shop.uid)
	p.ensureStored(shop.uid)
	asked := 0
	for _, s := range step(p, now, TimerFired{}) {
		if m, err := decodeMessage(s.Body); err != nil {
			t.Errorf("nobody can read what it sends: %v", err)
		} else if m.Store != nil && len(m.Store.Intents) == siblingsMax {
			asked++
		}
	}
	if asked == 0 {
		t.Error("no keeper is asked to hold anything")
	}
	r := p.keeper.records[shop.uid]
	choice := editOf("a", base.intent.Version.Millis+1000, shop.versions, scaled(1), false)
	choice.intent.UID = base.intent.UID
	r.add(choice)
	if len(r.versions) != siblingsMax || r.versions[0].intent.Version != choice.intent.Version {
		t.Errorf("a keeper that is full of sides does not take what was made of them: it holds %d, first %v", len(r.versions), r.versions[0].intent.Version)
	}
}
