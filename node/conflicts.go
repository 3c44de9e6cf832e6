package node

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/transport"
)

// conflictIDLen is how much of an ETag names the sides of a conflict in its id.
const conflictIDLen = 12

// conflictID names an app and the versions that stand, so that what a person
// decided about some is not taken for a decision about others. Namespaces have no
// dots, nor has the tag of several versions; an image's name has no "~", which
// stands for its slashes.
func conflictID(key placement.AppKey, etag string) string {
	return key.Namespace + "." + strings.ReplaceAll(key.App, "/", "~") + "." + etag[:min(len(etag), conflictIDLen)]
}

// appOfConflict is the app, or the image, that a conflict's id names.
func appOfConflict(id string) (placement.AppKey, error) {
	namespace, rest, ok := strings.Cut(id, ".")
	end := strings.LastIndexByte(rest, '.')
	if !ok || end < 0 {
		return placement.AppKey{}, noConflict(id)
	}
	return placement.AppKey{Namespace: namespace, App: strings.ReplaceAll(rest[:end], "~", "/")}, nil
}

func noConflict(id string) error {
	return fmt.Errorf("conflict %.100q: %w: 'hansa conflicts' lists those that stand; this one may have been resolved", id, placement.ErrNotFound)
}

// Conflicts are the apps, and the names of images, of which more than one version
// stands.
func (n backend) Conflicts(ctx context.Context, page api.Page) (api.Listing[api.Conflict], error) {
	var views []placement.AppView
	if err := n.loop.look(ctx, func(core *placement.Peer) { views = core.Conflicts() }); err != nil {
		return api.Listing[api.Conflict]{}, err
	}
	conflicts := []api.Conflict{}
	seen := map[placement.AppKey]bool{}
	for _, v := range views {
		key := v.Intent.Key
		if seen[key] {
			continue // two apps under one name are one conflict
		}
		seen[key] = true
		sides, err := n.sides(ctx, key)
		if err != nil {
			return api.Listing[api.Conflict]{}, err
		}
		c := api.Conflict{
			ID: conflictID(key, v.ETag), Namespace: key.Namespace, App: key.App, ETag: v.ETag, Sides: sides, Fields: differences(sides),
		}
		for _, s := range sides {
			if s.At.After(c.Since) { // it takes two
				c.Since = s.At
			}
		}
		if len(sides) > 0 {
			c.UID = sides[0].UID
		}
		conflicts = append(conflicts, c)
	}
	return api.NewListing(conflicts, func(c api.Conflict) string { return c.ID }, page,
		map[string]time.Time{n.id.ID(): time.Now().UTC()}), nil
}

const methodSides = "query/sides/1"

type sidesQuery struct {
	Key placement.AppKey `json:"key"`
}

type sidesAnswer struct {
	Sides []placement.SideView `json:"sides"`
}

func (n *Node) sidesHere(ctx context.Context, key placement.AppKey) (sides []placement.SideView, err error) {
	err = n.loop.look(ctx, func(core *placement.Peer) { sides = core.Sides(key) })
	return sides, err
}

func (n *Node) serveSides() {
	transport.HandleTyped(n.link, methodSides, func(ctx context.Context, _ string, q sidesQuery) (sidesAnswer, error) {
		sides, err := n.sidesHere(ctx, q.Key)
		return sidesAnswer{sides}, err
	})
}

// sides are the versions that stand under a name, with what runs of each as
// this peer knows, or else the peer that drives it.
func (n *Node) sides(ctx context.Context, key placement.AppKey) ([]api.Side, error) {
	views, err := n.sidesHere(ctx, key)
	if err != nil {
		return nil, err
	}
	var stewards []string
	for _, v := range views {
		if id := string(v.Steward); !v.Known && slices.Contains(n.others(), id) && !slices.Contains(stewards, id) {
			stewards = append(stewards, id)
		}
	}
	for _, a := range ask[sidesQuery, sidesAnswer](ctx, n, stewards, methodSides, sidesQuery{key}) {
		for i := range views {
			for _, theirs := range a.answer.Sides {
				if a.err == nil && theirs.Known && !views[i].Known && theirs.Intent.Version == views[i].Intent.Version {
					views[i].Running = theirs.Running
				}
			}
		}
	}
	sides := make([]api.Side, len(views))
	for i, v := range views {
		in := v.Intent
		sides[i] = api.Side{
			Number: i + 1, Revision: in.Version.String(), UID: string(in.UID), Peer: n.ref(string(in.Version.Peer)),
			At: time.UnixMilli(in.Version.Millis).UTC(), Alone: in.Alone, Removed: in.Removed, Running: v.Running, Spec: in.App,
			Summary: summary(in.App, views[0].Intent.App),
		}
	}
	return sides, nil
}

// summary is a side of a conflict in words: its components with their replicas,
// and how each differs from the side that is followed meanwhile.
func summary(side, followed placement.App) string {
	if side.Image != nil {
		return "image " + side.Image.Digest
	}
	var parts []string
	for _, name := range side.ComponentNames() {
		c := side.Components[name]
		text := fmt.Sprintf("%s ×%d", name, c.Wanted())
		other, both := followed.Components[name]
		switch {
		case !both:
			text += " (only here)"
		case placement.SpecHash(c) != placement.SpecHash(other):
			text += " (runs another spec)"
		case c.Wanted() != other.Wanted():
			text += fmt.Sprintf(" (not %d)", other.Wanted())
		}
		parts = append(parts, text)
	}
	for _, name := range followed.ComponentNames() {
		if _, both := side.Components[name]; !both {
			parts = append(parts, "no "+name)
		}
	}
	return strings.Join(parts, ", ")
}

// differences are the fields on which the sides do not agree, sorted.
func differences(sides []api.Side) []api.FieldDiff {
	flat := make([]map[string]any, len(sides))
	var names []string
	for i, s := range sides {
		flat[i] = map[string]any{}
		if s.Removed {
			continue
		}
		flatten("", spec(s.Spec), flat[i])
		for name := range flat[i] {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var out []api.FieldDiff
	for _, name := range slices.Compact(names) {
		d := api.FieldDiff{Field: name}
		var first any
		same, begun := true, false
		for i := range sides {
			value := flat[i][name]
			d.Values = append(d.Values, value)
			if sides[i].Removed {
				continue // it has no fields to agree on
			}
			if !begun {
				first, begun = value, true
			}
			same = same && reflect.DeepEqual(value, first)
		}
		if !same {
			out = append(out, d)
		}
	}
	return out
}

// spec is a manifest as its fields are written.
func spec(app placement.App) any {
	data, err := json.Marshal(app)
	if err != nil {
		return nil // types of package placement always encode
	}
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		return nil
	}
	return v
}

// flatten gives every field its path; lists are values.
func flatten(path string, v any, into map[string]any) {
	fields, ok := v.(map[string]any)
	if !ok || len(fields) == 0 {
		into[path] = v
		return
	}
	for name, value := range fields {
		flatten(strings.TrimPrefix(path+"."+name, "."), value, into)
	}
}

// Resolve decides a conflict: one version, over all that stand.
func (n backend) Resolve(ctx context.Context, req api.Resolution) (api.ResolveResult, error) {
	ctx, cancel := context.WithTimeout(ctx, submitMax)
	defer cancel()
	var none api.ResolveResult
	key, err := appOfConflict(req.ID)
	if err != nil {
		return none, err
	}
	if req.App != nil && req.App.Key() != key {
		return none, fmt.Errorf("resolve %s: app: %w: the manifest is of %s", req.ID, placement.ErrInvalid, req.App.Key())
	}
	var view placement.AppView
	var views []placement.SideView
	var known, made bool
	if err := n.loop.look(ctx, func(core *placement.Peer) {
		view, known = core.Standing(key)
		views = core.Sides(key)
		_, made = core.Made(key, req.IdempotencyKey)
	}); err != nil {
		return none, err
	}
	edit := decision{key: key, app: view.Intent.App, uid: view.Intent.UID, removed: view.Intent.Removed, idem: req.IdempotencyKey}
	switch {
	case known && made: // once more: the core gives the answer that it gave
		return n.decide(ctx, edit)
	case !known, !view.Conflict:
		return none, noConflict(req.ID)
	case conflictID(key, view.ETag) != req.ID, req.IfMatch != "" && req.IfMatch != "*" && req.IfMatch != view.ETag:
		return none, fmt.Errorf("resolve %s: %w: its sides are others now: 'hansa conflicts' shows them", req.ID, placement.ErrConflict)
	}
	edit.ifMatch = view.ETag
	if req.App != nil {
		edit.app, edit.removed = *req.App, false
		return n.decide(ctx, edit)
	}
	at := slices.IndexFunc(views, func(v placement.SideView) bool { return v.Intent.Version.String() == req.Take })
	if at < 0 {
		var have []string
		for _, v := range views {
			have = append(have, v.Intent.Version.String())
		}
		return none, fmt.Errorf("resolve %s: take %.100q: %w: it is no side of this conflict: take one of %s",
			req.ID, req.Take, placement.ErrInvalid, strings.Join(have, ", "))
	}
	edit.app, edit.uid, edit.removed = views[at].Intent.App, views[at].Intent.UID, views[at].Intent.Removed
	if key.Recorded() {
		edit.artifacts = views[at].Intent.Artifacts
	}
	return n.decide(ctx, edit)
}

// decision is what stands from now on under a name.
type decision struct {
	key     placement.AppKey
	app     placement.App
	uid     placement.UID
	removed bool
	ifMatch string
	idem    string

	artifacts []placement.Artifact // of an image: its tree
}

// decide makes the edit that ends a conflict.
func (n *Node) decide(ctx context.Context, d decision) (api.ResolveResult, error) {
	artifacts := d.artifacts
	if !d.removed && artifacts == nil {
		var err error
		if artifacts, err = n.artifactsOf(ctx, d.app); err != nil {
			return api.ResolveResult{}, err
		}
		if err := n.appPermitted(ctx, d.app); err != nil {
			return api.ResolveResult{}, err
		}
	}
	r, err := n.submit(ctx, func(ticket uint64) placement.Event {
		if d.removed {
			return placement.Remove{Ticket: ticket, Key: d.key, UID: d.uid, IfMatch: d.ifMatch, IdempotencyKey: d.idem}
		}
		return placement.Submit{
			Ticket: ticket, App: d.app, UID: d.uid, Artifacts: artifacts, IfMatch: d.ifMatch, IdempotencyKey: d.idem,
		}
	})
	if err != nil {
		return api.ResolveResult{}, err
	}
	return api.ResolveResult{Removed: d.removed, PutResult: api.PutResult{
		Namespace: d.key.Namespace, App: d.key.App, UID: string(r.UID), Revision: r.Version.String(), ETag: r.ETag,
		Durability: n.durability(ctx, d.key, r),
	}}, nil
}
