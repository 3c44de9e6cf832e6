package node

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
)

// A peer that just died holds up no list for longer than a second, and the list says
// that it did not answer.
func TestListsWaitForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 3, 40*time.Millisecond)
		defer m.close()
		m.until("all see each other", time.Minute, func() error { return m.settled() })
		dead := m.sites[2].node.id.ID()
		list := func() (api.Listing[api.Allocation], time.Duration) {
			t.Helper()
			began := time.Now()
			l, err := backend{m.sites[0].node}.Allocations(t.Context(), api.AllocationQuery{Page: api.Page{Limit: 10}})
			if err != nil {
				t.Fatal(err)
			}
			return l, time.Since(began)
		}
		m.net.Partition([]string{m.sites[0].addr, m.sites[1].addr}, []string{m.sites[2].addr})
		l, took := list()
		if at, asked := l.AsOf[dead]; !asked || !at.IsZero() || took > listMax {
			t.Errorf("after %v the peer that never answered is as of %v (asked: %t)", took, at, asked)
		}
		if at := l.AsOf[m.sites[1].node.id.ID()]; at.IsZero() {
			t.Error("one that lives has not answered")
		}
		m.net.Heal()
		m.until("it answers again", time.Minute, func() error { return m.settled() })
		first, _ := list()
		m.net.Partition([]string{m.sites[0].addr, m.sites[1].addr}, []string{m.sites[2].addr})
		if l, took = list(); !l.AsOf[dead].Equal(first.AsOf[dead]) || first.AsOf[dead].IsZero() || took > listMax {
			t.Errorf("after %v it is as of %v, and answered last at %v", took, l.AsOf[dead], first.AsOf[dead])
		}
		m.net.Heal()
	})
}
