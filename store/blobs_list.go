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

// Limits of unfinished files, which are kept so that they can be resumed.
const (
	partialsMax = 256
	partialAge  = 24 * time.Hour // since the last byte came
	pruneEvery  = time.Hour
)

// Blob is a file that is here, whole.
type Blob struct {
	Digest string
	Size   int64
	Stored time.Time // when it came
	Used   time.Time // when it was read last, to a minute; Stored if never
}

// List are all files, sorted by digest. None of them is read.
func (b *Blobs) List() ([]Blob, error) {
	var blobs []Blob
	for _, algorithm := range algorithms {
		folders, err := os.ReadDir(filepath.Join(b.dir, algorithm))
		if err != nil {
			return nil, fmt.Errorf("blobs: %w", err)
		}
		for _, folder := range folders {
			files, err := os.ReadDir(filepath.Join(b.dir, algorithm, folder.Name()))
			if err != nil {
				return nil, fmt.Errorf("blobs: %w", err)
			}
			for _, f := range files {
				digest := algorithm + ":" + f.Name()
				info, err := f.Info()
				if err != nil || !ValidDigest(digest) { // deleted meanwhile, or not ours
					continue
				}
				blobs = append(blobs, Blob{digest, info.Size(), info.ModTime(), later(info.ModTime(), accessed(info))})
			}
		}
	}
	slices.SortFunc(blobs, func(x, y Blob) int { return strings.Compare(x.Digest, y.Digest) })
	return blobs, nil
}

func later(x, y time.Time) time.Time {
	if x.After(y) {
		return x
	}
	return y
}

// BlobUsage is what files by digest take of the disk, in bytes as they are
// stored: an unfinished file takes what has come of it.
type BlobUsage struct {
	Blobs, Unfinished, Quarantined               int
	BlobBytes, UnfinishedBytes, QuarantinedBytes int64
	// Rotten counts the files that were found to have rotted since the store
	// was opened.
	Rotten int64
}

// Usage counts what is there. It looks at each file.
func (b *Blobs) Usage() (BlobUsage, error) {
	blobs, err := b.List()
	if err != nil {
		return BlobUsage{}, err
	}
	u := BlobUsage{Blobs: len(blobs)}
	for _, blob := range blobs {
		u.BlobBytes += blob.Size
	}
	count := func(dir string, n *int, bytes *int64) {
		infos, infosErr := b.infos(dir)
		err = errors.Join(err, infosErr)
		*n += len(infos)
		for _, info := range infos {
			*bytes += taken(info)
		}
	}
	count(partialDir, &u.Unfinished, &u.UnfinishedBytes)
	count(uploadDir, &u.Unfinished, &u.UnfinishedBytes)
	count(quarantineDir, &u.Quarantined, &u.QuarantinedBytes)
	b.mu.Lock()
	u.Rotten = b.rot
	b.mu.Unlock()
	return u, err
}

// infos are the files in a folder, the one that was written last first.
func (b *Blobs) infos(dir string) ([]fs.FileInfo, error) {
	entries, err := os.ReadDir(filepath.Join(b.dir, dir))
	if err != nil {
		return nil, fmt.Errorf("blobs: %w", err)
	}
	var infos []fs.FileInfo
	for _, e := range entries {
		if info, err := e.Info(); err == nil { // else it is gone
			infos = append(infos, info)
		}
	}
	slices.SortFunc(infos, func(x, y fs.FileInfo) int { return y.ModTime().Compare(x.ModTime()) })
	return infos, nil
}

// prune drops unfinished files that nobody resumes: those that are too old,
// and the oldest above the limit. When the store is opened nobody writes any,
// and what another writer had for itself is dropped too.
func (b *Blobs) prune(opening bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	infos, err := b.infos(partialDir)
	if err != nil {
		return err
	}
	kept := 0
	for _, info := range infos {
		name, chunked := strings.CutSuffix(info.Name(), assemblySuffix)
		digest := digestOfPartial(name)
		own := digest == "" // see Create
		key := digest
		if chunked {
			key += assemblySuffix
		}
		switch {
		case b.busy[key] || own && !opening:
		case own || kept == partialsMax || time.Since(info.ModTime()) > partialAge:
			err = errors.Join(err, os.Remove(filepath.Join(b.dir, partialDir, info.Name())))
		default:
			kept++
		}
	}
	err = errors.Join(err, b.pruneUploads(), b.pruneQuarantine())
	if err != nil {
		return fmt.Errorf("blobs: %w", err)
	}
	return nil
}
