package scale

import (
	"context"
	"errors"
	"fmt"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
)

// Checked is how much of what the mesh says was held against what was started.
type Checked struct {
	Slots     int `json:"slots"`     // each was started once, at a peer that has room
	Apps      int `json:"apps"`      // their status names the slots that run, peer by peer
	Decisions int `json:"decisions"` // apps whose recorded decisions give every slot to a peer
}

// statusMax bounds the apps whose status and decisions are looked at: each asks
// all peers.
const statusMax = 100

// counted says whether every peer counts every slot of every app as running.
func (r *run) counted(ctx context.Context) (bool, string) {
	for _, p := range r.fleet.Peers() {
		apps, err := appsOf(ctx, p.Node().Backend())
		if err != nil {
			return false, fmt.Sprintf("%s: %v", p.Name, err)
		}
		for _, m := range r.made {
			if a := apps[m.key.App]; a.Running != m.want || a.Wanted != m.want {
				return false, fmt.Sprintf("%s counts %d of %d slots of %s", p.Name, a.Running, m.want, m.key.App)
			}
		}
	}
	return true, ""
}

// appsOf are the apps that a peer lists, by name.
func appsOf(ctx context.Context, b api.Backend) (map[string]api.App, error) {
	all := map[string]api.App{}
	for after := ""; ; {
		l, err := b.ListApps(ctx, api.AppQuery{Page: api.Page{Limit: 1000, After: after}})
		if err != nil {
			return nil, err
		}
		for _, a := range l.Items {
			all[a.App] = a
		}
		if after = l.Next; after == "" {
			return all, nil
		}
	}
}

// place is a host of a peer, "" for its own machine.
type place struct{ peer, host string }

// checkAll holds ledgers, decisions and status to what really runs.
func (r *run) checkAll(ctx context.Context) (Checked, error) {
	work, err := r.fleet.Work()
	if err != nil {
		return Checked{}, err
	}
	names := map[string]string{} // id of a peer -> its name
	has := map[place]int{}       // slots on each host
	for _, p := range r.fleet.Peers() {
		names[p.ID()] = p.Name
	}
	runs := map[string]map[int]string{} // app -> slot -> peer
	for _, w := range work {
		if runs[w.App] == nil {
			runs[w.App] = map[int]string{}
		}
		if other, twice := runs[w.App][w.Slot]; twice {
			return Checked{}, fmt.Errorf("%s[%d] runs at %s and at %s", w.App, w.Slot, other, w.Where)
		}
		runs[w.App][w.Slot] = w.Where
		at := place{w.Where, w.Host}
		if has[at]++; has[at] > r.room() {
			return Checked{}, fmt.Errorf("host %q of %s runs more than it has room for", w.Host, w.Where)
		}
	}
	sum := Checked{Slots: len(work)}
	want := 0
	for _, m := range r.made {
		want += m.want
		for slot := range m.want {
			if runs[m.key.App][slot] == "" {
				return sum, fmt.Errorf("%s[%d] does not run", m.key.App, slot)
			}
		}
	}
	if want != len(work) {
		return sum, fmt.Errorf("%d slots run, and %d are wanted", len(work), want)
	}
	step := max(1, len(r.made)/statusMax)
	for n := 0; n < len(r.made); n += step {
		m := r.made[n]
		if err := errors.Join(r.checkStatus(ctx, m, runs[m.key.App], names), r.checkDecisions(ctx, m, names)); err != nil {
			return sum, fmt.Errorf("%s: %w", m.key.App, err)
		}
		sum.Apps++
		sum.Decisions++
	}
	return sum, nil
}

// checkStatus holds the status of an app to what runs: as many at each peer.
func (r *run) checkStatus(ctx context.Context, m made, runs map[int]string, names map[string]string) error {
	s, err := r.fleet.Peers()[m.peer].Node().Backend().Status(ctx, m.key)
	if err != nil {
		return err
	}
	at := map[string]int{}
	for _, where := range runs {
		at[where]++
	}
	for _, c := range s.Components {
		if c.Running != m.want || c.Missing != "" || c.Double != "" {
			return fmt.Errorf("its status says that %d of %d slots run, %q missing, %q twice", c.Running, m.want, c.Missing, c.Double)
		}
		for _, place := range c.Places {
			name := names[place.Peer.ID]
			if n := place.States[string(placement.AllocRunning)]; n != at[name] {
				return fmt.Errorf("its status says that %d slots run at %s, where %d do", n, name, at[name])
			}
			delete(at, name)
		}
	}
	if len(at) > 0 {
		return fmt.Errorf("its status leaves out %v", at)
	}
	return nil
}

// checkDecisions says whether the recorded decisions gave every slot to a peer.
func (r *run) checkDecisions(ctx context.Context, m made, names map[string]string) error {
	list, err := r.fleet.Peers()[m.peer].Node().Backend().Explain(ctx, m.key, "")
	if err != nil {
		return err
	}
	given := placement.Slots{}
	for _, d := range list.Items {
		for _, t := range d.Taken {
			slots, err := placement.ParseSlots(t.Slots)
			if err != nil || names[t.Peer.ID] == "" {
				return fmt.Errorf("a decision gives slots %q to %q", t.Slots, t.Peer.ID)
			}
			given = given.Union(slots)
		}
	}
	if missing := placement.FirstSlots(m.want).Minus(given); !missing.IsEmpty() {
		return fmt.Errorf("no decision gives slots %s to a peer", missing)
	}
	return nil
}
