package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/hansa-mesh/hansa/gossip"
	"github.com/hansa-mesh/hansa/gossip/table"
	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/wasm"
	"github.com/hansa-mesh/hansa/node/invoke"
	"github.com/hansa-mesh/hansa/node/runner"
	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/store"
)

// Allocations are the allocations of all peers: asked for now where a peer
// answers, as last heard where it does not.
func (n backend) Allocations(ctx context.Context, q api.AllocationQuery) (api.Listing[api.Allocation], error) {
	rows, asOf, err := n.allocations(ctx)
	if err != nil {
		return api.Listing[api.Allocation]{}, err
	}
	rows = append(rows, n.pendingRows(rows, asOf)...)
	rows = slices.DeleteFunc(rows, func(a api.Allocation) bool { return !q.Matches(a) })
	return api.NewListing(rows, api.AllocationKey, q.Page, asOf), nil
}

// lastHeard is what a peer answered last.
type lastHeard struct {
	at          time.Time
	allocations []placement.AllocationView
	pending     []placement.PendingView
	usage       map[string]UsageRow
}

func (n *Node) allocations(ctx context.Context) ([]api.Allocation, map[string]time.Time, error) {
	var own []placement.AllocationView
	var pending []placement.PendingView
	if err := n.loop.look(ctx, func(core *placement.Peer) { own, pending = core.Allocations(), pendingOf(core) }); err != nil {
		return nil, nil, err
	}
	n.tellStarts(own)
	now := time.Now().UTC()
	asking, cancel := context.WithTimeout(ctx, listMax)
	answers := ask[allocationsQuery, allocationsAnswer](asking, n, n.others(), methodAllocations, allocationsQuery{})
	cancel()
	n.mu.Lock()
	for _, a := range answers {
		if a.err == nil {
			n.heard[a.peer] = lastHeard{now, a.answer.Allocations, a.answer.Pending, a.answer.Usage}
		}
	}
	n.heard[n.id.ID()] = lastHeard{now, own, pending, n.usage.rows()}
	all := make(map[string]lastHeard, len(n.heard))
	for peer, h := range n.heard {
		all[peer] = h
	}
	n.mu.Unlock()

	asOf := map[string]time.Time{}
	for _, a := range answers {
		asOf[a.peer] = time.Time{} // what it runs is not known, unless it said so once
	}
	placed := map[string]bool{} // slots that some peer in reach holds
	var rows, old []api.Allocation
	for peer, h := range all {
		asOf[peer] = h.at
		for _, v := range h.allocations {
			row := n.allocationRow(v, h.at)
			row.Usage = usageOf(h.usage, v)
			if h.at.Equal(now) {
				rows = append(rows, row)
				placed[slotKey(row)] = true
				continue
			}
			row.Stale = true
			if m, ok := n.memberOf(peer); !ok || m.State != gossip.StateAlive {
				row.State, row.Reason = string(placement.AllocLost), "its peer is not in reach; it was "+row.State
			}
			old = append(old, row)
		}
	}
	for _, row := range old { // what was placed anew elsewhere is no news
		if !placed[slotKey(row)] {
			rows = append(rows, row)
		}
	}
	return rows, asOf, nil
}

// tellStarts adds to allocations of this peer that are being started what their
// driver says of it.
func (n *Node) tellStarts(own []placement.AllocationView) {
	for i := range own {
		v := &own[i].State
		if v.State != placement.AllocStarting || v.Reason != "" {
			continue
		}
		for _, d := range n.drivers {
			if t, ok := d.(driver.Teller); ok && d.Name() == v.Driver {
				v.Reason = t.Starting(runner.DriverID(own[i].ID))
			}
		}
	}
}

func slotKey(a api.Allocation) string { return fmt.Sprintf("%s/%s[%d]", a.UID, a.Component, a.Slot) }

func (n *Node) allocationRow(v placement.AllocationView, at time.Time) api.Allocation {
	row := api.Allocation{
		ID: v.ID.String(), Namespace: v.Key.Namespace, App: v.Key.App, Component: v.Component, Slot: int(v.ID.Slot),
		Site: string(v.Site), Peer: string(v.Peer), PeerName: n.nameOf(string(v.Peer)), Host: v.Host, Kind: v.Kind,
		Driver: v.State.Driver, State: string(v.State.State), Reason: v.State.Reason, Since: time.UnixMilli(v.Since).UTC(),
		Ports: v.State.Ports, Revision: v.Version.String(), UID: string(v.UID), Restarts: v.Restarts, Fence: v.Fence,
		ExitCode: v.State.ExitCode, AsOf: at,
	}
	if v.Made > 0 {
		row.CreatedAt = time.UnixMilli(v.Made).UTC()
	}
	if v.State.Started > 0 {
		row.StartedAt = time.UnixMilli(v.State.Started).UTC()
	}
	if x := v.Last; x != nil {
		row.LastExit = &api.Exit{Code: x.Code, Reason: x.Reason, At: time.UnixMilli(x.At).UTC()}
	}
	if row.Ports == nil {
		row.Ports = map[string]string{}
	}
	return row
}

// Allocation is one allocation, asked for at the peer that granted it.
func (n backend) Allocation(ctx context.Context, id string) (api.Allocation, error) {
	parsed, err := placement.ParseAllocationID(id)
	if err != nil {
		return api.Allocation{}, fmt.Errorf("%w: %w", placement.ErrInvalid, err)
	}
	rows, _, err := n.allocations(ctx)
	if err != nil {
		return api.Allocation{}, err
	}
	for _, row := range rows {
		if row.ID == parsed.String() {
			return row, nil
		}
	}
	return api.Allocation{}, fmt.Errorf("allocation %s: %w: 'hansa ps' lists them", id, placement.ErrNotFound)
}

// Logs is the output of an allocation wherever it runs.
func (n backend) Logs(ctx context.Context, id string, o api.LogOptions) (io.ReadCloser, error) {
	parsed, err := placement.ParseAllocationID(id)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", placement.ErrInvalid, err)
	}
	if parsed.Claim.Owner.Peer != n.self().Peer {
		return n.remoteLogs(ctx, parsed, o)
	}
	logs, err := n.runner.Logs(ctx, parsed, driver.LogOptions{Follow: o.Follow, Tail: o.Tail, Since: o.Since})
	if errors.Is(err, driver.ErrUnknownTask) {
		return nil, fmt.Errorf("logs of %s: %w", id, placement.ErrNotFound)
	}
	return logs, err
}

// Invoke passes a request to the nearest instance of a function.
func (n backend) Invoke(w http.ResponseWriter, r *http.Request, key placement.AppKey, component, path string) {
	prefix := r.URL.Path[:len(r.URL.Path)-len(path)]
	response, err := n.router.Call(r.Context(), invoke.Target{Key: key, Component: component}, driver.RequestFromHTTP(r, prefix))
	if err == nil {
		response.WriteHTTP(w)
		return
	}
	if errors.Is(err, invoke.ErrNone) {
		err = n.whyNone(r.Context(), key, component)
	} else if r.Context().Err() == nil {
		err = fmt.Errorf("%w: %w", api.ErrUnreachable, err)
	}
	api.WriteProblem(w, r, err)
}

// whyNone says why a function has no instance.
func (n *Node) whyNone(ctx context.Context, key placement.AppKey, component string) error {
	v, err := n.appHere(ctx, key)
	if err != nil {
		return err
	}
	c, ok := v.Intent.App.Components[component]
	if !ok {
		return fmt.Errorf("function %q of %s: %w", component, key, placement.ErrNotFound)
	}
	if c.Function == nil {
		return fmt.Errorf("%s/%s: %w: it is a %s; only functions are invoked", key, component, placement.ErrInvalid, c.Kind())
	}
	return fmt.Errorf("%w: no instance of %s/%s runs in reach; 'hansa explain %s/%s' says why", api.ErrUnavailable, key, component, key.App, component)
}

// localInstances are the running instances of a function at this peer.
func (n *Node) localInstances(t invoke.Target) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.here[t]
}

// callInstance calls one of them.
func (n *Node) callInstance(ctx context.Context, id string, r *driver.Request) (*driver.Response, error) {
	for _, d := range n.drivers {
		if i, ok := d.(driver.Invoker); ok {
			return i.Invoke(ctx, id, r)
		}
	}
	return nil, fmt.Errorf("invoke: %w", driver.ErrUnknownTask)
}

// peersRunning are the other peers that run a function, nearest first.
func (n *Node) peersRunning(t invoke.Target) []string {
	var peers []placement.PeerID
	ctx, cancel := context.WithTimeout(n.ctx, queryMax)
	defer cancel()
	if err := n.loop.look(ctx, func(core *placement.Peer) { peers = core.RunningAt(t.Key, t.Component) }); err != nil {
		return nil
	}
	type near struct {
		peer  string
		rtt   time.Duration
		alive bool
	}
	var all []near
	for _, p := range peers {
		if p == n.self().Peer {
			continue
		}
		m, ok := n.memberOf(string(p))
		rtt, _, known := n.gossip.RTT(n.id.ID(), string(p))
		if !known {
			rtt = time.Hour
		}
		all = append(all, near{string(p), rtt, ok && m.State == gossip.StateAlive})
	}
	slices.SortStableFunc(all, func(a, b near) int {
		if a.alive != b.alive {
			if a.alive {
				return -1
			}
			return 1
		}
		return int(min(1, max(-1, a.rtt-b.rtt)))
	})
	out := make([]string, len(all))
	for i, p := range all {
		out[i] = p.peer
	}
	return out
}

// workMoved notes which functions run here, for those who must not wait for
// the core.
func (n *Node) workMoved(core *placement.Peer) {
	if !core.FunctionsMoved() {
		return
	}
	here := map[invoke.Target][]string{}
	for _, f := range core.Functions() {
		t := invoke.Target{Key: f.Key, Component: f.Component}
		here[t] = append(here[t], runner.DriverID(f.ID))
	}
	n.mu.Lock()
	n.here = here
	n.mu.Unlock()
}

// HasArtifact is the size of an artifact that this peer holds.
func (n backend) HasArtifact(_ context.Context, digest string) (int64, error) {
	size, err := n.store.Blobs().Size(digest)
	if err != nil {
		return 0, fmt.Errorf("artifact %s: %w", digest, placement.ErrNotFound)
	}
	n.images.guard.Use(digest) // whoever asks is about to name it
	return size, nil
}

// PutArtifact stores an artifact, and compiles it ahead where that helps: this
// peer will be a keeper of the app that it is for.
func (n backend) PutArtifact(ctx context.Context, digest string, size int64, r io.Reader) (bool, error) {
	blobs := n.store.Blobs()
	if n.images.guard.Use(digest); blobs.Has(digest) {
		return false, nil
	}
	if err := n.outcast(); err != nil {
		return false, err
	}
	if err := n.store.Health(); err != nil { // nothing would come of it
		return false, storeError(err)
	}
	w, err := blobs.Create(ctx, digest, max(size, store.SizeUnknown))
	if err != nil {
		return false, storeError(err)
	}
	defer w.Close()
	if err := w.Restart(); err != nil { // all bytes come again: what is left of an earlier try may be torn
		return false, storeError(err)
	}
	if _, err := io.Copy(w, r); err != nil {
		return false, storeError(err)
	}
	if err := w.Commit(); err != nil {
		return false, storeError(err)
	}
	n.come(digest)
	n.loop.post(placement.BlobArrived{Digest: digest})
	n.work.Go(func() { n.warm(n.ctx, digest) })
	return true, nil
}

// storeError gives an error of the store the kind that people see.
func storeError(err error) error {
	switch {
	case errors.Is(err, store.ErrFull), errors.Is(err, store.ErrFailed), errors.Is(err, table.ErrFull), diskError(err):
		return fmt.Errorf("%w: %w", placement.ErrFull, err)
	case errors.Is(err, store.ErrInvalid), errors.Is(err, store.ErrDigest):
		return fmt.Errorf("%w: %w", placement.ErrInvalid, err)
	case errors.Is(err, store.ErrBusy), errors.Is(err, table.ErrBusy):
		return fmt.Errorf("%w: %w", api.ErrUnavailable, err)
	}
	return err
}

// checkModules refuses at once what no runtime could ever run.
func (n *Node) checkModules(app placement.App) error {
	for _, name := range app.ComponentNames() {
		f := app.Components[name].Function
		if f == nil {
			continue
		}
		file, _, err := n.store.Blobs().Open(f.Module)
		if errors.Is(err, store.ErrNotFound) {
			continue // it was checked when it came into the mesh
		}
		if err != nil {
			return err
		}
		err = wasm.CheckModule(file, f.Handler)
		file.Close()
		if err != nil {
			return placement.FieldErrors{{Field: "components." + name + ".function.module", Value: f.Module, Problem: err.Error()}}
		}
	}
	return nil
}
