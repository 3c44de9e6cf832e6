package node

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
)

// What ended work left behind is deleted within the hour, and by the next daemon;
// what the ledger did not end stays, whoever it may be from.
func TestLeftoversOfEndedWorkAreCollected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 1, 0)
		defer m.close()
		s := m.sites[0]
		put := func(replicas int) {
			t.Helper()
			if _, err := (backend{s.node}).PutApp(t.Context(), api.PutRequest{App: serverApp("shop", replicas)}); err != nil {
				t.Fatal(err)
			}
			m.until("runs", time.Minute, func() error { return m.runOnce(s, "shop", replicas, "s1") })
		}
		put(2)
		gone := s.world.Tasks()[0].ID
		stays := []string{"nobody/0", "x-1-1-y-1/0"}
		if _, err := (backend{s.node}).DeleteApp(t.Context(), api.DeleteRequest{Key: placement.AppKey{Namespace: "default", App: "shop"}}); err != nil {
			t.Fatal(err)
		}
		m.until("removed", time.Minute, func() error {
			if n := s.world.Running(); n > 0 {
				return fmt.Errorf("%d run", n)
			}
			return nil
		})
		put(1)
		runs := s.world.Tasks()[0].ID
		parts := strings.Split(gone, "-")
		parts[len(parts)-1] = "1/0" // the same claim in an earlier life of the store
		stays = append(stays, runs, strings.Join(parts, "-"))
		litter := func() {
			for _, id := range append([]string{gone}, stays...) {
				s.world.Litter(id)
			}
		}
		collected := func() error {
			if s.world.Littered(gone) {
				return errors.New("it is there")
			}
			return nil
		}
		litter()
		m.until("collected", collectEvery+time.Minute, collected)
		m.kill(s, false)
		litter()
		m.start(s, "")
		m.until("collected by the next daemon", time.Minute, collected)
		time.Sleep(2 * collectEvery) // of virtual time
		for _, id := range stays {
			if !s.world.Littered(id) {
				t.Errorf("what is left of %s was deleted", id)
			}
		}
	})
}
