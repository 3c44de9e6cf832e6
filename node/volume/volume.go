package volume

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/store"
)

const (
	metaFile = "volume.json"
	dataDir  = "data"
	// dropPrefix begins the names of what is being deleted.
	dropPrefix = ".dropped-"
	// metaMax bounds what is read of a volume.json.
	metaMax = 64 << 10
	// usedMax is how many files are counted of one slot: beyond, its use is not
	// known.
	usedMax = 1 << 20

	// Whoever the work runs as writes into its folder; the folders above let it
	// through and show it nothing.
	throughMode = 0o711
	folderMode  = 0o777
)

// Dir is the volumes of one host.
type Dir struct{ path string }

// New is the volumes below a folder, which need not exist.
func New(path string) *Dir { return &Dir{path} }

// meta is what a slot's folder says of itself.
type meta struct {
	UID       placement.UID              `json:"uid"`
	Key       placement.AppKey           `json:"key"`
	Component string                     `json:"component"`
	Slot      placement.Slot             `json:"slot"`
	Sizes     map[string]placement.Bytes `json:"sizes"`
	Created   int64                      `json:"created"` // Unix milliseconds
}

func (m meta) id() placement.VolumeID {
	return placement.VolumeID{UID: m.UID, Component: m.Component, Slot: m.Slot}
}

// at is a slot's folder.
func (d *Dir) at(id placement.VolumeID) string {
	return filepath.Join(d.path, driver.SafeID(string(id.UID)), id.Component+"."+strconv.FormatUint(uint64(id.Slot), 10))
}

// Folder makes the folders of a slot's volumes, where they are not there yet, and
// returns them by name.
func (d *Dir) Folder(id placement.VolumeID, key placement.AppKey, volumes map[string]placement.Volume, now time.Time) (map[string]string, error) {
	root := d.at(id)
	if err := makeDir(filepath.Join(root, dataDir), throughMode); err != nil {
		return nil, fmt.Errorf("volume %s: %w", id, err)
	}
	m, err := readMeta(root)
	changed := err != nil
	if err != nil {
		m = meta{UID: id.UID, Key: key, Component: id.Component, Slot: id.Slot, Created: now.UnixMilli(), Sizes: map[string]placement.Bytes{}}
	}
	paths := map[string]string{}
	for name, v := range volumes {
		path := filepath.Join(root, dataDir, name)
		if err := makeDir(path, folderMode); err != nil {
			return nil, fmt.Errorf("volume %s of %s: %w", name, id, err)
		}
		paths[name] = path
		if size, known := m.Sizes[name]; !known || v.Size > size {
			m.Sizes[name], changed = v.Size, true
		}
	}
	if changed {
		if err := writeMeta(root, m); err != nil {
			return nil, fmt.Errorf("volume %s: %w", id, err)
		}
	}
	return paths, nil
}

// makeDir makes a folder with that mode, whatever the umask, and those above it.
// One that is there keeps the mode that its work may have given it.
func makeDir(path string, mode fs.FileMode) error {
	if info, err := os.Stat(path); err == nil {
		if !info.IsDir() {
			return fmt.Errorf("%s is not a folder", path)
		}
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), throughMode); err != nil {
		return err
	}
	if err := os.Mkdir(path, mode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return os.Chmod(path, mode)
}

func readMeta(root string) (meta, error) {
	var m meta
	path := filepath.Join(root, metaFile)
	info, err := os.Stat(path)
	if err != nil {
		return m, err
	}
	if info.Size() > metaMax {
		return m, fmt.Errorf("%s: %d bytes, at most %d", path, info.Size(), metaMax)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return m, fmt.Errorf("%s: %w", path, err)
	}
	if m.Sizes == nil {
		m.Sizes = map[string]placement.Bytes{}
	}
	return m, nil
}

// writeMeta replaces a volume.json in one step that survives a power cut.
func writeMeta(root string, m meta) error {
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return store.ReplaceFile(filepath.Join(root, metaFile), data)
}

// Found is what lies here, as it says itself. A folder that says nothing, or says
// that it is another's, is left alone.
func (d *Dir) Found() ([]placement.FoundVolume, error) {
	apps, err := os.ReadDir(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("volumes: %w", err)
	}
	var found []placement.FoundVolume
	var all error
	for _, app := range apps {
		slots, err := os.ReadDir(filepath.Join(d.path, app.Name()))
		if err != nil {
			all = errors.Join(all, fmt.Errorf("volumes: %w", err))
			continue
		}
		for _, slot := range slots {
			root := filepath.Join(d.path, app.Name(), slot.Name())
			if strings.HasPrefix(slot.Name(), dropPrefix) { // a crash came before the end of it
				all = errors.Join(all, os.RemoveAll(root))
				continue
			}
			m, err := readMeta(root)
			if err == nil && d.at(m.id()) != root {
				err = fmt.Errorf("%s says that it is %s", root, m.id())
			}
			if err != nil {
				all = errors.Join(all, fmt.Errorf("volumes: %w", err))
				continue
			}
			found = append(found, placement.FoundVolume{ID: m.id(), Key: m.Key, Sizes: m.Sizes, Created: m.Created})
		}
	}
	return found, all
}

// Drop deletes what a slot keeps, for good. What is not there is deleted.
func (d *Dir) Drop(id placement.VolumeID) error {
	root := d.at(id)
	away := filepath.Join(filepath.Dir(root), dropPrefix+filepath.Base(root))
	if err := os.Rename(root, away); err != nil && !errors.Is(err, fs.ErrNotExist) {
		if !errors.Is(err, syscall.ENOTEMPTY) && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("delete volume %s: %w", id, err)
		}
		// What was dropped before this is not all gone yet.
		if err := errors.Join(os.RemoveAll(away), os.Rename(root, away)); err != nil {
			return fmt.Errorf("delete volume %s: %w", id, err)
		}
	}
	if err := os.RemoveAll(away); err != nil {
		return fmt.Errorf("delete volume %s: %w", id, err)
	}
	if err := os.Remove(filepath.Dir(root)); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTEMPTY) {
		return fmt.Errorf("delete volume %s: %w", id, err)
	}
	return nil
}

// errTooMany ends a count.
var errTooMany = errors.New("too many files to count")

// Used is how many bytes the files of a slot's volumes take on disk, as far as
// they can be counted before ctx ends.
func (d *Dir) Used(ctx context.Context, id placement.VolumeID) (int64, error) {
	var sum int64
	files := 0
	err := filepath.WalkDir(filepath.Join(d.at(id), dataDir), func(_ string, e fs.DirEntry, err error) error {
		if files++; files > usedMax {
			return errTooMany
		}
		if err != nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // deleted meanwhile
		}
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && !e.IsDir() {
			sum += st.Blocks * 512
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("volume %s: %w", id, err)
	}
	return sum, nil
}
