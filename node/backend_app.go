package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/hansa-mesh/hansa/gossip"
	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
)

// submitMax is how long a person waits for a PUT in all: the core itself
// answers sooner.
const submitMax = 15 * time.Second

// submitTreesMax is the same of an app with images, that its keepers are to hold.
// With pinMax it is less than clients wait.
const submitTreesMax = 40 * time.Second

// PutApp writes an app.
func (n backend) PutApp(ctx context.Context, req api.PutRequest) (api.PutResult, error) {
	artifacts, err := n.artifactsOf(ctx, req.App)
	if err != nil {
		return api.PutResult{}, err
	}
	pinned, err := n.pin(ctx, req.App, true)
	if err != nil {
		return api.PutResult{}, err
	}
	req.App = pinned.app
	for _, tree := range pinned.trees {
		if !slices.ContainsFunc(artifacts, func(a placement.Artifact) bool { return a.Digest == tree.Digest && a.Arch == tree.Arch }) {
			artifacts = append(artifacts, tree)
		}
	}
	if err := n.appPermitted(ctx, req.App); err != nil {
		return api.PutResult{}, err
	}
	wait := submitMax
	if len(pinned.trees) > 0 {
		wait = submitTreesMax
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	before, beforeErr := n.appHere(ctx, req.App.Key())
	r, err := n.submit(ctx, func(ticket uint64) placement.Event {
		return placement.Submit{
			Ticket: ticket, App: req.App, Artifacts: artifacts, IfMatch: req.IfMatch, IfNoneMatch: req.IfNoneMatch,
			MinCopies: req.MinCopies, IdempotencyKey: req.IdempotencyKey,
		}
	})
	if err != nil {
		return api.PutResult{}, err
	}
	key := req.App.Key()
	out := api.PutResult{
		Namespace: key.Namespace, App: key.App, UID: string(r.UID), Revision: r.Version.String(), ETag: r.ETag,
		Created: r.Created, Durability: n.durability(ctx, key, r),
	}
	out.Unchanged = !r.Created && beforeErr == nil && !before.Conflict && !before.Intent.Removed &&
		bytes.Equal(placement.Encode(before.Intent.App), placement.Encode(req.App))
	if beforeErr == nil {
		pinned.notes = append(pinned.notes, moved(before.Intent.App, req.App)...)
	}
	out.Warnings = slices.Concat(out.Warnings, pinned.notes, r.Notes, n.missingSecrets(req.App))
	return out, nil
}

func (n *Node) durability(ctx context.Context, key placement.AppKey, r placement.Result) api.Durability {
	d := api.Durability{Copies: r.Copies, Keepers: r.Copies, Quorum: r.Quorum, Peers: n.refs(r.Peers)}
	if v, err := n.appHere(ctx, key); err == nil {
		d.Keepers = len(v.Keepers)
	}
	return d
}

// artifactsOf are the sizes of the artifacts that an app names. One that this
// peer does not hold but that the running app has is fetched by who needs it.
func (n *Node) artifactsOf(ctx context.Context, app placement.App) ([]placement.Artifact, error) {
	known := map[string]int64{}
	if err := n.loop.look(ctx, func(core *placement.Peer) {
		for _, i := range core.Siblings(app.Key()) { // in a conflict of every side
			for _, a := range i.Artifacts {
				known[a.Digest] = a.Size
			}
		}
	}); err != nil {
		return nil, err
	}
	var artifacts []placement.Artifact
	var missing []string
	for _, digest := range app.Artifacts() {
		size, err := n.store.Blobs().Size(digest)
		if err != nil {
			var ok bool
			if size, ok = known[digest]; !ok {
				size, err = n.findFile(ctx, digest) // of a package that was pushed to another peer, say
				ok = err == nil
			}
			if !ok {
				missing = append(missing, digest)
				continue
			}
		}
		artifacts = append(artifacts, placement.Artifact{Digest: digest, Size: size})
	}
	if len(missing) > 0 {
		return nil, &api.MissingArtifacts{Digests: missing}
	}
	trees, err := n.pinnedTrees(ctx, app)
	if err != nil {
		return nil, err
	}
	artifacts = append(artifacts, trees...)
	return artifacts, n.checkModules(app)
}

// appHere is an app as this peer's core knows it.
func (n *Node) appHere(ctx context.Context, key placement.AppKey) (placement.AppView, error) {
	var view placement.AppView
	var ok bool
	if err := n.loop.look(ctx, func(core *placement.Peer) { view, ok = core.App(key) }); err != nil {
		return view, err
	}
	if !ok {
		return view, fmt.Errorf("app %s: %w: 'hansa apps' lists them", key, placement.ErrNotFound)
	}
	return view, nil
}

// appAtSteward is an app as its steward knows it, or as this peer does when
// the steward does not answer.
func (n *Node) appAtSteward(ctx context.Context, key placement.AppKey) (placement.AppView, error) {
	here, err := n.appHere(ctx, key)
	if err != nil || here.Steward == "" || here.Steward == n.self().Peer {
		return here, err
	}
	if !slices.Contains(n.others(), string(here.Steward)) {
		return here, nil
	}
	answers := ask[appQuery, appAnswer](ctx, n, []string{string(here.Steward)}, methodApp, appQuery{key})
	if a := answers[0]; a.err == nil && a.answer.Found && a.answer.App.Intent.Version.Compare(here.Intent.Version) >= 0 {
		a.answer.App.Conflict = a.answer.App.Conflict || here.Conflict
		return a.answer.App, nil
	}
	return here, nil
}

// GetApp is one app as a person wants it.
func (n backend) GetApp(ctx context.Context, key placement.AppKey) (api.AppDetail, error) {
	v, err := n.appHere(ctx, key)
	if err != nil {
		return api.AppDetail{}, err
	}
	var sides []api.Side
	if v.Conflict {
		if sides, err = n.sides(ctx, key); err != nil {
			return api.AppDetail{}, err
		}
	}
	return api.AppDetail{
		App: n.appRow(v), Spec: v.Intent.App, Artifacts: v.Intent.Artifacts, Keepers: n.refs(v.Keepers),
		Epoch: v.Epoch, Term: v.Term.Number, Sides: sides, Disconnect: policies(v.Intent.App),
	}, nil
}

// appRow is an app in a list.
func (n *Node) appRow(v placement.AppView) api.App {
	row := api.App{
		Namespace: v.Intent.Key.Namespace, App: v.Intent.Key.App, UID: string(v.Intent.UID),
		Revision: v.Intent.Version.String(), ETag: v.ETag, Conflict: v.Conflict, Deputy: v.Deputy,
		Created: time.UnixMilli(v.Intent.Created).UTC(), Updated: time.UnixMilli(v.Intent.Version.Millis).UTC(),
		AsOf: time.Now().UTC(), Components: []api.ComponentCount{},
	}
	if v.Steward != "" {
		row.Steward = n.ref(string(v.Steward))
	}
	for _, c := range v.Components {
		running := c.States[placement.AllocRunning]
		row.Components = append(row.Components, api.ComponentCount{Name: c.Name, Kind: c.Kind, Wanted: c.Wanted, Running: running})
		row.Wanted += c.Wanted
		row.Running += running
	}
	row.State = stateOf(v, row.Wanted, row.Running)
	return row
}

// deployingFor is how long an app that is not whole yet counts as being
// deployed.
const deployingFor = 30 * time.Second

func stateOf(v placement.AppView, wanted, running int) string {
	switch {
	case v.Intent.Removed:
		return "removing"
	case running >= wanted:
		return "running"
	case time.Since(time.UnixMilli(v.Intent.Version.Millis)) < deployingFor:
		return "deploying"
	}
	return "degraded"
}

// ListApps are the apps of the catalog.
func (n backend) ListApps(ctx context.Context, q api.AppQuery) (api.Listing[api.App], error) {
	var views []placement.AppView
	if err := n.loop.look(ctx, func(core *placement.Peer) { views = core.Apps() }); err != nil {
		return api.Listing[api.App]{}, err
	}
	rows := []api.App{}
	for _, v := range views {
		if q.Namespace == "" || q.Namespace == v.Intent.Key.Namespace {
			rows = append(rows, n.appRow(v))
		}
	}
	return api.NewListing(rows, api.AppKey, q.Page, map[string]time.Time{n.id.ID(): time.Now().UTC()}), nil
}

// DeleteApp removes an app.
func (n backend) DeleteApp(ctx context.Context, req api.DeleteRequest) (api.DeleteResult, error) {
	key := req.Key
	if key.Recorded() { // what is kept there is no app
		return api.DeleteResult{}, fmt.Errorf("app %s: %w: 'hansa apps' lists them", key, placement.ErrNotFound)
	}
	ctx, cancel := context.WithTimeout(ctx, submitMax)
	defer cancel()
	r, err := n.submit(ctx, func(ticket uint64) placement.Event {
		return placement.Remove{
			Ticket: ticket, Key: key, IfMatch: req.IfMatch, MinCopies: req.MinCopies, IdempotencyKey: req.IdempotencyKey,
		}
	})
	if err != nil {
		if errors.Is(err, placement.ErrNotFound) {
			err = fmt.Errorf("app %s: %w: 'hansa apps' lists them", key, placement.ErrNotFound)
		}
		return api.DeleteResult{}, err
	}
	return api.DeleteResult{
		Namespace: key.Namespace, App: key.App, UID: string(r.UID), Revision: r.Version.String(),
		Durability: n.durability(ctx, key, r),
	}, nil
}

// Plan says what a PUT would do.
func (n backend) Plan(ctx context.Context, app placement.App) (api.Plan, error) {
	key := app.Key()
	out := api.Plan{Namespace: key.Namespace, App: key.App, Change: "create", Complete: true, AsOf: time.Now().UTC()}
	pinned, err := n.pin(ctx, app, false)
	if err != nil {
		return out, err
	}
	app = pinned.app
	var plan placement.PlanView
	var sizes []placement.Artifact // of what lies here; what does not is not counted
	for _, digest := range app.Artifacts() {
		if size, err := n.store.Blobs().Size(digest); err == nil {
			sizes = append(sizes, placement.Artifact{Digest: digest, Size: size})
		}
	}
	sizes = append(sizes, pinned.trees...)
	if err := n.measuredFor(ctx, app, sizes); err != nil {
		return out, err
	}
	err = n.loop.look(ctx, func(core *placement.Peer) {
		plan = core.PlanFor(n.loop.now(), app, sizes...)
		if v, ok := core.App(key); ok && !v.Intent.Removed {
			out.Change = "update"
			if sameApp(v.Intent.App, app) {
				out.Change = "none"
			}
		}
	})
	if err != nil {
		return out, err
	}
	for _, c := range plan.Components {
		spec := app.Components[c.Component]
		refusal, note, err := n.wouldRefuse(ctx, key.Namespace, spec)
		if err != nil {
			return out, err
		}
		if note != "" {
			out.Warnings = append(out.Warnings, c.Component+": "+note)
		}
		out.Components = append(out.Components, api.PlanComponent{
			Name: c.Component, Kind: spec.Kind(), Driver: spec.Driver(), Wanted: c.Wanted, Placed: c.Placed, Refused: refusal,
			Decision: n.decision(c.Decision),
		})
		out.Complete = out.Complete && c.Placed >= c.Wanted
		out.Travel += c.Decision.Travel
	}
	out.Warnings = slices.Concat(out.Warnings, pinned.notes, n.missingSecrets(app))
	return out, nil
}

func sameApp(a, b placement.App) bool {
	if len(a.Components) != len(b.Components) {
		return false
	}
	for name, c := range a.Components {
		other, ok := b.Components[name]
		if !ok || placement.SpecHash(c) != placement.SpecHash(other) || c.Wanted() != other.Wanted() {
			return false
		}
	}
	return true
}

func (n *Node) decision(d placement.Decision) api.Decision {
	out := api.Decision{
		Component: d.Component, At: time.UnixMilli(d.At).UTC(), Revision: d.Version.String(), Term: d.Term.Number,
		Slots: d.Slots, Reason: n.named(d.Reason), Outcome: n.named(d.Outcome), Considered: []api.Considered{},
		Travel: d.Travel,
	}
	if d.Times > 1 {
		out.Times, out.Since = d.Times, time.UnixMilli(d.Since).UTC()
	}
	if d.Term.Peer != "" {
		out.By = n.ref(string(d.Term.Peer))
	}
	for peer, slots := range d.Taken {
		out.Taken = append(out.Taken, api.Taken{Peer: n.ref(string(peer)), Slots: slots})
	}
	sort.Slice(out.Taken, func(i, j int) bool { return out.Taken[i].Peer.Name < out.Taken[j].Peer.Name })
	for _, c := range d.Considered {
		out.Considered = append(out.Considered, api.Considered{
			Peer:      n.ref(string(c.Peer)),
			AgeMillis: c.Age, Score: c.Score, Fits: c.Fits, Taken: c.Taken, Reason: n.named(c.Reason), Travel: c.Travel,
		})
	}
	return out
}

// Status is what is wanted of an app and what is.
func (n backend) Status(ctx context.Context, key placement.AppKey) (api.Status, error) {
	v, err := n.appAtSteward(ctx, key)
	if err != nil {
		return api.Status{}, err
	}
	row := n.appRow(v)
	s := api.Status{
		Namespace: row.Namespace, App: row.App, UID: row.UID, State: row.State, Revision: row.Revision, ETag: row.ETag,
		Conflict: row.Conflict, Keepers: n.refs(v.Keepers), Epoch: v.Epoch, Next: n.refs(v.Next), Steward: row.Steward, Deputy: v.Deputy, Term: v.Term.Number,
		Open: n.allNamed(v.Open), AsOf: row.AsOf, Components: []api.ComponentStatus{},
	}
	for _, id := range v.Keepers {
		if m, _ := n.memberOf(string(id)); m.State != gossip.StateAlive && id != n.self().Peer {
			s.KeepersOut = append(s.KeepersOut, n.ref(string(id)))
		}
	}
	for _, c := range v.Components {
		cs := api.ComponentStatus{
			Name: c.Name, Kind: c.Kind, Driver: v.Intent.App.Components[c.Name].Driver(), Wanted: c.Wanted,
			Running: c.States[placement.AllocRunning], States: states(c.States), Missing: c.Missing, Double: c.Double,
			Places: []api.PlaceStatus{}, Disconnect: c.Policy, Rollout: n.rolloutStatus(c.Rollout),
		}
		for _, p := range c.Sites {
			cs.Places = append(cs.Places, n.place(c.Policy, p, row.AsOf))
		}
		for _, l := range c.Leases {
			cs.Leases = append(cs.Leases, n.leaseStatus(l))
		}
		s.Components = append(s.Components, cs)
	}
	return s, nil
}

// leaseStatus is a lease as people see it.
func (n *Node) leaseStatus(l placement.LeaseView) api.LeaseStatus {
	s := api.LeaseStatus{Slot: int(l.Slot), Number: l.Number, LeftMS: l.Left.Milliseconds(), Waits: n.named(l.Waits)}
	if l.Holder != "" {
		holder := n.ref(string(l.Holder))
		s.Holder = &holder
	}
	return s
}

func states(in map[placement.AllocState]int) map[string]int {
	out := map[string]int{}
	for s, n := range in {
		out[string(s)] = n
	}
	return out
}

// Explain are the last decisions about an app, from whichever peers made them.
func (n backend) Explain(ctx context.Context, key placement.AppKey, component string) (api.Listing[api.Decision], error) {
	v, err := n.appHere(ctx, key)
	if err != nil {
		return api.Listing[api.Decision]{}, err
	}
	if _, ok := v.Intent.App.Components[component]; component != "" && !ok {
		return api.Listing[api.Decision]{}, fmt.Errorf("component %q of %s: %w: it has %s", component, key, placement.ErrNotFound,
			strings.Join(v.Intent.App.ComponentNames(), ", "))
	}
	asOf := map[string]time.Time{n.id.ID(): time.Now().UTC()}
	var decisions []placement.Decision
	if err := n.loop.look(ctx, func(core *placement.Peer) { decisions = core.Decisions(key, component) }); err != nil {
		return api.Listing[api.Decision]{}, err
	}
	for _, a := range ask[decisionsQuery, decisionsAnswer](ctx, n.Node, n.others(), methodDecisions, decisionsQuery{key, component}) {
		if a.err == nil {
			asOf[a.peer] = time.Now().UTC()
			decisions = append(decisions, a.answer.Decisions...)
		}
	}
	sort.SliceStable(decisions, func(i, j int) bool { return decisions[i].At > decisions[j].At })
	out := make([]api.Decision, len(decisions))
	for i, d := range decisions {
		out[i] = n.decision(d)
	}
	return api.Listing[api.Decision]{Items: out, AsOf: asOf}, nil
}
