package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/prune"
)

// collect deletes the oldest folders of stopped tasks beyond the budget.
func (d *Driver) collect() {
	if err := prune.Folders(filepath.Join(d.c.Dir, "stopped"), d.c.StoppedMax, stoppedCountMax, nil); err != nil {
		d.c.Log.Warn("logs of a stopped task are not deleted", "error", err)
	}
}

// strip deletes from the folder of a task that was stopped all but its logs and
// its id. It returns how that failed, if it did, after all was tried.
func strip(dir string) error {
	entries, err := os.ReadDir(dir)
	failed := []error{err}
	for _, e := range entries {
		if name := e.Name(); name != logsDir && name != idFile && name != exitFile {
			failed = append(failed, os.RemoveAll(filepath.Join(dir, name)))
		}
	}
	return errors.Join(failed...)
}

// Collect implements driver.Collector. What can be left behind is in the folders
// of tasks that were stopped, because something of them could not be deleted or
// the daemon was killed meanwhile, and in their cgroups, by the same names. What
// is in no such folder nobody can name, and it is left alone.
func (d *Driver) Collect(ctx context.Context, gone func(id string) bool) error {
	if err := d.load(); err != nil {
		return fmt.Errorf("collect: %w", err)
	}
	root := filepath.Join(d.c.Dir, "stopped")
	entries, err := os.ReadDir(root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("collect: %w", err)
	}
	machine := detect("/")
	var failed []error
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return errors.Join(append(failed, fmt.Errorf("collect: %w", err))...)
		}
		id, err := os.ReadFile(filepath.Join(root, e.Name(), idFile))
		if err != nil || driver.SafeID(string(id)) != e.Name() || !gone(string(id)) {
			continue
		}
		if err := d.collectTask(string(id), filepath.Join(root, e.Name()), machine); err != nil {
			failed = append(failed, fmt.Errorf("collect what is left of %q: %w", id, err))
		}
	}
	return errors.Join(failed...)
}

func (d *Driver) collectTask(id, dir string, machine layout) error {
	defer d.locks.Lock(id)()
	if d.task(id) != nil {
		return nil // it is there once more
	}
	d.clear(id, machine.groupsFor(d.groupName(filepath.Base(dir))))
	return strip(dir)
}
