package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// quarantinedMax bounds the rotten files that are kept to be looked at.
const quarantinedMax = 8

// putAside moves a file that has rotted to where nobody reads it, counts it and
// tells of it. The error is what its reader is told.
func (b *Blobs) putAside(digest string, info fs.FileInfo, got string) error {
	b.mu.Lock()
	delete(b.whole, digest)
	b.rot++
	b.mu.Unlock()
	err := fmt.Errorf("blob %s: %w: %w: %d bytes, which are %s", digest, ErrCorrupt, ErrDigest, info.Size(), got)
	to := filepath.Join(b.dir, quarantineDir, fmt.Sprintf("%s.%d", strings.ReplaceAll(digest, ":", "-"), time.Now().UnixNano()))
	moved := os.Rename(b.Path(digest), to)
	if moved != nil || b.space.checkFile(0) != nil { // no room for what is of no use
		moved = b.Delete(digest)
	}
	if b.rotten != nil {
		b.rotten(digest, err)
	}
	return errors.Join(err, moved, b.pruneQuarantine())
}

// pruneQuarantine drops the oldest of the rotten files above the limit.
func (b *Blobs) pruneQuarantine() error {
	names, err := filepath.Glob(filepath.Join(b.dir, quarantineDir, "*"))
	if err != nil {
		return err
	}
	when := func(name string) string { return name[strings.LastIndexByte(name, '.')+1:] } // as many digits in each
	slices.SortFunc(names, func(x, y string) int { return strings.Compare(when(y), when(x)) })
	for _, name := range names[min(len(names), quarantinedMax):] {
		if removeErr := os.Remove(name); removeErr != nil && !errors.Is(removeErr, fs.ErrNotExist) {
			err = errors.Join(err, removeErr)
		}
	}
	return err
}
