package runner

import (
	"context"
	"errors"
	"fmt"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/placement"
)

// giveDisk gives a machine whose disk is one of a package the file of it, which may
// have to be put together first. A stop that comes meanwhile ends that.
func (r *Runner) giveDisk(ctx context.Context, t *task, spec placement.WorkSpec, built *driver.Task) error {
	digest := spec.Spec.DiskDigest(r.cfg.Arch)
	if digest == "" {
		return nil
	}
	if r.cfg.Disk == nil {
		return fmt.Errorf("the disk %s is one of a package, and this peer puts none together", digest)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r.mu.Lock()
	if t.want == wantStop {
		r.mu.Unlock()
		return errStopped
	}
	t.cancel = cancel
	r.mu.Unlock()
	path, err := r.cfg.Disk(ctx, digest)
	r.mu.Lock()
	t.cancel = nil
	r.mu.Unlock()
	if err != nil {
		return err
	}
	if built.Artifacts == nil {
		built.Artifacts = map[string]string{}
	}
	built.Artifacts[digest] = path
	built.Machine.Image = digest // whatever the package is called by now: the disk is the same
	return nil
}

var errStopped = errors.New("it is to be stopped")
