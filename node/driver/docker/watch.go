package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"

	"github.com/hansa-mesh/hansa/node/driver"
)

// watch keeps up with the engine until ctx is done: with what it tells, and with
// what happened while it told nothing.
func (d *Driver) watch(ctx context.Context) {
	backoff, told := backoffMin, ""
	for ctx.Err() == nil {
		err := d.session(ctx, func() {
			backoff = backoffMin
			if told != "" {
				d.c.Log.Info("the engine answers again")
			}
			told = ""
		})
		if ctx.Err() != nil {
			return
		}
		d.engine.gone()
		if why := err.Error(); why != told {
			told = why
			d.c.Log.Info("no engine: containers can't be started, stopped or watched", "reason", why)
		}
		if !driver.Pause(ctx, backoff) {
			return
		}
		backoff = min(2*backoff, backoffMax)
	}
}

// session watches until the engine is gone.
func (d *Driver) session(ctx context.Context, answers func()) error {
	asking, stop := call(ctx)
	cli, err := d.engine.ask(asking)
	stop()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream := cli.Events(ctx, client.EventsListOptions{
		// A little of the past, so that no end falls between the call and its effect.
		Since:   since(time.Now().Add(-time.Second)),
		Filters: d.scoped().Add("type", string(events.ContainerEventType)),
	})
	if err := d.look(ctx); err != nil {
		return err
	}
	answers()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case m := <-stream.Messages:
			if t := d.endedBy(m); t != nil {
				d.lookAt(ctx, t)
			}
		case err := <-stream.Err:
			return fmt.Errorf("the engine's events ended: %w", err)
		case <-tick.C:
			if err := d.look(ctx); err != nil {
				return err
			}
		}
	}
}

// endedBy is the task that an event may have ended; nil for other events.
// Podman's names differ.
func (d *Driver) endedBy(m events.Message) *task {
	switch m.Action {
	case events.ActionDie, "died", events.ActionDestroy, events.ActionRemove:
	default:
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, t := range d.tasks {
		if t.rec.Container == m.Actor.ID {
			return t
		}
	}
	return nil
}

// lookAt asks the engine for one task. It reports whether the answer is that it
// has ended.
func (d *Driver) lookAt(ctx context.Context, t *task) bool {
	ctx, cancel := call(ctx)
	defer cancel()
	cli, err := d.engine.client()
	if err != nil {
		return false
	}
	seen, err := cli.ContainerInspect(ctx, t.rec.Container, client.ContainerInspectOptions{})
	switch {
	case cerrdefs.IsNotFound(err):
		d.finish(t, end{state: driver.StateFailed, code: -1, reason: "its container is gone: somebody removed it at the engine"})
		return true
	case err != nil || seen.Container.State == nil:
		return false
	case runs(seen.Container.State):
		return false
	}
	d.finish(t, t.endOf(seen.Container.State))
	return true
}

// runs says whether a container that was started has not ended. One that is
// being stopped or removed by somebody has no time of its end yet: what its exit
// code says is not meant.
func runs(s *container.State) bool {
	return s.Running || s.Paused || s.Restarting || s.Status == container.StateCreated ||
		s.Status != container.StateDead && engineTime(s.FinishedAt).IsZero()
}

// found is a container of ours in the engine's list.
type found struct {
	rec   record
	state container.ContainerState
}

// look lists everything: it adopts what is not known, finds what ended, and
// takes away what an earlier daemon had only begun.
func (d *Driver) look(ctx context.Context) error {
	d.loading.Lock()
	defer d.loading.Unlock()
	ctx, cancel := call(ctx)
	defer cancel()
	cli, err := d.engine.ask(ctx)
	if err != nil {
		return err
	}
	records, err := d.readRecords()
	if err != nil {
		return err
	}
	list, err := cli.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: d.scoped()})
	if err != nil {
		return d.engine.lost(err)
	}
	best := d.sort(list.Items)
	if err := d.each(best, func(f found) error { return d.adopt(ctx, cli, f) }); err != nil {
		return err
	}
	d.mu.Lock()
	var unlisted []*task
	for id, t := range d.tasks {
		if best[id].rec.Container != t.rec.Container {
			unlisted = append(unlisted, t)
		}
	}
	d.mu.Unlock()
	for _, t := range unlisted { // gone, or started since
		d.lookAt(ctx, t)
	}
	for id, rec := range records {
		if _, listed := best[id]; !listed {
			d.miss(id, rec)
		}
	}
	d.mu.Lock()
	d.loaded = true
	d.mu.Unlock()
	return nil
}

// sort finds the container of each task. Others of the same task, and those that
// were never started, are removed unless a Start is at work on them.
func (d *Driver) sort(items []container.Summary) map[string]found {
	best := map[string]found{}
	var rest []string
	for _, c := range items {
		var rec record
		if err := json.Unmarshal([]byte(c.Labels[labelRecord]), &rec); err != nil || rec.ID == "" || rec.ID != c.Labels[labelTask] {
			d.c.Log.Warn("a container has labels of ours that can't be read; it is left alone", "container", c.ID)
			continue
		}
		rec.Container = c.ID
		if d.isBusy(rec.ID) {
			continue
		}
		t := d.task(rec.ID)
		mine := t != nil && t.rec.Container == c.ID
		was, double := best[rec.ID]
		switch {
		case !mine && (c.State == container.StateCreated || t != nil && t.rec.Starts >= rec.Starts):
			rest = append(rest, c.ID)
		case double && was.rec.Starts > rec.Starts:
			rest = append(rest, c.ID)
		default:
			if double {
				rest = append(rest, was.rec.Container)
			}
			best[rec.ID] = found{rec, c.State}
		}
	}
	for _, id := range rest {
		d.remove(id)
	}
	return best
}

func (d *Driver) isBusy(id string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.busy[id] > 0
}

// each calls f for all of them, a few at a time.
func (d *Driver) each(all map[string]found, f func(found) error) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	turns := make(chan struct{}, inspectsMax)
	for _, one := range all {
		turns <- struct{}{}
		wg.Go(func() {
			defer func() { <-turns }()
			if err := f(one); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// adopt takes over a container that is not known yet, or looks at one that is
// and that ended. It returns when the end of one that ended is settled.
func (d *Driver) adopt(ctx context.Context, cli *client.Client, f found) error {
	t := d.task(f.rec.ID)
	if t != nil && t.rec.Container == f.rec.Container {
		if f.state != container.StateRunning && f.state != container.StatePaused {
			d.lookAt(ctx, t)
		}
		return nil
	}
	seen, err := cli.ContainerInspect(ctx, f.rec.Container, client.ContainerInspectOptions{})
	if cerrdefs.IsNotFound(err) {
		return nil // removed meanwhile
	}
	if err != nil {
		return d.engine.lost(err)
	}
	f.rec.StartedAt = engineTime(seen.Container.State.StartedAt)
	t = d.newTask(f.rec, f.rec.StartedAt)
	if err := os.MkdirAll(t.dir, 0o700); err != nil {
		return err
	}
	if err := t.writeRecord(); err != nil {
		d.c.Log.Warn("the record of a task is not written", "task", f.rec.ID, "error", err)
	}
	d.mu.Lock()
	if known := d.tasks[f.rec.ID]; d.busy[f.rec.ID] > 0 || known != nil && known.rec.Starts >= f.rec.Starts {
		d.mu.Unlock()
		return nil // a Start was faster
	}
	d.tasks[f.rec.ID] = t
	d.mu.Unlock()
	d.outbox.Post(t.snapshot())
	d.follow(t, true)
	if runs(seen.Container.State) {
		return nil
	}
	d.finish(t, t.endOf(seen.Container.State))
	select {
	case <-t.ended:
	case <-ctx.Done():
	case <-d.ctx.Done():
	}
	return nil
}

// miss handles the record of a task that has no container.
func (d *Driver) miss(id string, rec record) {
	defer d.locks.Lock(id)()
	if d.task(id) != nil {
		return
	}
	if _, err := os.Stat(filepath.Join(d.taskDir(id), recordFile)); err != nil {
		return // it was stopped meanwhile
	}
	if rec.StartedAt.IsZero() { // it never ran
		if err := d.archive(id); err != nil {
			d.c.Log.Warn("the log of a start that failed is not kept", "task", id, "error", err)
		}
		return
	}
	t := d.newTask(rec, rec.StartedAt)
	close(t.drained)
	d.mu.Lock()
	d.tasks[id] = t
	d.mu.Unlock()
	t.mu.Lock()
	t.ending = true
	t.mu.Unlock()
	d.settle(t, end{state: driver.StateFailed, code: -1, reason: "its container is gone: somebody removed it at the engine"})
}
