package docker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"github.com/hansa-mesh/hansa/node/driver"
)

// Start implements driver.Driver.
func (d *Driver) Start(ctx context.Context, job driver.Task) (driver.Status, error) {
	if err := job.Validate(); err != nil {
		return driver.Status{}, err
	}
	fail := func(err error) (driver.Status, error) {
		return driver.Status{}, fmt.Errorf("start %q: %w", job.ID, err)
	}
	switch {
	case job.Container == nil:
		return driver.Status{}, fmt.Errorf("%w %q: the docker driver runs containers only", driver.ErrInvalid, job.ID)
	case job.Fence != nil:
		return fail(fmt.Errorf("%w: an engine can't end it at its deadline", driver.ErrUnavailable))
	}
	if err := d.load(ctx); err != nil {
		return fail(err)
	}
	job = job.Clone().WithDefaults()
	if t := d.task(job.ID); t != nil && !t.over() {
		return t.snapshot(), nil
	}
	cli, err := d.engine.client()
	if err != nil {
		return fail(err)
	}
	defer d.use(job.Container.Digest)()
	image, err := d.image(ctx, cli, job) // holds no lock: it may take long
	if err != nil {
		return fail(err)
	}
	defer d.locks.Lock(job.ID)()
	defer d.busyWith(job.ID)()
	old := d.task(job.ID)
	starts := 1
	if old != nil {
		if s := old.snapshot(); !s.State.Ended() {
			return s, nil
		} else {
			starts = s.Starts + 1
		}
	}
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	t, err := d.run(ctx, cli, job, image, starts)
	if err != nil {
		d.giveUp(job.ID, old)
		return fail(err)
	}
	d.mu.Lock()
	d.tasks[job.ID] = t
	d.mu.Unlock()
	d.outbox.Post(t.snapshot())
	d.follow(t, false)
	if old != nil {
		d.removeLater(old.rec.Container)
	}
	return t.snapshot(), nil
}

// over says whether nothing of the task runs any more.
func (t *task) over() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.status.State.Ended()
}

// giveUp tidies up after a start that failed: of a first one nothing stays but
// its log.
func (d *Driver) giveUp(id string, old *task) {
	d.dropSecrets(id)
	if old != nil {
		if err := old.writeRecord(); err != nil { // it is still what it was: ended
			d.c.Log.Warn("the record of a task is not written", "task", id, "error", err)
		}
		return
	}
	if err := d.archive(id); err != nil { // the next start clears it away
		d.c.Log.Warn("the log of a start that failed is not kept", "task", id, "error", err)
	}
	d.prune()
}

// run creates a container and starts it. What a failure leaves is removed.
func (d *Driver) run(ctx context.Context, cli *client.Client, job driver.Task, image imageRef, starts int) (*task, error) {
	ctx, cancel := call(ctx)
	defer cancel()
	rec := record{
		ID: job.ID, Labels: job.Labels, Starts: starts, Ports: job.HostPorts(),
		Image: job.Container.Image, ImageID: image.id, Network: job.Container.Network,
		StopSignal: job.StopSignal, Grace: job.Grace, Memory: job.Memory, LogMax: job.LogMax,
	}
	if err := os.MkdirAll(d.taskDir(job.ID), 0o700); err != nil {
		return nil, err
	}
	user := job.Container.User
	if user == "" {
		user = image.user
	}
	mounts, err := d.mounts(job, user)
	if err != nil {
		return nil, err
	}
	net := ""
	if name := job.Container.Network; name != "" {
		unlock := d.nets.Lock(name)
		defer unlock()
		if net, err = d.join(ctx, cli, name); err != nil {
			return nil, err
		}
	}
	options, err := d.options(job, rec, net, mounts)
	if err != nil {
		return nil, err
	}
	if rec.Container, err = d.create(ctx, cli, options); err != nil {
		return nil, err
	}
	t, err := d.begin(ctx, cli, rec)
	if err != nil {
		d.remove(rec.Container)
		return nil, explain(err, job)
	}
	return t, nil
}

// create makes the container. One of that name is what an earlier daemon had
// begun: a name is of one start of one task of this scope.
func (d *Driver) create(ctx context.Context, cli *client.Client, o client.ContainerCreateOptions) (string, error) {
	made, err := cli.ContainerCreate(ctx, o)
	if cerrdefs.IsConflict(err) {
		if _, err := cli.ContainerRemove(ctx, o.Name, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true}); err != nil && !cerrdefs.IsNotFound(err) {
			return "", d.engine.lost(err)
		}
		made, err = cli.ContainerCreate(ctx, o)
	}
	if err != nil {
		if ctx.Err() != nil { // it may have been made all the same
			d.remove(o.Name)
		}
		err = d.engine.lost(err)
		if cerrdefs.IsInvalidArgument(err) {
			return "", fmt.Errorf("%w: the engine refuses it: %s", driver.ErrInvalid, words(err))
		}
		return "", fmt.Errorf("the engine refuses it: %w", err)
	}
	return made.ID, nil
}

// begin starts a container that was made.
func (d *Driver) begin(ctx context.Context, cli *client.Client, rec record) (*task, error) {
	t := d.newTask(rec, time.Time{})
	if err := t.writeRecord(); err != nil {
		return nil, err
	}
	if _, err := cli.ContainerStart(ctx, rec.Container, client.ContainerStartOptions{}); err != nil && !vanished(err) {
		return nil, d.engine.lost(err)
	}
	seen, err := cli.ContainerInspect(ctx, rec.Container, client.ContainerInspectOptions{})
	for try := 0; err != nil && vanished(err) && try < vanishedTries; try++ {
		select {
		case <-ctx.Done():
		case <-time.After(vanishedPause):
		}
		seen, err = cli.ContainerInspect(ctx, rec.Container, client.ContainerInspectOptions{})
	}
	if err != nil {
		return nil, d.engine.lost(err)
	}
	t.rec.StartedAt = engineTime(seen.Container.State.StartedAt)
	t.status.StartedAt = t.rec.StartedAt
	return t, t.writeRecord()
}

// A program that ends at once may have done so while Podman reads its process, and has
// not heard of its end: then it was started, and in a moment the engine knows.
const (
	vanishedTries = 20
	vanishedPause = 50 * time.Millisecond
)

func vanished(err error) bool {
	text := err.Error()
	return strings.Contains(text, "/proc/") && strings.Contains(text, "no such process")
}

// explain puts an engine's refusal to start something into people's words.
func explain(err error, job driver.Task) error {
	text := words(err)
	switch {
	case errors.Is(err, driver.ErrUnavailable), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case strings.Contains(text, "port is already allocated"), strings.Contains(text, "address already in use"):
		for name, at := range job.HostPorts() {
			if _, number, ok := cutPort(at); ok && strings.Contains(text, ":"+number) {
				return fmt.Errorf("the host's port %s, for port %q, is taken by another program", at, name)
			}
		}
		return fmt.Errorf("a port of the host is taken by another program: %s", text)
	case strings.Contains(text, "executable file not found"), strings.Contains(text, "no such file or directory") && strings.Contains(text, "exec"):
		return fmt.Errorf("%w: its command is not in the image %s: %s", driver.ErrInvalid, job.Container.Image, text)
	}
	return fmt.Errorf("the engine can't start it: %s", text)
}

func cutPort(at string) (host, port string, ok bool) {
	i := strings.LastIndexByte(at, ':')
	if i < 0 {
		return "", "", false
	}
	return at[:i], at[i+1:], true
}

// remove takes a container away, whatever it does, for a start that failed or
// was followed by another. What can't be removed now is found by look.
func (d *Driver) remove(name string) {
	if name == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), undoMax)
	defer cancel()
	cli, err := d.engine.client()
	if err == nil {
		_, err = cli.ContainerRemove(ctx, name, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	}
	if err != nil && !cerrdefs.IsNotFound(err) {
		d.c.Log.Warn("a container is not removed yet", "container", name, "error", err)
	}
}

func (d *Driver) removeLater(name string) {
	if !d.crew.Go(func() { d.remove(name) }) {
		d.remove(name)
	}
}
