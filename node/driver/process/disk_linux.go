package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/hansa-mesh/hansa/node/driver"
)

var _ driver.DiskMeter = (*Driver)(nil)

// diskFilesMax is how many files of a task are counted; more are not looked at.
const diskFilesMax = 1 << 20

// DiskUsed implements driver.DiskMeter: the task's working folder and its temporary
// one. Files that are open and have no name any more are not seen.
func (d *Driver) DiskUsed(ctx context.Context, id string) (int64, error) {
	t := d.task(id)
	if t == nil {
		return 0, fmt.Errorf("disk of %q: %w", id, driver.ErrUnknownTask)
	}
	c := counting{linked: map[uint64]bool{}}
	for _, name := range []string{workDir, tmpDir} {
		if err := c.folder(ctx, filepath.Join(t.dir, name)); err != nil {
			return 0, fmt.Errorf("disk of %q: %w", id, err)
		}
	}
	return c.bytes, nil
}

// counting adds up what files take.
type counting struct {
	bytes  int64
	files  int
	linked map[uint64]bool // files with several names that were counted
}

// folder counts what is below dir, and follows no link out of it: the program may
// change what is there meanwhile.
func (c *counting) folder(ctx context.Context, dir string) error {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), ".", func(_ string, e fs.DirEntry, err error) error {
		if c.files++; c.files > diskFilesMax {
			return fs.SkipAll
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return nil // it has gone since it was listed
		}
		info, err := e.Info()
		if err != nil {
			return nil
		}
		s, ok := info.Sys().(*syscall.Stat_t)
		if !ok || s.Nlink > 1 && !info.IsDir() && c.linked[s.Ino] {
			return nil
		}
		if s.Nlink > 1 && !info.IsDir() {
			c.linked[s.Ino] = true
		}
		c.bytes += s.Blocks * 512
		return nil
	})
}
