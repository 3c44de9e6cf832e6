package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// filler is the file that fills a disk.
const filler = "filler"

// mount gives a site's peer a small disk of its own, which Fill can fill. Needs
// root.
func (m *Mesh) mount(d *daemon) error {
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", d.dir, "tmpfs", 0, fmt.Sprintf("size=%d", m.cfg.DiskSize)); err != nil {
		return fmt.Errorf("a small disk for %s (needs root): %w", d.site, err)
	}
	d.mounted = true
	return nil
}

func (d *daemon) unmount() error {
	if !d.mounted {
		return nil
	}
	d.mounted = false
	return unix.Unmount(d.dir, unix.MNT_DETACH)
}

// Fill leaves no free byte on a site's disk. Needs Config.DiskSize.
func (m *Mesh) Fill(site string) error {
	d := m.daemons[site]
	if !d.mounted {
		return fmt.Errorf("fill the disk of %s: it has none of its own", site)
	}
	file, err := os.Create(filepath.Join(d.dir, filler))
	if err != nil {
		return err
	}
	defer file.Close()
	for block := make([]byte, 1<<20); len(block) > 0; {
		if _, err := file.Write(block); errors.Is(err, unix.ENOSPC) {
			block = block[:len(block)/2]
		} else if err != nil {
			return fmt.Errorf("fill the disk of %s: %w", site, err)
		}
	}
	return nil
}

// Free gives back what Fill took.
func (m *Mesh) Free(site string) error {
	return os.Remove(filepath.Join(m.daemons[site].dir, filler))
}

// Wipe empties the disk of a peer whose daemon is down, but for its identity,
// which may lie on another, and for its drivers' folder, since they may run on.
func (m *Mesh) Wipe(site string) error {
	dir := m.daemons[site].dir
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("wipe %s: %w", site, err)
	}
	var errs []error
	for _, e := range entries {
		if n := e.Name(); n != "identity" && n != "work" && !strings.HasPrefix(n, filler) {
			errs = append(errs, os.RemoveAll(filepath.Join(dir, n)))
		}
	}
	return errors.Join(errs...)
}

// unmountBelow takes away all mounts below a folder, the last first.
func unmountBelow(dir string) error {
	text, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	lines := strings.Split(string(text), "\n")
	slices.Reverse(lines)
	var errs []error
	for _, line := range lines {
		f := strings.Fields(line)
		if len(f) < 2 || !strings.HasPrefix(f[1], dir+"/") {
			continue
		}
		if err := unix.Unmount(f[1], unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			errs = append(errs, fmt.Errorf("unmount %s: %w", f[1], err))
		}
	}
	return errors.Join(errs...)
}
