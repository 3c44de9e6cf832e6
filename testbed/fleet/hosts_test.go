package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/testbed/fleet"
	"github.com/hansa-mesh/hansa/testbed/load"
)

// Peers with many hosts run no more on any than it has, say of each what it has,
// page by page, and know after a restart, also with an empty store, what is where.
// What was on hosts that are no longer there runs on others.
func TestManyHosts(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		const peers, hosts, slots = 3, 12, 60
		f, err := fleet.Start(t.Context(), fleet.Config{
			Dir: dir, Peers: peers, Hosts: hosts, Seed: 1, Capacity: placement.Resources{CPU: 2 * needCPU, Memory: 1 << 30},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := f.Close(); err != nil {
				t.Error(err)
			}
			time.Sleep(lastProbes)
		}()
		first := f.Peers()[0]
		if _, err := first.Door().PutApp(t.Context(), app("shop", slots, ""), api.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		awaitHosts(t, f, slots, peers*hosts, 2)

		second := f.Peers()[1]
		before := tasksOf(second)
		for _, wipe := range []bool{false, true} {
			err := f.Kill(second, false)
			if err == nil && wipe {
				err = f.Wipe(second)
			}
			if err == nil {
				err = f.Restart(second)
			}
			if err != nil {
				t.Fatal(err)
			}
			awaitHosts(t, f, slots, peers*hosts, 2)
			for id, host := range tasksOf(second) {
				if before[id] != host {
					t.Errorf("after a restart (store lost: %t) %s is on %q and not on %q", wipe, id, host, before[id])
				}
			}
		}

		if err := f.Kill(second, false); err != nil {
			t.Fatal(err)
		}
		second.Hosts = hosts - 2
		if err := f.Restart(second); err != nil {
			t.Fatal(err)
		}
		awaitHosts(t, f, slots, peers*hosts-2, 2)
		for id, host := range tasksOf(second) {
			for i := range 2 {
				if host == fmt.Sprintf("%s-h%04d", second.Name, hosts-1-i) {
					t.Errorf("%s runs on %s, which is no more", id, host)
				}
			}
		}
	})
}

// tasksOf is the host of what runs at a peer.
func tasksOf(p *fleet.Peer) map[string]string {
	out := map[string]string{}
	for _, task := range p.World.Tasks() {
		out[task.ID] = task.Host
	}
	return out
}

// awaitHosts waits until all slots run, and a list of hosts, asked for page by
// page, says of each what really runs there.
func awaitHosts(t *testing.T, f *fleet.Fleet, slots, hosts, most int) {
	t.Helper()
	err := load.Await(t.Context(), func() error {
		work, err := f.Work()
		if err != nil {
			return err
		}
		if len(work) != slots {
			return fmt.Errorf("%d slots run, want %d", len(work), slots)
		}
		runs := map[string]int{}
		for _, w := range work {
			host := w.Host
			if host == "" {
				host = w.Where
			}
			if runs[host]++; runs[host] > most {
				return fmt.Errorf("%s runs %d", host, runs[host])
			}
		}
		list, err := hostsOf(t.Context(), f.Peers()[0].Node().Backend())
		if err != nil {
			return err
		}
		if len(list) != hosts {
			return fmt.Errorf("%d hosts are listed, want %d", len(list), hosts)
		}
		for _, h := range list {
			if h.Slots != runs[h.ID] || h.State != "ready" {
				return fmt.Errorf("%s has %d slots, says its peer, and %d run: %s %s", h.ID, h.Slots, runs[h.ID], h.State, h.Reason)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func hostsOf(ctx context.Context, b api.Backend) ([]api.Host, error) {
	var all []api.Host
	for after := ""; ; {
		l, err := b.Hosts(ctx, api.Page{Limit: 7, After: after})
		if err != nil {
			return nil, err
		}
		for _, h := range l.Items {
			if len(all) > 0 && h.ID <= all[len(all)-1].ID {
				return nil, errors.New("hosts are listed out of order")
			}
			all = append(all, h)
		}
		if after = l.Next; after == "" {
			return all, nil
		}
	}
}
