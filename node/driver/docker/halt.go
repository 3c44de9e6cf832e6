package docker

import (
	"context"
	"fmt"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
)

var _ driver.Halter = (*Driver)(nil)

// Halt implements driver.Halter: the container stays as its end left it.
func (d *Driver) Halt(ctx context.Context, id string, grace time.Duration) error {
	if err := d.load(ctx); err != nil {
		return fmt.Errorf("halt %q: %w", id, err)
	}
	unlock := d.locks.Lock(id) // not while one is starting
	t := d.task(id)
	unlock()
	if t == nil {
		return nil
	}
	if err := d.order(ctx, t, grace); err != nil {
		return fmt.Errorf("halt %q: %w", id, err)
	}
	select {
	case <-t.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("halt %q: %w", id, ctx.Err())
	case <-d.ctx.Done():
		return fmt.Errorf("halt %q: the daemon is shutting down", id)
	}
}
