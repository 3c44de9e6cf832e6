package runner

import (
	"context"
	"fmt"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/placement"
)

// Exec runs a command beside an allocation that runs here, or attaches to its
// console; see driver.Execer. driver.ErrUnknownTask is wrapped if it does not run
// here, driver.ErrInvalid if work of its kind can't be entered.
func (r *Runner) Exec(ctx context.Context, id placement.AllocationID, x driver.Exec) (int, error) {
	r.mu.Lock()
	t := r.tasks[id]
	name := ""
	if t != nil {
		name = t.driver
	}
	r.mu.Unlock()
	if t == nil {
		return 0, fmt.Errorf("exec in %s: %w", id, driver.ErrUnknownTask)
	}
	e, ok := r.drivers[name].(driver.Execer)
	if !ok {
		return 0, fmt.Errorf("exec in %s: %w: driver %s runs nothing that can be entered", id, driver.ErrInvalid, name)
	}
	return e.Exec(ctx, DriverID(id), x)
}
