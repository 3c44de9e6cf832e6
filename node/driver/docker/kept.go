package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/store"
)

// keptFile lists the images that this driver had the engine pull from the mesh.
const keptFile = "images.json"

// kept are the images that this driver brought to the engine. They have a name that
// nobody else gives one: this peer's port of the time, and the digest. What was
// there before, whoever pulled or built it, is not among them.
type kept struct {
	using driver.Locks // by digest: held while an image begins to be used, or is removed

	mu     sync.Mutex // guards what follows
	read   bool
	images map[string]*keptImage // by digest
	starts map[string]int        // that go on, by digest
}

type keptImage struct {
	Name string    `json:"name"` // by which it was pulled
	Used time.Time `json:"used"`
}

// load reads the list, once. Of one that can't be read the images stay. The caller
// holds mu.
func (k *kept) load(dir string) error {
	if k.read {
		return nil
	}
	k.read, k.images, k.starts = true, map[string]*keptImage{}, map[string]int{}
	b, err := os.ReadFile(filepath.Join(dir, keptFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(b, &k.images)
	}
	if err != nil {
		k.images = map[string]*keptImage{}
	}
	return err
}

// change changes the list, and writes it.
func (d *Driver) change(f func(k *kept) (changed bool)) error {
	k := &d.kept
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.load(d.c.Dir); err != nil {
		d.c.Log.Warn("the list of images that were pulled from the mesh can't be read: those are left to the engine", "error", err)
	}
	if !f(k) {
		return nil
	}
	b, err := json.Marshal(k.images)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(d.c.Dir, 0o700); err != nil {
		return err
	}
	return store.ReplaceFile(filepath.Join(d.c.Dir, keptFile), b)
}

// use says that a start wants an image of the mesh, until done: it is not removed.
func (d *Driver) use(digest string) (done func()) {
	if digest == "" {
		return func() {}
	}
	defer d.kept.using.Lock(digest)()
	count := func(by int) {
		d.noted(digest, d.change(func(k *kept) bool {
			if k.starts[digest] += by; k.starts[digest] == 0 {
				delete(k.starts, digest)
			}
			image := k.images[digest]
			if image != nil {
				image.Used = time.Now()
			}
			return image != nil
		}))
	}
	count(1)
	return func() { count(-1) }
}

// pulling notes the name of an image that is not there, before it is pulled.
func (d *Driver) pulling(digest, name string) {
	d.noted(digest, d.change(func(k *kept) bool {
		k.images[digest] = &keptImage{name, time.Now()}
		return true
	}))
}

// noted tells of a list that can't be written, which is no reason not to start work:
// until it is written again a daemon that comes back leaves an image to the engine.
func (d *Driver) noted(digest string, err error) {
	if err != nil {
		d.c.Log.Warn("it is not written that an image is in use", "digest", digest, "error", err)
	}
}

// PruneImages implements driver.Imager. The engine itself says which images a
// container uses, running or not, whoever made it; one of those counts as used now.
// An image that has another name too only loses the one that it was pulled by.
func (d *Driver) PruneImages(ctx context.Context, keep func(digest string, idle time.Duration) bool) (gone []string, err error) {
	var known map[string]keptImage
	err = d.change(func(k *kept) bool {
		known = map[string]keptImage{}
		for digest, image := range k.images {
			known[digest] = *image
		}
		return false
	})
	if err != nil || len(known) == 0 {
		return nil, err
	}
	cli, err := d.engine.client()
	if err != nil {
		return nil, fmt.Errorf("prune images: %w", err)
	}
	used, err := d.usedImages(ctx, cli)
	if err != nil {
		return nil, fmt.Errorf("prune images: %w", err)
	}
	var all []error
	for _, digest := range slices.Sorted(maps.Keys(known)) {
		removed, err := d.pruneImage(ctx, cli, digest, used, keep)
		if err != nil {
			all = append(all, fmt.Errorf("prune image %s: %w", known[digest].Name, err))
		}
		if removed {
			gone = append(gone, digest)
		}
	}
	return gone, errors.Join(all...)
}

// usedImages are the ids of images that containers are of.
func (d *Driver) usedImages(ctx context.Context, cli *client.Client) (map[string]bool, error) {
	ctx, cancel := call(ctx)
	defer cancel()
	list, err := cli.ContainerList(ctx, client.ContainerListOptions{All: true})
	if err != nil {
		return nil, d.engine.lost(err)
	}
	used := map[string]bool{}
	for _, c := range list.Items {
		used[c.ImageID] = true
	}
	return used, nil
}

// pruneImage removes an image, unless something is against it. What the engine says
// is used, or has no more, is seen again next time.
func (d *Driver) pruneImage(ctx context.Context, cli *client.Client, digest string, used map[string]bool, keep func(string, time.Duration) bool) (removed bool, err error) {
	defer d.kept.using.Lock(digest)()
	var image keptImage
	err = d.change(func(k *kept) bool {
		if now := k.images[digest]; now != nil && k.starts[digest] == 0 {
			image = *now
		}
		return false
	})
	if err != nil || image.Name == "" || d.comes(digest) { // what still comes is to be known when it is there
		return false, err
	}
	seen, err := d.present(ctx, cli, image.Name)
	switch {
	case cerrdefs.IsNotFound(err): // somebody removed it, or its pull failed
		return false, d.change(func(k *kept) bool { delete(k.images, digest); return true })
	case err != nil:
		return false, err
	case used[seen.id]:
		return false, d.change(func(k *kept) bool { k.images[digest].Used = time.Now(); return true })
	case keep(digest, time.Since(image.Used)):
		return false, nil
	}
	callCtx, cancel := call(ctx)
	defer cancel()
	_, err = cli.ImageRemove(callCtx, image.Name, client.ImageRemoveOptions{})
	switch {
	case cerrdefs.IsConflict(err): // a container of it was made just now, or another image is made of it
		return false, d.change(func(k *kept) bool { k.images[digest].Used = time.Now(); return true })
	case err != nil && !cerrdefs.IsNotFound(err):
		return false, d.engine.lost(err)
	}
	return true, d.change(func(k *kept) bool { delete(k.images, digest); return true })
}
