package docker

import (
	"context"
	"fmt"

	"github.com/moby/moby/client"

	"github.com/hansa-mesh/hansa/node/driver"
)

var _ driver.DiskMeter = (*Driver)(nil)

// DiskUsed implements driver.DiskMeter: what a container wrote over its image.
func (d *Driver) DiskUsed(ctx context.Context, id string) (int64, error) {
	t := d.task(id)
	if t == nil {
		return 0, fmt.Errorf("disk of %q: %w", id, driver.ErrUnknownTask)
	}
	cli, err := d.engine.client()
	if err != nil {
		return 0, fmt.Errorf("disk of %q: %w", id, err)
	}
	seen, err := cli.ContainerInspect(ctx, t.rec.Container, client.ContainerInspectOptions{Size: true})
	if err != nil {
		return 0, fmt.Errorf("disk of %q: %w", id, d.engine.lost(err))
	}
	if seen.Container.SizeRw == nil {
		return 0, nil
	}
	return *seen.Container.SizeRw, nil
}
