package placement

import (
	"reflect"
	"slices"
	"testing"
)

// twoOfOneName is two apps of one name as both sides of a cut made them.
func twoOfOneName() (taken, other version) {
	side := func(uid UID, by PeerID, millis int64) version {
		i := Intent{UID: uid, Key: AppKey{"default", "shop"}, App: testApp("shop"),
			Version: Version{Millis: millis, Peer: by}, Incarnation: 1, Alone: true}
		return version{signed: Signed{Body: Encode(i), By: by}, intent: i}
	}
	return side("one", "a", 1000), side("two", "b", 1001)
}

// list gives the peer what the table says of the name.
func list(p *Peer, versions ...version) {
	var raw [][]byte
	for _, v := range versions {
		raw = append(raw, Encode(v.signed))
	}
	p.record(RecordChanged{Table: TableIntents, Key: "default/shop", Siblings: raw})
}

// next is an edit of an app as p writes it.
func next(p *Peer, e *edit, uid UID) version {
	a := p.apps[uid]
	e.req.key, e.req.app = a.key, a.win.intent.App
	i := p.intent(e, a)
	s := p.sign(*i)
	return version{signed: s, intent: *i}
}

func TestChoiceBetweenAppsStands(t *testing.T) {
	p, _ := newTestPeer("a")
	taken, other := twoOfOneName()
	list(p, taken, other)
	resolution := next(p, &edit{resolves: true}, "one")
	late := next(p, &edit{again: true}, "two") // by a steward that knows of no choice
	edited := next(p, &edit{}, "two")          // by a person who knew of none either

	standing := func(versions ...version) []UID {
		list(p, versions...)
		return p.uids()
	}
	for name, c := range map[string]struct {
		listed []version
		want   []UID
	}{
		"what was seen":                     {[]version{resolution, other}, []UID{"one"}},
		"what was seen, written once more":  {[]version{late, resolution}, []UID{"one"}},
		"an edit that was not seen":         {[]version{resolution, edited}, []UID{"one", "two"}},
		"nobody's word but the restatement": {[]version{late}, []UID{"two"}},
	} {
		if got := standing(c.listed...); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v stand, not %v", name, got, c.want)
		}
	}

	// Restated twice, and over an edit of what was taken.
	list(p, late)
	twice := next(p, &edit{again: true}, "two")
	if !reflect.DeepEqual(twice.intent.Restates, []Change{{Version: other.intent.Version, Incarnation: 1, Alone: true}}) {
		t.Errorf("written twice it restates %v", twice.intent.Restates)
	}
	list(p, resolution)
	after := next(p, &edit{}, "one")
	if got := standing(after, twice); !slices.Equal(got, []UID{"one"}) {
		t.Errorf("beside an edit of what was taken: %v stand", got)
	}
	if !p.catalog.outlast[AppKey{"default", "shop"}] {
		t.Error("nobody is to publish over what was decided against")
	}
	// A keeper that holds what the choice ended, and that nobody lists, lets go of it.
	if !p.over("two", []version{twice}) {
		t.Error("a keeper takes what was decided against")
	}
}

// Of two choices that did not know of each other both stand: a conflict.
func TestTwoChoicesStand(t *testing.T) {
	p, _ := newTestPeer("a")
	one, two := twoOfOneName()
	list(p, one, two)
	takesOne, takesTwo := next(p, &edit{resolves: true}, "one"), next(p, &edit{resolves: true}, "two")
	list(p, takesOne, takesTwo)
	if got := p.uids(); !slices.Equal(got, []UID{"one", "two"}) {
		t.Errorf("%v stand", got)
	}
	// Whoever decides between the two has the last word, also over what either ended.
	last := next(p, &edit{resolves: true}, "two")
	list(p, one, two, takesOne, takesTwo, last)
	if got := p.uids(); !slices.Equal(got, []UID{"two"}) {
		t.Errorf("after the last choice: %v stand", got)
	}
}
