package qemu

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/prune"
)

// Names within a machine's folder.
const (
	recordFile  = "machine.json"
	overlayFile = "disk.qcow2"
	seedFile    = "seed.iso"
	qmpSocket   = "qmp.sock"
	consoleSock = "console.sock"
	volumeFile  = "disk.img" // within a volume's folder
)

func (d *Driver) folder(id string) string {
	return filepath.Join(d.c.Dir, "machines", driver.SafeID(id))
}

// overlay makes the machine's own disk ready: what is written goes there, over
// the image, which stays as it is. A machine that is started again keeps it,
// unless its image is another now.
func (d *Driver) overlay(ctx context.Context, t *driver.Task, tools tools, old record) (image, error) {
	m, file := t.Machine, filepath.Join(d.folder(t.ID), overlayFile)
	var base image
	if m.Image != "" {
		var err error
		if base, err = d.inspected(ctx, tools, m.Image, t.Artifacts[m.Image]); err != nil {
			return base, err
		}
		if t.Disk > 0 && t.Disk < base.Size {
			return base, fmt.Errorf("%w: the image is a disk of %d MiB, and resources.disk is %d MiB: ask for as much at least", driver.ErrInvalid, base.Size>>20, t.Disk>>20)
		}
	}
	size := max(base.Size, (t.Disk+511)&^511)
	if size == 0 {
		return base, nil // a machine that lives in memory
	}
	_, err := os.Stat(file)
	switch {
	case err == nil && old.Image == m.Image && old.DiskBytes == size:
		return image{Format: base.Format, Size: size}, nil
	case err == nil && old.Image != m.Image:
		if err := os.Remove(file); err != nil {
			return base, fmt.Errorf("make the disk: %w", err)
		}
	case err == nil && old.DiskBytes < size:
		if err := run(ctx, tools.img, "resize", "-f", "qcow2", file, strconv.FormatInt(size, 10)); err != nil {
			return base, fmt.Errorf("enlarge the disk: %w", err)
		}
		return image{Format: base.Format, Size: size}, nil
	case err == nil:
		return image{Format: base.Format, Size: old.DiskBytes}, nil // a disk does not shrink
	case !errors.Is(err, fs.ErrNotExist):
		return base, fmt.Errorf("make the disk: %w", err)
	}
	args := []string{"create", "-q", "-f", "qcow2"}
	if m.Image != "" {
		args = append(args, "-F", base.Format, "-b", t.Artifacts[m.Image])
	}
	if err := run(ctx, tools.img, append(args, file, strconv.FormatInt(size, 10))...); err != nil {
		os.Remove(file)
		return base, fmt.Errorf("make the disk: %w", err)
	}
	return image{Format: base.Format, Size: size}, nil
}

// run runs a tool to its end.
func run(ctx context.Context, name string, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, imageTimeout)
	defer cancel()
	if _, err := exec.CommandContext(ctx, name, args...).Output(); err != nil {
		return fmt.Errorf("%s: %s", filepath.Base(name), told(ctx, err))
	}
	return nil
}

// inspectedMax bounds what is remembered of images.
const inspectedMax = 256

// inspected is inspect, once for each image: its bytes never change.
func (d *Driver) inspected(ctx context.Context, tools tools, digest, path string) (image, error) {
	d.mu.Lock()
	known, ok := d.images[digest]
	d.mu.Unlock()
	if ok {
		return known, nil
	}
	found, err := inspect(ctx, tools.img, path)
	if err != nil {
		return image{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.images) >= inspectedMax {
		clear(d.images)
	}
	d.images[digest] = found
	return found, nil
}

// volume makes the disk that a volume is to a machine: a file in the volume's
// folder, as large as the volume, that takes the room that was written to.
func volume(v driver.Volume) (string, error) {
	file := filepath.Join(v.Source, volumeFile)
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return "", fmt.Errorf("volume %s: %w", v.Name, err)
	}
	info, err := f.Stat()
	if err == nil && info.Size() < v.Size {
		err = f.Truncate((v.Size + 511) &^ 511)
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return "", fmt.Errorf("volume %s: %w", v.Name, err)
	}
	return file, nil
}

// park puts the disk of a machine that was stopped aside, where a person can
// still find it, and deletes the rest. Where there is no disk nothing is kept.
func (d *Driver) park(id string) error {
	dir := d.folder(id)
	if _, err := os.Stat(filepath.Join(dir, overlayFile)); err != nil {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("delete what is left of it: %w", err)
		}
		return nil
	}
	for _, name := range []string{seedFile, qmpSocket, consoleSock} { // secrets may be in the seed
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("park its disk: %w", err)
		}
	}
	now := time.Now() // from which reap counts
	if err := os.Chtimes(dir, now, now); err != nil {
		return fmt.Errorf("park its disk: %w", err)
	}
	to := filepath.Join(d.c.Dir, "parked", driver.SafeID(id)+now.UTC().Format("-20060102T150405.000"))
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return fmt.Errorf("park its disk: %w", err)
	}
	if err := os.Rename(dir, to); err != nil {
		return fmt.Errorf("park its disk: %w", err)
	}
	return nil
}

// reap deletes parked disks that are older than they are kept, and the oldest
// beyond the budget.
func (d *Driver) reap() {
	root := filepath.Join(d.c.Dir, "parked")
	entries, err := os.ReadDir(root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.c.Log.Warn("parked disks are not deleted", "error", err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || time.Since(info.ModTime()) < d.c.ParkedFor {
			continue
		}
		if err := os.RemoveAll(filepath.Join(root, e.Name())); err != nil {
			d.c.Log.Warn("a parked disk is not deleted", "disk", e.Name(), "error", err)
		}
	}
	if err := prune.Folders(root, d.c.ParkedMax, parkedCountMax, nil); err != nil {
		d.c.Log.Warn("a parked disk is not deleted", "error", err)
	}
}
