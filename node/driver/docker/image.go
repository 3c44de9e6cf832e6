package docker

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/client"

	"github.com/hansa-mesh/hansa/node/driver"
)

// imageRef is an image that is present.
type imageRef struct {
	id   string
	user string // that it runs as by default
}

// pulls are those under way, by reference and credentials.
type pulls struct {
	mu  sync.Mutex // guards what follows
	all map[string]*pull
	by  map[string]*pull // by the task whose start waits for it
}

type pull struct {
	done chan struct{} // closed when it is over
	err  error         // set before

	name   string // of the image, as people know it
	digest string // of one of the mesh

	mu   sync.Mutex // guards what follows
	said string     // the last that the registry said
}

// image sees to it that the task's image is present.
func (d *Driver) image(ctx context.Context, cli *client.Client, job driver.Task) (imageRef, error) {
	c := job.Container
	name, err := reference.ParseNormalizedNamed(c.Image)
	if err != nil {
		return imageRef{}, fmt.Errorf("%w: the image %q is no reference: %w", driver.ErrInvalid, c.Image, err)
	}
	if old := d.task(job.ID); old != nil && old.rec.Image == c.Image {
		if image, err := d.present(ctx, cli, old.rec.ImageID); err == nil {
			return image, nil // a restart in place runs what ran
		}
	}
	if c.Digest != "" {
		return d.fromMesh(ctx, cli, job, name)
	}
	full := reference.TagNameOnly(name).String()
	image, err := d.present(ctx, cli, full)
	if !cerrdefs.IsNotFound(err) {
		return image, err
	}
	if err := d.pull(ctx, job, full, c.Username, c.Password); err != nil {
		return imageRef{}, fmt.Errorf("pull %s: %w", c.Image, err)
	}
	return d.present(ctx, cli, full)
}

func (d *Driver) present(ctx context.Context, cli *client.Client, name string) (imageRef, error) {
	ctx, cancel := call(ctx)
	defer cancel()
	seen, err := cli.ImageInspect(ctx, name)
	if err != nil {
		return imageRef{}, d.engine.lost(err)
	}
	image := imageRef{id: seen.ID}
	if seen.Config != nil {
		image.user = seen.Config.User
	}
	return image, nil
}

// pull waits for the one pull of an image, which it begins if there is none. It
// goes on when ctx is done.
func (d *Driver) pull(ctx context.Context, job driver.Task, name, user, password string) error {
	sum := sha256.Sum256([]byte(name + "\x00" + user + "\x00" + password))
	key := hex.EncodeToString(sum[:])
	d.pulls.mu.Lock()
	if d.pulls.all == nil {
		d.pulls.all, d.pulls.by = map[string]*pull{}, map[string]*pull{}
	}
	p := d.pulls.all[key]
	if p == nil {
		p = &pull{done: make(chan struct{}), name: job.Container.Image, digest: job.Container.Digest}
		fetch := func() {
			p.err = d.fetch(p, name, user, password)
			d.pulls.mu.Lock()
			delete(d.pulls.all, key)
			d.pulls.mu.Unlock()
			close(p.done)
		}
		if !d.crew.Go(fetch) {
			d.pulls.mu.Unlock()
			return driver.ErrShutdown
		}
		d.pulls.all[key] = p
	}
	d.pulls.by[job.ID] = p
	d.pulls.mu.Unlock()
	defer func() {
		d.pulls.mu.Lock()
		defer d.pulls.mu.Unlock()
		delete(d.pulls.by, job.ID)
	}()
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		p.mu.Lock()
		defer p.mu.Unlock()
		return fmt.Errorf("it goes on (%s): %w", p.said, ctx.Err())
	}
}

// comes says whether an image of the mesh is being pulled, also when no start waits for
// it any more.
func (d *Driver) comes(digest string) bool {
	d.pulls.mu.Lock()
	defer d.pulls.mu.Unlock()
	for _, p := range d.pulls.all {
		if p.digest == digest {
			return true
		}
	}
	return false
}

// Starting implements driver.Teller.
func (d *Driver) Starting(id string) string {
	d.pulls.mu.Lock()
	p := d.pulls.by[id]
	d.pulls.mu.Unlock()
	if p == nil {
		return ""
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return fmt.Sprintf("pulls %s: %s", p.name, p.said)
}

// errQuiet is the cause of a pull that was given up.
var errQuiet = errors.New("the registry says nothing")

// fetch pulls an image.
func (d *Driver) fetch(p *pull, name, user, password string) error {
	cli, err := d.engine.client()
	if err != nil {
		return err
	}
	p.tell("nothing came yet")
	bounded, cancelMax := context.WithTimeout(d.ctx, d.c.PullMax)
	defer cancelMax()
	ctx, cancel := context.WithCancelCause(bounded)
	defer cancel(nil)
	quiet := time.AfterFunc(d.c.PullQuiet, func() { cancel(errQuiet) })
	defer quiet.Stop()
	auth, err := authorize(user, password)
	if err != nil {
		return err
	}
	err = d.read(ctx, cli, name, auth, func(said string) {
		quiet.Reset(d.c.PullQuiet)
		p.tell(said)
	})
	switch {
	case err == nil:
		return nil
	case errors.Is(context.Cause(ctx), errQuiet):
		return fmt.Errorf("%w for %v: is it reachable from this machine?", errQuiet, d.c.PullQuiet)
	case bounded.Err() != nil:
		return fmt.Errorf("it took longer than %v", d.c.PullMax)
	}
	return refused(d.engine.lost(err), user)
}

// read has the engine pull an image, and tells what it says meanwhile.
func (d *Driver) read(ctx context.Context, cli *client.Client, name, auth string, tell func(said string)) error {
	if kind, _ := d.engine.what(); kind == "podman" && d.ofPeer(name) {
		return pullPlain(ctx, cli, name, auth, tell)
	}
	stream, err := cli.ImagePull(ctx, name, client.ImagePullOptions{RegistryAuth: auth})
	if err != nil {
		return err
	}
	defer stream.Close()
	for m, err := range stream.JSONMessages(ctx) {
		if err != nil {
			return err
		}
		if m.Error != nil {
			return m.Error
		}
		tell(strings.TrimSpace(m.Status + " " + m.ID))
	}
	return nil
}

// refused puts what a registry said into people's words.
func refused(err error, user string) error {
	text := words(err)
	low := strings.ToLower(text)
	switch {
	case errors.Is(err, driver.ErrUnavailable):
		return err
	case strings.Contains(low, "unauthorized"), strings.Contains(low, "denied"), strings.Contains(low, "authentication required"), strings.Contains(low, "no basic auth"):
		who := "it wants credentials, and the component names none (credentials)"
		if user != "" {
			who = fmt.Sprintf("its registry refuses the credentials of %q", user)
		}
		return fmt.Errorf("%s: %s", who, text)
	case strings.Contains(low, "dial "), strings.Contains(low, "lookup "): // the registry was not found, not the image
	case saysNoImage(low):
		return noImage(text)
	}
	return errors.New(text)
}

// saysNoImage is whether an engine tells of a registry's word. That something is not
// found it says too when a file of its own is gone, which the next pull brings again.
func saysNoImage(low string) bool {
	if strings.Contains(low, "manifest unknown") {
		return true
	}
	for _, begin := range []string{"manifest for ", "failed to resolve reference "} {
		if _, of, ok := strings.Cut(low, begin); ok && strings.Contains(of, "not found") {
			return true
		}
	}
	return false
}

// noImage is a registry's word that it has no such image.
type noImage string

func (e noImage) Error() string { return "its registry has no such image: " + string(e) }

// Is says that trying again is of no use: driver.ErrNotFound.
func (noImage) Is(target error) bool { return target == driver.ErrNotFound }

func (p *pull) tell(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.said = what
}

// authorize is credentials as the API takes them.
func authorize(user, password string) (string, error) {
	if user == "" && password == "" {
		return "", nil
	}
	b, err := json.Marshal(registry.AuthConfig{Username: user, Password: password})
	if err != nil {
		return "", err
	}
	return base64.URLEncoding.EncodeToString(b), nil
}
