package apitest

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
)

func etag(v placement.Version) string { return v.String() }

// PutApp stores an app.
func (b *Backend) PutApp(_ context.Context, req api.PutRequest) (api.PutResult, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r, ok := b.keys[req.IdempotencyKey]; ok && req.IdempotencyKey != "" {
		r.Unchanged = true
		return r, nil
	}
	copies := len(refs)
	if b.Short {
		copies = 1
	}
	if req.MinCopies > copies {
		return api.PutResult{}, fmt.Errorf("%w: %d of %d can hold it", placement.ErrTooFew, copies, req.MinCopies)
	}
	var missing []string
	for _, d := range req.App.Artifacts() {
		if _, ok := b.artifacts[d]; !ok {
			missing = append(missing, d)
		}
	}
	if len(missing) > 0 {
		return api.PutResult{}, &api.MissingArtifacts{Digests: missing}
	}
	key := req.App.Key()
	have := b.apps[key]
	if err := checkMatch(have, key, req.IfMatch, req.IfNoneMatch); err != nil {
		return api.PutResult{}, err
	}
	b.edits++
	if have != nil && b.Torn[key.App] && have.other == nil && req.IfMatch == "" {
		have.other = &app{uid: have.uid, spec: have.spec, version: have.version, updated: have.updated}
	} else if have != nil {
		have.other = nil
	}
	created := have == nil
	if created {
		have = &app{uid: "uid-" + key.App, created: b.now(), logs: map[int][]string{}}
		b.apps[key] = have
	}
	have.spec, have.updated = req.App, b.now()
	have.version = placement.Version{Millis: 1, Logical: b.edits, Peer: placement.PeerID(refs[0].ID)}
	change := "created"
	if !created {
		change = "x: replicas"
	}
	have.past = append(have.past, api.Revision{
		Number: len(have.past) + 1, Revision: have.version.String(), At: b.now(), By: refs[0], Change: change, Spec: req.App})
	b.tell(api.Event{Type: "deployed", Namespace: key.Namespace, App: key.App, PeerName: refs[0].Name, Peer: refs[0].ID, Message: "accepted"})
	r := api.PutResult{Namespace: key.Namespace, App: key.App, UID: have.uid, Revision: have.version.String(), ETag: etag(have.version),
		Created: created, Durability: api.Durability{Copies: copies, Keepers: len(refs), Quorum: copies > len(refs)/2, Peers: refs[:copies]}}
	if req.IdempotencyKey != "" {
		b.keys[req.IdempotencyKey] = r
	}
	return r, nil
}

func checkMatch(have *app, key placement.AppKey, ifMatch string, none bool) error {
	switch {
	case none && have != nil:
		return fmt.Errorf("%w: app %s is there already", placement.ErrConflict, key)
	case ifMatch != "" && have == nil:
		return fmt.Errorf("%w: there is no app %s", placement.ErrConflict, key)
	case ifMatch != "" && ifMatch != "*" && ifMatch != etag(have.version):
		return fmt.Errorf("%w: app %s is at %s now", placement.ErrConflict, key, etag(have.version))
	}
	return nil
}

// lookup finds an app; b.mu is held.
func (b *Backend) lookup(key placement.AppKey) (*app, error) {
	if a, ok := b.apps[key]; ok {
		return a, nil
	}
	return nil, fmt.Errorf("%w: there is no app %s: hansa apps lists those that are", placement.ErrNotFound, key)
}

func (b *Backend) row(a *app) api.App {
	row := api.App{Conflict: a.other != nil, Namespace: a.spec.Key().Namespace, App: a.spec.Name, UID: a.uid, State: "running", Revision: a.version.String(),
		ETag: etag(a.version), Steward: refs[0], Created: a.created, Updated: a.updated, AsOf: b.now(), Components: []api.ComponentCount{}}
	for _, name := range a.spec.ComponentNames() {
		c := a.spec.Components[name]
		row.Wanted += c.Wanted()
		row.Running += c.Wanted()
		row.Components = append(row.Components, api.ComponentCount{Name: name, Kind: c.Kind(), Wanted: c.Wanted(), Running: c.Wanted()})
	}
	return row
}

// GetApp is an app.
func (b *Backend) GetApp(_ context.Context, key placement.AppKey) (api.AppDetail, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a, err := b.lookup(key)
	if err != nil {
		return api.AppDetail{}, err
	}
	return api.AppDetail{App: b.row(a), Spec: a.spec, Keepers: refs, Epoch: 1, Term: 1}, nil
}

// DeleteApp removes an app.
func (b *Backend) DeleteApp(_ context.Context, req api.DeleteRequest) (api.DeleteResult, error) {
	key := req.Key
	if b.Short && req.MinCopies > 1 {
		return api.DeleteResult{}, fmt.Errorf("%w: 1 of %d can hold it", placement.ErrTooFew, req.MinCopies)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	a, err := b.lookup(key)
	if err != nil {
		return api.DeleteResult{}, err
	}
	if err := checkMatch(a, key, req.IfMatch, false); err != nil {
		return api.DeleteResult{}, err
	}
	delete(b.apps, key)
	b.tell(api.Event{Type: "removed", Namespace: key.Namespace, App: key.App, Message: "removed"})
	return api.DeleteResult{Namespace: key.Namespace, App: key.App, UID: a.uid, Revision: a.version.String(),
		Durability: api.Durability{Copies: len(refs), Keepers: len(refs), Quorum: true, Peers: refs}}, nil
}

// ListApps are the apps.
func (b *Backend) ListApps(_ context.Context, q api.AppQuery) (api.Listing[api.App], error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var rows []api.App
	for key, a := range b.apps {
		if q.Namespace == "" || q.Namespace == key.Namespace {
			rows = append(rows, b.row(a))
		}
	}
	return api.NewListing(rows, api.AppKey, q.Page, b.asOf()), nil
}

// slots are "0-2", or "" for none.
func slots(n int) string {
	switch n {
	case 0:
		return ""
	case 1:
		return "0"
	}
	return "0-" + strconv.Itoa(n-1)
}

func decision(name string, c placement.Component) api.Decision {
	d := api.Decision{Component: name, Slots: slots(c.Wanted()), Reason: "missing", Outcome: "all placed", By: refs[0], Term: 1}
	for i, r := range refs {
		taken := len(places(c, i))
		d.Considered = append(d.Considered, api.Considered{Peer: r, AgeMillis: int64(i) * 1000, Score: 10 - float64(i), Fits: 14, Taken: taken, Reason: "room"})
	}
	return d
}

// places are the slots of c at peer i: dealt round.
func places(c placement.Component, peer int) []int {
	var at []int
	for slot := range c.Wanted() {
		if slot%len(refs) == peer {
			at = append(at, slot)
		}
	}
	return at
}

// Plan deals the slots round; images called unsigned are refused.
func (b *Backend) Plan(_ context.Context, spec placement.App) (api.Plan, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := api.Plan{Namespace: spec.Key().Namespace, App: spec.Name, Change: "create", Complete: true, AsOf: b.now()}
	if b.apps[spec.Key()] != nil {
		p.Change = "update"
	}
	for _, name := range spec.ComponentNames() {
		c := spec.Components[name]
		placed := min(c.Wanted(), 100)
		p.Complete = p.Complete && placed == c.Wanted()
		d := decision(name, c)
		d.At, d.By, d.Term = time.Time{}, api.PeerRef{}, 0
		of := api.PlanComponent{Name: name, Kind: c.Kind(), Driver: c.Driver(), Wanted: c.Wanted(), Placed: placed, Decision: d}
		if c.Container != nil && strings.HasPrefix(c.Container.Image, "unsigned:") {
			of.Refused = fmt.Sprintf("%q is not signed by a key that namespace %s demands", c.Container.Image, p.Namespace)
		}
		p.Components = append(p.Components, of)
	}
	return p, nil
}

// Status says that all runs; the third peer's part is old.
func (b *Backend) Status(_ context.Context, key placement.AppKey) (api.Status, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a, err := b.lookup(key)
	if err != nil {
		return api.Status{}, err
	}
	s := api.Status{Namespace: key.Namespace, App: key.App, UID: a.uid, State: "running", Revision: a.version.String(), ETag: etag(a.version),
		Keepers: refs, Steward: refs[0], Term: 1, AsOf: b.now()}
	for _, name := range a.spec.ComponentNames() {
		c := a.spec.Components[name]
		cs := api.ComponentStatus{Name: name, Kind: c.Kind(), Driver: c.Driver(), Wanted: c.Wanted(), Running: c.Wanted(), States: map[string]int{"running": c.Wanted()},
			Disconnect: c.Policy()}
		for i, r := range refs {
			if n := len(places(c, i)); n > 0 {
				p := api.PlaceStatus{Peer: r, States: map[string]int{"running": n}, Stale: i == 2, AsOf: b.now().Add(-time.Duration(i) * time.Minute)}
				if i == 2 {
					b.cutOff(&p, c.Policy())
				}
				cs.Places = append(cs.Places, p)
			}
		}
		if b.Crashing[key.App] != "" {
			s.State, s.Open = "deploying", []string{name + " does not run yet"}
			cs.Running, cs.States, cs.Places = 0, map[string]int{"pending": c.Wanted()}, nil
		}
		s.Components = append(s.Components, cs)
	}
	return s, nil
}

// cutOff fills in what a peer says of slots at another that is not in reach.
func (b *Backend) cutOff(p *api.PlaceStatus, pol placement.Policy) {
	after := time.Duration(pol.LostAfter) - time.Minute // dead for a minute
	p.At = b.now().Add(after).UTC()
	p.Action, p.Next = "replace", "lost: replaced elsewhere"
	switch {
	case pol.Replace == placement.ReplaceNever:
		p.Action, p.At, p.Next = "never", time.Time{}, "never replaced (replace: never): waits for site "+p.Peer.Site
	case after > 0:
		p.Next = "lost at " + p.At.Format(time.TimeOnly) + ": replaced elsewhere"
	}
	if pol.StopAfter > 0 {
		p.StopsAt = b.now().Add(time.Duration(pol.StopAfter) - time.Minute).UTC()
		p.Next += "; stops itself at about " + p.StopsAt.Format(time.TimeOnly) + " (stop_after " + pol.StopAfter.String() + "), if it is only cut off"
	}
}

// Explain is one decision for each component.
func (b *Backend) Explain(_ context.Context, key placement.AppKey, component string) (api.Listing[api.Decision], error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a, err := b.lookup(key)
	if err != nil {
		return api.Listing[api.Decision]{}, err
	}
	l := api.Listing[api.Decision]{AsOf: b.asOf()}
	for _, name := range a.spec.ComponentNames() {
		if component == "" || component == name {
			d := decision(name, a.spec.Components[name])
			d.At = a.updated
			l.Items = append(l.Items, d)
		}
	}
	return l, nil
}

// History is every version that was put, and stands no more or does.
func (b *Backend) History(_ context.Context, key placement.AppKey) (api.Listing[api.Revision], error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a, err := b.lookup(key)
	if err != nil {
		return api.Listing[api.Revision]{}, err
	}
	l := api.Listing[api.Revision]{AsOf: b.asOf()}
	for i := len(a.past) - 1; i >= 0; i-- {
		r := a.past[i]
		r.Current = i == len(a.past)-1
		l.Items = append(l.Items, r)
	}
	return l, nil
}

// Rollback puts an earlier version again.
func (b *Backend) Rollback(ctx context.Context, req api.Rollback) (api.PutResult, error) {
	l, err := b.History(ctx, req.Key)
	if err != nil {
		return api.PutResult{}, err
	}
	for _, r := range l.Items {
		if req.Revision == strconv.Itoa(r.Number) || req.Revision == r.Revision || req.Revision == "" && !r.Current {
			return b.PutApp(ctx, api.PutRequest{App: r.Spec, IfMatch: req.IfMatch, IdempotencyKey: req.IdempotencyKey, MinCopies: req.MinCopies})
		}
	}
	return api.PutResult{}, fmt.Errorf("%w: revision %q is not kept", placement.ErrNotFound, req.Revision)
}

// tornETag covers both sides of every conflict.
const tornETag = "0123456789abcdef01234567"

// Conflicts are the apps that were put twice and are Torn.
func (b *Backend) Conflicts(_ context.Context, page api.Page) (api.Listing[api.Conflict], error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	conflicts := []api.Conflict{}
	for key, a := range b.apps {
		if a.other == nil {
			continue
		}
		c := api.Conflict{ID: key.Namespace + "." + key.App + "." + tornETag[:12], Namespace: key.Namespace, App: key.App, UID: a.uid,
			ETag: tornETag, Since: a.updated}
		for i, side := range []*app{a, a.other} {
			c.Sides = append(c.Sides, api.Side{Number: i + 1, Revision: side.version.String(), UID: a.uid, Peer: refs[i], At: side.updated,
				Alone: i > 0, Running: map[string]string{"x": slots(side.spec.Components["x"].Wanted())}, Summary: "x", Spec: side.spec})
		}
		c.Fields = []api.FieldDiff{{Field: "components.x.replicas", Values: []any{
			a.spec.Components["x"].Wanted(), a.other.spec.Components["x"].Wanted()}}}
		conflicts = append(conflicts, c)
	}
	return api.NewListing(conflicts, func(c api.Conflict) string { return c.ID }, page, b.asOf()), nil
}

// Resolve takes a side, or what it is given.
func (b *Backend) Resolve(ctx context.Context, req api.Resolution) (api.ResolveResult, error) {
	l, err := b.Conflicts(ctx, api.Page{Limit: 100})
	if err != nil {
		return api.ResolveResult{}, err
	}
	for _, c := range l.Items {
		if c.ID != req.ID {
			continue
		}
		if req.IfMatch != "" && req.IfMatch != c.ETag {
			return api.ResolveResult{}, fmt.Errorf("%w: its sides are others now", placement.ErrConflict)
		}
		spec := req.App
		for _, side := range c.Sides {
			if side.Revision == req.Take {
				spec = &side.Spec
			}
		}
		if spec == nil {
			return api.ResolveResult{}, fmt.Errorf("take %q: %w: it is no side", req.Take, placement.ErrInvalid)
		}
		put, err := b.PutApp(ctx, api.PutRequest{App: *spec, IfMatch: "*", IdempotencyKey: req.IdempotencyKey})
		return api.ResolveResult{PutResult: put}, err
	}
	return api.ResolveResult{}, fmt.Errorf("conflict %s: %w", req.ID, placement.ErrNotFound)
}
