package node

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/transport"
)

const methodHistory = "query/history/1"

type historyAnswer struct {
	Revisions []placement.RevisionView `json:"revisions"`
	Known     bool                     `json:"known"` // to a keeper
}

// serveHistory answers what other peers ask about the past of apps.
func (n *Node) serveHistory() {
	transport.HandleTyped(n.link, methodHistory, func(ctx context.Context, _ string, q appQuery) (historyAnswer, error) {
		return n.historyHere(ctx, q.Key)
	})
}

func (n *Node) historyHere(ctx context.Context, key placement.AppKey) (a historyAnswer, err error) {
	err = n.loop.look(ctx, func(core *placement.Peer) { a.Revisions, a.Known = core.History(key) })
	return a, err
}

// history is the past of an app as its steward knows it, or else as one of its
// keepers that is in reach does.
func (n *Node) history(ctx context.Context, key placement.AppKey) ([]placement.RevisionView, error) {
	v, err := n.appHere(ctx, key)
	if err != nil {
		return nil, err
	}
	others := n.others()
	for _, id := range append([]placement.PeerID{v.Steward}, v.Keepers...) {
		var a historyAnswer
		switch {
		case id == n.self().Peer:
			if a, err = n.historyHere(ctx, key); err != nil {
				return nil, err
			}
		case slices.Contains(others, string(id)):
			if r := ask[appQuery, historyAnswer](ctx, n, []string{string(id)}, methodHistory, appQuery{key})[0]; r.err == nil {
				a = r.answer
			}
		}
		if a.Known && len(a.Revisions) > 0 {
			return a.Revisions, nil
		}
	}
	return nil, fmt.Errorf("history of %s: %w: none of its keepers, which have it, is in reach", key, placement.ErrUnavailable)
}

// History are the last revisions of an app.
func (n backend) History(ctx context.Context, key placement.AppKey) (api.Listing[api.Revision], error) {
	list, err := n.history(ctx, key)
	if err != nil {
		return api.Listing[api.Revision]{}, err
	}
	out := api.Listing[api.Revision]{Items: []api.Revision{}, AsOf: map[string]time.Time{n.id.ID(): time.Now().UTC()}}
	for _, r := range list {
		out.Items = append(out.Items, api.Revision{
			Number: r.Number, Revision: r.Version.String(), At: r.At, By: n.ref(string(r.By)), Change: r.What, Current: r.Current, InUse: r.InUse, Spec: r.App,
		})
	}
	return out, nil
}

// Rollback deploys an earlier revision anew: an edit as any other, over the
// version that was looked at.
func (n backend) Rollback(ctx context.Context, req api.Rollback) (api.PutResult, error) {
	ctx, cancel := context.WithTimeout(ctx, submitMax)
	defer cancel()
	v, err := n.appAtSteward(ctx, req.Key)
	if err != nil {
		return api.PutResult{}, err
	}
	if v.Conflict {
		return api.PutResult{}, fmt.Errorf("rollback of %s: %w: more than one version stands; 'hansa conflicts' shows them, and decides", req.Key, placement.ErrConflict)
	}
	list, err := n.history(ctx, req.Key)
	if err != nil {
		return api.PutResult{}, err
	}
	to, err := revisionOf(req, list)
	if err != nil {
		return api.PutResult{}, err
	}
	if err := n.appPermitted(ctx, to.App); err != nil {
		return api.PutResult{}, err
	}
	if req.IfMatch == "" { // what it goes back from is what was looked at; a retry is known by its key before that
		req.IfMatch = v.ETag
	}
	r, err := n.submit(ctx, func(ticket uint64) placement.Event {
		return placement.Submit{
			Ticket: ticket, App: to.App, Artifacts: to.Artifacts, IfMatch: req.IfMatch, MinCopies: req.MinCopies, IdempotencyKey: req.IdempotencyKey, UID: v.Intent.UID,
		}
	})
	if err != nil {
		return api.PutResult{}, err
	}
	return api.PutResult{
		Namespace: req.Key.Namespace, App: req.Key.App, UID: string(r.UID), Revision: r.Version.String(), ETag: r.ETag,
		Unchanged: to.Current, Durability: n.durability(ctx, req.Key, r), Warnings: r.Notes,
	}, nil
}

// revisionOf is the revision that a rollback names, or the newest that is not
// what is wanted now.
func revisionOf(req api.Rollback, list []placement.RevisionView) (placement.RevisionView, error) {
	var have []string
	for _, r := range list {
		number := strconv.Itoa(r.Number)
		if req.Revision == number || req.Revision == r.Version.String() || req.Revision == "" && !r.Current {
			return r, nil
		}
		have = append(have, number)
	}
	if req.Revision == "" {
		return placement.RevisionView{}, fmt.Errorf("rollback of %s: %w: it has no earlier revision", req.Key, placement.ErrNotFound)
	}
	return placement.RevisionView{}, fmt.Errorf("rollback of %s: %w: revision %.80q is not kept: its history has %v", req.Key, placement.ErrNotFound, req.Revision, have)
}

// rolloutStatus is a roll-out as people see it.
func (n *Node) rolloutStatus(r *placement.RolloutView) *api.RolloutStatus {
	if r == nil {
		return nil
	}
	s := &api.RolloutStatus{
		State: string(r.State), Why: n.named(r.Why), Revision: r.Version.String(), Updated: r.Updated, Settled: r.Settled, Wanted: r.Wanted,
		Began: time.UnixMilli(r.Began).UTC(),
	}
	if r.Left > 0 {
		s.Deadline = time.Now().Add(r.Left).UTC()
	}
	if !r.Previous.IsZero() {
		s.Previous = r.Previous.String()
	}
	return s
}
