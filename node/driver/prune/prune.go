package prune

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// folder is one entry of the root.
type folder struct {
	path string
	at   time.Time
	size int64
}

// Folders deletes the entries of root that were changed longest ago, until at
// most countMax entries and bytesMax bytes are left. Those that keep names are
// neither counted nor deleted. A root that is not there is empty. The error
// names what could not be deleted; the rest was.
func Folders(root string, bytesMax int64, countMax int, keep func(name string) bool) error {
	entries, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("prune: %w", err)
	}
	var all []folder
	var total int64
	for _, e := range entries {
		if keep != nil && keep(e.Name()) {
			continue
		}
		f := folder{path: filepath.Join(root, e.Name())}
		if info, err := e.Info(); err == nil {
			f.at = info.ModTime()
		}
		f.size = size(f.path)
		all = append(all, f)
		total += f.size
	}
	slices.SortFunc(all, func(a, b folder) int { return a.at.Compare(b.at) })
	var failed []error
	for i, f := range all {
		if total <= bytesMax && len(all)-i <= countMax {
			break
		}
		if err := os.RemoveAll(f.path); err != nil {
			failed = append(failed, fmt.Errorf("prune: %w", err))
		}
		total -= f.size
	}
	return errors.Join(failed...)
}

// size is the bytes of all files below path; what can't be read is not
// counted.
func size(path string) (total int64) {
	_ = filepath.WalkDir(path, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			if info, err := e.Info(); err == nil {
				total += info.Size()
			}
		}
		return nil
	})
	return total
}
