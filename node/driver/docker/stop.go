package docker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"github.com/hansa-mesh/hansa/node/driver"
)

// stopping is a stop under way.
type stopping struct {
	sooner chan time.Time // another Stop that wants the kill at that time
}

// Stop implements driver.Driver.
func (d *Driver) Stop(ctx context.Context, id string, grace time.Duration) error {
	if err := d.load(ctx); err != nil {
		if _, none := os.Stat(d.taskDir(id)); errors.Is(err, driver.ErrUnavailable) && os.IsNotExist(none) {
			return nil // nothing says that it was ever here; if it was, List will
		}
		return fmt.Errorf("stop %q: %w", id, err)
	}
	unlock := d.locks.Lock(id) // not while one is starting
	t := d.task(id)
	unlock()
	if t == nil {
		return nil
	}
	if err := d.order(ctx, t, grace); err != nil {
		return fmt.Errorf("stop %q: %w", id, err)
	}
	select {
	case <-t.ended:
	case <-ctx.Done():
		return fmt.Errorf("stop %q: %w", id, ctx.Err())
	case <-d.ctx.Done():
		return fmt.Errorf("stop %q: the daemon is shutting down", id)
	}
	defer d.locks.Lock(id)()
	if d.task(id) != t {
		if d.task(id) != nil {
			return fmt.Errorf("stop %q: it was started anew meanwhile", id)
		}
		return nil // another Stop was first
	}
	if err := d.clear(ctx, t); err != nil {
		return fmt.Errorf("stop %q: %w", id, err)
	}
	return nil
}

// clear takes away what is left of a task that ended, but its log.
func (d *Driver) clear(ctx context.Context, t *task) error {
	ctx, cancel := call(ctx)
	defer cancel()
	cli, err := d.engine.client()
	if err != nil {
		return err
	}
	_, err = cli.ContainerRemove(ctx, t.rec.Container, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	if err != nil && !cerrdefs.IsNotFound(err) {
		return fmt.Errorf("remove its container: %w", d.engine.lost(err))
	}
	d.dropSecrets(t.rec.ID)
	if err := d.archive(t.rec.ID); err != nil {
		return err
	}
	d.forget(t)
	d.leave(ctx, cli, t.rec.Network)
	d.prune()
	return nil
}

// order begins the stop of a task, or hurries one that is under way.
func (d *Driver) order(ctx context.Context, t *task, grace time.Duration) error {
	if grace == 0 {
		grace = t.rec.Grace
	}
	kill := time.Now().Add(max(0, grace))
	t.mu.Lock()
	if t.ending {
		t.mu.Unlock()
		return nil
	}
	if s := t.stop; s != nil {
		t.mu.Unlock()
		select {
		case s.sooner <- kill:
		default: // one is on its way already
		}
		return nil
	}
	s := &stopping{sooner: make(chan time.Time, 1)}
	t.stop, t.status.State = s, driver.StateStopping
	t.mu.Unlock()
	name := t.rec.StopSignal
	if grace < 0 {
		name, kill = "SIGKILL", kill.Add(killPatience)
	}
	if err := d.signal(ctx, t, name); err != nil {
		t.mu.Lock()
		if t.stop = nil; !t.ending {
			t.status.State = driver.StateRunning
		}
		t.mu.Unlock()
		return err
	}
	d.outbox.Post(t.snapshot())
	if !d.spawn(func() { d.enforce(t, s, kill) }) {
		return errors.New("the daemon is shutting down")
	}
	return nil
}

// signal sends a signal; that nothing runs any more is no error.
func (d *Driver) signal(ctx context.Context, t *task, name string) error {
	ctx, cancel := call(ctx)
	defer cancel()
	cli, err := d.engine.client()
	if err != nil {
		return err
	}
	_, err = cli.ContainerKill(ctx, t.rec.Container, client.ContainerKillOptions{Signal: name})
	if err == nil || cerrdefs.IsNotFound(err) || cerrdefs.IsConflict(err) {
		return nil
	}
	return d.engine.lost(err)
}

// enforce kills a task that has not ended in time, until it has.
func (d *Driver) enforce(t *task, s *stopping, kill time.Time) {
	for {
		timer := time.NewTimer(time.Until(kill))
		select {
		case <-t.ended:
			timer.Stop()
			return
		case <-d.ctx.Done():
			timer.Stop()
			return
		case at := <-s.sooner:
			timer.Stop()
			if at.Before(kill) {
				kill = at
			}
			continue
		case <-timer.C:
		}
		if err := d.signal(d.ctx, t, "SIGKILL"); err != nil && d.ctx.Err() == nil {
			d.c.Log.Warn("a container is not killed yet", "task", t.rec.ID, "error", err)
		}
		d.lookAt(d.ctx, t) // the event may be lost with the engine
		kill = time.Now().Add(killPatience)
	}
}
