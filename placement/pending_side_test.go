package placement

import (
	"slices"
	"testing"
	"time"
)

// While an edit waits for a majority, an edit of the other side of a cut is heard of:
// both stand, whichever the mesh lists first.
func TestOtherSideComesWhileAnEditWaits(t *testing.T) {
	v := newVillage(t, FaultNone, "a", "b", "c", "e")
	edit := func(at PeerID, ticket uint64, replicas int) {
		app := testApp("shop")
		c := app.Components["c"]
		c.Replicas = &replicas
		app.Components["c"] = c
		v.step(v.peers[at], Submit{Ticket: ticket, App: app})
	}
	v.deploy("a")
	v.want("a", "1 [{a 1} {b 1} {c 1}]")
	key := TableIntents + "/default/shop"
	before := v.table[key]
	v.apart("e")
	edit("e", 2, 3)
	v.pass(5 * time.Second)
	if r := v.answers[2]; r.Err != nil {
		t.Fatal(r)
	}
	theirs := v.table[key]
	v.table[key] = before
	v.cut[[2]PeerID{"a", "b"}], v.cut[[2]PeerID{"a", "c"}] = true, true // not yet seen
	edit("a", 3, 1)
	if _, done := v.answers[3]; done {
		t.Fatal("it was answered: the test shows nothing")
	}
	p := v.peers["a"]
	v.step(p, RecordChanged{Table: TableIntents, Key: "default/shop", Siblings: [][]byte{before, theirs}})
	shop := AppKey{"default", "shop"}
	if a := p.find(shop); len(a.versions) != 2 {
		t.Fatalf("%d versions stand: the test shows nothing", len(a.versions))
	}
	clear(v.cut)
	v.pass(10 * time.Second)
	if r := v.answers[3]; r.Err != nil || !r.Quorum {
		t.Fatal(r)
	}
	var replicas []int
	for _, x := range p.find(shop).versions {
		replicas = append(replicas, x.intent.App.Components["c"].Wanted())
	}
	if slices.Sort(replicas); !slices.Equal(replicas, []int{1, 3}) {
		t.Errorf("what stands wants %v, not 1 and 3", replicas)
	}
	if n := len(p.catalog.versions(p.find(shop).uid)); n != 2 {
		t.Errorf("%d versions are listed", n)
	}
}
