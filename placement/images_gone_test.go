package placement

import (
	"testing"
	"time"
)

// What a name stood for is needed by nobody once the name was removed, at every
// peer that knows so: also where the catalog still lists it.
func TestRemovedNamesNeedNothing(t *testing.T) {
	v := newVillage(t, FaultNone, "a", "b", "c", "d")
	v.push("a", 1, "shop:1", "1")
	v.pass(15 * time.Second)
	i, _ := pushed("shop:1", "1")
	v.step(v.peers["d"], Remove{Ticket: 2, Key: i.Key()})
	for _, id := range []PeerID{"a", "b", "c", "d"} {
		if got := v.peers[id].Referenced(); len(got) > 0 {
			t.Errorf("at %s: %+v", id, got)
		}
	}
}
