package placement

import (
	"slices"
	"testing"
	"time"
)

// An edit that was written under a term and found no majority is made alone: of what
// it changes nobody knows who is not over it, whatever was decided meanwhile.
func TestEditThatLostItsMajorityIsNotMergedAway(t *testing.T) {
	v := newVillage(t, FaultNone, "a", "b", "c")
	shop := AppKey{"default", "shop"}
	v.deploy("a")
	v.cut[[2]PeerID{"a", "b"}], v.cut[[2]PeerID{"a", "c"}] = true, true // not yet seen
	v.cut[[2]PeerID{"b", "a"}], v.cut[[2]PeerID{"c", "a"}] = true, true
	v.step(v.peers["a"], Submit{Ticket: 2, App: scaled(1)})
	v.pass(5 * time.Second)
	if r := v.answers[2]; r.Err != nil || r.Quorum {
		t.Fatalf("%+v: the test shows nothing", r)
	}
	key := TableIntents + "/default/shop"
	mine := v.table[key]
	v.dead("b", "a")
	v.dead("c", "a")
	v.pass(5 * time.Second)
	v.step(v.peers["b"], Submit{Ticket: 3, App: scaled(3)})
	if r := v.answers[3]; r.Err != nil || !r.Quorum {
		t.Fatalf("%+v: the test shows nothing", r)
	}
	theirs := v.table[key]
	delete(v.table, key)
	clear(v.cut)
	v.see()
	for _, id := range v.order {
		v.step(v.peers[id], RecordChanged{Table: TableIntents, Key: "default/shop", Siblings: [][]byte{mine, theirs}})
	}
	v.pass(30 * time.Second)
	for _, id := range v.order {
		var replicas []int
		for _, x := range v.peers[id].find(shop).versions {
			replicas = append(replicas, x.intent.App.Components["c"].Wanted())
		}
		if slices.Sort(replicas); !slices.Equal(replicas, []int{1, 3}) {
			t.Errorf("at %s what stands wants %v, not 1 and 3", id, replicas)
		}
	}
}
