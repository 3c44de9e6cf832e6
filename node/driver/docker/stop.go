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
	t, err := d.quit(ctx, id, grace)
	if err != nil {
		return fmt.Errorf("stop %q: %w", id, err)
	}
	if t == nil {
		return nil
	}
	defer d.locks.Lock(id)()
	switch now := d.task(id); {
	case now == nil:
		return nil // another Stop was first
	case now != t:
		return fmt.Errorf("stop %q: %w", id, driver.ErrRestarted)
	}
	if err := d.clear(ctx, t); err != nil {
		return fmt.Errorf("stop %q: %w", id, err)
	}
	return nil
}

// Halt implements driver.Halter: the container stays as its end left it.
func (d *Driver) Halt(ctx context.Context, id string, grace time.Duration) error {
	if _, err := d.quit(ctx, id, grace); err != nil {
		return fmt.Errorf("halt %q: %w", id, err)
	}
	return nil
}

// quit orders a task to end and waits until it has; nil if there is none.
func (d *Driver) quit(ctx context.Context, id string, grace time.Duration) (*task, error) {
	if err := d.load(ctx); err != nil {
		if _, none := os.Stat(d.taskDir(id)); errors.Is(err, driver.ErrUnavailable) && os.IsNotExist(none) {
			return nil, nil // nothing says that it was ever here; if it was, List will
		}
		return nil, err
	}
	unlock := d.locks.Lock(id) // not while one is starting
	t := d.task(id)
	unlock()
	if t == nil {
		return nil, nil
	}
	if err := d.order(ctx, t, grace); err != nil {
		return nil, err
	}
	return t, d.crew.Await(ctx, t.ended)
}

// clear takes away what is left of a task that ended, but its log.
func (d *Driver) clear(ctx context.Context, t *task) error {
	ctx, cancel := call(ctx)
	defer cancel()
	cli, err := d.engine.client()
	if err != nil {
		return err
	}
	// Those of earlier starts may be on their way out still, and would be adopted.
	all, err := cli.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: d.scoped().Add("label", labelTask+"="+t.rec.ID)})
	if err != nil {
		return fmt.Errorf("find its containers: %w", d.engine.lost(err))
	}
	for _, c := range all.Items {
		for {
			_, err = cli.ContainerRemove(ctx, c.ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
			if !cerrdefs.IsConflict(err) || !driver.Pause(ctx, backoffMin) { // somebody removes it already
				break
			}
		}
		if err != nil && !cerrdefs.IsNotFound(err) {
			return fmt.Errorf("remove its container: %w", d.engine.lost(err))
		}
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
	if !d.crew.Go(func() { d.enforce(t, s, kill) }) {
		return driver.ErrShutdown
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
