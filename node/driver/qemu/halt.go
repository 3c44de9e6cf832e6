package qemu

import (
	"context"
	"fmt"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
)

var _ driver.Halter = (*Driver)(nil)

// Halt implements driver.Halter: the machine powers down as at Stop, and its disk
// stays for the next start.
func (d *Driver) Halt(ctx context.Context, id string, grace time.Duration) error {
	if err := d.load(ctx); err != nil {
		return err
	}
	unlock := d.locks.Lock(id) // not while one is starting
	m := d.machine(id)
	unlock()
	if m == nil {
		return nil
	}
	d.powerDown(m, grace)
	select {
	case <-m.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("halt %q: %w", id, ctx.Err())
	case <-d.ctx.Done():
		return fmt.Errorf("halt %q: the daemon is shutting down", id)
	}
}
