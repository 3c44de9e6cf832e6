package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/client"

	"github.com/hansa-mesh/hansa/node/driver"
)

// Registry is where the engine gets images of the mesh: this peer, on loopback,
// which engines speak plain HTTP to.
type Registry struct {
	Addr           string // "127.0.0.1:40123"; "" for none
	User, Password string
}

// fromMesh sees to it that an image of the mesh is present. One with its digest is
// that image, whatever it is called: the peer's port is another after each restart.
func (d *Driver) fromMesh(ctx context.Context, cli *client.Client, job driver.Task, name reference.Named) (imageRef, error) {
	digest := job.Container.Digest
	id, err := d.withDigest(ctx, cli, digest)
	if err != nil {
		return imageRef{}, err
	}
	if id != "" {
		if image, err := d.present(ctx, cli, id); !cerrdefs.IsNotFound(err) { // it may have gone just now
			return image, err
		}
	}
	var from Registry
	if d.c.Registry != nil {
		from = d.c.Registry()
	}
	if from.Addr == "" {
		return imageRef{}, fmt.Errorf("the image %s is in the mesh, and this peer serves no images to its engine", name)
	}
	full := from.Addr + "/" + reference.Path(name) + "@" + digest
	d.pulling(digest, full)
	if err := d.pull(ctx, job, full, from.User, from.Password); err != nil {
		return imageRef{}, fmt.Errorf("pull %s from this peer, as %s: %w", name, full, notYet(err))
	}
	return d.present(ctx, cli, full)
}

// notYet is an error of a pull from this peer: what it has not it may have soon.
func notYet(err error) error {
	if errors.Is(err, driver.ErrNotFound) {
		return errors.New(err.Error())
	}
	return err
}

// withDigest is the id of an image that the engine once pulled by its digest, from
// anywhere; "" when there is none.
func (d *Driver) withDigest(ctx context.Context, cli *client.Client, digest string) (string, error) {
	ctx, cancel := call(ctx)
	defer cancel()
	all, err := cli.ImageList(ctx, client.ImageListOptions{})
	if err != nil {
		return "", d.engine.lost(err)
	}
	for _, image := range all.Items {
		for _, name := range image.RepoDigests {
			if _, of, ok := strings.Cut(name, "@"); ok && of == digest {
				return image.ID, nil
			}
		}
	}
	return "", nil
}

// ofPeer says whether an image is to come from this peer.
func (d *Driver) ofPeer(name string) bool {
	return d.c.Registry != nil && strings.HasPrefix(name, d.c.Registry().Addr+"/")
}

// pullPlain has Podman pull over plain HTTP, which it does not do by Docker's API
// even for loopback.
func pullPlain(ctx context.Context, cli *client.Client, name, auth string, tell func(said string)) error {
	engine := http.Client{Transport: &http.Transport{
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return cli.Dialer()(ctx) },
		DisableKeepAlives: true,
	}}
	query := url.Values{"reference": {name}, "tlsVerify": {"false"}}
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://engine/v4.0.0/libpod/images/pull?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	q.Header.Set("X-Registry-Auth", auth)
	answer, err := engine.Do(q)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(io.LimitReader(answer.Body, 4<<10)) // what came of it says enough
		return fmt.Errorf("%s: %s", answer.Status, strings.TrimSpace(string(said)))
	}
	lines := json.NewDecoder(answer.Body)
	for {
		var line struct{ Stream, Error string }
		if err := lines.Decode(&line); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if line.Error != "" {
			return errors.New(line.Error)
		}
		tell(strings.TrimSpace(line.Stream))
	}
}
