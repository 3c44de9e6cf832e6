package fake

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
)

// pulled notes that a task runs from an image of the mesh. The caller holds mu.
func (w *World) pulled(t driver.Task) {
	if t.Container != nil && t.Container.Digest != "" {
		w.images[t.Container.Digest] = time.Now()
	}
}

// Images are those of the mesh that tasks ran from and that were not pruned.
func (w *World) Images() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(maps.Keys(w.images))
}

// PruneImages implements driver.Imager.
func (d *Driver) PruneImages(ctx context.Context, keep func(digest string, idle time.Duration) bool) (gone []string, err error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("prune images: %w", err)
	}
	w := d.world
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.tasks {
		w.pulled(r.task)
	}
	for digest, used := range w.images {
		if idle := time.Since(used); idle > 0 && !keep(digest, idle) {
			gone = append(gone, digest)
			delete(w.images, digest)
		}
	}
	slices.Sort(gone)
	return gone, nil
}
