package load

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
)

// pollEvery is how often a condition is looked at.
const pollEvery = 250 * time.Millisecond

// removing is the state of an app that was removed and not yet forgotten.
const removing = "removing"

// appsMax bounds the apps that are looked at.
const appsMax = 1000

// Work is one program that was found running, not by asking the mesh.
type Work struct {
	App       string
	Component string
	Slot      int
	Where     string // which peer's machine,
	Host      string // or which other of its hosts
}

// Verdict is how a run ended.
type Verdict struct {
	Settled   time.Duration // from the call of Finish until all peers said so, conflicts aside
	Conflicts int           // that stood then, and were resolved
	Resolved  time.Duration // from their resolution until the mesh was settled again
	Apps      int           // that stand in the end
	Work      int           // programs that run in the end
	Lost      int           // apps of which some peer lacks what was acknowledged
	Twice     int           // slots that ran more than once in the end
}

// Finish waits until the mesh is settled, holds it to the book, resolves the
// conflicts as a person would, and holds it to the book again. work tells what
// really runs.
func Finish(ctx context.Context, doors map[string]Door, book *Book, work func() ([]Work, error)) (Verdict, error) {
	f := finish{doors: doors, book: book, work: work}
	for name := range doors {
		f.names = append(f.names, name)
	}
	slices.Sort(f.names)
	var v Verdict
	begin := time.Now()
	if err := Await(ctx, func() error { return f.settled(ctx, true) }); err != nil {
		return v, fmt.Errorf("not settled after the last fault: %w", err)
	}
	v.Settled = time.Since(begin)
	if err := f.promises(ctx, &v); err != nil {
		return v, err
	}
	begin = time.Now()
	var err error
	if v.Conflicts, err = f.resolve(ctx); err != nil {
		return v, err
	}
	if err := Await(ctx, func() error { return errors.Join(f.settled(ctx, false), f.running(ctx, &v)) }); err != nil {
		return v, fmt.Errorf("not settled after %d conflicts were resolved: %w", v.Conflicts, err)
	}
	v.Resolved = time.Since(begin)
	return v, f.promises(ctx, &v)
}

type finish struct {
	doors map[string]Door
	names []string // of the doors, sorted
	book  *Book
	work  func() ([]Work, error)
}

// Await polls a condition until it holds; the error is what it lacked last.
func Await(ctx context.Context, condition func() error) error {
	for {
		err := condition()
		if err == nil {
			return nil
		}
		pause(ctx, pollEvery)
		if ctx.Err() != nil {
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}

// settled says whether all peers call the mesh settled. A conflict of edits on
// both sides of a cut stands until people decide.
func (f *finish) settled(ctx context.Context, conflicts bool) error {
	var errs []error
	for _, name := range f.names {
		mesh, err := f.doors[name].Mesh(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		open := mesh.Open
		if conflicts {
			open = slices.DeleteFunc(slices.Clone(open), func(o string) bool { return strings.Contains(o, "conflict: ") })
		}
		if !mesh.Settled && (len(open) > 0 || len(mesh.Open) == 0) {
			errs = append(errs, fmt.Errorf("%s: %v", name, open))
		}
		if len(mesh.Unheard) > 0 {
			errs = append(errs, fmt.Errorf("%s does not hear %v", name, mesh.Unheard))
		}
	}
	return errors.Join(errs...)
}

// promises holds what every peer says of every app to the book.
func (f *finish) promises(ctx context.Context, v *Verdict) error {
	wrong := map[string]error{} // by app, as the first peer that is wrong tells
	at := map[string][]string{} // and all that are
	for _, name := range f.names {
		sides, err := f.sides(ctx, f.doors[name])
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		for _, app := range f.book.Names() {
			if err := f.book.Check(app, sides[app]); err != nil {
				at[app] = append(at[app], name)
				if wrong[app] == nil {
					wrong[app] = err
				}
			}
		}
	}
	v.Lost = len(wrong)
	var errs []error
	for _, app := range f.book.Names() {
		if wrong[app] != nil {
			errs = append(errs, fmt.Errorf("as %v tell: %w\nof %s was asked:\n%s", at[app], wrong[app], app, f.book.History(app)))
		}
	}
	return errors.Join(errs...)
}

// sides are the versions that stand at a peer, by app.
func (f *finish) sides(ctx context.Context, d Door) (map[string][]Side, error) {
	list, err := d.Apps(ctx, api.AppQuery{Page: api.Page{Limit: appsMax}})
	if err != nil {
		return nil, err
	}
	sides := map[string][]Side{}
	for _, row := range list.Items {
		if !row.Conflict {
			sides[row.App] = append(sides[row.App], Side{Revision: row.Revision, Replicas: row.Wanted, Removed: row.State == removing})
			continue
		}
		detail, err := d.App(ctx, placement.AppKey{Namespace: row.Namespace, App: row.App})
		if err != nil {
			return nil, err
		}
		sides[row.App] = nil
		for _, s := range detail.Sides {
			side := Side{Revision: s.Revision, Removed: s.Removed}
			for _, c := range s.Spec.Components {
				side.Replicas += c.Wanted()
			}
			sides[row.App] = append(sides[row.App], side)
		}
	}
	return sides, nil
}

// resolve decides every conflict for the version that is followed, in an edit
// that is over all that stand.
func (f *finish) resolve(ctx context.Context) (int, error) {
	door := f.doors[f.names[0]]
	list, err := door.Apps(ctx, api.AppQuery{Page: api.Page{Limit: appsMax}})
	if err != nil {
		return 0, err
	}
	done := map[string]bool{}
	for _, row := range list.Items {
		if !row.Conflict || done[row.App] {
			continue
		}
		done[row.App] = true
		detail, err := door.App(ctx, placement.AppKey{Namespace: row.Namespace, App: row.App})
		if err != nil {
			return 0, fmt.Errorf("resolve the conflict of %s: %w", row.App, err)
		}
		if err := f.decide(ctx, door, detail); err != nil {
			return 0, fmt.Errorf("resolve the conflict of %s: %w", row.App, err)
		}
	}
	return len(done), nil
}

// decide makes one edit over all sides of a conflict, again while it is not
// known whether it was made.
func (f *finish) decide(ctx context.Context, door Door, seen api.AppDetail) error {
	op := Op{Name: seen.App.App, Begin: time.Now()}
	for _, c := range seen.Spec.Components {
		op.Replicas += c.Wanted()
	}
	defer func() { f.book.Add(op) }()
	for {
		op.Attempts++
		r, err := door.PutApp(ctx, seen.Spec, api.PutOptions{IfMatch: seen.ETag, IdempotencyKey: "decide-" + seen.ETag})
		op.answered(err, r.Revision, r.Durability)
		if op.Outcome != Unknown || op.Attempts == attemptsMax {
			return err
		}
	}
}

// running holds what really runs to what is wanted: every slot once, and
// nothing else.
func (f *finish) running(ctx context.Context, v *Verdict) error {
	list, err := f.doors[f.names[0]].Apps(ctx, api.AppQuery{Page: api.Page{Limit: appsMax}})
	if err != nil {
		return err
	}
	found, err := f.work()
	if err != nil {
		return err
	}
	at := map[string][]string{} // "app/component[slot]" -> machines
	for _, w := range found {
		key := fmt.Sprintf("%s/%s[%d]", w.App, w.Component, w.Slot)
		at[key] = append(at[key], w.Where)
	}
	var errs []error
	wanted := map[string]bool{}
	v.Twice, v.Apps, v.Work = 0, 0, len(found)
	for _, row := range list.Items {
		if row.Conflict {
			errs = append(errs, fmt.Errorf("%s is in conflict", row.App))
		}
		if row.State == removing {
			continue // nothing of it may run
		}
		v.Apps++
		for _, c := range row.Components {
			for slot := range c.Wanted {
				key := fmt.Sprintf("%s/%s[%d]", row.App, c.Name, slot)
				wanted[key] = true
				if len(at[key]) > 1 {
					v.Twice++
				}
				if len(at[key]) != 1 {
					errs = append(errs, fmt.Errorf("%s runs %d times: at %v", key, len(at[key]), at[key]))
				}
			}
		}
	}
	for key, where := range at {
		if !wanted[key] {
			errs = append(errs, fmt.Errorf("%s runs at %v, and nobody wants it", key, where))
		}
	}
	return errors.Join(errs...)
}
